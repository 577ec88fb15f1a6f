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
	h := &hold{kind: req.Kind, reason: req.Reason, until: micro(req.Until)}
	s.endpoint(req.EndpointID).hold = h
	s.holds[req.EndpointID] = h
	return nil
}

// Unhold is [webhook.HoldStore.Unhold].
func (s *Store) Unhold(ctx context.Context, endpointID string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ep := s.endpoints[endpointID]; ep != nil {
		ep.hold = nil
	}
	delete(s.holds, endpointID)
	return nil
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
			active = append(active, webhook.HoldStatus{EndpointID: id, Kind: h.kind, Reason: h.reason, Until: h.until})
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
	k.blockedBy, k.onHold = "", false
	s.advance(k)
	return true, nil
}
