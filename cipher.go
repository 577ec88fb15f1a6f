package webhook

import (
	"context"
	"errors"
)

// Cipher encrypts what a SQL store keeps secret of endpoints, given in sqlstore's options: [AESGCM], or one of your own over a key
// service. It is called for two columns of each endpoint whenever that is read or written, so a form that asks a service over the network
// should keep the data keys that it got.
//
// Safe for concurrent use. Errors say what is wrong without showing keys or plain text.
type Cipher interface {
	// Seal encrypts plain under the newest key. about says what it belongs to, as the column and the ID of the endpoint; it is not
	// secret, not stored with the result, and Open must refuse the result under any other.
	Seal(ctx context.Context, plain []byte, about string) (sealed []byte, err error)

	// Open is the way back, for each key that is still known. It returns [ErrUnknownKey] or [ErrSealBroken] where that is
	// the cause. Any other error is taken to pass, as an outage does.
	Open(ctx context.Context, sealed []byte, about string) (plain []byte, err error)

	// IsCurrent reports whether sealed is under the key that Seal uses now. It asks no service.
	IsCurrent(sealed []byte) bool
}

// Causes of an endpoint's secrets being unreadable. Deliveries to it wait until they can be read; none is lost or given up for it.
var (
	// ErrUnknownKey: it was sealed under a key that this process was not given.
	ErrUnknownKey = errors.New("sealed under a key that is not known here")

	// ErrSealBroken: the key has the right name and does not open it. The key is another one, or what is stored was changed, or
	// it was sealed for something else, as when a row was copied.
	ErrSealBroken = errors.New("does not open under its key")

	// ErrNoCipher: it is sealed, and the store was given no cipher.
	ErrNoCipher = errors.New("sealed, and the store has no cipher (Options.Cipher)")

	// ErrNotSealed: it is not sealed, and the store takes sealed ones alone.
	ErrNotSealed = errors.New("not sealed, which Options.SealedOnly refuses")
)
