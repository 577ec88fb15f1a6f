package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/signalpost/webhook/internal/h1"
)

// sendAll is one sender: it takes items until the lanes are stopped, which happens when ctx ends.
func (d *Dispatcher) sendAll(ctx, attempts, records context.Context) {
	own, end := context.WithCancel(attempts) // attempts that share one take turns at its lock
	defer end()
	own, unwatch := h1.Watch(own)
	defer unwatch()
	var slow *slowTimer
	for it := d.lanes.next(); it != nil; it = d.lanes.next() {
		if slow == nil {
			slow = d.newSlowTimer(records)
		}
		slow.begin(it)
		outcome, took := d.deliver(own, it)
		if !slow.Stop() {
			slow = nil // it is looking at this item
		}
		d.completer.add(records, finished{item: it, outcome: outcome}, it.Delivery.OrderingKey != "")
		if a := outcome.Attempt; a != nil && a.Error == NetErrorTimeout && took >= slowAfter {
			// Attempts that hang end at one moment if they began at one, and so would those after them: all others feel that.
			sleep(ctx, rand.N(min(took/8, time.Second)))
		}
		d.lanes.done(it, took)
	}
}

// slowTimer notices that an attempt lasts. One serves a sender's attempts, until one does.
type slowTimer struct {
	*time.Timer
	it *item
}

func (d *Dispatcher) newSlowTimer(records context.Context) *slowTimer {
	s := &slowTimer{}
	s.Timer = time.AfterFunc(time.Hour, func() { d.slowDown(records, s.it) })
	return s
}

func (s *slowTimer) begin(it *item) {
	s.it = it
	s.Reset(slowAfter)
}

// slowDown makes room for other endpoints when an attempt lasts.
func (d *Dispatcher) slowDown(records context.Context, it *item) {
	for _, left := range d.lanes.slowDown(it) {
		d.giveBack(records, left)
		d.lanes.cancel(left.Delivery.EndpointID)
	}
}

// deliver makes an attempt, if it may be made, and says what became of it.
func (d *Dispatcher) deliver(ctx context.Context, it *item) (Outcome, time.Duration) {
	rt, deleted, err := d.routes.resolve(ctx, it.Delivery.EndpointID, it.Delivery.CreatedAt)
	switch {
	case err != nil:
		return d.returned(it, time.Second, "its endpoint could not be read"), 0
	case rt == nil && !deleted && d.clock.estimate().Sub(it.Delivery.CreatedAt) < unknownMost:
		return d.returned(it, time.Minute, "its endpoint is not known to the process that claimed it"), 0
	case rt == nil:
		return d.outcome(it, Canceled, "its endpoint does not exist"), 0
	case rt.run == nil && it.Unreadable == nil && rt.endpoint.Tenant != it.Event.Tenant: // as of one deleted and put again, or given in newer code
		if d.clock.estimate().Sub(it.Delivery.CreatedAt) < unknownMost {
			return d.returned(it, time.Minute, "its endpoint is another tenant's"), 0
		}
		return d.outcome(it, Canceled, "its endpoint is another tenant's"), 0
	case it.Unreadable != nil:
		return d.unreadable(rt, it), 0
	case rt.err != nil:
		d.log.Error("webhook: cannot send to endpoint", slog.String("endpoint", it.Delivery.EndpointID), slog.Any("error", rt.err))
		return d.returned(it, time.Minute, rt.err.Error()), 0
	case ctx.Err() != nil:
		return d.returned(it, 0, ""), 0
	}
	if o, ended := d.life.expired(it); ended {
		return o, 0
	}
	now := d.clock.estimate()
	if _, blocked := rt.blocked(now); blocked {
		return d.returned(it, 0, ""), 0
	}
	if it.LeaseUntil.Sub(now) < rt.lease-d.opts.LeaseMargin*2/3 {
		// It waited too long for a sender: its lease could end before the attempt is recorded.
		return d.returned(it, 0, ""), 0
	}
	if rt.run != nil {
		return d.runAttempt(ctx, rt, it)
	}
	return d.try(ctx, rt, it)
}

// unreadable gives back what this process cannot read, as another, of another version, may, and ends it when that has taken too long.
func (d *Dispatcher) unreadable(rt *route, it *item) Outcome {
	d.log.Error("webhook: an event cannot be read", slog.String("endpoint", it.Delivery.EndpointID), slog.String("delivery", it.Delivery.ID),
		slog.String("event", it.Delivery.EventID), slog.Any("error", it.Unreadable))
	reason := "its event cannot be read: " + it.Unreadable.Error()
	if d.clock.estimate().Sub(it.Delivery.CreatedAt) < unknownMost {
		return d.returned(it, time.Minute, reason)
	}
	o := d.outcome(it, DeadLetter, reason)
	o.BehindDeadLetter = rt.endpoint.Order
	return o
}

// unknownMost is how old a delivery gets before it is canceled because its endpoint is unknown. The endpoint may be one in
// code, and this process run older code than the sender, as in a rolling deploy.
const unknownMost = time.Hour

// try makes one attempt, keeping its lease alive where the time limit is long. An attempt that the end of Run cut off
// does not count.
func (d *Dispatcher) try(ctx context.Context, rt *route, it *item) (Outcome, time.Duration) {
	a := &Attempt{
		DeliveryID: it.Delivery.ID, Number: it.Delivery.Attempts + 1, Token: it.Token,
		StartedAt: d.clock.estimate(),
	}
	if rt.target.timeout > leaseMost {
		keep, stop := context.WithCancel(ctx)
		var keeper sync.WaitGroup
		keeper.Go(func() { d.keepLease(keep, rt, it) })
		defer keeper.Wait()
		defer stop()
	}
	traced := ctx
	var prepare func(context.Context, http.Header) context.Context
	if d.opts.Trace.AttemptStart != nil { // else the attempt is spared a second look at its headers
		prepare = func(ctx context.Context, header http.Header) context.Context {
			traced = d.traceAttemptStart(ctx, it, a.Number, header)
			return traced
		}
	}
	res := d.attempt(ctx, rt.target, it, prepare)
	a.Duration = res.Duration
	a.Status, a.Error, a.Detail, a.Response = res.Status, res.Kind, res.Detail, res.Response
	if a.Error == NetErrorCanceled && ctx.Err() != nil {
		d.traceAttemptDone(traced, it, a, Queued)
		return d.returned(it, 0, ""), 0
	}
	outcome, ours := d.ownFault(rt, it, a, &res)
	if !ours {
		if res.tells() && it.Delivery.Replay == "" { // what is sent again by hand says nothing about how it goes
			d.health.observe(rt, it, a, res.RetryAfter)
		}
		outcome = d.judge(ctx, rt, it, a, res.RetryAfter)
	}
	d.traceAttemptDone(traced, it, a, outcome.Next)
	return outcome, a.Duration
}

// attempt makes the HTTP try. A panic in the caller's transport or scheme is a failure of this attempt alone. What it says
// goes to the log and nowhere else: attempts are read by more people.
func (d *Dispatcher) attempt(ctx context.Context, t *target, it *item, prepare func(context.Context, http.Header) context.Context) (res attemptResult) {
	began := time.Now()
	defer func() {
		if p := recover(); p != nil {
			d.log.Error("webhook: an attempt panicked", slog.String("endpoint", it.Delivery.EndpointID),
				slog.String("delivery", it.Delivery.ID), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			res = attemptResult{StartedAt: began, Duration: time.Since(began), Kind: NetErrorOther, Detail: "panic; the log has more", Panicked: true}
		}
	}()
	return d.client.attemptIn(ctx, t, &it.Event, it.Delivery.Sequence, prepare)
}

// keepLease extends a lease until ctx ends, a third of its time before its end.
func (d *Dispatcher) keepLease(ctx context.Context, rt *route, it *item) {
	ref := LeaseRef{EndpointID: it.Delivery.EndpointID, DeliveryID: it.Delivery.ID, Token: it.Token}
	for sleep(ctx, rt.lease/3) {
		now := d.clock.estimate()
		ref.Until = now.Add(rt.lease)
		res, err := d.store.Extend(ctx, &ExtendRequest{Now: now, Leases: []LeaseRef{ref}})
		if err == nil && res != nil && len(res.Leases) == 1 && res.Leases[0] != Applied {
			return // taken over; the outcome will be stale
		}
	}
}

// judge decides what an attempt means for its delivery.
func (d *Dispatcher) judge(ctx context.Context, rt *route, it *item, a *Attempt, retryAfter time.Duration) Outcome {
	o := d.outcome(it, "", "")
	o.Attempt = a
	if a.Error == "" && rt.success.Accepts(a.Status) {
		o.Next = Delivered
		return o
	}
	o.BehindDeadLetter = rt.endpoint.Order
	if a.Status == 410 && a.Error == "" && rt.profile.GoneDisables {
		o.Next, o.Reason = DeadLetter, "the endpoint said that it is gone (410)"
		if it.Delivery.Replay == "" {
			d.health.gone(ctx, rt, o.Reason)
		}
		return o
	}
	answer := describeAnswer(a)
	delay, again := rt.schedule.Next(a.Number, rand.Float64())
	if !again {
		o.Next, o.Reason = DeadLetter, fmt.Sprintf("gave up after %s: %s", plural(a.Number, "attempt"), answer)
		return o
	}
	o.Next, o.Reason = RetryScheduled, answer
	o.DueAt = d.clock.estimate().Add(max(delay, retryAfter))
	a.NextAt = o.DueAt
	return d.life.before(it, o)
}

func describeAnswer(a *Attempt) string {
	if a.Error == "" {
		return fmt.Sprintf("answered %d", a.Status)
	}
	return a.Error + ": " + a.Detail
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// outcome ends a delivery without an attempt.
func (d *Dispatcher) outcome(it *item, next State, reason string) Outcome {
	return Outcome{
		EndpointID: it.Delivery.EndpointID, DeliveryID: it.Delivery.ID, OrderingKey: it.Delivery.OrderingKey, Token: it.Token, Next: next, Reason: reason,
	}
}

// returned gives a delivery back unattempted, due again after a pause.
func (d *Dispatcher) returned(it *item, pause time.Duration, reason string) Outcome {
	o := d.outcome(it, Queued, reason)
	o.DueAt = d.clock.estimate().Add(pause)
	return o
}

// giveBack returns a delivery that no sender has begun.
func (d *Dispatcher) giveBack(ctx context.Context, it *item) {
	d.completer.add(ctx, finished{item: it, outcome: d.returned(it, 0, "")}, true)
}
