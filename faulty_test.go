package webhook_test

import (
	"context"
	"io"
	"log"
	"log/slog"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// faulty is a store of which single methods are replaced. Those that are nil work as usual.
type faulty struct {
	*memstore.Store
	now      func(context.Context) (time.Time, error)
	enqueue  func(context.Context, *webhook.EnqueueRequest) (*webhook.EnqueueResult, error)
	lanes    func(context.Context, *webhook.LanesRequest) (*webhook.LanesResult, error)
	claim    func(context.Context, *webhook.ClaimRequest) (*webhook.ClaimResult, error)
	extend   func(context.Context, *webhook.ExtendRequest) (*webhook.ExtendResult, error)
	complete func(context.Context, *webhook.CompleteRequest) (*webhook.CompleteResult, error)
	changes  func(context.Context, int64) (*webhook.EndpointChanges, error)
	holds    func(context.Context, time.Time) ([]webhook.HoldStatus, error)
}

func (f *faulty) Now(ctx context.Context) (time.Time, error) {
	if f.now != nil {
		return f.now(ctx)
	}
	return f.Store.Now(ctx)
}

func (f *faulty) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	if f.enqueue != nil {
		return f.enqueue(ctx, req)
	}
	return f.Store.Enqueue(ctx, req)
}

func (f *faulty) Lanes(ctx context.Context, req *webhook.LanesRequest) (*webhook.LanesResult, error) {
	if f.lanes != nil {
		return f.lanes(ctx, req)
	}
	return f.Store.Lanes(ctx, req)
}

func (f *faulty) Claim(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
	if f.claim != nil {
		return f.claim(ctx, req)
	}
	return f.Store.Claim(ctx, req)
}

func (f *faulty) Extend(ctx context.Context, req *webhook.ExtendRequest) (*webhook.ExtendResult, error) {
	if f.extend != nil {
		return f.extend(ctx, req)
	}
	return f.Store.Extend(ctx, req)
}

func (f *faulty) Complete(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
	if f.complete != nil {
		return f.complete(ctx, req)
	}
	return f.Store.Complete(ctx, req)
}

func (f *faulty) EndpointChanges(ctx context.Context, since int64) (*webhook.EndpointChanges, error) {
	if f.changes != nil {
		return f.changes(ctx, since)
	}
	return f.Store.EndpointChanges(ctx, since)
}

func (f *faulty) ListHolds(ctx context.Context, now time.Time) ([]webhook.HoldStatus, error) {
	if f.holds != nil {
		return f.holds(ctx, now)
	}
	return f.Store.ListHolds(ctx, now)
}

// quiet drops what is logged.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// bodies is how much memory the bodies take that a receiver remembers.
func bodies(rc *receiver) (n uint64) {
	for _, r := range rc.requests() {
		n += uint64(len(r.body))
	}
	return n
}

// quietLog drops what servers log.
func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
