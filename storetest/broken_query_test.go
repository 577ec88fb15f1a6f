package storetest

import (
	"context"
	"time"

	"github.com/signalpost/webhook"
)

// brokenQuery changes requests and results of lists, pruning and erasure. Any function may be nil.
type brokenQuery struct {
	full
	list   func(req *webhook.ListDeliveriesRequest)
	listed func(res *webhook.ListDeliveriesResult)
	events func(req *webhook.ListEventsRequest)
	head   func(head *webhook.KeyHead)
	prune  func(req *webhook.PruneRequest)
	pruned func(res *webhook.PruneResult)
	erase  func(req *webhook.EraseTenantRequest)
	erased func(res *webhook.EraseTenantResult)
}

// changed calls f with a copy of v, unless f is nil.
func changed[T any](v *T, f func(*T)) *T {
	own := *v
	if f != nil {
		f(&own)
	}
	return &own
}

func (b brokenQuery) ListDeliveries(ctx context.Context, req *webhook.ListDeliveriesRequest) (*webhook.ListDeliveriesResult, error) {
	res, err := b.full.ListDeliveries(ctx, changed(req, b.list))
	if err == nil {
		res = changed(res, b.listed)
	}
	return res, err
}

func (b brokenQuery) ListEvents(ctx context.Context, req *webhook.ListEventsRequest) (*webhook.ListEventsResult, error) {
	return b.full.ListEvents(ctx, changed(req, b.events))
}

func (b brokenQuery) KeyHead(ctx context.Context, endpointID, orderingKey string) (*webhook.KeyHead, error) {
	head, err := b.full.KeyHead(ctx, endpointID, orderingKey)
	if err == nil {
		head = changed(head, b.head)
	}
	return head, err
}

func (b brokenQuery) Prune(ctx context.Context, req *webhook.PruneRequest) (*webhook.PruneResult, error) {
	res, err := b.full.Prune(ctx, changed(req, b.prune))
	if err == nil {
		res = changed(res, b.pruned)
	}
	return res, err
}

func (b brokenQuery) EraseTenant(ctx context.Context, req *webhook.EraseTenantRequest) (*webhook.EraseTenantResult, error) {
	res, err := b.full.EraseTenant(ctx, changed(req, b.erase))
	if err == nil {
		res = changed(res, b.erased)
	}
	return res, err
}

func listForgets(list func(req *webhook.ListDeliveriesRequest)) func(full) full {
	return func(s full) full { return brokenQuery{full: s, list: list} }
}

func eventsForget(events func(req *webhook.ListEventsRequest)) func(full) full {
	return func(s full) full { return brokenQuery{full: s, events: events} }
}

func headForgets(head func(head *webhook.KeyHead)) func(full) full {
	return func(s full) full { return brokenQuery{full: s, head: head} }
}

func pruneForgets(prune func(req *webhook.PruneRequest), pruned func(res *webhook.PruneResult)) func(full) full {
	return func(s full) full { return brokenQuery{full: s, prune: prune, pruned: pruned} }
}

func eraseForgets(erase func(req *webhook.EraseTenantRequest), erased func(res *webhook.EraseTenantResult)) func(full) full {
	return func(s full) full { return brokenQuery{full: s, erase: erase, erased: erased} }
}

// pruneAnyState takes what is said of one state for all of them.
func pruneAnyState(req *webhook.PruneRequest) {
	b := &req.Ended
	for _, t := range []time.Time{b.Delivered, b.DeadLetter, b.Canceled, b.Expired} {
		if !t.IsZero() {
			*b = webhook.EndedBefore{Delivered: t, DeadLetter: t, Canceled: t, Expired: t}
		}
	}
}

// pruneAnyAge takes what ended for older than it is.
func pruneAnyAge(req *webhook.PruneRequest) {
	for _, t := range []*time.Time{&req.Ended.Delivered, &req.Ended.DeadLetter, &req.Ended.Canceled, &req.Ended.Expired} {
		if !t.IsZero() {
			*t = t.Add(time.Hour)
		}
	}
}

// brokenErase erases what others sent as well.
type brokenErase struct{ full }

func (b brokenErase) EraseTenant(ctx context.Context, req *webhook.EraseTenantRequest) (*webhook.EraseTenantResult, error) {
	if !req.Count {
		none := webhook.EraseTenantRequest{Now: req.Now}
		if _, err := b.full.EraseTenant(ctx, &none); err != nil {
			return nil, err
		}
	}
	return b.full.EraseTenant(ctx, req)
}

// brokenWaiting ends what waits, to erase it.
type brokenWaiting struct{ full }

func (b brokenWaiting) EraseTenant(ctx context.Context, req *webhook.EraseTenantRequest) (*webhook.EraseTenantResult, error) {
	res, err := b.full.EraseTenant(ctx, req)
	if err != nil || req.Count || len(res.Waiting) == 0 {
		return res, err
	}
	for _, id := range res.Waiting {
		end := &webhook.EndRequest{Now: req.Now, EventID: id, Leased: true, Next: webhook.Canceled}
		if _, err := b.full.End(ctx, end); err != nil {
			return nil, err
		}
	}
	return b.full.EraseTenant(ctx, req)
}

// brokenForget ends what waits, to forget it.
type brokenForget struct{ full }

func (b brokenForget) Prune(ctx context.Context, req *webhook.PruneRequest) (*webhook.PruneResult, error) {
	if req.Ended == (webhook.EndedBefore{}) {
		return b.full.Prune(ctx, req)
	}
	open := []webhook.State{webhook.Queued, webhook.RetryScheduled, webhook.Delivering}
	list, err := b.full.ListDeliveries(ctx, &webhook.ListDeliveriesRequest{Now: req.Now, States: open, Limit: 1000})
	if err != nil {
		return nil, err
	}
	for _, d := range list.Deliveries {
		end := &webhook.EndRequest{Now: req.Now.Add(-time.Hour), DeliveryID: d.ID, Leased: true, Next: webhook.Canceled}
		if _, err := b.full.End(ctx, end); err != nil {
			return nil, err
		}
	}
	return b.full.Prune(ctx, req)
}

// brokenBlocks releases the keys that dead letters block, to forget those.
type brokenBlocks struct{ full }

func (b brokenBlocks) Prune(ctx context.Context, req *webhook.PruneRequest) (*webhook.PruneResult, error) {
	if req.Ended != (webhook.EndedBefore{}) {
		for _, key := range []string{"k", "l"} {
			release := &webhook.ReleaseKeyRequest{Now: req.Now, EndpointID: "a", OrderingKey: key}
			if _, err := b.full.ReleaseKey(ctx, release); err != nil {
				return nil, err
			}
		}
	}
	return b.full.Prune(ctx, req)
}
