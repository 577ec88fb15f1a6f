package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

const (
	replayColumns = `id, state, reason, settings, pos, matched, redelivered, passed_over, due_at, created_at, finished_at`

	replayPut = `INSERT INTO {prefix}replay (` + replayColumns + `, token) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)`

	replayGet = `SELECT ` + replayColumns + ` FROM {prefix}replay WHERE id = ?`

	replayDue = `SELECT id, token, due_at FROM {prefix}replay WHERE state = 'running' ORDER BY due_at LIMIT 1`

	// Only while it is as it was read.
	replayClaim = `UPDATE {prefix}replay SET owner = ?, token = token + 1, due_at = ? WHERE id = ? AND token = ? AND state = 'running' AND due_at = ?`

	replayChange = `UPDATE {prefix}replay SET owner = NULL, state = ?, reason = ?, due_at = ?, finished_at = ? WHERE id = ?`

	// An end is for good, so what was found ended may be deleted without another look.
	replayEnded = `SELECT id FROM {prefix}replay WHERE state IN ('done', 'canceled') AND finished_at < ? LIMIT {limit}`
	replayGone  = `DELETE FROM {prefix}replay WHERE id {in}`
)

// replayDoc is the settings of a replay as they are stored. Times are microseconds since the Unix epoch.
type replayDoc struct {
	Endpoint string  `json:"endpoint,omitempty"`
	Type     string  `json:"type,omitempty"`
	Tenant   *string `json:"tenant,omitempty"`
	State    string  `json:"state,omitempty"`
	Since    *int64  `json:"since,omitempty"`
	Until    *int64  `json:"until,omitempty"`
	Reroute  bool    `json:"reroute,omitempty"`
	To       string  `json:"to,omitempty"`
	Events   int     `json:"events"`
	Per      int64   `json:"per"` // ns
	Burst    int     `json:"burst,omitempty"`
}

// PutReplay implements [webhook.ReplayStore].
func (s *Store) PutReplay(ctx context.Context, r webhook.Replay) error {
	const op = "put replay"
	f := &r.Filter
	doc := replayDoc{
		Endpoint: f.Endpoint, Type: f.Type, Tenant: f.Tenant, State: string(f.State), Reroute: r.Reroute, To: r.To,
		Events: r.Rate.Events, Per: int64(r.Rate.Per), Burst: r.Rate.Burst,
	}
	for _, t := range []struct {
		at  time.Time
		doc **int64
	}{{f.Since, &doc.Since}, {f.Until, &doc.Until}} {
		if !t.at.IsZero() {
			*t.doc = new(micros(t.at))
		}
	}
	tenant := ""
	if f.Tenant != nil {
		tenant = *f.Tenant
	}
	if r.DueAt.IsZero() && r.State == webhook.ReplayRunning {
		r.DueAt = r.CreatedAt
	}
	err := errors.Join(checkText(op, "ID", r.ID, true), checkText(op, "Cursor", r.Cursor, false), checkText(op, "Filter.Endpoint", f.Endpoint, false),
		checkText(op, "Filter.Type", f.Type, false), checkText(op, "Filter.Tenant", tenant, false), checkText(op, "To", r.To, false))
	if err != nil {
		return err
	}
	settings, err := json.Marshal(doc)
	if err == nil {
		err = s.one(ctx, func(ctx context.Context, q querier) error {
			_, err := q.ExecContext(ctx, s.query(replayPut), r.ID, string(r.State), words(r.Reason, maxReason), settings, r.Cursor,
				r.Matched, r.Redelivered, r.PassedOver, optMicros(r.DueAt), micros(r.CreatedAt), optMicros(r.FinishedAt))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("webhook: sqlstore: put replay %q: %w", r.ID, err)
	}
	return nil
}

// scanReplay reads a row of replayColumns.
func scanReplay(scan func(...any) error) (webhook.Replay, error) {
	var r webhook.Replay
	var settings []byte
	var doc replayDoc
	var created int64
	var due, finished sql.NullInt64
	err := scan(&r.ID, &r.State, &r.Reason, &settings, &r.Cursor, &r.Matched, &r.Redelivered, &r.PassedOver, &due, &created, &finished)
	if err == nil {
		err = json.Unmarshal(settings, &doc)
	}
	r.Filter = webhook.Filter{Endpoint: doc.Endpoint, Type: doc.Type, Tenant: doc.Tenant, State: webhook.State(doc.State)}
	if doc.Since != nil {
		r.Filter.Since = fromMicros(*doc.Since)
	}
	if doc.Until != nil {
		r.Filter.Until = fromMicros(*doc.Until)
	}
	r.Reroute, r.To, r.Rate = doc.Reroute, doc.To, webhook.Rate{Events: doc.Events, Per: time.Duration(doc.Per), Burst: doc.Burst}
	r.DueAt, r.CreatedAt, r.FinishedAt = fromOptMicros(due), fromMicros(created), fromOptMicros(finished)
	return r, err
}

// GetReplay implements [webhook.ReplayStore].
func (s *Store) GetReplay(ctx context.Context, id string) (webhook.Replay, error) {
	return s.getReplay(ctx, s.db, id)
}

func (s *Store) getReplay(ctx context.Context, q querier, id string) (webhook.Replay, error) {
	if !storableID(id) {
		return webhook.Replay{}, notFound("replay", id)
	}
	r, err := scanReplay(q.QueryRowContext(ctx, s.query(replayGet), id).Scan)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return webhook.Replay{}, notFound("replay", id)
	case err != nil:
		return webhook.Replay{}, fmt.Errorf("webhook: sqlstore: get replay %q: %w", id, err)
	}
	return r, nil
}

// ListReplays implements [webhook.ReplayStore].
func (s *Store) ListReplays(ctx context.Context, req *webhook.ListReplaysRequest) (*webhook.ListReplaysResult, error) {
	res, limit := &webhook.ListReplaysResult{}, limitOr(req.Limit, 100)
	if !storable(req.Before) {
		return res, nil
	}
	text, args := `SELECT `+replayColumns+` FROM {prefix}replay WHERE id < ? ORDER BY id DESC LIMIT `, []any{req.Before}
	if req.Before == "" {
		text, args = `SELECT `+replayColumns+` FROM {prefix}replay ORDER BY id DESC LIMIT `, nil
	}
	err := s.each(ctx, s.db, text+strconv.Itoa(limit+1), args, func(rows *sql.Rows) error {
		r, err := scanReplay(rows.Scan)
		res.Replays = append(res.Replays, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: list replays: %w", err)
	}
	if len(res.Replays) > limit {
		res.Replays = res.Replays[:limit]
		res.Next = res.Replays[limit-1].ID
	}
	return res, nil
}

// ChangeReplay implements [webhook.ReplayStore].
func (s *Store) ChangeReplay(ctx context.Context, req *webhook.ChangeReplayRequest) (r webhook.Replay, err error) {
	if err := req.Validate(); err != nil {
		return r, err
	}
	if !storableID(req.ID) {
		return r, notFound("replay", req.ID)
	}
	err = s.write(ctx, func(ctx context.Context, q querier) error {
		var state webhook.ReplayState
		var token int64
		var owned bool
		err := q.QueryRowContext(ctx, s.query(s.dialectText(replayLock)), req.ID).Scan(&state, &token, &owned)
		if err != nil {
			return err
		}
		if !state.Final() && (state != req.State || state != webhook.ReplayRunning) {
			due, finished := optMicros(req.Now), sql.NullInt64{}
			if req.State != webhook.ReplayRunning {
				due = sql.NullInt64{}
			}
			if req.State.Final() {
				finished = optMicros(req.Now)
			}
			if _, err := q.ExecContext(ctx, s.query(replayChange), string(req.State), words(req.Reason, maxReason), due, finished, req.ID); err != nil {
				return err
			}
		}
		r, err = s.getReplay(ctx, q, req.ID)
		return err
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return r, notFound("replay", req.ID)
	case err != nil:
		return r, fmt.Errorf("webhook: sqlstore: change replay %q: %w", req.ID, err)
	}
	return r, nil
}

// ClaimReplay implements [webhook.ReplayStore]. Where another claim was faster it looks again.
func (s *Store) ClaimReplay(ctx context.Context, req *webhook.ClaimReplayRequest) (*webhook.ClaimReplayResult, error) {
	if err := checkText("claim replay", "ClaimReplayRequest.Owner", req.Owner, true); err != nil {
		return nil, err
	}
	until := micros(req.Now.Add(req.Lease))
	for {
		var id string
		var token, due int64
		err := s.db.QueryRowContext(ctx, s.query(replayDue)).Scan(&id, &token, &due)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return &webhook.ClaimReplayResult{}, nil
		case err != nil:
			return nil, fmt.Errorf("webhook: sqlstore: claim replay: %w", err)
		case due > micros(req.Now):
			return &webhook.ClaimReplayResult{Next: fromMicros(due)}, nil
		}
		var mine bool
		err = s.one(ctx, func(ctx context.Context, q querier) (err error) {
			mine, err = s.changes(ctx, q, replayClaim, req.Owner, until, id, token, due)
			return err
		})
		if err == nil && mine {
			var r webhook.Replay
			if r, err = s.GetReplay(ctx, id); err == nil {
				return &webhook.ClaimReplayResult{Replay: &r, Token: token + 1}, nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("webhook: sqlstore: claim replay: %w", err)
		}
	}
}

// pruneReplays forgets replays that have ended.
func (s *Store) pruneReplays(ctx context.Context, req *webhook.PruneRequest, limit int, res *webhook.PruneResult) error {
	if req.ReplaysBefore.IsZero() {
		return nil
	}
	return s.write(ctx, func(ctx context.Context, q querier) error {
		res.Replays = 0
		var ids []string
		text := strings.Replace(replayEnded, "{limit}", strconv.Itoa(limit), 1)
		err := s.each(ctx, q, text, []any{micros(req.ReplaysBefore)}, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		})
		if err != nil {
			return err
		}
		slices.Sort(ids) // as another process locks them
		for part := range slices.Chunk(ids, maxRows) {
			text, args := s.byIDs(replayGone, nil, part)
			gone, err := q.ExecContext(ctx, s.query(text), args...)
			if err != nil {
				return err
			}
			n, err := gone.RowsAffected()
			if err != nil {
				return err
			}
			res.Replays += int(n)
		}
		return nil
	})
}
