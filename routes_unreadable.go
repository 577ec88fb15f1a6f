package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// An endpoint whose secrets the store cannot open may become readable: a key service comes back, or another process seals it anew. It
// is asked for so often, and so many at a time.
const (
	rereadEvery = 10 * time.Second
	rereadMost  = 100
)

// unreadableRoute is a route that events are stored for and nothing is sent to.
func (d *Dispatcher) unreadableRoute(ep Endpoint, err error) *route {
	rt := d.newRoute(ep)
	rt.target, rt.unreadable = nil, true
	rt.err = fmt.Errorf("its secrets cannot be read; what is for it waits: %w", err)
	d.log.Error("webhook: the secrets of an endpoint cannot be read; what is for it waits",
		slog.String("endpoint", ep.ID), slog.Any("error", err))
	return rt
}

// reread adds to changes what could not be read when old was made and can be now. The caller has the turn.
func (r *routes) reread(ctx context.Context, old *routeTable, changes *EndpointChanges) *EndpointChanges {
	if old.unreadable == 0 || time.Since(r.rereadAt) < rereadEvery || changes.Version < old.version {
		return changes
	}
	r.rereadAt = time.Now()
	changed := make(map[string]bool)
	for _, ep := range changes.Put {
		changed[ep.ID] = true
	}
	for _, id := range changes.Deleted {
		changed[id] = true
	}
	more := *changes
	more.Put = slices.Clip(more.Put)
	asked := 0
	for id, rt := range old.byID { // in another order each time
		if !rt.unreadable || changed[id] {
			continue
		}
		if asked++; asked > rereadMost {
			break
		}
		if ep, err := r.store.GetEndpoint(ctx, id); err == nil {
			more.Put = append(more.Put, ep)
		}
	}
	return &more
}
