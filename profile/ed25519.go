package profile

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/signalpost/webhook"
)

// Keys of v1a are told from secrets of v1 by what they begin with, and never by their length: whoever knows a public key could sign as
// v1 with it if it were ever taken for a secret. '_' is no base64 digit, so no secret of v1 begins like that.
const (
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"
)

// maxAsymmetric bounds the v1a signatures of one header, each of which costs a check for each key: as many as our signers write.
const maxAsymmetric = 16

type ed25519Signature = [ed25519.SignatureSize]byte

// GenerateStandardKey makes a new private key for the v1a signatures of Standard Webhooks: "whsk_" and base64. Sign with it, and
// give receivers what [StandardPublicKey] makes of it.
func GenerateStandardKey() webhook.Secret {
	var seed [ed25519.SeedSize]byte
	rand.Read(seed[:]) // never fails
	secret, _ := webhook.IssuedSecret(privatePrefix + base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed[:])))
	return secret
}

// StandardPublicKey is the public half of a "whsk_" key, as "whpk_" and base64, to give to receivers or publish. A "whpk_" key is its own. The
// error is a [*webhook.FieldError].
func StandardPublicKey(key webhook.Secret) (string, error) {
	public, err := publicKey(key)
	if err != nil {
		return "", err
	}
	return publicPrefix + base64.StdEncoding.EncodeToString(public), nil
}

// StandardJWKS is a JSON Web Key Set (RFC 7517, 8037) of the public halves of "whsk_" and "whpk_" keys, to publish where receivers find it.
// Each key's kid is its thumbprint (RFC 7638). Standard Webhooks names no place for it, and a receiver must never take the place from a request.
func StandardJWKS(keys ...webhook.Secret) ([]byte, error) {
	type jwk struct {
		Kty string `json:"kty"`
		Crv string `json:"crv"`
		X   string `json:"x"`
		Kid string `json:"kid"`
		Use string `json:"use"`
		Alg string `json:"alg"`
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, key := range keys {
		public, err := publicKey(key)
		if err != nil {
			return nil, err
		}
		x := base64.RawURLEncoding.EncodeToString(public)
		print := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
		set.Keys = append(set.Keys, jwk{
			Kty: "OKP", Crv: "Ed25519", X: x, Kid: base64.RawURLEncoding.EncodeToString(print[:]), Use: "sig", Alg: "EdDSA",
		})
	}
	return json.Marshal(set)
}

// asymmetric reports whether a secret is a key of v1a.
func asymmetric(s webhook.Secret) bool {
	text := s.Reveal()
	return strings.HasPrefix(text, privatePrefix) || strings.HasPrefix(text, publicPrefix)
}

// privateKey reads a "whsk_" key: the 32 bytes of the seed, or those and the 32 of the public key.
func privateKey(s webhook.Secret) (ed25519.PrivateKey, error) {
	text := s.Reveal()
	if strings.HasPrefix(text, publicPrefix) {
		return nil, badKey("is a public key (" + publicPrefix + "), which can verify but not sign")
	}
	key, err := decodeKey(text, privatePrefix)
	if err != nil {
		return nil, err
	}
	switch len(key) {
	case ed25519.SeedSize:
		return ed25519.NewKeyFromSeed(key), nil
	case ed25519.PrivateKeySize:
		return key, nil
	}
	return nil, badKey(fmt.Sprintf("has %d bytes after %s, want 64 (seed and public key) or 32 (seed)", len(key), privatePrefix))
}

// publicKey reads a "whpk_" key, or the public half of a "whsk_" one.
func publicKey(s webhook.Secret) (ed25519.PublicKey, error) {
	text := s.Reveal()
	if !strings.HasPrefix(text, publicPrefix) {
		key, err := privateKey(s)
		if err != nil {
			return nil, err
		}
		return key.Public().(ed25519.PublicKey), nil
	}
	key, err := decodeKey(text, publicPrefix)
	if err != nil {
		return nil, err
	}
	if len(key) != ed25519.PublicKeySize {
		return nil, badKey(fmt.Sprintf("has %d bytes after %s, want 32", len(key), publicPrefix))
	}
	return key, nil
}

// checkKey is the door: what it lets in is not judged again.
func checkKey(s webhook.Secret) error {
	public, err := publicKey(s)
	if err != nil {
		return err
	}
	if weakPoint(public) {
		return badKey("is a point of small order: anybody can sign for it")
	}
	if strings.HasPrefix(s.Reveal(), publicPrefix) {
		return nil
	}
	key, err := privateKey(s)
	if err != nil {
		return err
	}
	if !bytes.Equal(ed25519.NewKeyFromSeed(key.Seed()), key) { // it would give away the key, or sign what nobody accepts
		return badKey("has a public half that does not belong to its private half")
	}
	return nil
}

// weakPoint finds the encodings of points whose order divides 8, and those that are not reduced, whatever the sign of x. For such keys
// signatures can be made without a private one. An all-zero placeholder is one.
func weakPoint(key ed25519.PublicKey) bool {
	unsigned := bytes.Clone(key)
	unsigned[len(unsigned)-1] &= 0x7f
	switch hex.EncodeToString(unsigned) {
	case "0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f":
		return true
	}
	return false
}

func decodeKey(text, prefix string) ([]byte, error) {
	coded, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return nil, badKey("does not begin with " + privatePrefix + " or " + publicPrefix)
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(coded, "="))
	if err != nil || strings.ContainsAny(coded, "\r\n") { // which the decoder skips
		return nil, badKey("is not base64 after " + prefix)
	}
	return key, nil
}

func badKey(reason string) error {
	return &webhook.FieldError{Op: "secret", Field: "text", Reason: reason}
}

// decodeSignature reads the base64 of an ed25519 signature, in its one canonical form.
func decodeSignature(text string) (sig ed25519Signature, err error) {
	const digitsWant = 86 // of 64 bytes, and two of padding
	digits := strings.TrimRight(text, "=")
	urlAlphabet := false
	for i := range len(digits) {
		switch c := digits[i]; {
		case c == '-' || c == '_':
			urlAlphabet = true
		case !('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '/'):
			return sig, refuse(webhook.ErrHeaderMalformed, "v1a signature has a character at %d that is no base64 digit", i)
		}
	}
	switch {
	case len(digits) < digitsWant:
		return sig, refuse(webhook.ErrSignatureTruncated, "v1a signature has %d base64 digits, want %d", len(digits), digitsWant)
	case len(digits) > digitsWant:
		return sig, refuse(webhook.ErrHeaderTooLong, "v1a signature has %d base64 digits, want %d", len(digits), digitsWant)
	case urlAlphabet:
		return sig, refuse(webhook.ErrSignatureNotCanonical, "v1a signature is in the URL alphabet of base64, want the standard one")
	case len(text)-len(digits) != 2:
		return sig, refuse(webhook.ErrSignatureNotCanonical, "v1a signature has %d padding characters, want 2", len(text)-len(digits))
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return sig, refuse(webhook.ErrSignatureNotCanonical, "v1a signature has bits set behind its last byte")
	}
	copy(sig[:], decoded)
	return sig, nil
}
