package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"text/template"
)

const secretText = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func mustIssued(t testing.TB, text string) Secret {
	t.Helper()
	s, err := IssuedSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseSecret(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       error // of ParseSecret
		issued     error // of IssuedSecret
	}{
		{"good", secretText, nil, nil},
		{"any bytes", "\x00\xff\xfe\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0e\x0f\x10\x11", nil, nil},
		{"spaces inside", "It's a Secret to Everybody", nil, nil},
		{"exactly 16 bytes, 8 different", "abcdefghabcdefgh", nil, nil},
		{"empty", "", ErrEmptySecret, ErrEmptySecret},
		{"15 bytes", "abcdefghijklmno", ErrWeakSecret, nil},
		{"7 different bytes", "abcdefgabcdefgabcdefg", ErrWeakSecret, nil},
		{"one byte again and again", strings.Repeat("k", 64), ErrWeakSecret, nil},
		{"white space only", strings.Repeat(" ", 32), ErrInvalid, nil},
		{"line end of a file", secretText + "\n", ErrInvalid, nil},
		{"leading space", " " + secretText, ErrInvalid, nil},
		{"4 KiB", strings.Repeat("0123456789abcdef", 256), nil, nil},
		{"over 4 KiB", strings.Repeat("0123456789abcdef", 256) + "x", ErrInvalid, ErrInvalid},
		{"placeholder", "[redacted]", ErrWeakSecret, ErrWeakSecret},
	} {
		t.Run(tc.name, func(t *testing.T) {
			check := func(name string, s Secret, err, want error) {
				t.Helper()
				if !errors.Is(err, want) {
					t.Fatalf("%s: %v, want %v", name, err, want)
				}
				if err != nil {
					if !s.IsZero() {
						t.Errorf("%s: gives a secret beside its error", name)
					}
					if !strings.HasPrefix(err.Error(), "webhook: ") {
						t.Errorf("%s: error %q", name, err)
					}
					if len(tc.text) > 6 && tc.text != redacted && strings.Contains(err.Error(), tc.text[:6]) {
						t.Errorf("%s: error shows the secret: %v", name, err)
					}
					return
				}
				if got := s.Reveal(); got != tc.text {
					t.Errorf("%s: reveals %q, want the text as issued", name, got)
				}
			}
			s, err := ParseSecret(tc.text)
			check("ParseSecret", s, err, tc.want)
			s, err = IssuedSecret(tc.text)
			check("IssuedSecret", s, err, tc.issued)
		})
	}
}

func TestGenerateSecret(t *testing.T) {
	a, b := GenerateSecret(), GenerateSecret()
	if a.Equal(b) {
		t.Error("two generated secrets are equal")
	}
	coded, ok := strings.CutPrefix(a.Reveal(), "whsec_")
	key, err := base64.StdEncoding.DecodeString(coded)
	if !ok || err != nil || len(key) != 32 {
		t.Errorf("generated secret has %d key bytes (%v), want whsec_ and base64 of 32", len(key), err)
	}
	if _, err := ParseSecret(a.Reveal()); err != nil {
		t.Errorf("a generated secret does not parse: %v", err)
	}
}

func TestSecretEqual(t *testing.T) {
	a, same, other := mustIssued(t, "one"), mustIssued(t, "one"), mustIssued(t, "two")
	if !a.Equal(same) || a.Equal(other) || a.Equal(Secret{}) || !(Secret{}).Equal(Secret{}) {
		t.Error("Equal does not compare the texts")
	}
	if a.IsZero() || !(Secret{}).IsZero() || (Secret{}).Reveal() != "" {
		t.Error("IsZero or Reveal is wrong about the zero Secret")
	}
}

// shapes are the ways in which a secret ends up in something that is printed.
func shapes(s Secret) []any {
	type hidden struct{ secret Secret }
	type hiddenPointer struct{ secret *Secret }
	type Exported struct{ Secret Secret }
	endpoint := Endpoint{ID: "acme", URL: "https://acme.example/", Secrets: []Secret{s}}
	signer, _ := NewSigner(s)
	verifier, _ := NewVerifier(s)
	return []any{
		s, &s, []Secret{s}, [1]Secret{s}, map[string]Secret{"k": s}, map[string]any{"k": s},
		hidden{s}, &hidden{s}, hiddenPointer{&s}, Exported{s}, &Exported{s}, []hidden{{s}}, struct{ any }{hidden{s}},
		endpoint, &endpoint, []Endpoint{endpoint}, []*Endpoint{&endpoint}, struct{ e Endpoint }{endpoint},
		signer, *signer, verifier, struct{ v *Verifier }{verifier},
		fmt.Errorf("with %v and %s", s, s), errors.Join(fmt.Errorf("%+v", endpoint)),
	}
}

// spellings are the forms in which text could slip out.
func spellings(text string) []string {
	return []string{
		text,
		hex.EncodeToString([]byte(text)),
		strings.ToUpper(hex.EncodeToString([]byte(text))),
		fmt.Sprintf("% x", text),
		strings.Trim(fmt.Sprint([]byte(text)), "[]"),
		fmt.Sprintf("%#v", []byte(text)),
		base64.StdEncoding.EncodeToString([]byte(text)),
		text[:10],
	}
}

func assertSilent(t *testing.T, how, printed string) {
	t.Helper()
	for _, spelling := range spellings(secretText) {
		if strings.Contains(printed, spelling) {
			t.Errorf("%s shows the secret: %s", how, printed)
			return
		}
	}
}

func TestSecretNeverShowsInFmt(t *testing.T) {
	s := mustIssued(t, secretText)
	s.HMAC(nil) // whatever it caches must not show either
	s.Decoded()
	verbs := strings.Split("%v %+v %#v %s %q %+q %#q %x %X %# x %#X %d %o %b %c %U %e %g %t %p %w %T %z %10v %-10.3s %06d", " ")
	verbs = append(verbs, "% x", "% X", "%[2]v %[1]v", "%*v", "no verb")
	for i, shape := range shapes(s) {
		for _, verb := range verbs {
			assertSilent(t, fmt.Sprintf("shape %d with %s", i, verb), fmt.Sprintf(verb, shape))
			assertSilent(t, fmt.Sprintf("shape %d with %s in an error", i, verb), fmt.Errorf(verb, shape).Error())
		}
		assertSilent(t, fmt.Sprintf("shape %d with Sprintln", i), fmt.Sprintln(shape))
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, s); got != "[redacted]" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	if got := s.String(); got != "[redacted]" {
		t.Errorf("String is %q", got)
	}
}

func TestSecretNeverShowsMarshalled(t *testing.T) {
	s := mustIssued(t, secretText)
	for i, shape := range shapes(s) {
		how := fmt.Sprintf("shape %d in ", i)
		if data, err := json.Marshal(shape); err == nil {
			assertSilent(t, how+"JSON", string(data))
		} else {
			assertSilent(t, how+"JSON's error", err.Error())
		}
		if data, err := xml.Marshal(shape); err == nil {
			assertSilent(t, how+"XML", string(data))
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "a", shape, slog.Group("g", "b", shape))
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "a", shape, slog.Group("g", "b", shape))
		assertSilent(t, how+"slog", log.String())
		var page bytes.Buffer
		if err := template.Must(template.New("").Parse("{{.}} {{printf \"%#v\" .}}")).Execute(&page, shape); err == nil {
			assertSilent(t, how+"a template", page.String())
		}
	}
	data, err := json.Marshal(map[string]Secret{"s": s})
	if err != nil || string(data) != `{"s":"[redacted]"}` {
		t.Errorf("JSON is %s (%v)", data, err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "a", s)
	if !strings.Contains(log.String(), "a=[redacted]") {
		t.Errorf("slog prints %s", log.String())
	}
}

func TestSecretFromConfiguration(t *testing.T) {
	var config struct{ Secrets []Secret }
	if err := json.Unmarshal([]byte(`{"Secrets":["`+secretText+`"]}`), &config); err != nil {
		t.Fatal(err)
	}
	if got := config.Secrets[0].Reveal(); got != secretText {
		t.Errorf("read %q", got)
	}
	for text, want := range map[string]error{
		`{"Secrets":[""]}`:           ErrEmptySecret,
		`{"Secrets":["hunter2"]}`:    ErrWeakSecret,
		`{"Secrets":["[redacted]"]}`: ErrWeakSecret,
	} {
		err := json.Unmarshal([]byte(text), &config)
		if !errors.Is(err, want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
}

func TestSecretHMAC(t *testing.T) {
	s := mustIssued(t, "key")
	want := func(text string) [sha256.Size]byte {
		h := hmac.New(sha256.New, []byte("key"))
		h.Write([]byte(text))
		return [sha256.Size]byte(h.Sum(nil))
	}
	var wg sync.WaitGroup
	for range 4 { // the kept state must not mix what goes on at once
		wg.Go(func() {
			for i := range 200 {
				id, body := fmt.Sprint("id", i), bytes.Repeat([]byte("b"), i)
				if s.HMAC(body, id, ".", "7", ".") != want(id+".7."+string(body)) {
					t.Error("HMAC with a prefix is wrong")
					return
				}
				if s.HMAC(body) != want(string(body)) {
					t.Error("HMAC is wrong")
					return
				}
			}
		})
	}
	wg.Wait()
	if got := (Secret{}).HMAC(nil); hex.EncodeToString(got[:4]) != "b613679a" { // of nothing under no key
		t.Errorf("HMAC of the zero Secret is %x", got)
	}
}

func TestSecretDecoded(t *testing.T) {
	key := "\x31\xf2\x90\xf6\xbf\x06\x29\x8a\xab\x4f\x08\xd4\x3c\x3f\x08\x2c\xf6\x48\xa3\x62\xda\x2d\xa4\xb0"
	for _, tc := range []struct {
		text, want string
		err        error
	}{
		{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", key, nil},
		{"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", key, nil},
		{"whsec_QQ==", "A", nil},
		{"whsec_QQ", "A", nil},
		{"whsec_", "", ErrEmptySecret},
		{"whsec_====", "", ErrEmptySecret},
		{"v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "", ErrInvalid},
		{"whsec_MfKQ9r8GKYqr\nTwjUPD8ILPZIo2LaLaSw", "", ErrInvalid},
		{"whsec_MfKQ9r8GKYqr-_jUPD8ILPZIo2LaLaSw", "", ErrInvalid},
		{"It's a Secret to Everybody", "", ErrInvalid},
	} {
		s := mustIssued(t, tc.text)
		for range 2 { // the second time from memory
			got, err := s.Decoded()
			if !errors.Is(err, tc.err) || got.Reveal() != tc.want {
				t.Errorf("%q: %x, %v; want %x, %v", tc.text, got.Reveal(), err, tc.want, tc.err)
			}
			if err != nil && strings.Contains(err.Error(), "MfKQ") {
				t.Errorf("error shows the secret: %v", err)
			}
		}
	}
	if _, err := (Secret{}).Decoded(); !errors.Is(err, ErrEmptySecret) {
		t.Errorf("zero Secret: %v", err)
	}
}
