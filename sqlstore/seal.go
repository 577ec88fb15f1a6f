package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/signalpost/webhook"
)

// sealed is the first byte of a column that is sealed; of one that is not, '[' or '{'. So all kinds can be told apart and live in one
// table. Nothing else begins with it: JSON does not.
const sealed = 0x01

// The columns that are sealed, as [webhook.Cipher] is told of them.
const (
	secretsColumn     = "secrets"
	credentialsColumn = "credentials"
)

var errUnknownForm = errors.New("not readable: stored by a newer version")

// sealer stands between the secrets of endpoints and the database.
type sealer struct {
	cipher webhook.Cipher // nil: none
	only   bool           // refuses what is not sealed
}

// about is what a column is bound to. Neither a column's name nor an ID has a NUL, so no two read the same. The names of tables are
// not in it: they may change.
func about(column, endpointID string) string {
	return "webhook endpoint\x00" + column + "\x00" + endpointID
}

// shownURL is what the column of URLs has: all of it, or scheme and host where it is sealed besides.
func (s sealer) shownURL(raw string) string {
	if s.cipher == nil {
		return raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func (s sealer) seal(ctx context.Context, column, endpointID string, plain []byte) ([]byte, error) {
	if s.cipher == nil {
		return plain, nil
	}
	text, err := s.cipher.Seal(ctx, plain, about(column, endpointID))
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", column, err)
	}
	return append([]byte{sealed}, text...), nil
}

func (s sealer) open(ctx context.Context, column, endpointID string, stored []byte) ([]byte, error) {
	switch {
	case len(stored) == 0:
		return nil, errUnknownForm
	case stored[0] == '[' || stored[0] == '{':
		if s.only {
			return nil, webhook.ErrNotSealed
		}
		return stored, nil
	case stored[0] != sealed:
		return nil, errUnknownForm
	case s.cipher == nil:
		return nil, webhook.ErrNoCipher
	}
	return s.cipher.Open(ctx, stored[1:], about(column, endpointID))
}

// isCurrent reports whether a column is as seal would store it now. One without content is.
func (s sealer) isCurrent(stored []byte) bool {
	return len(stored) == 0 || s.cipher != nil && stored[0] == sealed && s.cipher.IsCurrent(stored[1:])
}

// noteUnreadable notes why what is sealed of an endpoint could not be opened, if it could not.
func noteUnreadable(all *map[string]error, id string, err error) {
	if err == nil {
		return
	}
	if *all == nil {
		*all = make(map[string]error)
	}
	(*all)[id] = err
}
