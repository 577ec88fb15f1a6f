package memstore

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

// PutReplay is [webhook.ReplayStore.PutReplay].
func (s *Store) PutReplay(ctx context.Context, r webhook.Replay) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r = cloneReplay(r)
	if r.DueAt.IsZero() && r.State == webhook.ReplayRunning {
		r.DueAt = r.CreatedAt
	}
	r.DueAt, r.CreatedAt, r.FinishedAt = micro(r.DueAt), micro(r.CreatedAt), micro(r.FinishedAt)
	r.Filter.Since, r.Filter.Until = micro(r.Filter.Since), micro(r.Filter.Until)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.ID == "":
		return invalid("put replay", "ID", "is missing")
	case s.replays[r.ID] != nil:
		return invalid("put replay", "ID", "\""+r.ID+"\" exists")
	}
	s.replays[r.ID] = &replay{r: r}
	return nil
}

// cloneReplay copies what r points to.
func cloneReplay(r webhook.Replay) webhook.Replay {
	if r.Filter.Tenant != nil {
		r.Filter.Tenant = new(*r.Filter.Tenant)
	}
	return r
}

// GetReplay is [webhook.ReplayStore.GetReplay].
func (s *Store) GetReplay(ctx context.Context, id string) (webhook.Replay, error) {
	if err := ctx.Err(); err != nil {
		return webhook.Replay{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.replays[id]
	if p == nil {
		return webhook.Replay{}, notFound("replay", id)
	}
	return cloneReplay(p.r), nil
}

// ListReplays is [webhook.ReplayStore.ListReplays].
func (s *Store) ListReplays(ctx context.Context, req *webhook.ListReplaysRequest) (*webhook.ListReplaysResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	limit := limitOr(req.Limit, 100)
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.ListReplaysResult{}
	for id, p := range s.replays {
		if req.Before == "" || id < req.Before {
			res.Replays = append(res.Replays, cloneReplay(p.r))
		}
	}
	slices.SortFunc(res.Replays, func(a, b webhook.Replay) int { return strings.Compare(b.ID, a.ID) })
	if len(res.Replays) > limit {
		res.Replays = res.Replays[:limit]
		res.Next = res.Replays[limit-1].ID
	}
	return res, nil
}

// ChangeReplay is [webhook.ReplayStore.ChangeReplay].
func (s *Store) ChangeReplay(ctx context.Context, req *webhook.ChangeReplayRequest) (webhook.Replay, error) {
	if err := ctx.Err(); err != nil {
		return webhook.Replay{}, err
	}
	if err := req.Validate(); err != nil {
		return webhook.Replay{}, err
	}
	now := micro(req.Now)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.replays[req.ID]
	if p == nil {
		return webhook.Replay{}, notFound("replay", req.ID)
	}
	if r := &p.r; !r.State.Final() && (r.State != req.State || req.State != webhook.ReplayRunning) {
		p.leased = false
		r.State, r.Reason, r.DueAt = req.State, req.Reason, time.Time{}
		switch r.State {
		case webhook.ReplayRunning:
			r.DueAt = now
		case webhook.ReplayCanceled:
			r.FinishedAt = now
		}
	}
	return cloneReplay(p.r), nil
}

// ClaimReplay is [webhook.ReplayStore.ClaimReplay].
func (s *Store) ClaimReplay(ctx context.Context, req *webhook.ClaimReplayRequest) (*webhook.ClaimReplayResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := micro(req.Now)
	s.mu.Lock()
	defer s.mu.Unlock()
	var first *replay
	for _, p := range s.replays {
		if p.r.State == webhook.ReplayRunning && (first == nil || p.r.DueAt.Before(first.r.DueAt)) {
			first = p
		}
	}
	switch {
	case first == nil:
		return &webhook.ClaimReplayResult{}, nil
	case first.r.DueAt.After(now):
		return &webhook.ClaimReplayResult{Next: first.r.DueAt}, nil
	}
	first.token++
	first.leased, first.r.DueAt = true, micro(req.Now.Add(req.Lease))
	r := cloneReplay(first.r)
	return &webhook.ClaimReplayResult{Replay: &r, Token: first.token}, nil
}
