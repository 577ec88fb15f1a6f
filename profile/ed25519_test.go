package profile

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// Svix's test key, whose signature the specification prints too, of the message of vectors[4].
const (
	v1aPrivate = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	v1aPublic  = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	v1aGood    = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
	v1Secret   = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	v1Good     = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

// v1aMessage is the vectors' message with a signature header.
func v1aMessage(signature string) *webhook.Message {
	h := headerOf(vectors[4].want)
	h.Set("Webhook-Signature", signature)
	return &webhook.Message{Header: h, Body: []byte(standardBody)}
}

func anyAgeStandard() webhook.Profile {
	p := StandardWebhooks()
	p.Tolerance = -1
	return p
}

func TestV1aVector(t *testing.T) {
	m := &webhook.Message{Header: http.Header{}, Body: []byte(standardBody), EventID: "msg_p5jXN8AQM9LWM0D4loKWxJek"}
	seed := "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=" // the first 32 bytes alone
	for _, private := range []string{v1aPrivate, seed, strings.TrimRight(v1aPrivate, "=")} {
		if err := signerOf(t, StandardWebhooks(), issued(t, private)).SignMessage(m, time.Unix(1614265330, 0)); err != nil {
			t.Fatal(err)
		}
		if got := m.Header.Get("Webhook-Signature"); got != v1aGood {
			t.Errorf("signed %s, want %s", got, v1aGood)
		}
		if got, err := StandardPublicKey(issued(t, private)); got != v1aPublic || err != nil {
			t.Errorf("public key %s, %v", got, err)
		}
	}
	for _, secret := range []string{v1aPublic, v1aPrivate, seed, strings.TrimRight(v1aPublic, "=")} {
		got, err := verifierOf(t, anyAgeStandard(), issued(t, secret)).VerifyMessage(v1aMessage(v1aGood))
		if err != nil || got.EventID != "msg_p5jXN8AQM9LWM0D4loKWxJek" || got.Timestamp.Unix() != 1614265330 {
			t.Errorf("%.10s: %+v, %v", secret, got, err)
		}
	}
}

// One header with signatures of both versions, and keys of both: which secret matched.
func TestV1AndV1aSideBySide(t *testing.T) {
	private, public, symmetric := issued(t, v1aPrivate), issued(t, v1aPublic), issued(t, v1Secret)
	otherKey, otherSecret := GenerateStandardKey(), webhook.GenerateSecret()
	m := &webhook.Message{Header: http.Header{}, Body: []byte(standardBody), EventID: "msg_p5jXN8AQM9LWM0D4loKWxJek"}
	signer := signerOf(t, StandardWebhooks(), private, symmetric)
	if err := signer.SignMessage(m, time.Unix(1614265330, 0)); err != nil {
		t.Fatal(err)
	}
	both := v1aGood + " " + v1Good
	if got := m.Header.Get("Webhook-Signature"); got != both {
		t.Fatalf("signed %s, want %s", got, both)
	}
	for _, tc := range []struct {
		name      string
		signature string
		secrets   []webhook.Secret
		want      int // index; -1: no match
	}{
		{"public key alone", both, []webhook.Secret{public}, 0},
		{"secret alone", both, []webhook.Secret{symmetric}, 0},
		{"both, the key first", both, []webhook.Secret{public, symmetric}, 0},
		{"both, the secret first", both, []webhook.Secret{symmetric, public}, 0},
		{"v1 alone, the key first", v1Good, []webhook.Secret{public, symmetric}, 1},
		{"v1a alone, the secret first", v1aGood, []webhook.Secret{symmetric, public}, 1},
		{"after others", both, []webhook.Secret{otherSecret, otherKey, public}, 2},
		{"other signatures before", "v1," + strings.Repeat("A", 43) + "= v1a," + strings.Repeat("A", 86) + "== " + both, []webhook.Secret{public}, 0},
		{"another key", both, []webhook.Secret{otherKey}, -1},
		{"others of both kinds", both, []webhook.Secret{otherKey, otherSecret}, -1},
		{"v1 alone for a key", v1Good, []webhook.Secret{public}, -1},
		{"v1a alone for a secret", v1aGood, []webhook.Secret{symmetric}, -1},
		{"a bad v1 does not concern keys", v1aGood + " v1,x", []webhook.Secret{public}, 0},
		{"a bad v1a does not concern secrets", v1Good + " v1a,x", []webhook.Secret{symmetric}, 0},
	} {
		got, err := verifierOf(t, anyAgeStandard(), tc.secrets...).VerifyMessage(v1aMessage(tc.signature))
		if tc.want < 0 {
			assertCause(t, tc.name, err, webhook.ErrSignatureMismatch)
		} else if err != nil || got.Secret != tc.want {
			t.Errorf("%s: %+v, %v, want secret %d", tc.name, got, err, tc.want)
		}
	}
}

// Whoever knows the public key must not be able to sign with it as if it were a secret.
func TestPublicKeyIsNoSecret(t *testing.T) {
	content := "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330." + standardBody
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(v1aPublic, "whpk_"))
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string][]byte{"the text": []byte(v1aPublic), "the base64": []byte(v1aPublic[5:]), "the bytes": raw} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(content))
		sum := base64.StdEncoding.EncodeToString(h.Sum(nil))
		for _, secrets := range [][]webhook.Secret{{issued(t, v1aPublic)}, {issued(t, v1aPublic), webhook.GenerateSecret()}} {
			_, err := verifierOf(t, anyAgeStandard(), secrets...).VerifyMessage(v1aMessage("v1," + sum))
			assertCause(t, "HMAC under "+name, err, webhook.ErrSignatureMismatch)
		}
	}
}

func TestV1aHeaders(t *testing.T) {
	verifier := verifierOf(t, anyAgeStandard(), issued(t, v1aPublic))
	coded, other := v1aGood[4:], "v1a,"+strings.Repeat("A", 86)+"=="
	for _, tc := range []struct {
		name, value string
		want        error
	}{
		{"v1 with it", "v1," + coded, webhook.ErrSignatureMismatch},
		{"V1A", "V1A," + coded, webhook.ErrSignatureMismatch},
		{"v1b", "v1b," + coded, webhook.ErrSignatureMismatch},
		{"no version", coded, webhook.ErrHeaderMalformed},
		{"empty signature", "v1a,", webhook.ErrSignatureTruncated},
		{"an HMAC", "v1a," + v1Good[3:], webhook.ErrSignatureTruncated},
		{"one digit less", "v1a," + coded[1:], webhook.ErrSignatureTruncated},
		{"one digit more", "v1a,A" + coded, webhook.ErrHeaderTooLong},
		{"no padding", "v1a," + strings.TrimRight(coded, "="), webhook.ErrSignatureNotCanonical},
		{"half the padding", "v1a," + coded[:87], webhook.ErrSignatureNotCanonical},
		{"trailing bits", "v1a," + coded[:85] + "h==", webhook.ErrSignatureNotCanonical},
		{"URL alphabet", "v1a," + strings.NewReplacer("+", "-", "/", "_").Replace(coded), webhook.ErrSignatureNotCanonical},
		{"another character", "v1a,!" + coded[1:], webhook.ErrHeaderMalformed},
		{"padding in the middle", "v1a," + coded[:40] + "=" + coded[41:], webhook.ErrHeaderMalformed},
		{"a bad one beside a good one", v1aGood + " v1a,x", webhook.ErrSignatureTruncated},
		{"17 signatures", strings.Repeat(other+" ", 16) + v1aGood, webhook.ErrHeaderTooLong},
		{"33 elements", strings.Repeat("v2,x ", 32) + v1aGood, webhook.ErrHeaderTooLong},
	} {
		_, err := verifier.VerifyMessage(v1aMessage(tc.value))
		assertCause(t, tc.name, err, tc.want)
	}
	if _, err := verifier.VerifyMessage(v1aMessage(strings.Repeat(other+" ", 15) + v1aGood)); err != nil {
		t.Errorf("16 signatures: %v", err)
	}
	for name, value := range map[string]string{"Webhook-Id": "msg_other", "Webhook-Timestamp": "1614265331"} {
		m := v1aMessage(v1aGood)
		m.Header.Set(name, value)
		_, err := verifier.VerifyMessage(m)
		assertCause(t, name, err, webhook.ErrSignatureMismatch)
	}
	m := v1aMessage(v1aGood)
	m.Body[0] ^= 1
	_, err := verifier.VerifyMessage(m)
	assertCause(t, "another body", err, webhook.ErrSignatureMismatch)
}

func TestV1aKeysAreCheckedAtTheDoor(t *testing.T) {
	p := StandardWebhooks()
	zero := base64.StdEncoding.EncodeToString(make([]byte, 32))
	halves := base64.StdEncoding.EncodeToString(append(make([]byte, 32), make([]byte, 32)...))
	for _, tc := range []struct{ secret, signer, verifier string }{
		{v1aPrivate, "", ""},
		{v1aPublic, "is a public key (whpk_), which can verify but not sign", ""},
		{"whpk_" + v1aPrivate[5:], "has 64 bytes after whpk_, want 32", "has 64 bytes after whpk_, want 32"},
		{"whsk_AAAA", "has 3 bytes after whsk_, want 64 (seed and public key) or 32 (seed)", "has 3 bytes after whsk_, want 64 (seed and public key) or 32 (seed)"},
		{"whsk_", "has 0 bytes after whsk_, want 64 (seed and public key) or 32 (seed)", ""},
		{"whpk_", "", "has 0 bytes after whpk_, want 32"},
		{"whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4\n", "", "is not base64 after whpk_"},
		{"whpk_-SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=", "", "is not base64 after whpk_"},
		{"whpk_" + zero, "", "is a point of small order: anybody can sign for it"},
		{"whsk_" + halves, "is a point of small order: anybody can sign for it", ""},
		{"whsk_" + mixedHalves(t), "has a public half that does not belong to its private half", "has a public half that does not belong to its private half"},
	} {
		secret := issued(t, tc.secret)
		_, signing := p.Signer(secret)
		_, verifying := p.Verifier(secret)
		for what, c := range map[string]struct {
			err  error
			want string
		}{"signer": {signing, tc.signer}, "verifier": {verifying, tc.verifier}} {
			if c.want == "" && (c.err == nil || tc.signer != tc.verifier) {
				continue
			}
			want := fmt.Sprintf("webhook: %s: secrets[0]: secret: text: %s", what, c.want)
			if c.err == nil || c.err.Error() != want || !errors.Is(c.err, webhook.ErrInvalid) {
				t.Errorf("%.20s: %v, want %s", tc.secret, c.err, want)
			}
		}
		if tc.secret == v1aPrivate && (signing != nil || verifying != nil) {
			t.Error(signing, verifying)
		}
		for _, out := range []string{fmt.Sprint(signing), fmt.Sprint(verifying), fmt.Sprintf("%v %+v %#v %s %x", secret, secret, secret, secret, secret), slog.AnyValue(secret).Resolve().String()} {
			if len(tc.secret) > 12 && strings.Contains(out, tc.secret[5:12]) {
				t.Errorf("shown: %s", out)
			}
		}
	}
	if _, err := StandardPublicKey(issued(t, v1Secret)); err == nil || strings.Contains(err.Error(), v1Secret[6:]) {
		t.Errorf("public key of a symmetric secret: %v", err)
	}
}

// mixedHalves is the private half of one key with the public half of another.
func mixedHalves(t *testing.T) string {
	a, err := privateKey(GenerateStandardKey())
	if err != nil {
		t.Fatal(err)
	}
	b, err := privateKey(GenerateStandardKey())
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(append(append([]byte{}, a[:32]...), b[32:]...))
}

// For each weak key a signature exists that needs no private key: the door has to refuse it.
func TestWeakPublicKeys(t *testing.T) {
	forgeable := 0
	for _, text := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		key, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		// R the neutral point and s zero verifies whenever the hash is a multiple of the key's order.
		sig := append([]byte{1}, make([]byte, 63)...)
		for n := range 200 {
			if ed25519.Verify(key, []byte(fmt.Sprint(n)), sig) {
				forgeable++
				break
			}
		}
		_, err = StandardWebhooks().Verifier(issued(t, "whpk_"+base64.StdEncoding.EncodeToString(key)))
		if err == nil || !strings.Contains(err.Error(), "small order") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if forgeable < 5 {
		t.Errorf("%d of the keys were forged: the test does not show why they are refused", forgeable)
	}
}

func TestGenerateStandardKey(t *testing.T) {
	key, other := GenerateStandardKey(), GenerateStandardKey()
	public, err := StandardPublicKey(key)
	if err != nil || !strings.HasPrefix(key.Reveal(), "whsk_") || key.Equal(other) || !strings.HasPrefix(public, "whpk_") {
		t.Fatal(public, err)
	}
	again, err := StandardPublicKey(issued(t, public))
	if err != nil || again != public {
		t.Errorf("of itself: %s, %v", again, err)
	}
	m := &webhook.Message{Header: http.Header{}, Body: []byte("{}"), EventID: "e"}
	if err := signerOf(t, StandardWebhooks(), key, other).SignMessage(m, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := verifierOf(t, StandardWebhooks(), issued(t, public)).VerifyMessage(m); err != nil {
		t.Error(err)
	}
}

// The key and its thumbprint are those of RFC 8037, A.2 and A.3.
func TestStandardJWKS(t *testing.T) {
	x, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	got, err := StandardJWKS(issued(t, "whpk_"+base64.StdEncoding.EncodeToString(x)))
	want := `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","use":"sig","alg":"EdDSA"}]}`
	if string(got) != want || err != nil {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	got, err = StandardJWKS(issued(t, v1aPrivate))
	if err != nil || bytes.Contains(got, []byte("6Xb")) || !json.Valid(got) {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := StandardJWKS(); string(got) != `{"keys":[]}` || err != nil {
		t.Errorf("of none: %s, %v", got, err)
	}
	if _, err := StandardJWKS(issued(t, v1Secret)); err == nil {
		t.Error("a symmetric secret was published")
	}
}

func FuzzStandardAsymmetricSignature(f *testing.F) {
	for _, value := range []string{v1aGood, v1Good + " " + v1aGood, v1aGood + " " + v1aGood, "v1a,", "v1a", "v1a,x " + v1aGood, v1aGood + "="} {
		f.Add("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", value)
	}
	verifier := verifierOf(f, anyAgeStandard(), issued(f, v1aPublic))
	f.Fuzz(func(t *testing.T, id, timestamp, value string) {
		header := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {value}}
		_, err := verifier.Verify(header, []byte(standardBody))
		if err == nil {
			if id+timestamp != "msg_p5jXN8AQM9LWM0D4loKWxJek1614265330" || !strings.Contains(value, v1aGood) {
				t.Fatalf("accepted %q, %q, %q", id, timestamp, value)
			}
			return
		}
		if _, ok := errors.AsType[*webhook.VerifyError](err); !ok {
			t.Fatalf("%q: %v (%T)", value, err, err)
		}
	})
}

// No text is taken for a key that it is not, and no error shows it.
func FuzzStandardKey(f *testing.F) {
	for _, text := range []string{v1aPrivate, v1aPublic, v1Secret, "whsk_", "whpk_", "whpk_AAAA", "whsk_x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		secret, err := webhook.IssuedSecret(text)
		if err != nil {
			return
		}
		signer, err := StandardWebhooks().Signer(secret)
		if err != nil {
			if _, ok := errors.AsType[*webhook.FieldError](err); !ok || len(text) > 20 && strings.Contains(err.Error(), text) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		m := &webhook.Message{Header: http.Header{}, Body: []byte("x"), EventID: "e"}
		if err := signer.SignMessage(m, time.Now()); err != nil {
			t.Fatalf("%q passed the door, but %v", text, err)
		}
		if strings.HasPrefix(text, "whpk_") || strings.HasPrefix(m.Header.Get("Webhook-Signature"), "v1a,") != strings.HasPrefix(text, "whsk_") {
			t.Fatalf("%q signs %s", text, m.Header.Get("Webhook-Signature"))
		}
		if _, err := verifierOf(t, StandardWebhooks(), secret).VerifyMessage(m); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

func BenchmarkV1a(b *testing.B) {
	m := &webhook.Message{Header: http.Header{}, Body: []byte(strings.Repeat("0123456789abcdef", 64)), EventID: "e"}
	signer, verifier := signerOf(b, StandardWebhooks(), issued(b, v1aPrivate)), verifierOf(b, StandardWebhooks(), issued(b, v1aPublic))
	b.Run("sign", func(b *testing.B) {
		for b.Loop() {
			if err := signer.SignMessage(m, time.Now()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if _, err := verifier.VerifyMessage(m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
