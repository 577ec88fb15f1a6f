package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	gettBody      = `{"type":"order_update","data":{"type":"order","checkout_session_id":"csn_01hvz9kj0re0000000000000","permalink_url":"https://gett.com/orders/018f4d2a-c5b0-7c4e-9b3a-2d1e8f7a6b5c","status":"confirmed","refunds":[]}}`
	gettSignature = "e3d5a2421cd04015df7439611b8d9bd81a1bea93cadd175fdb1eb99b368a0bbb" // of gettBody under "test_secret"
)

func mustVerifier(t testing.TB, secrets ...Secret) *Verifier {
	t.Helper()
	v, err := NewVerifier(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustSigner(t testing.TB, secrets ...Secret) *Signer {
	t.Helper()
	s, err := NewSigner(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// gettHeader is a valid request's, signed at the beginning of a synctest bubble.
func gettHeader() http.Header {
	return http.Header{
		"Signature":   {gettSignature},
		"Timestamp":   {fmt.Sprint(time.Now().Unix())},
		"Api-Version": {"2026-01-30"},
	}
}

func TestDefaultSchemeVector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := mustIssued(t, "test_secret")
		header := http.Header{}
		if err := mustSigner(t, secret).Sign(header, []byte(gettBody)); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"Signature": gettSignature, "Timestamp": "946684800", "API-Version": "2026-01-30"}
		if len(header) != len(want) {
			t.Errorf("headers are %v, want %v", header, want)
		}
		for name, value := range want {
			if got := header.Values(name); len(got) != 1 || got[0] != value {
				t.Errorf("header %s is %q, want %q", name, got, value)
			}
		}
		got, err := mustVerifier(t, secret).Verify(header, []byte(gettBody))
		if err != nil {
			t.Fatal(err)
		}
		if want := (Verification{Scheme: "gett", Timestamp: time.Now(), APIVersion: "2026-01-30"}); !sameVerification(got, want) {
			t.Errorf("verification is %+v, want %+v", got, want)
		}
	})
}

func sameVerification(a, b Verification) bool {
	sameTime := a.Timestamp.Equal(b.Timestamp)
	a.Timestamp, b.Timestamp = time.Time{}, time.Time{}
	return sameTime && a == b
}

func TestSignStampsEachAttemptAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := mustIssued(t, "test_secret")
		signer, verifier, header := mustSigner(t, secret), mustVerifier(t, secret), http.Header{}
		for attempt := range 3 {
			if err := signer.Sign(header, []byte(gettBody)); err != nil {
				t.Fatal(err)
			}
			got, err := verifier.Verify(header, []byte(gettBody))
			if err != nil || !got.Timestamp.Equal(time.Now()) {
				t.Errorf("attempt %d: %+v, %v", attempt, got, err)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestVerifyRefuses(t *testing.T) {
	set := func(name string, values ...string) func(http.Header) {
		return func(h http.Header) { h[name] = values }
	}
	type badInput struct {
		name   string
		change func(http.Header)
		want   error
	}
	cases := []badInput{
		{"no headers", func(h http.Header) { clear(h) }, ErrHeaderMissing},
		{"no Signature", func(h http.Header) { h.Del("Signature") }, ErrHeaderMissing},
		{"no values", set("Signature"), ErrHeaderMissing},
		{"empty", set("Signature", ""), ErrHeaderEmpty},
		{"repeated", set("Signature", gettSignature, gettSignature), ErrHeaderRepeated},
		{"good, then bad", set("Signature", gettSignature, strings.Repeat("0", 64)), ErrHeaderContradicts},
		{"bad, then good", set("Signature", strings.Repeat("0", 64), gettSignature), ErrHeaderContradicts},
		{"good, then empty", set("Signature", gettSignature, ""), ErrHeaderContradicts},
		{"in other spellings", func(h http.Header) {
			h.Del("Signature")
			h["signature"], h["SIGNATURE"] = []string{gettSignature}, []string{strings.Repeat("0", 64)}
		}, ErrHeaderContradicts},
		{"joined by a proxy", set("Signature", gettSignature+", "+gettSignature), ErrHeaderMalformed},
		{"not hex", set("Signature", "g"+gettSignature[1:]), ErrHeaderMalformed},
		{"prefixed", set("Signature", "sha256="+gettSignature), ErrHeaderMalformed},
		{"quoted", set("Signature", `"`+gettSignature+`"`), ErrHeaderMalformed},
		{"spaces around", set("Signature", " "+gettSignature+" "), ErrHeaderMalformed},
		{"0x before", set("Signature", "0x"+gettSignature[2:]), ErrHeaderMalformed},
		{"wide digits", set("Signature", "ｅ"+gettSignature[1:]), ErrHeaderMalformed},
		{"NUL", set("Signature", gettSignature+"\x00"), ErrHeaderMalformed},
		{"base64", set("Signature", "49WiQhzQQBXfdDlhG42b2Bob6pPK3Rdf2x65mzaKC7s="), ErrHeaderMalformed},
		{"one digit short", set("Signature", gettSignature[:63]), ErrSignatureTruncated},
		{"half", set("Signature", gettSignature[:32]), ErrSignatureTruncated},
		{"one digit", set("Signature", "e"), ErrSignatureTruncated},
		{"one digit more", set("Signature", gettSignature+"0"), ErrHeaderTooLong},
		{"SHA-512", set("Signature", gettSignature+gettSignature), ErrHeaderTooLong},
		{"1 MiB", set("Signature", strings.Repeat("a", 1<<20)), ErrHeaderTooLong},
		{"zeros", set("Signature", strings.Repeat("0", 64)), ErrSignatureMismatch},
		{"of the timestamp too", func(h http.Header) {
			m := hmac.New(sha256.New, []byte("test_secret"))
			m.Write([]byte(h.Get("Timestamp") + "." + gettBody))
			h.Set("Signature", hex.EncodeToString(m.Sum(nil)))
		}, ErrSignatureMismatch},

		{"no Timestamp", func(h http.Header) { h.Del("Timestamp") }, ErrHeaderMissing},
		{"empty Timestamp", set("Timestamp", ""), ErrHeaderEmpty},
		{"repeated Timestamp", set("Timestamp", "946684800", "946684800"), ErrHeaderRepeated},
		{"two Timestamps", set("Timestamp", "946684800", "946684801"), ErrHeaderContradicts},
		{"Timestamp of 5 KiB", set("Timestamp", strings.Repeat("1", 5<<10)), ErrHeaderTooLong},
		{"301 s old", set("Timestamp", "946684499"), ErrTimestampTooOld},
		{"1970", set("Timestamp", "0"), ErrTimestampTooOld},
		{"301 s ahead", set("Timestamp", "946685101"), ErrTimestampTooNew},
		{"year 5138", set("Timestamp", "99999999999"), ErrTimestampTooNew},

		{"two API-Versions", set("Api-Version", "2026-01-30", "2026-04-17"), ErrHeaderContradicts},
		{"repeated API-Version", set("Api-Version", "2026-01-30", "2026-01-30"), ErrHeaderRepeated},
		{"empty API-Version", set("Api-Version", ""), ErrHeaderEmpty},
		{"API-Version of 65 bytes", set("Api-Version", strings.Repeat("2", 65)), ErrHeaderTooLong},
	}
	for _, tc := range timestampCases {
		if tc.want != nil && tc.text != "" {
			cases = append(cases, badInput{"Timestamp " + tc.text, set("Timestamp", tc.text), tc.want})
		}
	}
	verifier := mustVerifier(t, mustIssued(t, "test_secret"))
	for _, tc := range cases {
		synctest.Test(t, func(t *testing.T) { // the clock stands at 946684800
			header := gettHeader()
			tc.change(header)
			got, err := verifier.Verify(header, []byte(gettBody))
			if err == nil || got != (Verification{}) {
				t.Fatalf("%s: %+v, %v; want %v", tc.name, got, err, tc.want)
			}
			assertCause(t, tc.name, err, tc.want)
			if ve, ok := errors.AsType[*VerifyError](err); ok && ve.Scheme != "gett" {
				t.Errorf("%s: scheme %q", tc.name, ve.Scheme)
			}
			for _, hidden := range []string{"test_secret", gettSignature, gettSignature[:16], strings.Repeat("1", 65)} {
				if strings.Contains(err.Error(), hidden) {
					t.Errorf("%s: error shows %q: %v", tc.name, hidden, err)
				}
			}
		})
	}
	assertCause(t, "nil header", func() error { _, err := verifier.Verify(nil, nil); return err }(), ErrHeaderMissing)
}

func TestVerifyAccepts(t *testing.T) {
	set := func(name string, values ...string) func(http.Header) {
		return func(h http.Header) { h[name] = values }
	}
	for _, tc := range []struct {
		name    string
		change  func(http.Header)
		version string
		unknown bool
	}{
		{"as published", func(http.Header) {}, "2026-01-30", false},
		{"upper case", set("Signature", strings.ToUpper(gettSignature)), "2026-01-30", false},
		{"mixed case", set("Signature", strings.ToUpper(gettSignature[:20])+gettSignature[20:]), "2026-01-30", false},
		{"300 s old", set("Timestamp", "946684500"), "2026-01-30", false},
		{"300 s ahead", set("Timestamp", "946685100"), "2026-01-30", false},
		{"later API-Version", set("Api-Version", "2026-04-17"), "2026-04-17", true},
		{"strange API-Version", set("Api-Version", "v2"), "v2", true},
		{"no API-Version", func(h http.Header) { h.Del("API-Version") }, "", true},
		{"lower-case names of a map not made by net/http", func(h http.Header) {
			for name, values := range h {
				delete(h, name)
				h[strings.ToLower(name)] = values
			}
		}, "2026-01-30", false},
		{"published spelling of a map not made by net/http", func(h http.Header) {
			delete(h, "Api-Version")
			h["API-Version"] = []string{"2026-01-30"}
		}, "2026-01-30", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			header := gettHeader()
			tc.change(header)
			got, err := mustVerifier(t, mustIssued(t, "test_secret")).Verify(header, []byte(gettBody))
			if err != nil || got.APIVersion != tc.version || got.UnknownVersion != tc.unknown {
				t.Errorf("%s: %+v, %v", tc.name, got, err)
			}
		})
	}
}

// Any single change to the body or the signature must be refused.
func TestVerifyRefusesEveryMutation(t *testing.T) {
	verifier := mustVerifier(t, mustIssued(t, "test_secret"))
	header := gettHeader()
	refused := func(what string, header http.Header, body []byte) {
		t.Helper()
		if _, err := verifier.Verify(header, body); !errors.Is(err, ErrSignatureMismatch) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range len(gettBody) {
		for bit := range 8 {
			body := []byte(gettBody)
			body[i] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of byte %d", bit, i), header, body)
		}
		refused(fmt.Sprintf("without byte %d", i), header, []byte(gettBody[:i]+gettBody[i+1:]))
	}
	for _, body := range []string{"", gettBody + "\n", gettBody + "\x00", " " + gettBody, gettBody[:len(gettBody)-1], "\ufeff" + gettBody} {
		refused(fmt.Sprintf("%d bytes", len(body)), header, []byte(body))
	}
	for i := range len(gettSignature) {
		digit := "1"
		if gettSignature[i] == '1' {
			digit = "2"
		}
		changed := header.Clone()
		changed.Set("Signature", gettSignature[:i]+digit+gettSignature[i+1:])
		refused(fmt.Sprintf("digit %d", i), changed, []byte(gettBody))
	}
}

func TestSeveralSecrets(t *testing.T) {
	now, old, other := mustIssued(t, "new_secret"), mustIssued(t, "test_secret"), mustIssued(t, "somebody else's")
	header := http.Header{}
	verifier := mustVerifier(t, now, old)
	for i, signer := range []*Signer{mustSigner(t, now, old), mustSigner(t, old, now)} {
		if err := signer.Sign(header, []byte(gettBody)); err != nil {
			t.Fatal(err)
		}
		got, err := verifier.Verify(header, []byte(gettBody))
		if err != nil || got.Secret != i {
			t.Errorf("signed with secret %d: %+v, %v", i, got, err)
		}
	}
	_, err := mustVerifier(t, now, other).Verify(header, []byte(gettBody))
	assertCause(t, "other secrets", err, ErrSignatureMismatch)
	if want := "webhook: verify: signature matches under none of 2 secrets"; err.Error() != want {
		t.Errorf("reads %q, want %q", err, want)
	}
}

func TestVerifierKeepsItsSecrets(t *testing.T) {
	secrets := []Secret{mustIssued(t, "test_secret")}
	verifier, signer := mustVerifier(t, secrets...), mustSigner(t, secrets...)
	secrets[0] = mustIssued(t, "changed afterwards")
	header := http.Header{}
	signer.Sign(header, []byte(gettBody))
	if _, err := verifier.Verify(header, []byte(gettBody)); err != nil || header.Get("Signature") != gettSignature {
		t.Errorf("the caller's slice is used: %v", err)
	}
}

func TestTolerance(t *testing.T) {
	for _, tc := range []struct {
		tolerance time.Duration
		age       time.Duration
		want      error
	}{
		{0, 300 * time.Second, nil},
		{0, 301 * time.Second, ErrTimestampTooOld},
		{10 * time.Minute, 10 * time.Minute, nil},
		{10 * time.Minute, 10*time.Minute + 1, ErrTimestampTooOld},
		{time.Second, -time.Second, nil},
		{time.Second, -2 * time.Second, ErrTimestampTooNew},
		{-1, 100000 * time.Hour, nil},
		{-1, -100000 * time.Hour, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(200000 * time.Hour)
			secret := mustIssued(t, "test_secret")
			p := DefaultProfile()
			p.Tolerance = tc.tolerance
			verifier, err := p.Verifier(secret)
			if err != nil {
				t.Fatal(err)
			}
			m := &Message{Header: http.Header{}, Body: []byte(gettBody)}
			if err := mustSigner(t, secret).SignMessage(m, time.Now().Add(max(0, -tc.age))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(max(0, tc.age))
			_, err = verifier.VerifyMessage(m)
			assertCause(t, fmt.Sprint(tc.tolerance, tc.age), err, tc.want)
		})
	}
}

func TestConstructorsRefuse(t *testing.T) {
	good := mustIssued(t, "test_secret")
	many := make([]Secret, maxSecrets+1)
	for i := range many {
		many[i] = good
	}
	p := DefaultProfile()
	noScheme, picky := Profile{}, Profile{Scheme: pickyScheme{}}
	for _, tc := range []struct {
		name    string
		profile Profile
		secrets []Secret
		want    error
		text    string
	}{
		{"no secret", p, nil, ErrEmptySecret, "webhook: verifier: secrets: are none, want at least one"},
		{"zero secret", p, []Secret{good, {}}, ErrEmptySecret, "webhook: verifier: secrets[1]: is empty"},
		{"too many", p, many, ErrInvalid, "webhook: verifier: secrets: are 17, want at most 16"},
		{"no scheme", noScheme, []Secret{good}, ErrInvalid, "webhook: verifier: Scheme: is nil"},
		{"refused by the scheme", picky, []Secret{good}, errPicky, "webhook: verifier: secrets[0]: not that one"},
		{"as many as may be", p, many[:maxSecrets], nil, ""},
	} {
		v, err := tc.profile.Verifier(tc.secrets...)
		_, signerErr := tc.profile.Signer(tc.secrets...)
		if !errors.Is(err, tc.want) || !errors.Is(signerErr, tc.want) {
			t.Errorf("%s: %v and %v, want %v", tc.name, err, signerErr, tc.want)
		}
		if err == nil {
			continue
		}
		if v != nil || err.Error() != tc.text || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, %q, want %q", tc.name, v, err, tc.text)
		}
	}
}

func TestUnmadeValuesFail(t *testing.T) {
	var v Verifier
	if _, err := v.Verify(http.Header{}, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("zero Verifier: %v", err)
	}
	var s Signer
	if err := s.Sign(http.Header{}, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("zero Signer: %v", err)
	}
	signer := mustSigner(t, mustIssued(t, "test_secret"))
	if err := signer.Sign(nil, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("nil header: %v", err)
	}
	if err := signer.SignMessage(nil, time.Now()); !errors.Is(err, ErrInvalid) {
		t.Errorf("nil message: %v", err)
	}
	for _, now := range []time.Time{{}, time.Unix(-1, 0), time.Unix(maxTimestamp+1, 0)} {
		if err := signer.SignMessage(&Message{Header: http.Header{}}, now); !errors.Is(err, ErrInvalid) {
			t.Errorf("at %v: %v", now, err)
		}
	}
	if _, err := mustVerifier(t, mustIssued(t, "x")).VerifyMessage(nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("nil message: %v", err)
	}
}

var errPicky = errors.New("not that one")

// pickyScheme is a scheme that a user may have written: it fails with errors of its own.
type pickyScheme struct{ err error }

func (pickyScheme) Name() string                               { return "picky" }
func (pickyScheme) CheckSecret(Secret) error                   { return errPicky }
func (s pickyScheme) Sign(*Message, []Secret, time.Time) error { return s.err }
func (s pickyScheme) Verify(*Message, []Secret) (Verification, error) {
	return Verification{EventID: "7"}, s.err
}

func TestSchemeOfAUser(t *testing.T) {
	shared := &VerifyError{Err: ErrHeaderMalformed}
	for _, err := range []error{errPicky, shared, fmt.Errorf("wrapped: %w", shared)} {
		v := &Verifier{scheme: pickyScheme{err}, tolerance: time.Second}
		_, got := v.Verify(nil, nil)
		ve, ok := errors.AsType[*VerifyError](got)
		if !ok || ve.Scheme != "picky" || !strings.HasPrefix(got.Error(), "webhook: verify: ") {
			t.Errorf("%v: became %v (%T)", err, got, got)
		}
		if !errors.Is(got, errPicky) && !errors.Is(got, ErrHeaderMalformed) {
			t.Errorf("%v: cause is lost in %v", err, got)
		}
	}
	if shared.Scheme != "" {
		t.Error("a scheme's shared error is changed")
	}
	v := &Verifier{scheme: pickyScheme{}}
	m := &Message{EventID: "of the caller"}
	got, err := v.VerifyMessage(m)
	if err != nil || got.EventID != "7" || got.Scheme != "picky" || m.EventID != "7" {
		t.Errorf("%+v, %v, EventID %q", got, err, m.EventID)
	}
}

func TestVerifyErrorText(t *testing.T) {
	for _, tc := range []struct {
		err  VerifyError
		want string
	}{
		{VerifyError{Err: ErrHeaderEmpty, Detail: "header X is empty"}, "webhook: verify: header X is empty"},
		{VerifyError{Err: ErrHeaderEmpty}, "webhook: verify: header is empty"},
		{VerifyError{}, "webhook: verify: failed"},
	} {
		if got := tc.err.Error(); got != tc.want {
			t.Errorf("reads %q, want %q", got, tc.want)
		}
	}
}

func FuzzDefaultSignature(f *testing.F) {
	now := fmt.Sprint(time.Now().Unix())
	for _, s := range []string{gettSignature, strings.ToUpper(gettSignature), gettSignature[:63], gettSignature + "0", "", "zz", "sha256=" + gettSignature} {
		f.Add(s, now, "2026-01-30", []byte(gettBody))
	}
	f.Add(gettSignature, "1e9", "", []byte(gettBody))
	secret := mustIssued(f, "test_secret")
	p := DefaultProfile()
	p.Tolerance = -1
	verifier, err := p.Verifier(secret)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, signature, timestamp, version string, body []byte) {
		header := http.Header{"Signature": {signature}, "Timestamp": {timestamp}, "Api-Version": {version}}
		_, err := verifier.Verify(header, body)
		if err == nil {
			mac := hmac.New(sha256.New, []byte("test_secret"))
			mac.Write(body)
			if !strings.EqualFold(signature, hex.EncodeToString(mac.Sum(nil))) {
				t.Fatalf("accepted %q", signature)
			}
			return
		}
		if _, ok := errors.AsType[*VerifyError](err); !ok || strings.Contains(err.Error(), "test_secret") && !strings.Contains(timestamp, "test_secret") {
			t.Fatalf("error %q (%T)", err, err)
		}
	})
}
