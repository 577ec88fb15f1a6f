package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

// The kinds of failure of a handler's run, as [Attempt].Error has them, besides [NetErrorTimeout].
const (
	RunErrorHandler = "handler" // it returned an error
	RunErrorPanic   = "panic"   // it panicked; the log has more
)

// ErrNoRetry is what an [Inbox]'s handler wraps to say that running it again would be of no use: the event ends in dead_letter at once.
var ErrNoRetry = errors.New("not to be tried again")

// RetryAfter is err with the wish that the next try comes after d, instead of when the schedule says. An [Inbox] heeds it while the schedule
// has tries left; a handler of sqlstore's HandleTx has it told to the sender, as 503 with Retry-After.
func RetryAfter(d time.Duration, err error) error { return &RetryAfterError{After: d, Err: err} }

// RetryAfterError is what [RetryAfter] makes.
type RetryAfterError struct {
	After time.Duration
	Err   error
}

// Error is that of Err, with the delay.
func (e *RetryAfterError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("try again after %s", e.After)
	}
	return fmt.Sprintf("%v (try again after %s)", e.Err, e.After)
}

// Unwrap gives Err.
func (e *RetryAfterError) Unwrap() error { return e.Err }

// DeliveryFromContext tells an [Inbox]'s handler what it works on: Attempts is how often it has failed before, CreatedAt when
// the event was stored, Sequence its place in its ordering key. Elsewhere it returns false.
func DeliveryFromContext(ctx context.Context) (Delivery, bool) {
	x := receivedFrom(ctx)
	if x == nil || x.delivery == nil {
		return Delivery{}, false
	}
	return *x.delivery, true
}

// runner makes attempts in another way than over HTTP.
type runner interface {
	// attempt makes one, fills in what became of it, and says what that means for the delivery. It keeps no reference.
	attempt(ctx context.Context, it *item, a *Attempt) Outcome
}

// errTakenOver ends a run whose event another process has: it was away for longer than its lease.
var errTakenOver = errors.New("webhook: inbox: another process has taken the event over, or it was canceled")

// runAttempt makes an attempt by a route's runner, keeping the lease alive for as long as it takes.
func (d *Dispatcher) runAttempt(ctx context.Context, rt *route, it *item) (Outcome, time.Duration) {
	a := &Attempt{DeliveryID: it.Delivery.ID, Number: it.Delivery.Attempts + 1, Token: it.Token, StartedAt: d.clock.estimate()}
	running, end := context.WithCancelCause(ctx)
	defer end(nil)
	// A handler may outlast ctx, and its time limit: as long as it runs, nobody else is to.
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	var keeper sync.WaitGroup
	keeper.Go(func() {
		if d.keepLease(keep, rt, it); keep.Err() == nil {
			end(errTakenOver)
		}
	})
	traced := running
	if d.opts.Trace.AttemptStart != nil {
		traced = d.traceAttemptStart(running, it, a.Number, nil)
	}
	began := time.Now()
	outcome := rt.run.attempt(traced, it, a)
	a.Duration = time.Since(began)
	stop()
	keeper.Wait()
	d.traceAttemptDone(traced, it, a, outcome.Next)
	return outcome, a.Duration
}

// attempt implements runner.
func (in *Inbox) attempt(ctx context.Context, it *item, a *Attempt) Outcome {
	ev, x := in.received(it)
	limited, cancel := context.WithTimeout(&receivedContext{Context: ctx, x: x}, in.opts.Timeout)
	defer cancel()
	err := in.call(limited, it, ev, a)
	o := in.d.outcome(it, Delivered, "")
	o.Attempt = a
	if err == nil {
		return o
	}
	if ctx.Err() != nil && a.Error != RunErrorPanic { // Run has ended, or the lease is gone: not the handler's fault
		return in.d.returned(it, 0, "")
	}
	if a.Error == "" {
		if a.Error = RunErrorHandler; limited.Err() != nil {
			a.Error = NetErrorTimeout
		}
		a.Detail = errorDetail(err)
	}
	return in.judge(it, a, o, err)
}

// judge says what a failed run means.
func (in *Inbox) judge(it *item, a *Attempt, o Outcome, err error) Outcome {
	o.BehindDeadLetter = in.opts.Order
	if errors.Is(err, ErrNoRetry) {
		o.Next, o.Reason = DeadLetter, "the handler wants no retry: "+describeAnswer(a)
		return o
	}
	delay, again := in.opts.Schedule.Next(a.Number, rand.Float64())
	if !again {
		o.Next, o.Reason = DeadLetter, fmt.Sprintf("gave up after %s: %s", plural(a.Number, "run"), describeAnswer(a))
		return o
	}
	if wish, ok := errors.AsType[*RetryAfterError](err); ok {
		delay = min(max(wish.After, 0), maxDelay)
	}
	o.Next, o.Reason = RetryScheduled, describeAnswer(a)
	o.DueAt = in.d.clock.estimate().Add(delay)
	a.NextAt = o.DueAt
	return in.d.life.before(it, o)
}

// call runs the handler. What a panic says goes to the log and nowhere else: attempts are read by more people.
func (in *Inbox) call(ctx context.Context, it *item, ev Event, a *Attempt) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		p := recover() // nil after runtime.Goexit, which ends this goroutine whatever we do
		in.d.log.Error("webhook: inbox: the handler panicked", slog.String("endpoint", it.Delivery.EndpointID),
			slog.String("delivery", it.Delivery.ID), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		a.Error, a.Detail = RunErrorPanic, "the log has more"
		err = errors.New("panic")
	}()
	err = in.handle(ctx, ev)
	returned = true
	return err
}

// lanesPage reads a page of lanes, from after on. An inbox need not walk past all endpoints for the two lanes that it has: its pages begin just
// before them and end just after.
func (d *Dispatcher) lanesPage(ctx context.Context, after LaneID) (*LanesResult, error) {
	if d.only == "" {
		return d.store.Lanes(ctx, &LanesRequest{After: after, Limit: lanesPage})
	}
	if after == (LaneID{}) { // what is between an ID that ends in the character before and this one are other inboxes
		last := len(d.only) - 1
		after = LaneID{EndpointID: d.only[:last] + string(d.only[last]-1) + "~", Class: Retry}
	}
	res, err := d.store.Lanes(ctx, &LanesRequest{After: after, Limit: inboxLanes})
	if err == nil && res != nil && res.Next.EndpointID > d.only {
		res.Next = LaneID{}
	}
	return res, err
}

// inboxLanes is how many lanes an inbox reads at a time.
const inboxLanes = 8
