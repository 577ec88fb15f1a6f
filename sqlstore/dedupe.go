package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/signalpost/webhook"
)

var _ webhook.DedupeStore = (*Store)(nil)

// The states of a row of idempotency keys. A freed one stays until it expires, so that its next token is greater and the one
// who freed it can never pass for its next holder.
const (
	keyHeld = 0
	keyDone = 1
	keyFree = 2
)

const (
	keyRead = `SELECT token, state, digest, expires_at, status, header, body, done_at
FROM {prefix}dedupe WHERE scope = ? AND dkey = ?`

	keyFinish = `UPDATE {prefix}dedupe SET state = 1, expires_at = ?, done_at = ?, status = ?, header = ?, body = ?
WHERE scope = ? AND dkey = ? AND token = ? AND state = 0 AND expires_at > ?`

	keyRelease = `UPDATE {prefix}dedupe SET state = 2 WHERE scope = ? AND dkey = ? AND token = ? AND state = 0 AND expires_at > ?`
)

// keyStatements are the statements of idempotency keys in the store's dialect, with the tables' names in place: two run for every request.
type keyStatements struct {
	take, insert, retake, read, finish, release string
	takeAll, readAll, finishAll                 string
}

func (s *Store) keyStatements() keyStatements {
	side := s.side()
	return keyStatements{
		take: s.query(side.keyTake), insert: s.query(side.keyInsert), retake: s.query(side.keyRetake),
		read: s.query(keyRead), finish: s.query(keyFinish), release: s.query(keyRelease),
		takeAll: s.query(side.keyTakeAll), readAll: s.query(side.keyReadAll), finishAll: s.query(side.keyFinishAll),
	}
}

// maxBeginTries bounds how often Begin looks again when the key changes hands between its statements.
const maxBeginTries = 20

// Begin is [webhook.DedupeStore.Begin]. Tokens of a key begin with the time in microseconds, so that they also grow
// over a key's being forgotten.
func (s *Store) Begin(ctx context.Context, req *webhook.BeginRequest) (*webhook.BeginResult, error) {
	if err := checkKey(req.Scope, req.Key); err != nil {
		return nil, err
	}
	call := &keyCall{begin: *req}
	if err := s.begins.do(ctx, call, s.beginAlone); err != nil {
		return nil, keyError("begin", req.Scope, req.Key, err)
	}
	return call.res, nil
}

func (s *Store) beginAlone(ctx context.Context, call *keyCall) error {
	return s.one(ctx, func(ctx context.Context, q querier) (err error) {
		call.res, err = s.begin(ctx, q, &call.begin)
		return err
	})
}

func (s *Store) begin(ctx context.Context, q querier, req *webhook.BeginRequest) (*webhook.BeginResult, error) {
	for range maxBeginTries {
		token, taken, err := s.takeKey(ctx, q, req)
		if err != nil {
			return nil, err
		}
		if taken {
			return &webhook.BeginResult{Status: webhook.KeyTaken, Token: token}, nil
		}
		row, err := s.readKey(ctx, q, req.Scope, req.Key)
		switch {
		case errors.Is(err, sql.ErrNoRows): // forgotten since
			continue
		case err != nil:
			return nil, err
		case !row.takeable(req):
			return row.answer()
		case s.keySQL.retake == "": // freed since
			continue
		}
		token, taken, err = s.retakeKey(ctx, q, req, row)
		if err != nil {
			return nil, err
		}
		if taken {
			return &webhook.BeginResult{Status: webhook.KeyTaken, Token: token}, nil
		}
	}
	return nil, errors.New("the key changes hands too fast")
}

// takeKey takes the key if it is new or, on most databases, if it may be taken.
func (s *Store) takeKey(ctx context.Context, q querier, req *webhook.BeginRequest) (token int64, taken bool, err error) {
	now, digest, until := micros(req.Now), digestBytes(req.Digest), micros(req.Now.Add(req.Hold))
	if s.keySQL.take != "" {
		err = q.QueryRowContext(ctx, s.keySQL.take, req.Scope, req.Key, now, digest, until, len(digest) > 0).Scan(&token)
		if errors.Is(err, sql.ErrNoRows) {
			return 0, false, nil
		}
		return token, err == nil, err
	}
	taken, err = s.changed(ctx, q, s.keySQL.insert, req.Scope, req.Key, now, digest, until)
	return now, taken, err
}

// retakeKey takes a key that may be taken, unless it changed since it was read.
func (s *Store) retakeKey(ctx context.Context, q querier, req *webhook.BeginRequest, row *keyRow) (token int64, taken bool, err error) {
	token = max(row.token+1, micros(req.Now))
	taken, err = s.changed(ctx, q, s.keySQL.retake, token, digestBytes(req.Digest), micros(req.Now.Add(req.Hold)),
		req.Scope, req.Key, row.token, row.state, row.expiresAt)
	return token, taken, err
}

// keyRow is an idempotency key as it is stored.
type keyRow struct {
	token, expiresAt     int64
	state, status        int
	digest, header, body []byte
	doneAt               sql.NullInt64
}

func (s *Store) readKey(ctx context.Context, q querier, scope, key string) (*keyRow, error) {
	r := &keyRow{}
	err := q.QueryRowContext(ctx, s.keySQL.read, scope, key).Scan(
		&r.token, &r.state, &r.digest, &r.expiresAt, &r.status, &r.header, &r.body, &r.doneAt)
	return r, err
}

// takeable is the condition of keyTake.
func (r *keyRow) takeable(req *webhook.BeginRequest) bool {
	digest := digestBytes(req.Digest)
	return r.expiresAt <= micros(req.Now) || r.state == keyFree ||
		r.state == keyDone && len(digest) > 0 && !bytes.Equal(digest, r.digest)
}

func (r *keyRow) answer() (*webhook.BeginResult, error) {
	if r.state == keyHeld {
		return &webhook.BeginResult{Status: webhook.KeyRunning, HeldUntil: fromMicros(r.expiresAt)}, nil
	}
	response := &webhook.StoredResponse{Status: r.status}
	if len(r.header) > 0 {
		if err := json.Unmarshal(r.header, &response.Header); err != nil {
			return nil, fmt.Errorf("stored header: %w", err)
		}
	}
	if len(r.body) > 0 {
		response.Body = r.body
	}
	return &webhook.BeginResult{Status: webhook.KeyDone, Response: response, DoneAt: fromOptMicros(r.doneAt)}, nil
}

// Finish is [webhook.DedupeStore.Finish].
func (s *Store) Finish(ctx context.Context, req *webhook.FinishRequest) error {
	if err := checkKey(req.Scope, req.Key); err != nil {
		return err
	}
	header, err := encodeKeyHeader(req.Response.Header)
	if err != nil {
		return keyError("finish", req.Scope, req.Key, err)
	}
	call := &keyCall{finish: finishArgs{
		scope: req.Scope, key: req.Key, token: req.Token, now: micros(req.Now), until: micros(req.Now.Add(req.Keep)),
		status: req.Response.Status, header: header, body: notNil(req.Response.Body),
	}}
	if err := s.finishes.do(ctx, call, s.finishAlone); err != nil {
		return keyError("finish", req.Scope, req.Key, err)
	}
	return nil
}

func (s *Store) finishAlone(ctx context.Context, call *keyCall) error {
	return s.one(ctx, func(ctx context.Context, q querier) error { return s.finish(ctx, q, &call.finish) })
}

// finishArgs are what Finish writes.
type finishArgs struct {
	scope, key        string
	token, now, until int64
	status            int
	header, body      []byte
}

func (s *Store) finish(ctx context.Context, q querier, f *finishArgs) error {
	changed, err := s.changed(ctx, q, s.keySQL.finish, f.until, f.now, f.status, f.header, f.body, f.scope, f.key, f.token, f.now)
	if err == nil && !changed {
		return webhook.ErrStaleKey
	}
	return err
}

// Release is [webhook.DedupeStore.Release].
func (s *Store) Release(ctx context.Context, req *webhook.ReleaseRequest) error {
	if err := checkKey(req.Scope, req.Key); err != nil {
		return err
	}
	err := s.one(ctx, func(ctx context.Context, q querier) error {
		changed, err := s.changed(ctx, q, s.keySQL.release, req.Scope, req.Key, req.Token, micros(req.Now))
		if err == nil && !changed {
			return webhook.ErrStaleKey
		}
		return err
	})
	if err != nil {
		return keyError("release", req.Scope, req.Key, err)
	}
	return nil
}

func keyError(op, scope, key string, err error) error {
	return fmt.Errorf("webhook: dedupe: %s %q %q: %w", op, scope, key, err)
}

func checkKey(scope, key string) error {
	if err := checkText("dedupe", "Scope", scope, false); err != nil {
		return err
	}
	return checkText("dedupe", "Key", key, true)
}

// digestBytes is a digest for the database: no bytes for none, never NULL, so that any two compare.
func digestBytes(d [32]byte) []byte {
	if d == [32]byte{} {
		return []byte{}
	}
	return d[:]
}

func encodeKeyHeader(header map[string][]string) ([]byte, error) {
	if len(header) == 0 {
		return []byte{}, nil
	}
	return json.Marshal(header)
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
