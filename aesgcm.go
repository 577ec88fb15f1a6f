package webhook

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"slices"
)

// encryptionKeyBytes is what an AES-256 key has.
const encryptionKeyBytes = 32

// EncryptionKey is a key of [AESGCM] with its name. It never shows the key. Make it with [NewEncryptionKey]. Copies share their state.
type EncryptionKey struct {
	id   string
	aead func() cipher.AEAD // fmt, which ignores methods in unexported fields, cannot look into a func
}

// NewEncryptionKey makes a key of 32 random bytes, as `openssl rand 32` writes them. id names it in what is sealed, so it must never name
// another: 1 to 32 of the characters that IDs of events have. A passphrase is no key, nor is the base64 or hex of one: both are refused.
// The error is a [*FieldError].
func NewEncryptionKey(id string, key []byte) (EncryptionKey, error) {
	bad := func(field, reason string) (EncryptionKey, error) {
		return EncryptionKey{}, &FieldError{Op: "encryption key", Field: field, Reason: reason}
	}
	if reason := checkName(id, ""); reason != "" {
		return bad("id", reason)
	}
	switch {
	case len(id) > 32:
		return bad("id", fmt.Sprintf("has %d bytes, allowed 32", len(id)))
	case len(key) != encryptionKeyBytes:
		return bad("key", fmt.Sprintf("has %d bytes, want %d random ones (decode base64 or hex first)", len(key), encryptionKeyBytes))
	case !slices.ContainsFunc(key, func(b byte) bool { return b < ' ' || b > '~' }):
		return bad("key", "is text, want 32 random bytes (decode base64 or hex first)")
	case distinctBytes(string(key)) < minSecretDistinct:
		return bad("key", "has hardly any different bytes, want random ones")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return bad("key", "cannot be used")
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return bad("key", "cannot be used")
	}
	return EncryptionKey{id: id, aead: func() cipher.AEAD { return aead }}, nil
}

// ID is the key's name.
func (k EncryptionKey) ID() string { return k.id }

// String is the name and "[redacted]".
func (k EncryptionKey) String() string { return k.id + " " + redacted }

// Format prints String for every verb.
func (k EncryptionKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue is String.
func (k EncryptionKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText is String, so what is marshalled cannot be read back.
func (k EncryptionKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// AESGCM is a [Cipher] of AES-256-GCM under keys that can be rotated. Safe for concurrent use. It shows its keys to nobody.
//
// To rotate: give every process the new key behind the old one, so that all can open what it seals; then put it first; then call
// Reseal of the store; then take the old one away.
//
// What it seals is, in this order: the byte 1, the length of the key's ID in a byte, that ID, a random nonce of 12 bytes, the ciphertext and
// a tag of 16 bytes. All that comes before the nonce is authenticated with it, and what it is about. A key is good for 2^32 seals.
// Whoever can write to the database can put back what an endpoint had before: that this is no longer its secret nobody can tell.
type AESGCM struct {
	keys []EncryptionKey
}

var _ Cipher = (*AESGCM)(nil)

// NewAESGCM makes a cipher that seals under the first of keys and opens under all. It fails with a [*FieldError] without a key, and
// when two have one ID.
func NewAESGCM(keys ...EncryptionKey) (*AESGCM, error) {
	bad := func(format string, args ...any) (*AESGCM, error) {
		return nil, &FieldError{Op: "cipher", Field: "keys", Reason: fmt.Sprintf(format, args...)}
	}
	if len(keys) == 0 {
		return bad("are none, want at least one")
	}
	seen := make(map[string]bool, len(keys))
	for i, k := range keys {
		switch {
		case k.aead == nil:
			return bad("[%d] is not made with NewEncryptionKey", i)
		case seen[k.id]:
			return bad("has two with the ID %q", k.id)
		}
		seen[k.id] = true
	}
	return &AESGCM{keys: slices.Clone(keys)}, nil
}

// sealVersion begins all that AESGCM has sealed.
const sealVersion = 1

// Seal is [Cipher.Seal].
func (c *AESGCM) Seal(ctx context.Context, plain []byte, about string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c == nil || len(c.keys) == 0 {
		return nil, &FieldError{Op: "cipher", Field: "keys", Reason: "are none: it is not made with NewAESGCM"}
	}
	key := &c.keys[0]
	aead := key.aead()
	head := 2 + len(key.id)
	sealed := make([]byte, 0, head+aead.NonceSize()+len(plain)+aead.Overhead())
	sealed = append(sealed, sealVersion, byte(len(key.id)))
	sealed = append(sealed, key.id...)
	sealed = sealed[:head+aead.NonceSize()]
	rand.Read(sealed[head:]) // never fails
	return aead.Seal(sealed, sealed[head:], plain, boundTo(sealed[:head], about)), nil
}

// boundTo is the additional data: what is before the nonce tells its own length, so no other pair of the two reads the same.
func boundTo(head []byte, about string) []byte { return append(slices.Clip(head), about...) }

// Open is [Cipher.Open].
func (c *AESGCM) Open(ctx context.Context, sealed []byte, about string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id, head, ok := sealHead(sealed)
	if !ok {
		return nil, fmt.Errorf("%w: it is not what AESGCM seals", ErrSealBroken)
	}
	i := -1
	if c != nil {
		i = slices.IndexFunc(c.keys, func(k EncryptionKey) bool { return k.id == id })
	}
	if i < 0 {
		return nil, fmt.Errorf("%w: key %q", ErrUnknownKey, id)
	}
	aead := c.keys[i].aead()
	rest := sealed[head:]
	if len(rest) < aead.NonceSize() {
		return nil, fmt.Errorf("%w %q: it is cut off", ErrSealBroken, id)
	}
	plain, err := aead.Open(nil, rest[:aead.NonceSize()], rest[aead.NonceSize():], boundTo(sealed[:head], about))
	if err != nil {
		return nil, fmt.Errorf("%w %q", ErrSealBroken, id)
	}
	return plain, nil
}

// sealHead reads the ID of the key, and how many bytes come before the nonce.
func sealHead(sealed []byte) (id string, head int, ok bool) {
	if len(sealed) < 2 || sealed[0] != sealVersion || len(sealed) < 2+int(sealed[1]) {
		return "", 0, false
	}
	head = 2 + int(sealed[1])
	id = string(sealed[2:head])
	return id, head, checkName(id, "") == ""
}

// IsCurrent is [Cipher.IsCurrent].
func (c *AESGCM) IsCurrent(sealed []byte) bool {
	id, _, ok := sealHead(sealed)
	return ok && c != nil && len(c.keys) > 0 && c.keys[0].id == id
}
