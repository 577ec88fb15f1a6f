package dbtest

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// crowd calls fn for 0 to n-1 at once.
func crowd(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-start; fn(i) })
	}
	close(start)
	wg.Wait()
}

// However many ask at once, of one process and of another, each gets its own answer: one the key, the others that it is held, then
// what was answered; and a stale token in the same batch stores nothing and spoils nothing.
func TestDedupeCrowd(t *testing.T) {
	const keys, callers = 40, 6 // a key
	each(t, allVariants, func(t *testing.T, v variant) {
		a, b := v.open(t)
		name := func(k int) string { return fmt.Sprintf(`k-%d "ü\`, k) }
		response := func(k int) webhook.StoredResponse {
			return webhook.StoredResponse{Status: 200 + k, Header: map[string][]string{"X": {fmt.Sprint(k)}}, Body: []byte{0, 0xff, '\\', byte(k)}}
		}
		var taken [keys]atomic.Int64
		var tokens [keys]atomic.Int64
		crowd(keys*callers, func(i int) {
			s, k := a, i%keys
			if i%3 == 0 {
				s = b
			}
			res, err := s.Begin(t.Context(), &webhook.BeginRequest{Now: at(0), Scope: "s", Key: name(k), Hold: time.Minute})
			switch {
			case err != nil:
				t.Error(err)
			case res.Status == webhook.KeyTaken:
				taken[k].Add(1)
				tokens[k].Store(res.Token)
			case res.Status != webhook.KeyRunning || !res.HeldUntil.Equal(at(time.Minute)):
				t.Errorf("key %d: %+v", k, res)
			}
		})
		for k := range keys {
			if n := taken[k].Load(); n != 1 {
				t.Errorf("key %d was taken %d times", k, n)
			}
		}
		crowd(2*keys, func(i int) {
			k, stale := i%keys, i >= keys
			token := tokens[k].Load()
			if stale {
				token--
			}
			err := finish(a, t, at(time.Second), "s", name(k), token, response(k))
			if stale != errors.Is(err, webhook.ErrStaleKey) || !stale && err != nil {
				t.Errorf("Finish of key %d, stale %v: %v", k, stale, err)
			}
		})
		crowd(2*keys, func(i int) {
			k := i % keys
			want := response(k)
			res, err := a.Begin(t.Context(), &webhook.BeginRequest{Now: at(2 * time.Second), Scope: "s", Key: name(k), Hold: time.Minute})
			if err != nil {
				t.Error(err)
				return
			}
			if diff := cmp.Diff(&webhook.BeginResult{Status: webhook.KeyDone, Response: &want, DoneAt: at(time.Second)}, res); diff != "" {
				t.Errorf("key %d (-want +got):\n%s", k, diff)
			}
		})
	})
}

// Finish twice at once: one of them stores, the other is stale.
func TestDedupeCrowdFinishesOnce(t *testing.T) {
	each(t, allVariants, func(t *testing.T, v variant) {
		s, _ := v.open(t)
		token := begin(t, s, at(0), "s", "k").Token
		var stored, stale atomic.Int64
		crowd(20, func(i int) {
			switch err := finish(s, t, at(0), "s", "k", token, webhook.StoredResponse{Status: 200}); {
			case err == nil:
				stored.Add(1)
			case errors.Is(err, webhook.ErrStaleKey):
				stale.Add(1)
			default:
				t.Error(err)
			}
		})
		if stored.Load() != 1 || stale.Load() != 19 {
			t.Errorf("%d stored, %d stale", stored.Load(), stale.Load())
		}
		// The content of the latest counts, also when contents come together.
		var takenAnew atomic.Int64
		crowd(20, func(i int) {
			req := &webhook.BeginRequest{Now: at(0), Scope: "s", Key: "k", Hold: time.Minute, Digest: [32]byte{1, byte(i % 2)}}
			res, err := s.Begin(t.Context(), req)
			if err != nil {
				t.Error(err)
			} else if res.Status == webhook.KeyTaken {
				takenAnew.Add(1)
			}
		})
		if takenAnew.Load() != 1 {
			t.Errorf("%d took the key anew", takenAnew.Load())
		}
	})
}

// A request costs two statements by itself, each a transaction of its own, and a part of that among others.
func TestDedupeStatements(t *testing.T) {
	each(t, mainVariants[1:2], func(t *testing.T, v variant) {
		db, rec := record(t, v.driver, v.database(t).DSN)
		s, err := sqlstore.New(db, v.dialect, nil)
		if err != nil {
			t.Fatal(err)
		}
		migrate(t, s)
		rec.take()
		receive := func(k int) {
			key := fmt.Sprint(k)
			res, err := s.Begin(t.Context(), &webhook.BeginRequest{Now: at(0), Scope: "s", Key: key, Hold: time.Minute})
			if err == nil {
				err = finish(s, t, at(0), "s", key, res.Token, webhook.StoredResponse{Status: 200})
			}
			if err != nil {
				t.Error(err)
			}
		}
		receive(-1)
		if n := len(rec.take()); n != 2 {
			t.Errorf("a request by itself took %d statements, want 2", n)
		}
		const n = 200
		crowd(n, receive)
		if sent := len(rec.take()); sent > n/2 {
			t.Errorf("%d requests at once took %d statements, want at most a half of one each", n, sent)
		} else {
			t.Logf("%d requests at once: %d statements", n, sent)
		}
	})
}

// The statements for many keys probe the index for each, also with the plans that were made for any arguments when the table was empty.
func TestDedupeGatheredPlans(t *testing.T) {
	each(t, mainVariants[1:2], func(t *testing.T, v variant) {
		db, rec := record(t, v.driver, v.database(t).DSN)
		s, err := sqlstore.New(db, v.dialect, nil)
		if err != nil {
			t.Fatal(err)
		}
		migrate(t, s)
		if _, err := db.Exec("SET plan_cache_mode = force_generic_plan"); err != nil {
			t.Fatal(err)
		}
		load := func(now time.Time) {
			var tokens [100]atomic.Int64
			crowd(len(tokens), func(i int) {
				if res, err := s.Begin(t.Context(), &webhook.BeginRequest{Now: now, Scope: "s", Key: fmt.Sprint(i), Hold: time.Minute}); err != nil {
					t.Error(err)
				} else {
					tokens[i].Store(res.Token)
				}
			})
			crowd(len(tokens), func(i int) {
				s.Begin(t.Context(), &webhook.BeginRequest{Now: now, Scope: "s", Key: fmt.Sprint(i), Hold: time.Minute})
			})
			crowd(len(tokens), func(i int) {
				if err := finish(s, t, now, "s", fmt.Sprint(i), tokens[i].Load(), webhook.StoredResponse{Status: 200}); err != nil {
					t.Error(err)
				}
			})
		}
		load(at(0))
		if _, err := db.Exec(`INSERT INTO webhook_dedupe (scope, dkey, token, state, digest, expires_at)
SELECT 's', 'old-' || i, 1, 1, '', 0 FROM generate_series(1, 50000) i`); err != nil {
			t.Fatal(err)
		}
		before := sequentialScans(t, db)
		rec.take()
		load(at(2 * time.Hour))
		many := 0
		for _, st := range rec.take() {
			if strings.Contains(st.text, "unnest(") {
				many++
			}
		}
		if many < 3 {
			t.Errorf("%d statements for many keys, want each of the three", many)
		}
		if after := sequentialScans(t, db); after > before {
			t.Errorf("%d sequential scans of the table", after-before)
		}
	})
}

// sequentialScans is how often the table of keys was read from end to end.
func sequentialScans(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if _, err := db.Exec("SELECT pg_stat_force_next_flush()"); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'webhook_dedupe'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
