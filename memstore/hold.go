package memstore

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

// hold pauses an endpoint.
type hold struct {
	kind, reason string
	until        time.Time // zero: until Unhold
}

// active reports whether h holds at now. A nil hold never does.
func (h *hold) active(now time.Time) bool {
	return h != nil && (h.until.IsZero() || h.until.After(now))
}

// status is h as the hold of an endpoint.
func (h *hold) status(endpointID string) webhook.HoldStatus {
	return webhook.HoldStatus{EndpointID: endpointID, Kind: h.kind, Reason: h.reason, Until: h.until}
}

// Hold is [webhook.HoldStore.Hold].
func (s *Store) Hold(ctx context.Context, req *webhook.HoldRequest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if req.EndpointID == "" {
		return invalid("hold", "EndpointID", "missing")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ep := s.endpoint(req.EndpointID)
	s.setHold(ep, req)
	s.stateVersion++
	s.stateChanged(ep, s.stateVersion)
	return nil
}

// setHold puts ep on hold. The caller holds s.mu, and gives ep another version.
func (s *Store) setHold(ep *endpointState, req *webhook.HoldRequest) {
	ep.hold = &hold{kind: req.Kind, reason: req.Reason, until: micro(req.Until)}
	s.holds[ep.id] = ep.hold
}

// Unhold is [webhook.HoldStore.Unhold].
func (s *Store) Unhold(ctx context.Context, endpointID string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ep := s.endpoints[endpointID]; ep != nil && ep.hold != nil {
		s.endHold(ep)
		s.stateVersion++
		s.stateChanged(ep, s.stateVersion)
	}
	return nil
}

// endHold ends a hold, if there is one. The caller holds s.mu, and gives ep another version.
func (s *Store) endHold(ep *endpointState) {
	ep.hold = nil
	delete(s.holds, ep.id)
}

// ListHolds is [webhook.HoldStore.ListHolds].
func (s *Store) ListHolds(ctx context.Context, now time.Time) ([]webhook.HoldStatus, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var active []webhook.HoldStatus
	for _, id := range slices.Sorted(maps.Keys(s.holds)) {
		if h := s.holds[id]; h.active(now) {
			active = append(active, h.status(id))
		}
	}
	return active, nil
}

// ReleaseKey is [webhook.HoldStore.ReleaseKey].
func (s *Store) ReleaseKey(ctx context.Context, req *webhook.ReleaseKeyRequest) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ep := s.endpoints[req.EndpointID]
	if ep == nil {
		return false, nil
	}
	k := ep.keys[req.OrderingKey]
	if k == nil || k.blockedBy == "" {
		return false, nil
	}
	ep.blocked.remove(k)
	k.blockedBy, k.onHold = "", false
	s.advance(k)
	return true, nil
}
