package webhook

import (
	"errors"
	"fmt"
	"strings"

	"github.com/signalpost/webhook/internal/safedial"
)

// Causes of errors. Every error of this package wraps exactly one of them, or one of the causes of [VerifyError], or comes
// from the store, the network or the context; test with errors.Is.
var (
	// ErrInvalid: something given by the caller is missing, malformed or out of range. The error is a [*FieldError].
	ErrInvalid = errors.New("invalid")

	// ErrEventConflict: an event with this ID exists with other content.
	ErrEventConflict = errors.New("event exists with other content")

	// ErrNotFound: there is no such event, delivery, endpoint or replay.
	ErrNotFound = errors.New("not found")

	// ErrPayloadGone: the event's payload was erased ([Retention].PayloadAfterDelivery, [Dispatcher.EraseTenant]), so it cannot be sent
	// again.
	ErrPayloadGone = errors.New("payload was erased")

	// ErrStillWaiting: deliveries still wait, and were not to be canceled. Nothing was erased.
	ErrStillWaiting = errors.New("deliveries still wait")

	// ErrOutcomeUnknown: the caller's context ended, or the connection broke, while the event was being committed. It may
	// be stored or not: send again with the same ID.
	ErrOutcomeUnknown = errors.New("outcome unknown: send again with the same ID")

	// ErrUnknownProfile: an endpoint names a profile that the dispatcher was not given.
	ErrUnknownProfile = errors.New("unknown profile")

	// ErrBlockedAddress: the address is private, loopback, link-local or otherwise special, and not allowed.
	ErrBlockedAddress = safedial.ErrBlocked

	// ErrUnverified: an endpoint did not show that it wants what it gets.
	ErrUnverified = errors.New("endpoint did not verify")

	// ErrRunning: Run is called while it runs.
	ErrRunning = errors.New("already running")

	// ErrBacklogFull: as many deliveries wait for an endpoint, or for a tenant, as may. Nothing of the event was stored.
	ErrBacklogFull = errors.New("backlog is full")

	// ErrLeaseInTx: a leased delivery cannot be enqueued in a caller's transaction, which may end at any time.
	ErrLeaseInTx = errors.New("no lease within a caller's transaction")

	// ErrStaleKey: an idempotency key is not held under the token given any more.
	ErrStaleKey = errors.New("idempotency key is not held under this token")

	// ErrEmptySecret: a secret has no characters.
	ErrEmptySecret = errors.New("secret is empty")

	// ErrWeakSecret: a secret is too easy to guess to sign with.
	ErrWeakSecret = errors.New("secret is too weak")
)

// opError is err under the name of what was asked. What a store, or another part of this package, has said under that name already
// is not said twice.
func opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &operationError{op, err}
}

type operationError struct {
	op  string
	err error
}

func (e *operationError) Error() string {
	prefix := "webhook: " + e.op + ": "
	text := strings.TrimPrefix(e.err.Error(), prefix)
	return prefix + strings.TrimPrefix(text, "webhook: ")
}

func (e *operationError) Unwrap() error { return e.err }

// FieldError says which field of what the caller gave is wrong, and why.
type FieldError struct {
	Op     string // what was asked: "send", "dispatcher", `endpoint "acme"`
	Field  string // as the Go field is called
	Reason string // in words; never a secret
	Cause  error  // ErrInvalid or a closer cause, such as ErrUnknownProfile; nil means ErrInvalid
}

// Error is "webhook: op: field: reason".
func (e *FieldError) Error() string {
	return fmt.Sprintf("webhook: %s: %s: %s", e.Op, e.Field, e.Reason)
}

// Unwrap gives ErrInvalid and, where there is one, the closer cause.
func (e *FieldError) Unwrap() []error {
	if e.Cause == nil || e.Cause == ErrInvalid {
		return []error{ErrInvalid}
	}
	return []error{ErrInvalid, e.Cause}
}
