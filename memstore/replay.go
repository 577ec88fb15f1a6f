package memstore

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

// replay is a replay and the lease on it.
type replay struct {
	r      webhook.Replay
	token  int64
	leased bool
}

// Redeliver is [webhook.ReplayStore.Redeliver].
func (s *Store) Redeliver(ctx context.Context, req *webhook.RedeliverRequest) (*webhook.RedeliverResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := micro(req.Now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkRedeliveries(req); err != nil {
		return nil, err
	}
	res := &webhook.RedeliverResult{}
	var p *replay
	if st := req.Step; st != nil {
		if p = s.replays[st.ID]; p == nil {
			res.Step = webhook.Unknown
			return res, nil
		}
		if p.r.State != webhook.ReplayRunning || !p.leased || p.token != st.Token {
			res.Step = webhook.Stale
			return res, nil
		}
	}
	type pair struct{ event, endpoint string }
	earlier := make(map[pair]bool)
	made := 0
	for i := range req.Deliveries {
		d := &req.Deliveries[i]
		e, at := s.events[d.EventID], pair{d.EventID, d.EndpointID}
		status := webhook.Redelivered
		switch {
		case e == nil:
			status = webhook.NoEvent
		case !e.erasedAt.IsZero():
			status = webhook.PayloadGone
		case !d.Lacking.IsZero() && (earlier[at] || e.reached(d.EndpointID, micro(d.Lacking))):
			status = webhook.HasEvent
		default:
			earlier[at] = true
			made++
			if !req.DryRun {
				s.redeliver(now, e, d)
			}
		}
		res.Deliveries = append(res.Deliveries, status)
	}
	if p != nil {
		p.step(now, req.Step, made, len(req.Deliveries)-made)
	}
	return res, nil
}

// checkRedeliveries refuses what cannot be stored. The caller holds s.mu.
func (s *Store) checkRedeliveries(req *webhook.RedeliverRequest) error {
	seen := make(map[string]bool, len(req.Deliveries))
	for i := range req.Deliveries {
		d := &req.Deliveries[i]
		switch {
		case d.ID == "" || d.EventID == "" || d.EndpointID == "" || d.Replay == "":
			return invalid("redeliver", "Deliveries", "one has no ID, EventID, EndpointID or Replay")
		case s.rows[d.ID] != nil || seen[d.ID]:
			return invalid("redeliver", "Deliveries", "delivery \""+d.ID+"\" exists")
		}
		seen[d.ID] = true
	}
	if req.DryRun && req.Step != nil {
		return invalid("redeliver", "DryRun", "is set together with Step")
	}
	return nil
}

// reached reports whether an endpoint has the event: by a delivery that is unfinished, delivered, or made at since or later.
func (e *event) reached(endpointID string, since time.Time) bool {
	return slices.ContainsFunc(e.rows, func(r *row) bool {
		return r.d.EndpointID == endpointID && (!r.d.State.Final() || r.d.State == webhook.Delivered || !r.d.CreatedAt.Before(since))
	})
}

// redeliver queues a delivery. The caller holds s.mu.
func (s *Store) redeliver(now time.Time, e *event, in *webhook.Redelivery) {
	if len(e.rows) == 0 { // the history had it as one that matched nothing; from now on it goes with its deliveries
		s.history.remove(finished{n: e.idEntry.n})
	}
	r := &row{n: s.next(), ev: e, ep: s.endpoint(in.EndpointID), due: now, d: webhook.Delivery{
		ID: in.ID, EventID: e.ev.ID, EndpointID: in.EndpointID, State: webhook.Queued, CreatedAt: now, Replay: in.Replay, ReplayOf: in.ReplayOf,
	}}
	e.rows = append(e.rows, r)
	s.rows[r.d.ID] = r
	s.byID.insert(r)
	r.ep.byID.insert(r)
	s.toLane(r)
}

// step moves a replay on.
func (p *replay) step(now time.Time, st *webhook.ReplayStep, made, passed int) {
	r := &p.r
	p.leased = false
	r.Cursor, r.DueAt, r.Reason = st.Cursor, micro(st.DueAt), st.Reason
	r.Matched, r.Redelivered, r.PassedOver = r.Matched+st.Matched, r.Redelivered+made, r.PassedOver+st.PassedOver+passed
	if st.Done {
		r.State, r.DueAt, r.FinishedAt = webhook.ReplayDone, time.Time{}, now
	}
}

// ReplaySources is [webhook.ReplayStore.ReplaySources]. A walk over events sorts those that are left, for each page.
func (s *Store) ReplaySources(ctx context.Context, req *webhook.ReplaySourcesRequest) (*webhook.ReplaySourcesResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if req.Limit < 1 || req.Examine < 1 {
		return nil, invalid("replay sources", "Limit", "and Examine want 1 or more")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	candidates := s.sourceRows(req)
	if req.Events || req.Filter.State == webhook.Unmatched {
		candidates = s.sourceEvents(req)
	}
	res := &webhook.ReplaySourcesResult{}
	examined, last := 0, ""
	for src, ok := range candidates {
		if req.To != "" && src.ID >= req.To {
			return res, nil
		}
		if len(res.Sources) == req.Limit || examined == req.Examine {
			res.Next = last
			return res, nil
		}
		examined, last = examined+1, src.ID
		if ok {
			res.Sources = append(res.Sources, src)
		}
	}
	return res, nil
}

// sourceRows walks deliveries after req.After, and tells which are sources. The caller holds s.mu.
func (s *Store) sourceRows(req *webhook.ReplaySourcesRequest) iter.Seq2[webhook.ReplaySource, bool] {
	set := &s.byID
	if id := req.Filter.Endpoint; id != "" {
		if ep := s.endpoints[id]; ep != nil {
			set = &ep.byID
		} else {
			set = &sorted[*row]{cmp: rowsByID}
		}
	}
	return func(yield func(webhook.ReplaySource, bool) bool) {
		for r := range set.from(&row{d: webhook.Delivery{ID: req.After}}) {
			if r.d.ID == req.After {
				continue
			}
			src := webhook.ReplaySource{ID: r.d.ID, EventID: r.d.EventID, Type: r.ev.ev.Type, Tenant: r.ev.ev.Tenant, EndpointID: r.d.EndpointID}
			if !yield(src, r.isSource(&req.Filter, req.Before)) {
				return
			}
		}
	}
}

// isSource reports whether r is to be repeated.
func (r *row) isSource(f *webhook.Filter, before time.Time) bool {
	if !r.d.State.Final() || !r.d.CreatedAt.Before(before) || !f.Match(&r.d, &r.ev.ev) {
		return false
	}
	end := before
	if !f.Until.IsZero() && f.Until.Before(end) {
		end = f.Until
	}
	return !slices.ContainsFunc(r.ev.rows, func(o *row) bool {
		c := o.d.CreatedAt.Compare(r.d.CreatedAt)
		if o.ep != r.ep || c < 0 || c == 0 && o.d.ID <= r.d.ID {
			return false
		}
		return o.d.CreatedAt.Before(end) || !o.d.State.Final() || o.d.State == webhook.Delivered && r.d.State != webhook.Delivered
	})
}

// sourceEvents is sourceRows for events.
func (s *Store) sourceEvents(req *webhook.ReplaySourcesRequest) iter.Seq2[webhook.ReplaySource, bool] {
	var left []*event
	for e := range maps.Values(s.events) {
		if e.ev.ID > req.After {
			left = append(left, e)
		}
	}
	slices.SortFunc(left, func(a, b *event) int { return strings.Compare(a.ev.ID, b.ev.ID) })
	f := webhook.Filter{Type: req.Filter.Type, Tenant: req.Filter.Tenant, Since: req.Filter.Since, Until: req.Filter.Until}
	return func(yield func(webhook.ReplaySource, bool) bool) {
		for _, e := range left {
			src := webhook.ReplaySource{ID: e.ev.ID, EventID: e.ev.ID, Type: e.ev.Type, Tenant: e.ev.Tenant}
			ok := e.at.Before(req.Before) && f.Match(&webhook.Delivery{CreatedAt: e.at}, &e.ev) && (req.Events || len(e.rows) == 0)
			if !yield(src, ok) {
				return
			}
		}
	}
}
