package dbtest

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

var errBusiness = errors.New("no such order")

// txTest is a database with two Stores on it, as two processes have, and the table of what handlers do.
type txTest struct {
	*childDB
	stores [2]*sqlstore.Store
	ran    atomic.Int64
}

func openTxTest(t *testing.T, v variant) *txTest {
	d := v.database(t)
	x := &txTest{childDB: openChildDB(t, v, d)}
	for i := range x.stores {
		x.stores[i], _ = v.handle(t, d)
	}
	must(t, x.db, newWork)
	return x
}

// handler is HandleTx on one of the Stores: it writes, then does what then says.
func (x *txTest) handler(t *testing.T, i int, opts *sqlstore.HandleTxOptions, then func(ctx context.Context, tx *sql.Tx, ev webhook.Event) error) http.Handler {
	t.Helper()
	verifier, err := childVerifier()
	if err != nil {
		t.Fatal(err)
	}
	if opts == nil {
		opts = &sqlstore.HandleTxOptions{}
	}
	o := *opts
	o.Receive.Logger = slog.New(slog.DiscardHandler)
	return x.stores[i].HandleTx(verifier, func(ctx context.Context, tx *sql.Tx, ev webhook.Event) error {
		x.ran.Add(1)
		_, key, err := webhook.KeyFromContext(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO work (id) VALUES ('"+key.ID+"')"); err != nil {
			return err
		}
		if then == nil {
			return nil
		}
		return then(ctx, tx, ev)
	}, &o)
}

func serve(h http.Handler, r *signedRequest) *httptest.ResponseRecorder {
	return serveIn(context.Background(), h, r)
}

func serveIn(ctx context.Context, h http.Handler, r *signedRequest) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(r.body)).WithContext(ctx)
	req.Header = r.header.Clone()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

// want compares an answer and what the database has.
func (x *txTest) want(t *testing.T, w *httptest.ResponseRecorder, status int, replayed bool, rows int) {
	t.Helper()
	if got := w.Header().Get(webhook.ReplayedHeader) == "true"; w.Code != status || got != replayed {
		t.Errorf("answered %d, replayed: %t; want %d, %t", w.Code, got, status, replayed)
	}
	if retry := w.Header().Get("Retry-After"); (status == 409 || status == 503) && retry == "" {
		t.Errorf("a %d without Retry-After", status)
	}
	if work, done, other := x.rows(t); work != rows || done != rows || other != 0 {
		t.Errorf("%d rows of work, %d keys done, %d others; want %d, %d, 0", work, done, other, rows, rows)
	}
}

// TestHandleTx: what the handler writes and the key are committed together, or neither.
func TestHandleTx(t *testing.T) {
	eachAtOnce(t, allVariants, func(t *testing.T, v variant) {
		x := openTxTest(t, v)
		r := signedUpdate(t, "o1", "confirmed")
		fails := []func(context.Context, *sql.Tx, webhook.Event) error{
			func(context.Context, *sql.Tx, webhook.Event) error { return errBusiness },
			func(context.Context, *sql.Tx, webhook.Event) error { panic("a bug") },
			func(ctx context.Context, tx *sql.Tx, _ webhook.Event) error {
				_, err := tx.ExecContext(ctx, "INSERT INTO no_such_table (id) VALUES (1)")
				return err
			},
		}
		for _, fail := range fails {
			x.want(t, serve(x.handler(t, 0, nil, fail), r), 500, false, 0)
		}
		later := func(context.Context, *sql.Tx, webhook.Event) error {
			return webhook.RetryAfter(90*time.Second, errBusiness)
		}
		w := serve(x.handler(t, 0, nil, later), r)
		if x.want(t, w, 503, false, 0); w.Header().Get("Retry-After") != "90" {
			t.Errorf("Retry-After is %q, want 90", w.Header().Get("Retry-After"))
		}
		opts := &sqlstore.HandleTxOptions{Response: webhook.StoredResponse{
			Status: 201, Header: map[string][]string{"Content-Type": {"text/plain"}}, Body: []byte("done\x00"),
		}}
		ok := x.handler(t, 0, opts, nil)
		w = serve(ok, r)
		x.want(t, w, 201, false, 1)
		again := serve(x.handler(t, 1, nil, nil), r) // elsewhere: the stored response counts
		x.want(t, again, 201, true, 1)
		if w.Body.String() != "done\x00" || again.Body.String() != "done\x00" || again.Header().Get("Content-Type") != "text/plain" {
			t.Errorf("answered %q and then %q %v", w.Body, again.Body, again.Header())
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		x.want(t, serveIn(gone, ok, signedUpdate(t, "o1", "delivered")), 201, false, 2)
		forged := signedUpdate(t, "o1", "refunded")
		forged.body = append(forged.body, ' ')
		x.want(t, serve(ok, forged), 401, false, 2)
	})
}

// TestHandleTxTwins: a second request with the key waits for the transaction that has it, in this process and in another, and not for ever.
func TestHandleTxTwins(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		x := openTxTest(t, v)
		opts := &sqlstore.HandleTxOptions{Receive: webhook.ReceiveOptions{Wait: time.Second}}
		for i, commits := range []bool{true, false} {
			began, finish := make(chan struct{}), make(chan struct{})
			var first atomic.Bool
			slow := func(context.Context, *sql.Tx, webhook.Event) error {
				if !first.Swap(true) {
					close(began)
					<-finish
					if !commits {
						return errBusiness
					}
				}
				return nil
			}
			h := [2]http.Handler{x.handler(t, 0, opts, slow), x.handler(t, 1, opts, slow)}
			r := signedUpdate(t, "o1", fmt.Sprint("status ", i))
			var all sync.WaitGroup
			all.Go(func() { serve(h[0], r) })
			<-began
			if here := serve(h[0], r); here.Code != 409 || here.Header().Get("Retry-After") == "" {
				t.Errorf("a twin in this process is answered %d", here.Code)
			}
			busy := map[sqlstore.Dialect]int{sqlstore.SQLite: 503, sqlstore.PostgreSQL: 409, sqlstore.MySQL: 409}[v.dialect]
			began2 := time.Now()
			if there := serve(h[1], r); there.Code != busy || there.Header().Get("Retry-After") == "" || time.Since(began2) > 15*time.Second {
				t.Errorf("a twin in another is answered %d after %v, want %d", there.Code, time.Since(began2), busy)
			}
			var waiting *httptest.ResponseRecorder
			all.Go(func() { waiting = serve(h[1], r) })
			time.Sleep(200 * time.Millisecond) // most likely it waits now
			close(finish)
			all.Wait()
			x.want(t, waiting, 200, commits, i+1)
		}
	})
}

// TestHandleTxIsolation: at every level, over two Stores, one of many equal requests runs, and all different ones do.
func TestHandleTxIsolation(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		for _, level := range []sql.IsolationLevel{sql.LevelDefault, sql.LevelRepeatableRead, sql.LevelSerializable} {
			t.Run(level.String(), func(t *testing.T) {
				x := openTxTest(t, v)
				opts := &sqlstore.HandleTxOptions{Isolation: level}
				again := x.crowd(t, [2]http.Handler{x.handler(t, 0, opts, nil), x.handler(t, 1, opts, nil)})
				t.Logf("%s, %v: %d requests had to come again", v.name, level, again)
			})
		}
	})
}

// crowd sends 20 different requests, each 4 times at once to two Stores, until each is answered 200.
func (x *txTest) crowd(t *testing.T, h [2]http.Handler) int64 {
	t.Helper()
	const different, equal = 20, 4
	requests := make([]*signedRequest, different)
	for i := range requests {
		requests[i] = signedUpdate(t, "o1", fmt.Sprint("status ", i))
	}
	var again atomic.Int64
	together(different*equal, func(i int) {
		for serve(h[i%2], requests[i/equal]).Code != 200 { // 503 after a conflict
			if again.Add(1) > 1000 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	if work, done, other := x.rows(t); work != different || done != different || other != 0 {
		t.Errorf("%d rows of work, %d keys done, %d others; want %d", work, done, other, different)
	}
	return again.Load()
}

// TestHandleTxBareSQLite: a file that was opened without any settings, so that transactions begin without the write lock and nothing waits for
// it, is as good.
func TestHandleTxBareSQLite(t *testing.T) {
	t.Parallel()
	x := openTxTest(t, mainVariants[0])
	for i := range x.stores {
		db, err := sql.Open("sqlite", "file:"+x.d.Name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		if x.stores[i], err = sqlstore.New(db, sqlstore.SQLite, nil); err != nil {
			t.Fatal(err)
		}
	}
	reads := func(ctx context.Context, tx *sql.Tx, _ webhook.Event) error {
		var n int
		return tx.QueryRowContext(ctx, "SELECT count(*) FROM work").Scan(&n)
	}
	again := x.crowd(t, [2]http.Handler{x.handler(t, 0, nil, reads), x.handler(t, 1, nil, reads)})
	t.Logf("%d requests had to come again", again)
}

// TestHandleTxTimeLimit: a handler that takes too long leaves nothing.
func TestHandleTxTimeLimit(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		x := openTxTest(t, v)
		opts := &sqlstore.HandleTxOptions{Receive: webhook.ReceiveOptions{HandlerTimeout: time.Second}} // a busy machine takes a part of it to begin
		ignores := func(context.Context, *sql.Tx, webhook.Event) error { time.Sleep(1200 * time.Millisecond); return nil }
		heeds := func(ctx context.Context, _ *sql.Tx, _ webhook.Event) error { <-ctx.Done(); return ctx.Err() }
		r := signedUpdate(t, "o1", "confirmed")
		x.want(t, serve(x.handler(t, 0, opts, ignores), r), 503, false, 0)
		x.want(t, serve(x.handler(t, 0, opts, heeds), r), 500, false, 0)
		x.want(t, serve(x.handler(t, 0, opts, nil), r), 200, false, 1)
	})
}

// TestHandleTxBroken: a transaction that the database has given up, or whose connection is gone, is not taken for done, even if the
// handler does not mind.
func TestHandleTxBroken(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		x := openTxTest(t, v)
		faults := map[sqlstore.Dialect]string{
			sqlstore.SQLite:     "ROLLBACK",
			sqlstore.PostgreSQL: "INSERT INTO no_such_table (id) VALUES (1)", // ends the transaction
			sqlstore.MySQL:      "ROLLBACK",                                  // as a deadlock does, and what comes then stands by itself
		}
		careless := func(ctx context.Context, tx *sql.Tx, _ webhook.Event) error {
			_, _ = tx.ExecContext(ctx, faults[v.dialect])
			return nil
		}
		r := signedUpdate(t, "o1", "confirmed")
		x.want(t, serve(x.handler(t, 0, nil, careless), r), 503, false, 0)
		kill := map[sqlstore.Dialect]string{
			sqlstore.PostgreSQL: "SELECT pg_terminate_backend(pg_backend_pid())", sqlstore.MySQL: "KILL CONNECTION_ID()",
		}[v.dialect]
		if kill != "" {
			cut := func(ctx context.Context, tx *sql.Tx, _ webhook.Event) error {
				_, _ = tx.ExecContext(ctx, kill)
				return nil
			}
			x.want(t, serve(x.handler(t, 0, nil, cut), r), 503, false, 0)
		}
		x.want(t, serve(x.handler(t, 0, nil, nil), r), 200, false, 1)
	})
}

// TestHandleTxSends: what a handler sends with SendTx is sent if and only if its transaction commits, on a pool of one connection too.
func TestHandleTxSends(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		x := openTxTest(t, v)
		store, db := v.handle(t, x.d)
		db.SetMaxOpenConns(1)
		x.stores[0] = store
		cfg := childConfig{URL: "http://127.0.0.1:1", Endpoints: 1, Timeout: time.Second}
		d, err := webhook.NewDispatcher(store, cfg.options())
		if err != nil {
			t.Fatal(err)
		}
		for i, fail := range []error{errBusiness, nil} {
			h := x.handler(t, 0, nil, func(ctx context.Context, tx *sql.Tx, ev webhook.Event) error {
				if _, err := d.SendTx(ctx, store.Tx(tx), webhook.Event{Type: "order_done", Payload: ev.Payload}); err != nil {
					return err
				}
				return fail
			})
			x.want(t, serve(h, signedUpdate(t, "o1", "confirmed")), []int{500, 200}[i], false, i)
			if all, _ := x.queued(t, nil); all != i {
				t.Errorf("%d deliveries wait, want %d", all, i)
			}
		}
	})
}

// TestHandleTxCommitLost: when nobody can know what became of a commit the sender is told to come again, and finds out. It costs no more than
// the statements that it needs.
func TestHandleTxCommitLost(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		x := openTxTest(t, v)
		lost := errors.New("database is locked") // which would be tried again, had the handler not run
		for i, committed := range []bool{true, false} {
			db, rec := record(t, v.driver, x.d.DSN)
			store, err := sqlstore.New(db, v.dialect, nil)
			if err != nil {
				t.Fatal(err)
			}
			x.stores[0] = store
			rec.commit = func(tx driver.Tx) error {
				if committed {
					return errors.Join(lost, tx.Commit())
				}
				return errors.Join(lost, tx.Rollback())
			}
			r := signedUpdate(t, "o1", fmt.Sprint("status ", i))
			x.ran.Store(0)
			rows := i
			if committed {
				rows++
			}
			x.want(t, serve(x.handler(t, 0, nil, nil), r), 503, false, rows)
			rec.commit = nil
			x.want(t, serve(x.handler(t, 0, nil, nil), r), 200, committed, i+1)
			if want := map[bool]int64{true: 1, false: 2}[committed]; x.ran.Load() != want {
				t.Errorf("the handler ran %d times, want %d", x.ran.Load(), want)
			}
			h, r := x.handler(t, 0, nil, nil), signedUpdate(t, "o1", fmt.Sprint("next ", i))
			serve(h, signedUpdate(t, "o1", fmt.Sprint("first ", i))) // reads the clock
			rec.take()
			serve(h, r)
			most := map[sqlstore.Dialect]int{sqlstore.SQLite: 3, sqlstore.PostgreSQL: 3, sqlstore.MySQL: 4}[v.dialect] // the handler's included
			if sent := rec.take(); len(sent) > most {
				t.Errorf("%d statements, want at most %d: %v", len(sent), most, sent)
			}
			must(t, x.db, "DELETE FROM work WHERE id <> '"+signedUpdate(t, "o1", "status 0").key("o1")+"'")
			must(t, x.db, "DELETE FROM webhook_dedupe WHERE dkey <> '"+signedUpdate(t, "o1", "status 0").key("o1")+"'")
		}
	})
}

// BenchmarkHandleTx tells what a request costs that is verified, deduplicated and does one insert, by 16 at once: in one transaction
// (tx), and with Middleware's two (middleware), whose handler has one of its own.
func BenchmarkHandleTx(b *testing.B) {
	for _, v := range mainVariants {
		for _, how := range []string{"tx", "middleware", "inbox"} {
			b.Run(v.name+"/"+how, func(b *testing.B) {
				d := v.database(b)
				store, db := v.handle(b, d)
				migrate(b, store)
				if _, err := db.Exec(newWork); err != nil {
					b.Fatal(err)
				}
				h := benchHandler(b, how, store, db)
				secret, err := webhook.IssuedSecret(childSecret)
				if err != nil {
					b.Fatal(err)
				}
				signer, err := webhook.NewSigner(secret)
				if err != nil {
					b.Fatal(err)
				}
				var n atomic.Int64
				b.SetParallelism(8)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						r := &signedRequest{header: http.Header{}, body: fmt.Appendf(nil, `{"type":"order_create","data":{"orderId":"%d"}}`, n.Add(1))}
						if err := signer.Sign(r.header, r.body); err != nil {
							b.Error(err)
						}
						if w := serve(h, r); w.Code != 200 {
							b.Errorf("answered %d", w.Code)
						}
					}
				})
			})
		}
	}
}

func benchHandler(b *testing.B, how string, store *sqlstore.Store, db *sql.DB) http.Handler {
	verifier, err := childVerifier()
	if err != nil {
		b.Fatal(err)
	}
	const insert = "INSERT INTO work (id) VALUES ('an order')"
	opts := webhook.ReceiveOptions{Logger: slog.New(slog.DiscardHandler)}
	switch how {
	case "tx":
		return store.HandleTx(verifier, func(ctx context.Context, tx *sql.Tx, _ webhook.Event) error {
			_, err := tx.ExecContext(ctx, insert)
			return err
		}, &sqlstore.HandleTxOptions{Receive: opts})
	case "inbox":
		return webhook.NewInbox(store, verifier, func(context.Context, webhook.Event) error { return nil }, &webhook.InboxOptions{Receive: opts})
	}
	opts.Dedupe = store
	return webhook.Middleware(verifier, &opts)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := db.ExecContext(r.Context(), insert); err != nil {
			b.Error(err)
		}
	}))
}
