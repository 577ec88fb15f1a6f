package webhook

import (
	"context"
	"maps"
	"slices"
)

// follow is called when an endpoint has been stored, and reports whether its hold was put or lifted. The hold comes after the endpoint, so that there
// is none that waits for an address which was not stored after all; until it comes, no process sends to an address that is not marked.
func (v *verification) follow(ctx context.Context, id string) (bool, error) {
	if v.states == nil {
		return false, nil // each process sees to itself
	}
	rt := v.d.routes.lookup(id)
	if h := rt.status.hold.Load(); rt.aim == "" && (h == nil || h.Kind != HoldUnverified) {
		return false, nil
	}
	return v.change(ctx, id, v.followed)
}

// followed is the state that an endpoint is to have: a hold while it is not verified. That is stored even where it is so already, which keeps those
// from lifting it that do not know the endpoint yet.
func (v *verification) followed(t *routeTable, s *verifyState) *verifyChange {
	rt, want := t.byID[s.state.EndpointID], ""
	switch _, deleted := t.deleted[s.state.EndpointID]; {
	case rt == nil && !deleted, rt != nil && rt.unreadable: // of that the URL is not known here
		return nil
	case rt != nil:
		want = rt.aim
	}
	doc, verified := s.read(want)
	if !verified {
		return &verifyChange{doc: doc, hold: verifyWaiting}
	}
	if h := s.state.Hold; h == nil || h.Kind != HoldUnverified {
		return nil
	}
	return &verifyChange{doc: doc, unhold: true}
}

// learn is told of a state that was read from the store, after the endpoints were: what is sent to next is marked by it. With anyway, it counts
// whatever was known.
func (v *verification) learn(in *EndpointState, anyway bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := v.known[in.EndpointID]; s != nil && (in.Version > s.state.Version || anyway) {
		s.state = *in
	}
	if in.Hold != nil && in.Hold.Kind == HoldUnverified {
		v.strays[in.EndpointID] = true
	}
}

// freeStrays ends holds of verification's on endpoints that need not be verified any more, or are deleted.
func (v *verification) freeStrays(ctx context.Context, table *routeTable) {
	v.mu.Lock()
	ids := slices.Collect(maps.Keys(v.strays))
	v.mu.Unlock()
	for _, id := range ids {
		if h := v.d.statuses.get(id).hold.Load(); h != nil && h.Kind == HoldUnverified {
			rt := table.byID[id]
			if _, deleted := table.deleted[id]; rt == nil && !deleted {
				continue // it may come yet
			}
			if rt != nil && rt.endpoint.Verify != "" {
				continue // for as long as that holds
			}
			if _, err := v.change(ctx, id, v.followed); err != nil {
				continue
			}
		}
		v.mu.Lock()
		delete(v.strays, id)
		v.mu.Unlock()
	}
}
