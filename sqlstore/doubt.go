package sqlstore

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/signalpost/webhook"
)

// doubtful marks an error of a write with [webhook.ErrOutcomeUnknown] when nobody can know whether the write was committed:
// the connection to a server broke while a statement or the commit was under way. What the server itself reports, and what
// failed before anything was sent, is certain: nothing was done.
func (s *Store) doubtful(err error) error {
	if err == nil || s.dialect == SQLite || errors.Is(err, driver.ErrBadConn) || errors.Is(err, webhook.ErrInvalid) {
		return err
	}
	var state interface{ SQLState() string } // pgx, lib/pq
	if errors.As(err, &state) {
		return err
	}
	text := err.Error()
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" || strings.Contains(text, "failed to connect") {
		return err
	}
	if _, number, ok := strings.Cut(text, "Error "); ok && number != "" && number[0] >= '0' && number[0] <= '9' {
		return err // MySQL's answer
	}
	return fmt.Errorf("%w: %w", webhook.ErrOutcomeUnknown, err)
}
