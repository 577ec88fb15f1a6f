package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

var errRecvStore = errors.New("the store is down")

// recvStore is a DedupeStore in memory that fails and hangs on demand.
type recvStore struct {
	mu     sync.Mutex
	rows   map[keptKey]*recvRow
	calls  map[string]int
	begins []BeginRequest
	tokens int64

	// fail is asked before each call, with its name and how many came before; nil: never fails.
	fail func(ctx context.Context, op string, n int) error
	// after is asked once the call is done: an error then is an unknown outcome.
	after func(op string, n int) error
}

type recvRow struct {
	token  int64
	digest [32]byte
	until  time.Time // end of the hold or of the record
	done   bool
	at     time.Time
	resp   StoredResponse
}

func newRecvStore() *recvStore {
	return &recvStore{rows: map[keptKey]*recvRow{}, calls: map[string]int{}}
}

func (s *recvStore) setFail(f func(ctx context.Context, op string, n int) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
	clear(s.calls)
}

// down makes the operations named fail until setFail.
func (s *recvStore) down(ops ...string) {
	s.setFail(func(_ context.Context, op string, _ int) error {
		if slices.Contains(ops, op) {
			return errRecvStore
		}
		return nil
	})
}

func (s *recvStore) count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

func (s *recvStore) enter(ctx context.Context, op string) (n int, err error) {
	s.mu.Lock()
	n = s.calls[op]
	s.calls[op]++
	fail := s.fail
	s.mu.Unlock()
	if fail != nil {
		if err := fail(ctx, op, n); err != nil {
			return n, err
		}
	}
	return n, ctx.Err()
}

func (s *recvStore) leave(op string, n int) error {
	if s.after == nil {
		return nil
	}
	return s.after(op, n)
}

func (s *recvStore) Begin(ctx context.Context, req *BeginRequest) (*BeginResult, error) {
	n, err := s.enter(ctx, "begin")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begins = append(s.begins, *req)
	k := keptKey{req.Scope, req.Key}
	row := s.rows[k]
	if row != nil && req.Now.Before(row.until) {
		changed := req.Digest != [32]byte{} && req.Digest != row.digest
		switch {
		case row.done && !changed:
			resp := StoredResponse{Status: row.resp.Status, Header: maps.Clone(row.resp.Header), Body: slices.Clone(row.resp.Body)}
			return &BeginResult{Status: KeyDone, Response: &resp, DoneAt: row.at}, s.leave("begin", n)
		case !row.done:
			return &BeginResult{Status: KeyRunning, HeldUntil: row.until}, s.leave("begin", n)
		}
	}
	s.tokens++
	s.rows[k] = &recvRow{token: s.tokens, digest: req.Digest, until: req.Now.Add(req.Hold)}
	return &BeginResult{Status: KeyTaken, Token: s.tokens}, s.leave("begin", n)
}

// held returns the row held under token at now, or nil.
func (s *recvStore) held(scope, key string, token int64, now time.Time) *recvRow {
	row := s.rows[keptKey{scope, key}]
	if row == nil || row.done || row.token != token || !now.Before(row.until) {
		return nil
	}
	return row
}

func (s *recvStore) Finish(ctx context.Context, req *FinishRequest) error {
	n, err := s.enter(ctx, "finish")
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.held(req.Scope, req.Key, req.Token, req.Now)
	if row == nil {
		return ErrStaleKey
	}
	row.done, row.at, row.until = true, req.Now, req.Now.Add(req.Keep)
	row.resp = StoredResponse{
		Status: req.Response.Status, Header: maps.Clone(req.Response.Header), Body: slices.Clone(req.Response.Body),
	}
	return s.leave("finish", n)
}

func (s *recvStore) Release(ctx context.Context, req *ReleaseRequest) error {
	n, err := s.enter(ctx, "release")
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held(req.Scope, req.Key, req.Token, req.Now) == nil {
		return ErrStaleKey
	}
	delete(s.rows, keptKey{req.Scope, req.Key})
	return s.leave("release", n)
}

// recvClockStore has a clock of its own.
type recvClockStore struct {
	*recvStore
	offset time.Duration
}

func (s *recvClockStore) Now(ctx context.Context) (time.Time, error) {
	if _, err := s.enter(ctx, "now"); err != nil {
		return time.Time{}, err
	}
	return time.Now().Add(s.offset), nil
}

// recvLog keeps all that is logged, as text.
type recvLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *recvLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *recvLog) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *recvLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Reset()
}

func (l *recvLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func recvLogKeys(t *testing.T, line string) []string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatalf("log line %q: %v", line, err)
	}
	return slices.Collect(maps.Keys(m))
}
