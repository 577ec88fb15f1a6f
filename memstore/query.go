package memstore

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/signalpost/webhook"
)

// GetEvent is [webhook.QueryStore.GetEvent].
func (s *Store) GetEvent(ctx context.Context, id string) (*webhook.EventRecord, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.events[id]
	if e == nil {
		return nil, notFound("event", id)
	}
	return &webhook.EventRecord{Event: cloneEvent(e.ev), CreatedAt: e.at, Deliveries: e.fanout}, nil
}

// ListDeliveries is [webhook.QueryStore.ListDeliveries]. Filtered by event or endpoint it reads only theirs; a filter
// by state reads past what does not match.
func (s *Store) ListDeliveries(ctx context.Context, req *webhook.ListDeliveriesRequest) (*webhook.ListDeliveriesResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now, limit := micro(req.Now), limitOr(req.Limit, 100)
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.ListDeliveriesResult{}
	for r := range s.candidates(req) {
		if r.d.ID <= req.After || req.EndpointID != "" && r.d.EndpointID != req.EndpointID {
			continue
		}
		d := r.state(now)
		if req.State != "" && d.State != req.State {
			continue
		}
		if len(res.Deliveries) == limit {
			res.Next = res.Deliveries[limit-1].ID
			break
		}
		res.Deliveries = append(res.Deliveries, d)
	}
	return res, nil
}

// candidates walks the rows that may match, in the order of ID. The caller holds s.mu.
func (s *Store) candidates(req *webhook.ListDeliveriesRequest) iter.Seq[*row] {
	after := &row{d: webhook.Delivery{ID: req.After}}
	switch {
	case req.EventID != "":
		e := s.events[req.EventID]
		if e == nil {
			return slices.Values([]*row(nil))
		}
		return slices.Values(slices.SortedFunc(slices.Values(e.rows), rowsByID))
	case req.EndpointID != "":
		ep := s.endpoints[req.EndpointID]
		if ep == nil {
			return slices.Values([]*row(nil))
		}
		return ep.byID.from(after)
	}
	return s.byID.from(after)
}

// ListAttempts is [webhook.QueryStore.ListAttempts]. A delivery that is not there has none.
func (s *Store) ListAttempts(ctx context.Context, deliveryID string) ([]webhook.Attempt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[deliveryID]
	if r == nil {
		return nil, nil
	}
	attempts := slices.Clone(r.attempts)
	for i := range attempts {
		attempts[i].Response = bytes.Clone(attempts[i].Response)
	}
	return attempts, nil
}

// Prune is [webhook.Pruner.Prune]. An idempotency key whose hold ended without a Finish counts as expired too.
func (s *Store) Prune(ctx context.Context, req *webhook.PruneRequest) (*webhook.PruneResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now, limit := micro(req.Now), limitOr(req.Limit, 1000)
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.PruneResult{}
	for res.EventIDs < limit && !req.EventIDsBefore.IsZero() {
		id, ok := s.orphans.first()
		if !ok || !id.at.Before(micro(req.EventIDsBefore)) {
			break
		}
		s.orphans.remove(id)
		delete(s.ids, id.id)
		res.EventIDs++
	}
	for _, ends := range []*sorted[*dedupe]{&s.keyHolds, &s.keyExpiry} {
		for res.DedupeKeys < limit && req.DedupeKeys {
			k, ok := ends.first()
			if !ok || k.end.After(now) {
				break
			}
			s.dropKey(k)
			res.DedupeKeys++
		}
	}
	return res, nil
}

// keysByExpiry orders keys by their end.
func keysByExpiry(a, b *dedupe) int {
	if c := a.end.Compare(b.end); c != 0 {
		return c
	}
	if c := strings.Compare(a.id.scope, b.id.scope); c != 0 {
		return c
	}
	return strings.Compare(a.id.key, b.id.key)
}
