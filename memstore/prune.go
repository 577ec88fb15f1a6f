package memstore

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

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
	s.pruneDeliveries(now, limit, req, res)
	s.pruneUnmatched(limit, req, res)
	for id, p := range s.replays {
		if res.Replays == limit || req.ReplaysBefore.IsZero() {
			break
		}
		if p.r.State.Final() && p.r.FinishedAt.Before(req.ReplaysBefore) {
			delete(s.replays, id)
			res.Replays++
		}
	}
	return res, nil
}

// pruneDeliveries forgets deliveries and erases payloads. The caller holds s.mu.
func (s *Store) pruneDeliveries(now time.Time, limit int, req *webhook.PruneRequest, res *webhook.PruneResult) {
	if req.Ended == (webhook.EndedBefore{}) && req.PayloadsBefore.IsZero() {
		return
	}
	var gone []*row
	erased := make(map[*event]bool)
	res.Next = page(rowBounds.walk(&s.byID, req.After, req.Before, false), limit, rowBounds.id, func(r *row) bool {
		if before := req.Ended.Of(r.d.State); r.left > 0 && r.d.FinishedAt.Before(before) && !r.blocks() {
			gone = append(gone, r)
			return true
		}
		if e := r.ev; !req.PayloadsBefore.IsZero() && e.erasedAt.IsZero() && !erased[e] && e.delivered(req.PayloadsBefore) {
			erased[e] = true
			return true
		}
		return false
	})
	for _, r := range gone {
		s.drop(finished{n: r.left, row: r, ev: r.ev}, res)
	}
	for e := range erased {
		if s.events[e.ev.ID] == e {
			e.erase(now)
			res.Payloads++
		}
	}
}

// drop forgets what is in the history and counts it. The caller holds s.mu.
func (s *Store) drop(f finished, res *webhook.PruneResult) {
	s.history.remove(f)
	s.forget(f)
	if f.row != nil {
		res.Deliveries++
	}
	if len(f.ev.rows) == 0 {
		res.Events++
	}
}

// blocks reports whether r is a dead letter that its key waits behind.
func (r *row) blocks() bool { return r.key != nil && r.key.blockedBy == r.d.ID }

// delivered reports whether all of e's deliveries were delivered before.
func (e *event) delivered(before time.Time) bool {
	return !slices.ContainsFunc(e.rows, func(r *row) bool { return r.d.State != webhook.Delivered || !r.d.FinishedAt.Before(before) })
}

// erase drops payload and header.
func (e *event) erase(now time.Time) {
	e.ev.Payload, e.ev.Header = nil, nil
	e.erasedAt = now
}

// pruneUnmatched forgets events that matched nothing. The caller holds s.mu.
func (s *Store) pruneUnmatched(limit int, req *webhook.PruneRequest, res *webhook.PruneResult) {
	if req.UnmatchedBefore.IsZero() {
		return
	}
	var gone []*event
	for e := range s.unmatched.from(&event{}) {
		if len(gone) == limit {
			break
		}
		if e.at.Before(req.UnmatchedBefore) {
			gone = append(gone, e)
		}
	}
	for _, e := range gone {
		if len(e.rows) > 0 { // it was replayed to somebody, and goes with that
			s.unmatched.remove(e)
			continue
		}
		s.drop(finished{n: e.ended, ev: e}, res)
	}
}

// EraseTenant is [webhook.Eraser.EraseTenant].
func (s *Store) EraseTenant(ctx context.Context, req *webhook.EraseTenantRequest) (*webhook.EraseTenantResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.EraseTenantResult{}
	var mine []*event
	res.Next = page(eventBounds.walk(s.allEvents(), req.After, "", false), limitOr(req.Limit, 500), eventBounds.id, func(e *event) bool {
		if e.ev.Tenant == req.Tenant {
			mine = append(mine, e)
			return true
		}
		return false
	})
	for _, e := range mine {
		s.eraseEvent(micro(req.Now), e, req.Count, res)
	}
	return res, nil
}

// eraseEvent erases one event, or only counts what that would be. The caller holds s.mu.
func (s *Store) eraseEvent(now time.Time, e *event, count bool, res *webhook.EraseTenantResult) {
	if slices.ContainsFunc(e.rows, func(r *row) bool { return !r.d.State.Final() }) {
		res.Waiting = append(res.Waiting, e.ev.ID)
		return
	}
	if slices.ContainsFunc(e.rows, func(r *row) bool { return r.left == 0 || r.blocks() }) {
		res.Kept++
		if !count {
			e.erase(now)
			for _, r := range e.rows {
				for i := range r.attempts {
					r.attempts[i].Response, r.attempts[i].Detail = nil, ""
				}
				r.d.Reason = ""
			}
		}
		return
	}
	res.Events++
	res.Deliveries += len(e.rows)
	if count {
		return
	}
	was := &webhook.PruneResult{}
	if len(e.rows) == 0 {
		s.drop(finished{n: e.ended, ev: e}, was)
	}
	for _, r := range slices.Clone(e.rows) {
		s.drop(finished{n: r.left, row: r, ev: e}, was)
	}
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
