package memstore

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/signalpost/webhook"
)

// maxExamined bounds how many rows one page looks at to find those that match, and so how long the lock is held.
const maxExamined = 10_000

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
	rec := e.record()
	rec.Event = cloneEvent(e.ev)
	return &rec, nil
}

// record is e without payload and header.
func (e *event) record() webhook.EventRecord {
	ev := e.ev
	ev.Payload, ev.Header = nil, nil
	return webhook.EventRecord{Event: ev, CreatedAt: e.at, Deliveries: e.fanout, ErasedAt: e.erasedAt}
}

// ListEvents is [webhook.QueryStore.ListEvents].
func (s *Store) ListEvents(ctx context.Context, req *webhook.ListEventsRequest) (*webhook.ListEventsResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.allEvents()
	if req.Unmatched {
		set = &s.unmatched
	}
	res := &webhook.ListEventsResult{}

	res.Next = page(eventBounds.walk(set, req.After, req.Before, req.Newest), limitOr(req.Limit, 100), eventBounds.id, func(e *event) bool {
		rec := e.record()
		if !req.Matches(&rec) {
			return false
		}
		res.Events = append(res.Events, rec)
		return true
	})
	return res, nil
}

func eventsByID(a, b *event) int { return strings.Compare(a.ev.ID, b.ev.ID) }

// allEvents are the events in the order of ID. The caller holds s.mu.
func (s *Store) allEvents() *sorted[*event] {
	if s.eventsByID.cmp == nil {
		s.eventsByID = sorted[*event]{cmp: eventsByID}
		for _, e := range slices.SortedFunc(maps.Values(s.events), eventsByID) {
			s.eventsByID.insert(e)
		}
	}
	return &s.eventsByID
}

// ListDeliveries is [webhook.QueryStore.ListDeliveries]. It walks the deliveries of the event, those unfinished, those
// that ended otherwise than delivered, those of the endpoint or all, whatever fits the request and is least.
func (s *Store) ListDeliveries(ctx context.Context, req *webhook.ListDeliveriesRequest) (*webhook.ListDeliveriesResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := micro(req.Now)
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.ListDeliveriesResult{}
	res.Next = page(s.candidates(req), limitOr(req.Limit, 100), rowBounds.id, func(r *row) bool {
		d := r.state(now)
		if !req.Matches(&d) || !req.MatchesEvent(r.ev.ev.Type, r.ev.ev.Tenant) || !r.answered(req.Response) {
			return false
		}
		res.Deliveries = append(res.Deliveries, d)
		return true
	})
	return res, nil
}

// answered reports whether r's last attempt was answered so.
func (r *row) answered(class webhook.ResponseClass) bool {
	if class == "" {
		return true
	}
	n := len(r.attempts)
	return n > 0 && class.Matches(r.attempts[n-1].Status)
}

// page takes what matches of a walk, at most so many, and tells where to go on.
func page[T any](walk iter.Seq[T], limit int, id func(T) string, take func(T) bool) (next string) {
	taken, examined, last := 0, 0, ""
	for v := range walk {
		if taken == limit || examined == maxExamined {
			return last
		}
		if take(v) {
			taken++
		}
		examined++
		last = id(v)
	}
	return ""
}

// bounds make walks between IDs.
type bounds[T any] struct {
	id func(T) string
	at func(id string) T
}

var eventBounds = bounds[*event]{func(e *event) string { return e.ev.ID }, func(id string) *event { return &event{ev: webhook.Event{ID: id}} }}

var rowBounds = bounds[*row]{func(r *row) string { return r.d.ID }, func(id string) *row { return &row{d: webhook.Delivery{ID: id}} }}

// walk is what lies between two exclusive IDs, of which before may be "" for no bound.
func (b bounds[T]) walk(set *sorted[T], after, before string, newest bool) iter.Seq[T] {
	inside := func(id string) bool { return id > after && (before == "" || id < before) }
	return func(yield func(T) bool) {
		steps := set.from(b.at(after))
		switch {
		case newest && before == "":
			steps = set.back()
		case newest:
			steps = set.below(b.at(before))
		}
		for v := range steps {
			if id := b.id(v); id == after {
				continue
			} else if !inside(id) || !yield(v) {
				return
			}
		}
	}
}

// candidates walks the rows that may match, in the order asked for. The caller holds s.mu.
func (s *Store) candidates(req *webhook.ListDeliveriesRequest) iter.Seq[*row] {
	if req.EventID != "" {
		e := s.events[req.EventID]
		if e == nil {
			return slices.Values([]*row(nil))
		}
		set := sorted[*row]{cmp: rowsByID}
		for _, r := range e.rows {
			set.insert(r)
		}
		return rowBounds.walk(&set, req.After, req.Before, req.Newest)
	}
	all, failed := &s.byID, &s.failed
	var some *endpointState
	if req.EndpointID != "" {
		if some = s.endpoints[req.EndpointID]; some == nil {
			return slices.Values([]*row(nil))
		}
		all, failed = &some.byID, &some.failed
	}
	states := req.States
	if req.State != "" {
		states = append(slices.Clone(states), req.State)
	}
	ends := slices.ContainsFunc(states, webhook.State.Final)
	var open *sorted[*row]
	if len(states) > 0 && !slices.Contains(states, webhook.Delivered) {
		open = s.unfinished(some, slices.ContainsFunc(states, func(st webhook.State) bool { return !st.Final() }))
	}
	switch {
	case open == nil:
		return rowBounds.walk(all, req.After, req.Before, req.Newest)
	case !ends:
		return rowBounds.walk(open, req.After, req.Before, req.Newest)
	case open.n == 0:
		return rowBounds.walk(failed, req.After, req.Before, req.Newest)
	}
	return merged(rowBounds.walk(open, req.After, req.Before, req.Newest), rowBounds.walk(failed, req.After, req.Before, req.Newest), req.Newest)
}

// unfinished collects by ID what waits for an endpoint, or for all; nothing unless it is asked for, and nil when that is more than a page
// may look at: then a walk over all meets enough of them soon. The caller holds s.mu.
func (s *Store) unfinished(ep *endpointState, asked bool) *sorted[*row] {
	set := &sorted[*row]{cmp: rowsByID}
	if !asked {
		return set
	}
	eps := s.sending.from(&endpointState{})
	if ep != nil {
		eps = slices.Values([]*endpointState{ep})
	}
	for ep := range eps {
		for _, waits := range []*sorted[waiting]{&ep.lanes[webhook.Fresh].waiting, &ep.lanes[webhook.Retry].waiting, &ep.parked} {
			if set.n+waits.n > maxExamined {
				return nil
			}
			for r := range byDueTime(waits) {
				if !r.d.State.Final() {
					set.insert(r)
				}
			}
		}
	}
	return set
}

// merged is two walks in one, of rows that are in one of them only.
func merged(a, b iter.Seq[*row], newest bool) iter.Seq[*row] {
	return func(yield func(*row) bool) {
		next, stop := iter.Pull(b)
		defer stop()
		other, more := next()
		for r := range a {
			for more && (rowsByID(other, r) < 0) != newest {
				if !yield(other) {
					return
				}
				other, more = next()
			}
			if !yield(r) {
				return
			}
		}
		for ; more; other, more = next() {
			if !yield(other) {
				return
			}
		}
	}
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

// KeyHead is [webhook.QueryStore.KeyHead].
func (s *Store) KeyHead(ctx context.Context, endpointID, orderingKey string) (*webhook.KeyHead, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var k *orderKey
	if ep := s.endpoints[endpointID]; ep != nil {
		k = ep.keys[orderingKey]
	}
	switch {
	case k != nil && k.blockedBy != "":
		return &webhook.KeyHead{DeliveryID: k.blockedBy, Sequence: k.blockedAt, Blocked: true, Held: k.onHold}, nil
	case k != nil && k.first != nil:
		return &webhook.KeyHead{DeliveryID: k.first.d.ID, Sequence: k.first.d.Sequence, Ended: k.first.ended}, nil
	}
	return nil, notFound("ordering key", orderingKey)
}
