package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// EraseOptions are the optional arguments of [Dispatcher.EraseTenant].
type EraseOptions struct {
	// CancelWaiting cancels what still waits, as [Dispatcher.Cancel] does, and erases it too. Without it, anything that waits makes
	// EraseTenant fail with [ErrStillWaiting] before it erases anything.
	CancelWaiting bool
	Reason        string // of the cancellation; "": "its tenant was erased"
}

// Erased tells what [Dispatcher.EraseTenant] did.
type Erased struct {
	Events     int // erased with all records
	Deliveries int // erased
	Canceled   int // deliveries that waited, among them those erased
	Kept       int // events of which only bare records are left: a delivery of theirs keeps its place in an ordering key
	Waiting    int // events that something waits of; with CancelWaiting those that came too late to be canceled
}

var errNoEraser = errors.New("the store can erase nobody (it is no Eraser)")

// EraseTenant erases what was sent for a tenant ("": for none), and what inboxes received under it as their scope: payloads, headers, what receivers answered, and the records of events,
// deliveries and attempts. It goes through all events of the store in batches, each a transaction, and can be repeated after it was cut off; what is
// sent for the tenant meanwhile may be left, so stop sending first.
//
// What remains: for each event its ID and the SHA-256 of its content, by which a repeat is known ([Retention].EventIDs limits that); where a delivery
// keeps its place in an ordering key (a dead letter that blocks it, or one that was canceled before its turn), a bare record without
// payload, header, answer and reason until that is over (ReleaseKey; then erase again); the tenant's endpoints, for which there is
// [Dispatcher.DeleteEndpoint]; the filters of replays; an attempt that was recorded late just then, with its answer; what receivers keep under idempotency keys; and backups. A request under way is not called back.
//
// opts may be nil. Erased counts what was done also when there is an error.
func (d *Dispatcher) EraseTenant(ctx context.Context, tenant string, opts *EraseOptions) (Erased, error) {
	if why := checkLabel(tenant); why != "" {
		return Erased{}, &FieldError{Op: "erase", Field: "tenant", Reason: why}
	}
	e := &erasure{d: d, tenant: tenant}
	if opts != nil {
		e.opts = *opts
	}
	if err := e.run(ctx); err != nil {
		if _, ok := errors.AsType[*FieldError](err); ok {
			return e.done, err
		}
		return e.done, opError(fmt.Sprintf("erase: tenant %q", tenant), err)
	}
	return e.done, nil
}

// erasure is one EraseTenant.
type erasure struct {
	d      *Dispatcher
	store  Eraser
	tenant string
	opts   EraseOptions
	done   Erased
}

func (e *erasure) run(ctx context.Context) error {
	store, ok := e.d.store.(Eraser)
	if !ok {
		return errNoEraser
	}
	e.store = store
	now, err := e.d.clock.now(ctx)
	if err != nil {
		return err
	}
	// First without a change, so that a refusal leaves all as it was.
	waiting := 0
	err = e.walk(ctx, now, true, func(res *EraseTenantResult) error {
		waiting += len(res.Waiting)
		if !e.opts.CancelWaiting {
			return nil
		}
		for _, id := range res.Waiting {
			n, _, err := e.d.life.cancel(ctx, EndRequest{EventID: id, Reason: cmpOr(e.opts.Reason, "its tenant was erased")})
			e.done.Canceled += n
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if waiting > 0 && !e.opts.CancelWaiting {
		e.done.Waiting = waiting
		return fmt.Errorf("%w, of %s; EraseOptions.CancelWaiting cancels them", ErrStillWaiting, plural(waiting, "event"))
	}
	return e.walk(ctx, now, false, func(res *EraseTenantResult) error {
		e.done.Events += res.Events
		e.done.Deliveries += res.Deliveries
		e.done.Kept += res.Kept
		e.done.Waiting += len(res.Waiting)
		return nil
	})
}

// walk goes through all events.
func (e *erasure) walk(ctx context.Context, now time.Time, count bool, each func(res *EraseTenantResult) error) error {
	req := &EraseTenantRequest{Now: now, Tenant: e.tenant, Count: count}
	for {
		res, err := e.store.EraseTenant(ctx, req)
		if err == nil && res == nil {
			err = errMalformedAnswer
		}
		if err == nil {
			err = each(res)
		}
		if err != nil {
			return err
		}
		if req.After = res.Next; req.After == "" {
			return nil
		}
		if res.Events+res.Kept > 0 && !count && !sleep(ctx, retainPause) {
			return ctx.Err()
		}
	}
}
