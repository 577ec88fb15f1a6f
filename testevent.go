package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

// testsMost is how many tests and verifications are under way at once in a process.
const testsMost = 4

// The types of events that are no business of the caller's.
const (
	testType         = "webhook.test"
	verificationType = "webhook.verification"
)

// SendTestOptions configure [Dispatcher.SendTest].
type SendTestOptions struct {
	// Event is what to send; nil: one of type "webhook.test" whose payload is JSON with type, id and timestamp. The endpoint need not
	// subscribe to its type. Without ID it gets one.
	Event *Event
}

// TestResult is what became of a test.
type TestResult struct {
	Attempt          // as it would have been recorded; Number is 1
	EventID   string //
	Delivered bool   // the answer is one that counts as a success with this endpoint
}

// SendTest makes one attempt at once, to show whether an endpoint works: with its own URL, signature, headers, credentials, time limit
// and guard, in the caller's goroutine. Nothing of it is stored, and it counts neither for a delivery nor against the endpoint. It goes
// out to a paused or disabled endpoint too, and a success ends a hold that failures made, unless [HealthPolicy].KeepHeld says otherwise; a
// person's pause stays. It needs no Run. Four at once go out in a process; others wait.
//
// An attempt that failed is a result and no error. The error is [ErrNotFound] for an endpoint that is not known, a [*FieldError] for an
// event that cannot be sent, or tells why there was no attempt. opts may be nil.
//
// The answer's beginning is part of the result. Who may see it, may read with it whatever public server the endpoint's URL names.
func (d *Dispatcher) SendTest(ctx context.Context, endpointID string, opts *SendTestOptions) (*TestResult, error) {
	ev := Event{Type: testType}
	if opts != nil && opts.Event != nil {
		ev = *opts.Event
		if err := d.checkEvent(&ev); err != nil {
			return nil, err
		}
	}
	if ev.ID == "" {
		ev.ID = NewEventID()
	}
	if ev.Payload == nil && (opts == nil || opts.Event == nil) {
		ev.Payload, _ = json.Marshal(map[string]any{"type": ev.Type, "id": ev.ID, "timestamp": time.Now().UTC().Format(time.RFC3339)})
	}
	rt, err := d.testRoute(ctx, endpointID)
	if err != nil {
		return nil, opError(fmt.Sprintf("test of endpoint %q", endpointID), err)
	}
	res, err := d.tryOnce(ctx, rt, &ev)
	if err != nil {
		return nil, opError(fmt.Sprintf("test of endpoint %q", endpointID), err)
	}
	out := &TestResult{EventID: ev.ID, Delivered: res.delivered(rt.success), Attempt: Attempt{
		Number: 1, StartedAt: res.StartedAt.Round(0), Duration: res.Duration, Status: res.Status, Error: res.Kind, Detail: res.Detail, Response: res.Response,
	}}
	d.log.LogAttrs(ctx, slog.LevelInfo, "webhook: test", slog.String("endpoint", endpointID), slog.String("event", ev.ID),
		slog.Int("status", res.Status), slog.String("error", res.Kind), slog.Duration("duration", res.Duration))
	if out.Delivered {
		d.health.testSucceeded(ctx, rt)
	}
	return out, nil
}

// testRoute is the route of an endpoint that can be sent to.
func (d *Dispatcher) testRoute(ctx context.Context, id string) (*route, error) {
	rt, _, err := d.routes.resolve(ctx, id, time.Time{})
	switch {
	case err != nil:
		return nil, err
	case rt == nil:
		return nil, ErrNotFound
	}
	return rt, rt.err
}

// tryOnce makes one attempt outside of the queue. It fails only when none was made, or ctx ended it.
func (d *Dispatcher) tryOnce(ctx context.Context, rt *route, ev *Event) (attemptResult, error) {
	select {
	case d.tests <- struct{}{}:
		defer func() { <-d.tests }()
	case <-ctx.Done():
		return attemptResult{}, context.Cause(ctx)
	}
	it := &item{Claimed: Claimed{Delivery: Delivery{EventID: ev.ID, EndpointID: rt.endpoint.ID}, Event: *ev}}
	res := d.attempt(ctx, rt.target, it, nil)
	if ctx.Err() != nil && res.Kind == NetErrorCanceled {
		return res, context.Cause(ctx)
	}
	return res, nil
}
