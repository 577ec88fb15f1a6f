package webhook

import (
	"context"
	"maps"
	"slices"
)

// noteHold is told of each hold of verification's that is read from the store.
func (v *verification) noteHold(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.strays[id] = true
}

// freeStrays ends holds of verification's on endpoints that need not be verified, or are deleted: a process that did not know of the change yet
// has put them after the change.
func (v *verification) freeStrays(ctx context.Context, table *routeTable) {
	v.mu.Lock()
	ids := slices.Collect(maps.Keys(v.strays))
	v.mu.Unlock()
	for _, id := range ids {
		if h := v.d.statuses.get(id).hold.Load(); h != nil && h.Kind == HoldUnverified {
			rt, ep := table.byID[id], Endpoint{ID: id}
			if _, deleted := table.deleted[id]; rt == nil && !deleted {
				continue // it may come yet
			}
			if rt != nil {
				ep = rt.endpoint
			}
			if ep.Verify != "" {
				continue // for as long as that holds
			}
			if _, err := v.change(ctx, &ep, func(verifyDoc) *verifyChange { return &verifyChange{unhold: true} }); err != nil {
				continue
			}
		}
		v.mu.Lock()
		delete(v.strays, id)
		v.mu.Unlock()
	}
}
