package webhook

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Limits of one batch.
const (
	maxBatch           = 1000
	maxBatchBytes      = 64 << 20
	maxBatchDeliveries = 100_000
)

// SendBatch stores up to 1,000 events with at most 64 MiB of payload in one commit, all or none, and returns their IDs in the
// order given. What Send says of an event holds for each; those of an ordering key are delivered in the order given.
//
// Events that exist with other content are named by a [*ConflictError]; all others are stored then. With any other error
// nothing is stored, except that nobody can know with [ErrOutcomeUnknown]: send again with the same IDs, which are returned with
// every error but a FieldError's. The fan-out is limited to 100,000 deliveries in all.
func (d *Dispatcher) SendBatch(ctx context.Context, events []Event) (ids []string, err error) {
	call, err := d.prepareBatch(ctx, events, nil)
	if call == nil {
		return nil, err
	}
	if err == nil {
		err = d.batcher.submit(ctx, call)
		d.backlogs.settle(call, err)
	}
	return call.result(err)
}

// SendBatchTx is SendBatch within the caller's own transaction; see [Dispatcher.SendTx].
func (d *Dispatcher) SendBatchTx(ctx context.Context, tx Enqueuer, events []Event) (ids []string, err error) {
	if tx == nil {
		return nil, &FieldError{Op: "send", Field: "tx", Reason: "is nil"}
	}
	call, err := d.prepareBatch(ctx, events, tx)
	if call == nil {
		return nil, err
	}
	if err == nil {
		err = d.enqueueTx(ctx, tx, call)
	}
	return call.result(err)
}

// ConflictError names the events of a batch that exist with other content. It wraps [ErrEventConflict].
type ConflictError struct {
	IDs []string // in the order given
}

// Error names the first few.
func (e *ConflictError) Error() string {
	const most = 5
	var b strings.Builder
	b.WriteString("webhook: send: ")
	for i, id := range e.IDs {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(e.IDs)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("event " + strconv.Quote(id))
	}
	b.WriteString(": " + ErrEventConflict.Error())
	return b.String()
}

// Unwrap gives ErrEventConflict.
func (e *ConflictError) Unwrap() error { return ErrEventConflict }

// prepareBatch is prepare for a batch. Without a call there is nothing to do.
func (d *Dispatcher) prepareBatch(ctx context.Context, events []Event, tx Enqueuer) (*sendCall, error) {
	bad := func(format string, args ...any) error {
		return &FieldError{Op: "send", Field: "events", Reason: fmt.Sprintf(format, args...)}
	}
	if len(events) == 0 {
		return nil, nil
	}
	if len(events) > maxBatch {
		return nil, bad("are %d, allowed %d", len(events), maxBatch)
	}
	bytes := 0
	for i := range events {
		bytes += len(events[i].Payload)
	}
	if bytes > maxBatchBytes {
		return nil, bad("have %d bytes of payload, allowed %d", bytes, maxBatchBytes)
	}
	return d.prepare(ctx, events, tx)
}

// result is what SendBatch returns: the IDs, and an error that is err or names the conflicts.
func (c *sendCall) result(err error) ([]string, error) {
	given := make([]string, len(c.events))
	var conflicts []string
	for i := range c.events {
		given[i] = c.events[i].new.Event.ID
		if err == nil && c.status[i] == Conflict {
			conflicts = append(conflicts, given[i])
		}
	}
	if len(conflicts) > 0 {
		return given, &ConflictError{IDs: conflicts}
	}
	return given, sendError(err)
}

// ofBatch makes the error of one of several events name it.
func ofBatch(err error, i, of int) error {
	if fe, ok := errors.AsType[*FieldError](err); ok && of > 1 {
		named := *fe
		named.Field = fmt.Sprintf("events[%d].%s", i, fe.Field)
		return &named
	}
	return err
}
