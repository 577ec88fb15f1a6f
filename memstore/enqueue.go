package memstore

import (
	"bytes"
	"context"
	"fmt"

	"github.com/signalpost/webhook"
)

// Enqueue is [webhook.Enqueuer.Enqueue].
func (s *Store) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	copies := make([]webhook.Event, len(req.Events))
	for i := range req.Events {
		copies[i] = cloneEvent(req.Events[i].Event)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	statuses, err := s.judge(req)
	if err != nil {
		return nil, err
	}
	for i := range req.Events {
		if statuses[i] == webhook.Stored {
			s.store(req, &req.Events[i], copies[i])
		}
	}
	return &webhook.EnqueueResult{Events: statuses}, nil
}

// judge says what is to become of each event and refuses what cannot be stored, before anything is written.
// The caller holds s.mu.
func (s *Store) judge(req *webhook.EnqueueRequest) ([]webhook.EnqueueStatus, error) {
	statuses := make([]webhook.EnqueueStatus, len(req.Events))
	earlier := make(map[string][32]byte, len(req.Events))
	deliveries := make(map[string]bool, len(req.Events))
	for i := range req.Events {
		ev := &req.Events[i]
		id := ev.Event.ID
		if id == "" {
			return nil, invalid("enqueue", "Event.ID", "missing")
		}
		digest, known := earlier[id]
		if e := s.ids[id]; e != nil {
			digest, known = e.digest, true
		}
		switch {
		case known && digest == ev.Digest:
			statuses[i] = webhook.Repeat
		case known:
			statuses[i] = webhook.Conflict
		default:
			earlier[id] = ev.Digest
			if err := s.checkDeliveries(ev, deliveries); err != nil {
				return nil, err
			}
		}
	}
	return statuses, nil
}

// checkDeliveries refuses deliveries that cannot be stored. seen holds the IDs met earlier in the request.
// The caller holds s.mu.
func (s *Store) checkDeliveries(ev *webhook.NewEvent, seen map[string]bool) error {
	for i := range ev.Deliveries {
		d := &ev.Deliveries[i]
		switch {
		case d.ID == "" || d.EndpointID == "":
			return invalid("enqueue", "Deliveries", fmt.Sprintf("event %q: ID or EndpointID is missing", ev.Event.ID))
		case d.Lease > 0 && d.OrderingKey != "":
			return invalid("enqueue", "Lease", fmt.Sprintf("delivery %q has an ordering key and cannot be inserted leased", d.ID))
		case !d.ExpiresAt.IsZero() && d.ExpiresAt.UnixMicro() <= 0:
			return invalid("enqueue", "ExpiresAt", fmt.Sprintf("of delivery %q is not after 1970-01-01", d.ID))
		case s.rows[d.ID] != nil || seen[d.ID]:
			return invalid("enqueue", "Deliveries", fmt.Sprintf("delivery %q exists", d.ID))
		}
		seen[d.ID] = true
	}
	return nil
}

// store writes one event, whose copy is ev. The caller holds s.mu.
func (s *Store) store(req *webhook.EnqueueRequest, in *webhook.NewEvent, ev webhook.Event) {
	now := micro(req.Now)
	id := &eventID{id: ev.ID, digest: in.Digest, at: now, n: s.next()}
	e := &event{ev: ev, at: now, fanout: len(in.Deliveries), idEntry: id}
	s.ids[ev.ID] = id
	s.events[ev.ID] = e
	if s.eventsByID.cmp != nil {
		s.eventsByID.insert(e)
	}
	if len(in.Deliveries) == 0 {
		e.ended = id.n
		s.unmatched.insert(e)
		s.remember(finished{n: id.n, ev: e})
		return
	}
	e.rows = make([]*row, 0, len(in.Deliveries))
	for i := range in.Deliveries {
		d := &in.Deliveries[i]
		r := &row{n: s.next(), ev: e, ep: s.endpoint(d.EndpointID), due: now, d: webhook.Delivery{
			ID: d.ID, EventID: ev.ID, EndpointID: d.EndpointID, OrderingKey: d.OrderingKey,
			State: webhook.Queued, CreatedAt: now, ExpiresAt: micro(d.ExpiresAt),
		}}
		switch {
		case d.Lease > 0:
			r.token, r.leased, r.due = 1, true, micro(req.Now.Add(d.Lease))
		case !d.DueAt.IsZero():
			r.due = micro(d.DueAt)
		}
		e.rows = append(e.rows, r)
		s.rows[d.ID] = r
		s.byID.insert(r)
		r.ep.byID.insert(r)
		if !r.d.ExpiresAt.IsZero() {
			s.expiry.insert(r)
		}
		s.place(r)
	}
}

// place puts a new row into its lane, or behind the others of its ordering key. The caller holds s.mu.
func (s *Store) place(r *row) {
	if r.d.OrderingKey == "" {
		s.toLane(r)
		return
	}
	k := r.ep.keys[r.d.OrderingKey]
	if k == nil {
		k = &orderKey{name: r.d.OrderingKey}
		r.ep.keys[r.d.OrderingKey] = k
	}
	s.add(k, r)
}

// cloneEvent copies all that ev points to.
func cloneEvent(ev webhook.Event) webhook.Event {
	ev.Payload = bytes.Clone(ev.Payload)
	ev.Header = ev.Header.Clone()
	return ev
}
