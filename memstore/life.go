package memstore

import (
	"context"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

// End is [webhook.LifeStore.End].
func (s *Store) End(ctx context.Context, req *webhook.EndRequest) (*webhook.EndResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	now, limit := micro(req.Now), limitOr(req.Limit, 500)
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.EndResult{}
	rows := s.endable(now, limit+1, req, res)
	if len(rows) > limit {
		rows, res.More = rows[:limit], true
	}
	for _, r := range rows {
		if woken := s.endRow(now, r, req); woken != nil {
			res.Woken = append(res.Woken, woken.lane())
		}
		res.Ended = append(res.Ended, r.d)
	}
	return res, nil
}

// endable lists what a request may end, at most so many, and tells res what it found. The caller holds s.mu.
func (s *Store) endable(now time.Time, most int, req *webhook.EndRequest, res *webhook.EndResult) []*row {
	switch {
	case req.EventID != "":
		e := s.events[req.EventID]
		if e == nil {
			return nil
		}
		res.Found = len(e.rows)
		return firstEndable(slices.Values(e.rows), now, most, req)
	case req.DeliveryID != "":
		r := s.rows[req.DeliveryID]
		if r == nil {
			return nil
		}
		res.Found = 1
		return firstEndable(slices.Values([]*row{r}), now, most, req)
	case req.Expired:
		return firstEndable(s.expired(now), now, most, req)
	}
	ep := s.endpoints[req.EndpointID]
	if ep == nil {
		return nil
	}
	most = min(most, req.Oldest)
	var rows []*row
	for _, set := range []*sorted[waiting]{&ep.lanes[webhook.Fresh].waiting, &ep.lanes[webhook.Retry].waiting, &ep.parked} {
		rows = append(rows, firstEndable(byDueTime(set), now, most, req)...)
	}
	slices.SortFunc(rows, func(a, b *row) int { return byDue(a.place(), b.place()) })
	return rows[:min(most, len(rows))]
}

// firstEndable collects the first of rows that the request may end, at most so many.
func firstEndable(rows iter.Seq[*row], now time.Time, most int, req *webhook.EndRequest) []*row {
	var found []*row
	for r := range rows {
		if r.d.State.Final() || r.underLease(now) && !req.Leased {
			continue
		}
		if found = append(found, r); len(found) == most {
			break
		}
	}
	return found
}

// expired walks the unfinished rows whose time has run out. The caller holds s.mu.
func (s *Store) expired(now time.Time) iter.Seq[*row] {
	return func(yield func(*row) bool) {
		for r := range s.expiry.from(&row{}) {
			if r.d.ExpiresAt.After(now) || !yield(r) {
				return
			}
		}
	}
}

// byDueTime walks the rows of a lane or of what is parked. The caller holds the lock.
func byDueTime(set *sorted[waiting]) iter.Seq[*row] {
	return func(yield func(*row) bool) {
		for w := range set.from(waiting{due: math.MinInt64}) {
			if !yield(w.row) {
				return
			}
		}
	}
}

// endRow makes the record of an unfinished row final. It returns the row if it is due sooner now. The caller holds s.mu.
func (s *Store) endRow(now time.Time, r *row, req *webhook.EndRequest) (woken *row) {
	fenced := r.underLease(now)
	switch {
	case r.key == nil || r.key.first == r:
		s.fromLane(r)
	default:
		r.ep.parked.remove(r.place())
	}
	s.expiry.remove(r)
	r.leased = false
	r.d.State, r.d.Reason, r.d.FinishedAt = req.Next, req.Reason, now
	s.noteFailed(r)
	if r.key == nil {
		s.leave(r)
		return nil
	}
	r.ended = true
	sooner := !fenced && r.due.After(now)
	if sooner {
		r.due = now
	}
	if r.key.first != r {
		return nil
	}
	r.ep.ended++
	s.toLane(r)
	if sooner {
		return r
	}
	return nil
}
