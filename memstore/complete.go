package memstore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

// Complete is [webhook.Store.Complete].
func (s *Store) Complete(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i := range req.Outcomes {
		switch o := &req.Outcomes[i]; {
		case o.Next.Final(), o.Next == webhook.RetryScheduled, o.Next == webhook.Queued:
		default:
			return nil, invalid("complete", "Next", fmt.Sprintf("of delivery %q is %q", o.DeliveryID, o.Next))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.CompleteResult{Outcomes: make([]webhook.OutcomeStatus, len(req.Outcomes))}
	for i := range req.Outcomes {
		res.Outcomes[i] = s.complete(micro(req.Now), &req.Outcomes[i], res)
	}
	return res, nil
}

// complete records one outcome and adds the lane that it woke to res. The caller holds s.mu.
func (s *Store) complete(now time.Time, o *webhook.Outcome, res *webhook.CompleteResult) webhook.OutcomeStatus {
	r := s.row(o.EndpointID, o.DeliveryID)
	if r == nil {
		return webhook.Unknown
	}
	if o.Attempt != nil {
		if a, ok := r.attempt(o.Token); ok {
			if a.Late {
				return webhook.Stale
			}
			return webhook.Applied
		}
	}
	stale := !r.leased || r.token != o.Token
	if o.Attempt != nil {
		r.record(o, stale)
	}
	if stale {
		return webhook.Stale
	}
	if woken := s.apply(now, r, o); woken != nil {
		res.Woken = append(res.Woken, woken.lane())
	}
	return webhook.Applied
}

// record keeps o's attempt, in the order of tokens.
func (r *row) record(o *webhook.Outcome, late bool) {
	a := *o.Attempt
	a.DeliveryID, a.Token, a.Late = r.d.ID, o.Token, late
	a.StartedAt, a.NextAt = micro(a.StartedAt), micro(a.NextAt)
	a.Duration = a.Duration.Truncate(time.Microsecond)
	a.Response = bytes.Clone(a.Response)
	i, _ := slices.BinarySearchFunc(r.attempts, a.Token, func(a webhook.Attempt, t int64) int { return cmp.Compare(a.Token, t) })
	r.attempts = slices.Insert(r.attempts, i, a)
	if !late && !r.ended && o.Next != webhook.Queued {
		r.d.Attempts++
	}
}

// apply changes the state of a delivery that was held under the outcome's token. It returns the next of its ordering key if that may
// be claimed now. The caller holds s.mu.
func (s *Store) apply(now time.Time, r *row, o *webhook.Outcome) (woken *row) {
	s.fromLane(r)
	r.leased = false
	if r.ended { // its record is final already
		r.ep.ended--
		return s.leave(r)
	}
	if o.Reason != "" || o.Next != webhook.Queued { // given back: the reason of the last attempt stands
		r.d.Reason = o.Reason
	}
	if o.Next.Final() {
		return s.finish(now, r, o)
	}
	r.due = micro(o.DueAt)
	if o.DueAt.IsZero() {
		r.due = now
	}
	if o.Next == webhook.RetryScheduled {
		r.class = webhook.Retry
	}
	s.toLane(r)
	return nil
}

// finish ends a delivery and lets the next of its ordering key go, if it may. The caller holds s.mu.
func (s *Store) finish(now time.Time, r *row, o *webhook.Outcome) (woken *row) {
	r.d.State, r.d.FinishedAt = o.Next, now
	s.expiry.remove(r)
	s.noteFailed(r)
	if k := r.key; k != nil && o.Next == webhook.DeadLetter && o.BehindDeadLetter != webhook.SkipDeadLetter {
		k.blockedBy, k.blockedAt, k.onHold, k.since = r.d.ID, r.d.Sequence, o.BehindDeadLetter == webhook.HoldKey, now
		r.ep.blocked.insert(k)
	}
	return s.leave(r)
}

// leave takes a final delivery, which is in no lane, out of its ordering key and returns the one that may be claimed instead.
// The caller holds s.mu.
func (s *Store) leave(r *row) (woken *row) {
	if r.key != nil {
		r.key.first = nil
		woken = s.advance(r.key)
	}
	r.left = s.next()
	s.remember(finished{n: r.left, row: r, ev: r.ev})
	return woken
}

// noteFailed keeps a delivery that ended otherwise than delivered where it is found. The caller holds s.mu.
func (s *Store) noteFailed(r *row) {
	if r.d.State != webhook.Delivered {
		s.failed.insert(r)
		r.ep.failed.insert(r)
	}
}

// finished is an entry of the history: a finished delivery, or (row nil) an event that matched nothing.
type finished struct {
	n   int64
	row *row
	ev  *event
}

// remember adds to the history and forgets the oldest beyond its bound. The caller holds s.mu.
func (s *Store) remember(f finished) {
	s.history.insert(f)
	for s.keep >= 0 && s.history.n > s.keep {
		oldest, _ := s.history.first()
		s.history.remove(oldest)
		s.forget(oldest)
	}
}

// forget drops a finished delivery, and its event with its last one. The caller holds s.mu.
func (s *Store) forget(f finished) {
	e := f.ev
	if r := f.row; r != nil {
		delete(s.rows, r.d.ID)
		s.byID.remove(r)
		r.ep.byID.remove(r)
		s.failed.remove(r)
		r.ep.failed.remove(r)
		i := slices.Index(e.rows, r)
		e.rows = slices.Delete(e.rows, i, i+1)
	}
	if len(e.rows) == 0 {
		delete(s.events, e.ev.ID)
		s.unmatched.remove(e)
		if s.eventsByID.cmp != nil {
			s.eventsByID.remove(e)
		}
		s.orphans.insert(e.idEntry)
	}
}
