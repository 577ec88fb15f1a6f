package sqlstore

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/signalpost/webhook"
)

type stateError string

func (e stateError) Error() string    { return "ERROR: " + string(e) }
func (e stateError) SQLState() string { return string(e) }

func TestDoubtful(t *testing.T) {
	for _, tc := range []struct {
		name    string
		dialect Dialect
		err     error
		want    bool
	}{
		{"connection ended", PostgreSQL, io.ErrUnexpectedEOF, true},
		{"connection reset", MySQL, &net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		{"server's word", PostgreSQL, fmt.Errorf("insert: %w", stateError("23505")), false},
		{"MySQL's word", MySQL, errors.New("Error 1062 (23000): Duplicate entry"), false},
		{"refused", PostgreSQL, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, false},
		{"broken before use", PostgreSQL, driver.ErrBadConn, false},
		{"bad input", PostgreSQL, &webhook.FieldError{Op: "enqueue", Field: "ID", Reason: "is empty"}, false},
		{"in this process", SQLite, io.ErrUnexpectedEOF, false},
	} {
		got := (&Store{dialect: tc.dialect}).doubtful(tc.err)
		if errors.Is(got, webhook.ErrOutcomeUnknown) != tc.want || !errors.Is(got, tc.err) {
			t.Errorf("%s: %v, want doubt %v", tc.name, got, tc.want)
		}
	}
}
