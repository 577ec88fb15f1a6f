package webhook

import (
	"context"
	"log/slog"
	"time"
)

// health watches how endpoints fare, and slows, probes and holds those that fail. What it decides, all processes on the store
// agree on.
type health struct {
	d *Dispatcher
}

func newHealth(d *Dispatcher) *health { return &health{d: d} }

// run works until ctx ends.
func (h *health) run(ctx context.Context) { <-ctx.Done() }

// observe takes note of an attempt that says something about its endpoint: each but tests, and failures of our own. It is called by
// senders, before the outcome is recorded, and must be quick. retryAfter is what the answer asks for, bounded; 0: nothing.
func (h *health) observe(_ *route, _ *item, _ *Attempt, _ time.Duration) {}

// gone puts an endpoint on hold that asked to hear no more, before the outcome of that attempt is recorded.
func (h *health) gone(ctx context.Context, it *item, reason string) {
	id := it.Delivery.EndpointID
	if err := h.d.hold(ctx, id, HoldGone, reason); err != nil {
		h.d.log.Error("webhook: could not disable an endpoint that is gone", slog.String("endpoint", id), slog.Any("error", err))
		return
	}
	h.d.log.Warn("webhook: endpoint disabled: it is gone (410)", slog.String("endpoint", id))
}

// resumed is told that a person ended an endpoint's hold: what was kept is to go out at a safe pace.
func (h *health) resumed(_ context.Context, _ string) {}

// testSucceeded is told that an endpoint answered a test with a success, which may end a hold that its failures made.
//
//lint:ignore U1000 called by tests of endpoints, which are to come
func (h *health) testSucceeded(_ context.Context, _ *route) {}
