package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// Limits of a secret.
const (
	minSecretBytes    = 16
	minSecretDistinct = 8    // different bytes: refuses "aaaaaaaaaaaaaaaa" and the like
	maxSecretBytes    = 4096 // longer is a mistake, such as a whole file
)

const (
	redacted     = "[redacted]"
	secretPrefix = "whsec_"
)

// Secret is a signing key as it was issued. Make one with [ParseSecret], [IssuedSecret] or [GenerateSecret]; the zero Secret
// is no secret and is refused wherever one is needed.
//
// It never shows itself: fmt (every verb), slog, JSON, XML and text print "[redacted]", also when it is nested; only Reveal
// gives it away. It can be read from a configuration file, but not written to one by marshalling.
//
// A Secret is small and copied freely; copies share the state that makes signing cheap, so keep and reuse one rather than
// parse it for each message. Compare with Equal, as go-cmp does; == does not compile and reflect.DeepEqual is always false.
// Safe for concurrent use.
type Secret struct {
	// Nil in the zero Secret. A closure, because fmt and the dumpers of test libraries call no methods on what they find in
	// unexported fields or after a wrong verb (%p), and follow pointers; nothing looks into a closure.
	state func() *secretState
}

func newSecret(text string) Secret {
	state := &secretState{text: text}
	return Secret{state: func() *secretState { return state }}
}

type secretState struct {
	text string
	macs sync.Pool // of *macState keyed with text

	decode    sync.Once // guards the two below
	decoded   Secret
	decodeErr error
}

// ParseSecret takes a secret of your own choice. It refuses none ([ErrEmptySecret]) and what is easy to guess
// ([ErrWeakSecret]): fewer than 16 bytes, or fewer than 8 different ones. White space around it, the usual trace of a
// file's last line, is refused too ([ErrInvalid]). No error shows the text.
func ParseSecret(text string) (Secret, error) {
	s, err := IssuedSecret(text)
	if err != nil {
		return Secret{}, err
	}
	if strings.TrimSpace(text) != text {
		return Secret{}, &FieldError{Op: "secret", Field: "text", Reason: "has white space around it"}
	}
	const hint = "; if the other side chose it, use IssuedSecret"
	if len(text) < minSecretBytes {
		return Secret{}, fmt.Errorf("webhook: %w: %d bytes, want at least %d%s", ErrWeakSecret, len(text), minSecretBytes, hint)
	}
	if n := distinctBytes(text); n < minSecretDistinct {
		return Secret{}, fmt.Errorf("webhook: %w: %d different bytes, want at least %d%s", ErrWeakSecret, n, minSecretDistinct, hint)
	}
	return s, nil
}

// IssuedSecret takes a secret that the other side chose, however weak, byte for byte. It refuses only the empty one
// ([ErrEmptySecret]), one over 4 KiB ([ErrInvalid]), and "[redacted]" ([ErrWeakSecret]), which is what a marshalled secret
// reads back as.
func IssuedSecret(text string) (Secret, error) {
	switch {
	case text == "":
		return Secret{}, fmt.Errorf("webhook: %w", ErrEmptySecret)
	case text == redacted:
		return Secret{}, fmt.Errorf("webhook: %w: it is the placeholder of a redacted one", ErrWeakSecret)
	case len(text) > maxSecretBytes:
		reason := fmt.Sprintf("has %d bytes, want at most %d", len(text), maxSecretBytes)
		return Secret{}, &FieldError{Op: "secret", Field: "text", Reason: reason}
	}
	return newSecret(text), nil
}

// GenerateSecret makes a new secret: "whsec_" and the standard base64 of 32 random bytes, which fits every scheme here.
func GenerateSecret() Secret {
	var key [32]byte
	rand.Read(key[:]) // never fails
	return newSecret(secretPrefix + base64.StdEncoding.EncodeToString(key[:]))
}

func distinctBytes(s string) int {
	var seen [256]bool
	n := 0
	for i := range len(s) {
		if !seen[s[i]] {
			seen[s[i]] = true
			n++
		}
	}
	return n
}

// Reveal returns the text as issued, for storing it. Never log it.
func (s Secret) Reveal() string {
	if s.state == nil {
		return ""
	}
	return s.state().text
}

// IsZero reports whether s is no secret.
func (s Secret) IsZero() bool { return s.state == nil }

// Equal reports whether both are the same text, in constant time for texts of the same length.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String is "[redacted]".
func (s Secret) String() string { return redacted }

// Format prints "[redacted]" for every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue is "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText gives "[redacted]", so what is marshalled cannot be read back.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText is [ParseSecret], for configuration files.
func (s *Secret) UnmarshalText(text []byte) error {
	parsed, err := ParseSecret(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// macState is an HMAC keyed once and reset after each use, with room for what must be on the heap.
type macState struct {
	hash   hash.Hash
	prefix []byte
	sum    [sha256.Size]byte
}

// HMAC is the HMAC-SHA256, under the secret's text as key, of the strings of prefix and then body: what most formats sign, as
// in HMAC(body, id, ".", timestamp, "."). It copies no body and allocates nothing once warm. For writers of a [Scheme].
// The zero Secret has no MAC: the result is of an empty key.
func (s Secret) HMAC(body []byte, prefix ...string) [sha256.Size]byte {
	if s.state == nil {
		s = newSecret("")
	}
	state := s.state()
	m, _ := state.macs.Get().(*macState)
	if m == nil {
		m = &macState{hash: hmac.New(sha256.New, []byte(state.text))}
	}
	if len(prefix) > 0 {
		m.prefix = m.prefix[:0]
		for _, p := range prefix {
			m.prefix = append(m.prefix, p...)
		}
		m.hash.Write(m.prefix)
	}
	m.hash.Write(body)
	m.hash.Sum(m.sum[:0])
	sum := m.sum
	m.hash.Reset()
	state.macs.Put(m)
	return sum
}

// Decoded is the secret whose text is s's decoded from standard base64, with or without "whsec_" before it and padding
// after it, as Standard Webhooks keys are. Decoding happens once. It fails with [ErrInvalid] when that is no base64, and with
// [ErrEmptySecret] when nothing is left. For writers of a [Scheme].
func (s Secret) Decoded() (Secret, error) {
	if s.state == nil {
		return Secret{}, fmt.Errorf("webhook: %w", ErrEmptySecret)
	}
	state := s.state()
	state.decode.Do(func() {
		var key []byte
		if key, state.decodeErr = decodeKey(state.text); state.decodeErr == nil {
			state.decoded = newSecret(string(key))
		}
	})
	return state.decoded, state.decodeErr
}

func decodeKey(text string) ([]byte, error) {
	bad := func(reason string) error {
		return &FieldError{Op: "secret", Field: "text", Reason: reason}
	}
	if strings.HasPrefix(text, "v1,") {
		return nil, bad(`begins with "v1,", which is no part of the secret`)
	}
	coded := strings.TrimRight(strings.TrimPrefix(text, secretPrefix), "=")
	if strings.ContainsAny(coded, "\r\n") { // the decoder skips them
		return nil, bad("is not base64: it has a line break")
	}
	key, err := base64.RawStdEncoding.DecodeString(coded)
	if err != nil {
		return nil, bad("is not base64, with or without " + secretPrefix + " before it")
	}
	if len(key) == 0 {
		return nil, fmt.Errorf("webhook: %w: nothing follows %s", ErrEmptySecret, secretPrefix)
	}
	return key, nil
}
