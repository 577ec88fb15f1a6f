package memstore

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/signalpost/webhook"
)

// Lanes is [webhook.Store.Lanes].
func (s *Store) Lanes(ctx context.Context, req *webhook.LanesRequest) (*webhook.LanesResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if req.Limit < 1 {
		return nil, invalid("lanes", "Limit", fmt.Sprintf("is %d, want 1 or more", req.Limit))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.LanesResult{}
	for l := range s.lanes.from(&lane{id: req.After}) {
		if l.id == req.After {
			continue
		}
		if len(res.Lanes) == req.Limit {
			res.Next = res.Lanes[req.Limit-1].LaneID
			break
		}
		w, _ := l.waiting.first()
		due := time.UnixMicro(w.due).UTC()
		res.Lanes = append(res.Lanes, webhook.Lane{LaneID: l.id, Earliest: due, From: due})
	}
	return res, nil
}

// Claim is [webhook.Store.Claim].
func (s *Store) Claim(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkClaim(req); err != nil {
		return nil, err
	}
	most := 0
	for i := range req.Lanes {
		most = min(most+min(req.Lanes[i].Max, 1024), req.Limit, 1024) // a guess at room, not a bound
	}
	res := &webhook.ClaimResult{
		Deliveries: make([]webhook.Claimed, 0, most),
		Lanes:      make([]webhook.LaneStatus, len(req.Lanes)),
	}
	s.mu.Lock()
	for i := range req.Lanes {
		s.claimLane(req, i, res)
	}
	s.mu.Unlock()
	for i := range res.Deliveries { // outside of the lock: what an event points to does not change
		res.Deliveries[i].Event = cloneEvent(res.Deliveries[i].Event)
	}
	res.Now = micro(time.Now())
	return res, nil
}

func checkClaim(req *webhook.ClaimRequest) error {
	if req.Limit < 1 {
		return invalid("claim", "Limit", fmt.Sprintf("is %d, want 1 or more", req.Limit))
	}
	for i := range req.Lanes {
		l := &req.Lanes[i]
		switch {
		case l.Max < 1:
			return invalid("claim", "Max", fmt.Sprintf("of endpoint %q is %d, want 1 or more", l.EndpointID, l.Max))
		case l.Lease <= 0:
			return invalid("claim", "Lease", fmt.Sprintf("of endpoint %q is %v, want more than 0", l.EndpointID, l.Lease))
		case l.Class != webhook.Fresh && l.Class != webhook.Retry:
			return invalid("claim", "Class", fmt.Sprintf("of endpoint %q is %d", l.EndpointID, l.Class))
		}
	}
	return nil
}

// claimLane leases from the i-th lane asked for and adds what it leased to res and events. The caller holds s.mu.
func (s *Store) claimLane(req *webhook.ClaimRequest, i int, res *webhook.ClaimResult) {
	ask, status := &req.Lanes[i], &res.Lanes[i]
	ep := s.endpoints[ask.EndpointID]
	if ep == nil {
		return
	}
	now := micro(req.Now)
	if ep.hold.active(now) {
		status.Held, status.HeldUntil = true, ep.hold.until
		return
	}
	if ep.notBefore.After(now) {
		status.RateUntil = ep.notBefore
		return
	}
	l := &ep.lanes[ask.Class]
	due := l.due(now, ask.From, min(ask.Max, req.Limit-len(res.Deliveries)))
	if ask.Rate.Events > 0 {
		var allowed int
		allowed, status.RateUntil = ep.rate.take(ask.Rate, now, len(due))
		due = due[:allowed]
	}
	until := micro(req.Now.Add(ask.Lease))
	for _, r := range due {
		s.fromLane(r)
		r.token++
		r.leased, r.due = true, until
		s.toLane(r)
		res.Deliveries = append(res.Deliveries, webhook.Claimed{Delivery: r.claimed(now), Event: r.ev.ev, Token: r.token, LeaseUntil: until})
	}
	status.More = len(l.due(now, ask.From, 1)) > 0
}

// due lists the first rows of l that are due at now and not before from, at most limit.
func (l *lane) due(now, from time.Time, limit int) []*row {
	if limit < 1 {
		return nil
	}
	start := waiting{due: math.MinInt64}
	if !from.IsZero() {
		start = waiting{due: from.UnixMicro(), n: math.MinInt64}
	}
	last := now.UnixMicro()
	var rows []*row
	for w := range l.waiting.from(start) {
		if w.due > last || len(rows) == limit {
			break
		}
		rows = append(rows, w.row)
	}
	return rows
}

// Extend is [webhook.Store.Extend].
func (s *Store) Extend(ctx context.Context, req *webhook.ExtendRequest) (*webhook.ExtendResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.ExtendResult{Leases: make([]webhook.OutcomeStatus, len(req.Leases))}
	for i, ref := range req.Leases {
		r := s.row(ref.EndpointID, ref.DeliveryID)
		switch {
		case r == nil:
			res.Leases[i] = webhook.Unknown
		case !r.leased || r.token != ref.Token:
			res.Leases[i] = webhook.Stale
		default:
			s.fromLane(r)
			r.due = micro(ref.Until)
			s.toLane(r)
		}
	}
	return res, nil
}

// row finds a delivery of an endpoint. The caller holds s.mu.
func (s *Store) row(endpointID, deliveryID string) *row {
	if r := s.rows[deliveryID]; r != nil && r.d.EndpointID == endpointID {
		return r
	}
	return nil
}
