package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/signalpost/webhook"
)

var _ webhook.StateStore = (*Store)(nil)

// Whatever gives a state a version first takes the next one, as changes of endpoints do: its row stays locked until the commit, so
// that changes commit in the order of their versions, and nobody else changes a state meanwhile. Then come rows of endpoint_state,
// in order of ID; claims, which lock those with SKIP LOCKED, take no version and wait for none.
const (
	stateVersionNext = `UPDATE {prefix}endpoint_version SET version = version + 1 WHERE one = 2`
	stateVersion     = `SELECT version FROM {prefix}endpoint_version WHERE one = 2`

	// version > 0 is what the partial index is for; a parameter does not tell the planner.
	stateChanges = `SELECT endpoint_id, version, doc, not_before, held, hold_kind, hold_reason, hold_until
FROM {prefix}endpoint_state WHERE version > ? AND version > 0 ORDER BY version`
)

// stateRow is a row of endpoint_state, but for what belongs to its rate.
type stateRow struct {
	id        string
	version   int64
	doc       []byte
	notBefore sql.NullInt64
	stateHold
}

// stateHold is a hold, in force or over, or none.
type stateHold struct {
	held         bool
	kind, reason string
	until        sql.NullInt64
}

// PutStates is [webhook.StateStore.PutStates].
func (s *Store) PutStates(ctx context.Context, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
	if err := checkStates(req); err != nil {
		return nil, err
	}
	res := &webhook.PutStatesResult{States: make([]webhook.OutcomeStatus, len(req.States))}
	if len(req.States) == 0 {
		return res, ctx.Err()
	}
	err := s.write(ctx, func(ctx context.Context, q querier) error {
		rows, err := s.statesToPut(ctx, q, req, res)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return errNothing // no version for no change
		}
		return s.putStates(ctx, q, rows)
	})
	if err != nil && !errors.Is(err, errNothing) {
		return nil, fmt.Errorf("webhook: sqlstore: put states: %w", err)
	}
	return res, nil
}

// checkStates refuses what can have no row, and what contradicts itself.
func checkStates(req *webhook.PutStatesRequest) error {
	const op = "put states"
	seen := make(map[string]bool, len(req.States))
	for i := range req.States {
		in := &req.States[i]
		if err := checkText(op, "EndpointID", in.EndpointID, true); err != nil {
			return err
		}
		switch {
		case seen[in.EndpointID]:
			return fieldError(op, "States", fmt.Sprintf("endpoint %q is there twice", in.EndpointID))
		case len(in.Doc) > webhook.MaxStateDoc:
			return fieldError(op, "Doc", fmt.Sprintf("of endpoint %q has %d bytes, at most %d", in.EndpointID, len(in.Doc), webhook.MaxStateDoc))
		case in.Hold != nil && in.Unhold:
			return fieldError(op, "Unhold", fmt.Sprintf("of endpoint %q is set together with Hold", in.EndpointID))
		}
		if in.Hold != nil {
			if err := checkText(op, "HoldRequest.Kind", in.Hold.Kind, false); err != nil {
				return err
			}
		}
		seen[in.EndpointID] = true
	}
	return nil
}

// statesToPut takes a version, says in res which states are stale, and returns the rows of the others in order of ID.
func (s *Store) statesToPut(ctx context.Context, q querier, req *webhook.PutStatesRequest, res *webhook.PutStatesResult) ([]stateRow, error) {
	res.Version = 0
	if _, err := q.ExecContext(ctx, s.query(stateVersionNext)); err != nil {
		return nil, err
	}
	var version int64
	if err := q.QueryRowContext(ctx, s.query(stateVersion)).Scan(&version); err != nil {
		return nil, err
	}
	ids := make([]string, len(req.States))
	for i := range req.States {
		ids[i] = req.States[i].EndpointID
	}
	have := make(map[string]stateRow, len(ids))
	err := s.selectByID(ctx, q, s.sql.readStates, ids, func(rows *sql.Rows) error {
		var r stateRow
		err := rows.Scan(&r.id, &r.version, &r.held, &r.kind, &r.reason, &r.until)
		have[r.id] = r
		return err
	})
	var put []stateRow
	for i := range req.States {
		in := &req.States[i]
		r := have[in.EndpointID]
		if res.States[i] = webhook.Stale; r.version != in.Version {
			continue
		}
		res.States[i], res.Version = webhook.Applied, version
		put = append(put, r.with(in, version))
	}
	slices.SortFunc(put, func(a, b stateRow) int { return strings.Compare(a.id, b.id) })
	return put, err
}

// with is r as in wants it.
func (r stateRow) with(in *webhook.NewState, version int64) stateRow {
	r.id, r.version, r.notBefore = in.EndpointID, version, optMicros(in.NotBefore)
	if len(in.Doc) > 0 {
		r.doc = in.Doc
	}
	switch {
	case in.Hold != nil:
		r.stateHold = stateHold{true, in.Hold.Kind, words(in.Hold.Reason, maxReason), optMicros(in.Hold.Until)}
	case in.Unhold:
		r.stateHold = stateHold{}
	}
	return r
}

// putStates writes whole rows. The holds among them were read under the lock of versions, so that nobody's change is undone.
func (s *Store) putStates(ctx context.Context, q querier, rows []stateRow) error {
	if s.dialect != PostgreSQL {
		return insertEach(ctx, s, q, s.sql.putState, rows, func(r *stateRow) []any {
			return []any{r.id, r.version, r.doc, r.notBefore, r.held, r.kind, r.reason, r.until}
		})
	}
	for part := range slices.Chunk(rows, maxRows) {
		_, err := q.ExecContext(ctx, s.sql.putState,
			textArray(part, func(r *stateRow) string { return r.id }),
			part[0].version,
			bytesArray(part, func(r *stateRow) []byte { return r.doc }),
			optIntArray(part, func(r *stateRow) sql.NullInt64 { return r.notBefore }),
			textArray(part, func(r *stateRow) string {
				if r.held {
					return "t"
				}
				return "f"
			}),
			textArray(part, func(r *stateRow) string { return r.kind }),
			textArray(part, func(r *stateRow) string { return r.reason }),
			optIntArray(part, func(r *stateRow) sql.NullInt64 { return r.until }))
		if err != nil {
			return err
		}
	}
	return nil
}

// StateChanges is [webhook.StateStore.StateChanges]. The version is read first and by itself: that is all there is to do when
// nothing changed, whatever the planner thinks of the rest. What commits between the two reads is in the answer, with its version.
func (s *Store) StateChanges(ctx context.Context, since int64) (*webhook.StateChanges, error) {
	res := &webhook.StateChanges{}
	if err := s.db.QueryRowContext(ctx, s.query(stateVersion)).Scan(&res.Version); err != nil {
		return nil, fmt.Errorf("webhook: state changes: %w", err)
	}
	switch {
	case since == res.Version:
		return res, nil
	case since > res.Version:
		since = 0
	}
	err := s.each(ctx, s.db, stateChanges, []any{since}, func(rows *sql.Rows) error {
		var r stateRow
		err := rows.Scan(&r.id, &r.version, &r.doc, &r.notBefore, &r.held, &r.kind, &r.reason, &r.until)
		res.States = append(res.States, r.state())
		res.Version = max(res.Version, r.version)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: state changes: %w", err)
	}
	slices.SortFunc(res.States, func(a, b webhook.EndpointState) int { return strings.Compare(a.EndpointID, b.EndpointID) })
	return res, nil
}

// state is r as the caller of the store sees it.
func (r *stateRow) state() webhook.EndpointState {
	st := webhook.EndpointState{EndpointID: r.id, Version: r.version, NotBefore: fromOptMicros(r.notBefore)}
	if len(r.doc) > 0 {
		st.Doc = r.doc
	}
	if r.held {
		st.Hold = &webhook.HoldStatus{EndpointID: r.id, Kind: r.kind, Reason: r.reason, Until: fromOptMicros(r.until)}
	}
	return st
}
