package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// errNoLife is what canceling, bounds and backlogs fail with on a store that lacks LifeStore.
var errNoLife = errors.New("the store can neither end deliveries early nor count them (it is no LifeStore)")

// How what has expired is looked for.
const (
	sweepEvery = 4 * time.Second // between looks at what nobody claims
	sweepWork  = time.Second     // that one look may take; it goes on soon when there is more
)

// Reasons of deliveries that end before their time.
const (
	reasonExpiredUnsent  = "its time ran out before it was sent"
	reasonExpiredWaiting = "its time ran out while it waited"
)

// life ends deliveries before their time.
type life struct {
	d     *Dispatcher
	store LifeStore // nil: the store has none
	next  time.Time // of the next sweep; upkeep's own

	mu       sync.Mutex
	canceled map[string]time.Time // deliveries that this process has canceled and may have in memory, and until when
	any      atomic.Bool          // there are some
}

func newLife(d *Dispatcher) *life {
	l := &life{d: d, canceled: make(map[string]time.Time)}
	l.store, _ = d.store.(LifeStore)
	return l
}

// Cancel ends all deliveries of an event that are not final yet, wherever they wait: for their time, for a retry, for their endpoint or for
// their ordering key, of which the next then goes. It returns how many it ended. reason is for people; "" is "canceled".
//
// No attempt begins after Cancel in this process. One that is under way, or that another process is about to begin, may still reach
// its receiver; it is recorded with [Attempt].Late. Of an ordering key, the next then waits until the lease of that attempt has ended, so that
// the two never overlap.
//
// Canceling again ends nothing and is no error. [ErrNotFound]: there is no such event, or the transaction that
// sends it has not committed.
func (d *Dispatcher) Cancel(ctx context.Context, eventID, reason string) (n int, err error) {
	if why := checkName(eventID, ""); why != "" {
		return 0, &FieldError{Op: "cancel", Field: "eventID", Reason: why}
	}
	n, found, err := d.life.cancel(ctx, EndRequest{EventID: eventID, Reason: reason})
	if err == nil && !found {
		err = d.life.unmatched(ctx, eventID)
	}
	return n, cancelError("event", eventID, err)
}

// CancelDelivery is Cancel for a single delivery. It reports whether it ended it; it does not when the delivery is final already.
func (d *Dispatcher) CancelDelivery(ctx context.Context, deliveryID, reason string) (ended bool, err error) {
	if why := checkName(deliveryID, ""); why != "" {
		return false, &FieldError{Op: "cancel", Field: "deliveryID", Reason: why}
	}
	n, found, err := d.life.cancel(ctx, EndRequest{DeliveryID: deliveryID, Reason: reason})
	if err == nil && !found {
		err = ErrNotFound
	}
	return n > 0, cancelError("delivery", deliveryID, err)
}

func cancelError(what, id string, err error) error {
	if _, ok := errors.AsType[*FieldError](err); err == nil || ok {
		return err
	}
	return opError(fmt.Sprintf("cancel: %s %q", what, id), err)
}

// maxReason bounds what callers give as a reason, in bytes.
const maxReason = 512

// cancel ends all that the request means.
func (l *life) cancel(ctx context.Context, req EndRequest) (n int, found bool, err error) {
	switch {
	case l.store == nil:
		return 0, false, errNoLife
	case len(req.Reason) > maxReason || !utf8.ValidString(req.Reason) || strings.ContainsRune(req.Reason, 0):
		return 0, false, &FieldError{Op: "cancel", Field: "reason", Reason: fmt.Sprintf("is not UTF-8 without NUL of at most %d bytes", maxReason)}
	}
	req.Next, req.Leased, req.Reason = Canceled, true, cmpOr(req.Reason, "canceled")
	for {
		if req.Now, err = l.d.clock.now(ctx); err != nil {
			return n, found, err
		}
		res, err := l.end(ctx, &req)
		if err != nil {
			return n, found, err
		}
		l.forgo(res.Ended)
		n, found = n+len(res.Ended), found || res.Found > 0
		if !res.More || len(res.Ended) == 0 {
			return n, found, nil
		}
	}
}

// unmatched is nil for an event without deliveries and ErrNotFound for one that is not stored.
func (l *life) unmatched(ctx context.Context, eventID string) error {
	query, ok := l.d.store.(QueryStore)
	if !ok {
		return ErrNotFound
	}
	if _, err := query.GetEvent(ctx, eventID); err != nil {
		if errors.Is(err, ErrNotFound) {
			return ErrNotFound
		}
		return err
	}
	return nil
}

// end ends deliveries in the store, and makes the feed look where something is due sooner now.
func (l *life) end(ctx context.Context, req *EndRequest) (*EndResult, error) {
	res, err := l.store.End(ctx, req)
	if err == nil && res == nil {
		err = errMalformedAnswer
	}
	if err != nil {
		return nil, err
	}
	for _, lane := range res.Woken {
		l.d.feed.hint(lane.LaneID, lane.Earliest)
	}
	if len(res.Woken) > 0 {
		l.d.feed.kick()
	}
	return res, nil
}

// forgo keeps deliveries that were canceled from being begun by this process, which may have claimed them already.
func (l *life) forgo(ended []Delivery) {
	if !l.d.running.Load() {
		return
	}
	until := time.Now().Add(leaseMost + l.d.opts.LeaseMargin) // no item waits in memory for longer than its lease
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range ended {
		l.canceled[ended[i].ID] = until
		l.any.Store(true)
	}
}

// forgone reports whether this process has canceled a delivery.
func (l *life) forgone(id string) bool {
	if !l.any.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.canceled[id]
	return ok
}

// forget drops what need not be remembered any more.
func (l *life) forget(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, until := range l.canceled {
		if now.After(until) {
			delete(l.canceled, id)
		}
	}
	l.any.Store(len(l.canceled) > 0)
}

// expired ends a claimed delivery without an attempt when its time has run out, or when it was ended already and only keeps its
// place in its ordering key.
func (l *life) expired(it *item) (o Outcome, ended bool) {
	at := it.Delivery.ExpiresAt
	switch {
	case !at.IsZero() && at.UnixMicro() <= 0, l.forgone(it.Delivery.ID):
		return l.d.outcome(it, Canceled, ""), true // its record has its end and its reason
	case at.IsZero() || at.After(l.d.clock.estimate()):
		return Outcome{}, false
	case it.Delivery.Attempts > 0:
		return l.d.outcome(it, Expired, "its time ran out after "+plural(it.Delivery.Attempts, "attempt")), true
	}
	return l.d.outcome(it, Expired, reasonExpiredUnsent), true
}

// before makes a retry that would come too late the delivery's end.
func (l *life) before(it *item, retry Outcome) Outcome {
	at := it.Delivery.ExpiresAt
	if at.IsZero() || retry.DueAt.Before(at) {
		return retry
	}
	o := retry
	o.Next, o.DueAt, o.BehindDeadLetter = Expired, time.Time{}, 0
	o.Reason = fmt.Sprintf("its time ran out after %s: %s", plural(retry.Attempt.Number, "attempt"), retry.Reason)
	o.Attempt.NextAt = time.Time{}
	return o
}

// sweep ends what has expired while nobody claimed it. It is called about twice a second and keeps its own pace.
func (l *life) sweep(ctx context.Context) {
	began := time.Now()
	if l.store == nil || began.Before(l.next) {
		return
	}
	l.forget(began)
	for ctx.Err() == nil {
		res, err := l.end(ctx, &EndRequest{
			Now: l.d.clock.estimate(), Expired: true, Next: Expired, Reason: reasonExpiredWaiting,
		})
		if err != nil {
			if ctx.Err() == nil {
				l.d.log.Warn("webhook: ending what has expired failed; trying again", slog.Any("error", err))
			}
			break
		}
		for i := range res.Ended {
			l.d.traceExpired(ctx, res.Ended[i], reasonExpiredWaiting)
		}
		if !res.More {
			break
		}
		if time.Since(began) > sweepWork {
			return // the rest at the next tick
		}
	}
	l.next = began.Add(sweepEvery)
}
