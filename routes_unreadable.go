package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// An endpoint whose secrets the store cannot open may become readable: a key service comes back, or another process seals it anew. While one is
// not, it is asked for so often.
const (
	rereadEvery = 10 * time.Second
	rereadFails = 10                     // how many may fail in a turn
	rereadMost  = 500 * time.Millisecond // how long a turn may take

	unreadablePause = time.Second // before its lanes are looked at again
)

// unreadableRoute is a route that events are stored for and nothing is claimed for.
func (d *Dispatcher) unreadableRoute(ep Endpoint, err error) *route {
	rt := d.newRoute(ep)
	rt.target, rt.aim, rt.unreadable = nil, "", true // of which the URL is not known
	rt.err = fmt.Errorf("it cannot be read; what is for it waits: %w", err)
	d.log.Error("webhook: an endpoint cannot be read; what is for it waits",
		slog.String("endpoint", ep.ID), slog.Any("error", err))
	return rt
}

// reread adds to changes what could not be read when old was made and can be now. The caller has the turn.
func (r *routes) reread(ctx context.Context, old *routeTable, changes *EndpointChanges) *EndpointChanges {
	began := time.Now()
	if old.unreadable == 0 || began.Before(r.rereadAt) || changes.Version < old.version {
		return changes
	}
	changed := make(map[string]bool)
	for _, ep := range changes.Put {
		changed[ep.ID] = true
	}
	for _, id := range changes.Deleted {
		changed[id] = true
	}
	more := *changes
	more.Put = slices.Clip(more.Put)
	failed := 0
	for id, rt := range old.byID { // in another order each time
		if !rt.unreadable || changed[id] {
			continue
		}
		ep, err := r.store.GetEndpoint(ctx, id)
		if err == nil {
			more.Put = append(more.Put, ep)
		} else if failed++; failed == rereadFails {
			break
		}
		if time.Since(began) > rereadMost {
			break
		}
	}
	if failed > 0 { // else there may be more that can be read
		r.rereadAt = time.Now().Add(rereadEvery)
	}
	return &more
}
