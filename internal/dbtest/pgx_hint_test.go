package dbtest

import (
	"context"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/pgxwebhook"
	"github.com/signalpost/webhook/sqlstore"
)

// hinted is a dispatcher that delivers and polls seldom, one with a pool of its own that only sends, and what arrived.
type hinted struct {
	d         DB
	store     *sqlstore.Store
	hooks     *webhook.Dispatcher // of the process that sends
	pool      *pgxpool.Pool       // the same process's
	arrived   chan time.Time
	connected chan struct{} // whenever the listener listens
	wakes     chan struct{}
}

// seldom is how often the one that delivers polls: too seldom to be mistaken for a hint.
const seldom = 5 * time.Second

// RoundTrip is the receiver.
func (h *hinted) RoundTrip(r *http.Request) (*http.Response, error) {
	h.arrived <- time.Now()
	_, err := io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r, ProtoMajor: 1, ProtoMinor: 1, Proto: "HTTP/1.1"}, err
}

// newHinted starts both. opts are the store's; listening says where to.
func newHinted(t testing.TB, s *Server, opts *sqlstore.Options) *hinted {
	t.Helper()
	h := &hinted{d: s.NewDB(t), arrived: make(chan time.Time, 1000), connected: make(chan struct{}, 100), wakes: make(chan struct{}, 10_000)}
	stores := make([]*sqlstore.Store, 2)
	for i := range stores {
		var err error
		if stores[i], err = sqlstore.New(h.d.Open(t), sqlstore.PostgreSQL, opts); err != nil {
			t.Fatal(err)
		}
	}
	migrate(t, stores[0])
	h.store, h.pool = stores[1], pgxPool(t, h.d.DSN, pgx.QueryExecModeCacheStatement)
	ep := webhook.Endpoint{ID: "acme", URL: "https://acme.example", Secrets: []webhook.Secret{secret(t, "whsec_current")}, MaxInFlight: 64}
	if err := stores[0].PutEndpoint(t.Context(), ep); err != nil {
		t.Fatal(err)
	}
	runs, err := webhook.NewDispatcher(stores[0], &webhook.DispatcherOptions{Transport: h, Logger: quiet(), Poll: seldom})
	if err == nil {
		h.hooks, err = webhook.NewDispatcher(stores[1], &webhook.DispatcherOptions{Logger: quiet()})
	}
	if err != nil {
		t.Fatal(err)
	}
	h.background(t, runs.Run)
	h.background(t, func(ctx context.Context) error {
		wake := func() { h.wakes <- struct{}{}; runs.Wake() }
		return pgxwebhook.Listen(ctx, h.pool.Config().ConnConfig, stores[0], wake, &pgxwebhook.ListenOptions{
			Logger: quiet(), Connected: func() { h.connected <- struct{}{} },
		})
	})
	h.await(t)
	return h
}

// background runs something until the test ends.
func (h *hinted) background(t testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// await waits for the listener.
func (h *hinted) await(t testing.TB) {
	t.Helper()
	select {
	case <-h.connected:
		<-h.wakes // which follows at once, and is no hint
	case <-time.After(20 * time.Second):
		t.Fatal("the listener does not listen")
	}
}

// send commits an event, in a native transaction or by itself, and returns how long it took from there to arrive.
func (h *hinted) send(t testing.TB, in func(tx pgx.Tx) webhook.Enqueuer, after func()) time.Duration {
	t.Helper()
	tx, err := h.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := h.hooks.SendTx(t.Context(), in(tx), webhook.Event{Type: "x"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.arrived:
		t.Fatal("it arrived before the commit")
	case <-time.After(2 * time.Millisecond):
	}
	began := time.Now()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after != nil {
		after()
	}
	return h.arrives(t, began)
}

func (h *hinted) arrives(t testing.TB, began time.Time) time.Duration {
	t.Helper()
	select {
	case at := <-h.arrived:
		return at.Sub(began)
	case <-time.After(4 * seldom):
		t.Fatal("it did not arrive")
		return 0
	}
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// TestPgxHints measures how long an event takes from the commit in one process to its receiver, when another delivers it and
// polls every 5 s. The figure to aim at is 20 ms; the test allows a busy machine more.
func TestPgxHints(t *testing.T) {
	h := newHinted(t, Postgres(t), nil)
	notifier, err := pgxwebhook.NewNotifier(h.store, h.pool, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.background(t, notifier.Run)
	hinting, err := webhook.NewDispatcher(notifier.Store(), &webhook.DispatcherOptions{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	native := func(tx pgx.Tx) webhook.Enqueuer { return pgxwebhook.NotifyTx(h.store, tx) }
	plain := func(tx pgx.Tx) webhook.Enqueuer { return pgxwebhook.Tx(h.store, tx) }
	const n = 41
	for _, way := range []struct {
		name string
		send func() time.Duration
	}{
		{"NotifyTx", func() time.Duration { return h.send(t, native, nil) }},
		{"Notifier after the commit", func() time.Duration { return h.send(t, plain, notifier.Notify) }},
		{"Notifier's store", func() time.Duration {
			if _, err := hinting.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
				t.Fatal(err)
			}
			return h.arrives(t, time.Now())
		}},
	} {
		way.send() // connections, plans
		var took []time.Duration
		for range n {
			took = append(took, way.send())
		}
		mid := median(took)
		t.Logf("%s: from commit to receipt in another process: median %v, worst %v of %d", way.name, mid, took[n-1], n)
		if mid > 250*time.Millisecond {
			t.Errorf("%s: %v in the median; a poll is every %v", way.name, mid, seldom)
		}
	}
	if took := h.send(t, plain, nil); took < 250*time.Millisecond {
		t.Logf("without a hint it took %v: a poll was near", took)
	}
}

// TestPgxHintsAreNotNeeded sends without hints, and rolls hints back.
func TestPgxHintsAreNotNeeded(t *testing.T) {
	h := newHinted(t, Postgres(t), nil)
	if took := h.send(t, func(tx pgx.Tx) webhook.Enqueuer { return pgxwebhook.Tx(h.store, tx) }, nil); took > seldom+2*time.Second {
		t.Errorf("without a hint it took %v, want at most a poll (%v)", took, seldom)
	}
	for len(h.wakes) > 0 {
		<-h.wakes
	}
	tx, err := h.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.hooks.SendTx(t.Context(), pgxwebhook.NotifyTx(h.store, tx), webhook.Event{Type: "x"}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.send(t, func(tx pgx.Tx) webhook.Enqueuer { return pgxwebhook.NotifyTx(h.store, tx) }, nil)
	if n := len(h.wakes); n != 1 {
		t.Errorf("%d hints of one commit and one rollback, want 1", n)
	}
}

// TestPgxListenerRecovers cuts the listener's connection: it listens again, what came meanwhile is not left to a poll, and hints work again.
func TestPgxListenerRecovers(t *testing.T) {
	h := newHinted(t, Postgres(t), nil)
	native := func(tx pgx.Tx) webhook.Enqueuer { return pgxwebhook.NotifyTx(h.store, tx) }
	h.send(t, native, nil)
	for range 3 {
		var cut int
		err := h.pool.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND (query LIKE 'LISTEN%' OR query LIKE 'SELECT pg_backend_pid%')`).Scan(&cut)
		if err != nil || cut != 1 {
			t.Fatalf("cut %d connections, %v; want the listener's", cut, err)
		}
		if took := h.send(t, native, nil); took > seldom/2 { // nobody listens yet
			t.Errorf("while the listener was cut off an event took %v", took)
		}
		h.await(t)
		if took := h.send(t, native, nil); took > seldom/2 {
			t.Errorf("after the listener was cut off an event took %v", took)
		}
	}
}

// TestPgxChannels keeps the hints of stores in one database apart, by prefix and schema, even where the names are too long for a channel.
func TestPgxChannels(t *testing.T) {
	long := "s23456789_123456789_123456789_123456789_123456789_123456789_123"
	h := newHinted(t, Postgres(t), &sqlstore.Options{Prefix: "p23456789_123456789_123456789_", Schema: long})
	for len(h.wakes) > 0 {
		<-h.wakes
	}
	for _, opts := range []*sqlstore.Options{nil, {Prefix: "other_"}, {Prefix: "p23456789_123456789_123456789_"},
		{Prefix: "p23456789_123456789_123456789_", Schema: long[:62] + "4"}, {Prefix: "p23456789_123456789_123456789x", Schema: long}} {
		other, err := sqlstore.New(h.d.Open(t), sqlstore.PostgreSQL, opts)
		if err != nil {
			t.Fatal(err)
		}
		migrate(t, other)
		tx, err := h.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		req := &webhook.EnqueueRequest{Now: at(0), Events: []webhook.NewEvent{newEvent("e", "acme", "")}}
		if _, err := pgxwebhook.NotifyTx(other, tx).Enqueue(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	h.send(t, func(tx pgx.Tx) webhook.Enqueuer { return pgxwebhook.NotifyTx(h.store, tx) }, nil)
	if n := len(h.wakes); n != 1 {
		t.Errorf("%d hints, want its own alone", n)
	}
}

// TestPgxNotifierCoalesces makes one hint of many, and loses none.
func TestPgxNotifierCoalesces(t *testing.T) {
	h := newHinted(t, Postgres(t), nil)
	const every = 300 * time.Millisecond
	notifier, err := pgxwebhook.NewNotifier(h.store, h.pool, &pgxwebhook.NotifierOptions{Every: every})
	if err != nil {
		t.Fatal(err)
	}
	h.background(t, notifier.Run)
	for len(h.wakes) > 0 {
		<-h.wakes
	}
	began := time.Now()
	for range 1000 {
		notifier.Notify()
	}
	<-h.wakes // at once
	for range 1000 {
		notifier.Notify()
	}
	<-h.wakes // and once more, at the end of the pause
	if took := time.Since(began); took < every {
		t.Errorf("the second hint came after %v, want %v", took, every)
	}
	if n := len(h.wakes); n > 1 {
		t.Errorf("%d hints more", n)
	}
}
