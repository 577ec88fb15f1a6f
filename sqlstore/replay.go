package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

var _ webhook.ReplayStore = (*Store)(nil)

// What Redeliver asks and writes. {share} keeps an event that gets a delivery from being forgotten meanwhile.
const (
	redeliverEvents = `SELECT id, erased_at IS NOT NULL FROM {prefix}event WHERE id {in} ORDER BY id {share}`

	redeliverDelivery = `
INSERT INTO {prefix}delivery (id, event_id, endpoint_id, ordering_key, seq, state, reason, attempts, created_at, replay, replay_of)
VALUES (?, ?, ?, '', 0, 'queued', '', 0, ?, ?, ?)`

	redeliverQueue = `
INSERT INTO {prefix}queue (id, event_id, endpoint_id, class, due_at, token, attempts, seq, created_at, replay, replay_of)
VALUES (?, ?, ?, 0, ?, 0, 0, 0, ?, ?, ?)`

	// PostgreSQL: both at once.
	redeliverArrays = `
WITH d AS (
	SELECT * FROM unnest(?::text[], ?::text[], ?::text[], ?::text[], ?::text[]) AS d(id, event_id, endpoint_id, replay, replay_of)
), delivery AS (
	INSERT INTO {prefix}delivery (id, event_id, endpoint_id, ordering_key, seq, state, reason, attempts, created_at, replay, replay_of)
	SELECT id, event_id, endpoint_id, '', 0, 'queued', '', 0, ?::bigint, replay, replay_of FROM d
)
INSERT INTO {prefix}queue (id, event_id, endpoint_id, class, due_at, token, attempts, seq, created_at, replay, replay_of)
SELECT id, event_id, endpoint_id, 0, ?::bigint, 0, 0, 0, ?::bigint, replay, replay_of FROM d`

	replayLock = `SELECT state, token, owner IS NOT NULL FROM {prefix}replay WHERE id = ? {lock}`

	replayStep = `UPDATE {prefix}replay SET owner = NULL, state = ?, reason = ?, pos = ?, due_at = ?, finished_at = ?,
    matched = matched + ?, redelivered = redelivered + ?, passed_over = passed_over + ? WHERE id = ?`
)

// Redeliver implements [webhook.ReplayStore].
func (s *Store) Redeliver(ctx context.Context, req *webhook.RedeliverRequest) (*webhook.RedeliverResult, error) {
	if err := checkRedeliver(req); err != nil {
		return nil, err
	}
	var res *webhook.RedeliverResult
	redeliver := func(ctx context.Context, q querier) (err error) {
		res, err = s.redeliver(ctx, q, req)
		return err
	}
	var err error
	if req.DryRun && s.dialect == SQLite { // no other needs the write lock
		err = s.retry(ctx, func(ctx context.Context) error { return redeliver(ctx, s.db) })
	} else {
		err = s.write(ctx, redeliver)
	}
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: redeliver: %w", s.doubtful(err))
	}
	return res, nil
}

func checkRedeliver(req *webhook.RedeliverRequest) error {
	if req.DryRun && req.Step != nil {
		return fieldError("redeliver", "DryRun", "is set together with Step")
	}
	for i := range req.Deliveries {
		d := &req.Deliveries[i]
		for _, field := range []struct {
			name, text string
			required   bool
		}{
			{"Redelivery.ID", d.ID, true}, {"Redelivery.EventID", d.EventID, true}, {"Redelivery.EndpointID", d.EndpointID, true},
			{"Redelivery.Replay", d.Replay, true}, {"Redelivery.ReplayOf", d.ReplayOf, false},
		} {
			if err := checkText("redeliver", field.name, field.text, field.required); err != nil {
				return err
			}
		}
	}
	if st := req.Step; st != nil {
		return checkText("redeliver", "ReplayStep.Cursor", st.Cursor, false)
	}
	return nil
}

func (s *Store) redeliver(ctx context.Context, q querier, req *webhook.RedeliverRequest) (*webhook.RedeliverResult, error) {
	res := &webhook.RedeliverResult{}
	if s.dialect == PostgreSQL {
		if _, err := q.ExecContext(ctx, s.sql.avoidScans); err != nil {
			return nil, err
		}
	}
	if req.Step != nil {
		var err error
		if res.Step, err = s.lockStep(ctx, q, req.Step); err != nil || res.Step != webhook.Applied {
			return res, err
		}
	}
	status, err := s.judgeRedeliveries(ctx, q, req)
	if err != nil {
		return nil, err
	}
	var fresh []webhook.Redelivery
	for i := range req.Deliveries {
		if status[i] == webhook.Redelivered {
			fresh = append(fresh, req.Deliveries[i])
		}
	}
	res.Deliveries = status
	if req.DryRun {
		return res, nil
	}
	if err := s.insertRedeliveries(ctx, q, micros(req.Now), fresh); err != nil || req.Step == nil {
		return res, err
	}
	st, state := req.Step, webhook.ReplayRunning
	due, finished := optMicros(st.DueAt), sql.NullInt64{}
	if st.Done {
		state, due, finished = webhook.ReplayDone, sql.NullInt64{}, optMicros(req.Now)
	}
	_, err = q.ExecContext(ctx, s.query(replayStep), string(state), words(st.Reason, maxReason), st.Cursor, due, finished,
		st.Matched, len(fresh), st.PassedOver+len(status)-len(fresh), st.ID)
	return res, err
}

// lockStep locks a replay and tells whether a step of it may be done.
func (s *Store) lockStep(ctx context.Context, q querier, st *webhook.ReplayStep) (webhook.OutcomeStatus, error) {
	if !storableID(st.ID) {
		return webhook.Unknown, nil
	}
	status := webhook.Unknown
	err := s.each(ctx, q, s.dialectText(replayLock), []any{st.ID}, func(rows *sql.Rows) error {
		var state string
		var token int64
		var owned bool
		err := rows.Scan(&state, &token, &owned)
		status = webhook.Stale
		if owned && token == st.Token && state == string(webhook.ReplayRunning) {
			status = webhook.Applied
		}
		return err
	})
	return status, err
}

// judgeRedeliveries says what becomes of each.
func (s *Store) judgeRedeliveries(ctx context.Context, q querier, req *webhook.RedeliverRequest) ([]webhook.RedeliverStatus, error) {
	var events, asked []string
	for i := range req.Deliveries {
		events = append(events, req.Deliveries[i].EventID)
		if !req.Deliveries[i].Lacking.IsZero() {
			asked = append(asked, req.Deliveries[i].EventID)
		}
	}
	stored, erased := make(map[string]bool), make(map[string]bool)
	share := map[Dialect]string{PostgreSQL: "FOR KEY SHARE", MySQL: "LOCK IN SHARE MODE"}[s.dialect]
	if req.DryRun {
		share = ""
	}
	err := s.eachByID(ctx, q, replaceOne(redeliverEvents, "{share}", share), events, func(rows *sql.Rows) error {
		var id string
		var gone bool
		err := rows.Scan(&id, &gone)
		stored[id], erased[id] = true, gone
		return err
	})
	if err != nil {
		return nil, err
	}
	made, err := s.deliveriesMade(ctx, q, asked)
	if err != nil {
		return nil, err
	}
	type pair struct{ event, endpoint string }
	earlier := make(map[pair]bool)
	status := make([]webhook.RedeliverStatus, len(req.Deliveries))
	for i := range req.Deliveries {
		d := &req.Deliveries[i]
		at := pair{d.EventID, d.EndpointID}
		switch {
		case !stored[d.EventID]:
			status[i] = webhook.NoEvent
		case erased[d.EventID]:
			status[i] = webhook.PayloadGone
		case !d.Lacking.IsZero() && (earlier[at] || reached(made[d.EventID], d)):
			status[i] = webhook.HasEvent
		default:
			earlier[at] = true
		}
	}
	return status, nil
}

// madeDelivery is what matters of a delivery for the replay of its event.
type madeDelivery struct {
	id, endpointID string
	state          webhook.State
	createdAt      int64
}

// reached reports whether the endpoint has the event already.
func reached(made []madeDelivery, d *webhook.Redelivery) bool {
	since := micros(d.Lacking)
	return slices.ContainsFunc(made, func(m madeDelivery) bool {
		return m.endpointID == d.EndpointID && (!m.state.Final() || m.state == webhook.Delivered || m.createdAt >= since)
	})
}

// deliveriesMade reads the deliveries of events.
func (s *Store) deliveriesMade(ctx context.Context, q querier, events []string) (map[string][]madeDelivery, error) {
	made := make(map[string][]madeDelivery)
	const text = `SELECT event_id, id, endpoint_id, state, created_at FROM {prefix}delivery WHERE event_id {in}`
	err := s.eachByID(ctx, q, text, events, func(rows *sql.Rows) error {
		var event string
		var m madeDelivery
		err := rows.Scan(&event, &m.id, &m.endpointID, &m.state, &m.createdAt)
		made[event] = append(made[event], m)
		return err
	})
	return made, err
}

// eachByID runs a query over rows of the given IDs, which it sorts.
func (s *Store) eachByID(ctx context.Context, q querier, text string, ids []string, read func(*sql.Rows) error) error {
	slices.Sort(ids)
	for part := range slices.Chunk(slices.Compact(ids), maxRows) {
		text, args := s.byIDs(text, nil, part)
		if err := s.each(ctx, q, text, args, read); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) insertRedeliveries(ctx context.Context, q querier, now int64, rows []webhook.Redelivery) error {
	type redelivery = webhook.Redelivery
	if len(rows) == 0 {
		return nil
	}
	if s.dialect == PostgreSQL {
		_, err := q.ExecContext(ctx, s.query(redeliverArrays),
			textArray(rows, func(d *redelivery) string { return d.ID }), textArray(rows, func(d *redelivery) string { return d.EventID }),
			textArray(rows, func(d *redelivery) string { return d.EndpointID }), textArray(rows, func(d *redelivery) string { return d.Replay }),
			optTextArray(rows, func(d *redelivery) string { return d.ReplayOf }), now, now, now)
		return err
	}
	err := insertEach(ctx, s, q, s.query(redeliverDelivery), rows, func(d *redelivery) []any {
		return []any{d.ID, d.EventID, d.EndpointID, now, d.Replay, orNull(d.ReplayOf)}
	})
	if err != nil {
		return err
	}
	return insertEach(ctx, s, q, s.query(redeliverQueue), rows, func(d *redelivery) []any {
		return []any{d.ID, d.EventID, d.EndpointID, now, now, d.Replay, orNull(d.ReplayOf)}
	})
}

// before reports whether a was made before b.
func (m madeDelivery) before(createdAt int64, id string) bool {
	return m.createdAt < createdAt || m.createdAt == createdAt && m.id <= id
}

// earliest is the earlier of two times, of which u may be zero.
func earliest(t, u time.Time) time.Time {
	if !u.IsZero() && u.Before(t) {
		return u
	}
	return t
}
