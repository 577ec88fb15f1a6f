package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/pgxwebhook"
	"github.com/signalpost/webhook/sqlstore"
)

// pgBouncer starts a PgBouncer before a server, in transaction mode with few connections, and returns the DSN of a database through it. It is
// skipped where there is none, or fails where databases are required.
func pgBouncer(t *testing.T, s *Server, d DB) string {
	t.Helper()
	if !s.Owned() {
		t.Skip("the server is not ours")
	}
	program := findFile("pgbouncer", "/usr/sbin/pgbouncer", "/usr/local/bin/pgbouncer")
	if program == "" {
		unavailable(t, &missingError{"PgBouncer", "PATH", "pgbouncer"})
	}
	p, err := newProcess(Options{}, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.remove)
	config := fmt.Sprintf(`[databases]
* = host=%s user=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = %s
listen_port = 6432
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
`, s.proc.dir, p.dir)
	ini := filepath.Join(p.dir, "pgbouncer.ini")
	if err := os.WriteFile(ini, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	dsn := fmt.Sprintf("host=%s port=6432 user=postgres dbname=%s sslmode=disable", p.dir, d.Name)
	p.args, p.abort = []string{program, ini}, "KILL"
	p.ping = func() error {
		db, err := sql.Open("pgx", dsn+" default_query_exec_mode=exec")
		if err != nil {
			return err
		}
		defer db.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return db.PingContext(ctx)
	}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	return dsn
}

// TestPgBouncer runs all through a PgBouncer that pools transactions: migrations, endpoints, sends (alone, in transactions of database/sql and of
// pgx), claims, completions, failures, order, idempotency keys and hints. Only the listener goes to the server itself.
func TestPgBouncer(t *testing.T) {
	for _, c := range []struct{ name, driver, params string }{
		{"pgx exec", "pgx", " default_query_exec_mode=exec"},
		{"pgx simple protocol", "pgx", " default_query_exec_mode=simple_protocol"},
		{"pq", "postgres", " binary_parameters=yes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := Postgres(t)
			d := server.NewDB(t)
			dsn := pgBouncer(t, server, d)
			db := open(t, c.driver, dsn+c.params)
			db.SetMaxOpenConns(32) // several times what PgBouncer has
			store, err := sqlstore.New(db, sqlstore.PostgreSQL, nil)
			if err != nil {
				t.Fatal(err)
			}
			migrate(t, store)
			b := &bounced{store: store, db: db, dsn: dsn}
			b.deliver(t, d)
		})
	}
}

// bounced is a store behind PgBouncer.
type bounced struct {
	store *sqlstore.Store
	db    *sql.DB
	dsn   string
}

// deliver sends 300 events from many goroutines in three ways, a third of them with ordering keys, to a receiver that fails each tenth attempt, and
// waits for all to be delivered.
func (b *bounced) deliver(t *testing.T, direct DB) {
	const n, workers = 300, 12
	recv := &urlRecorder{}
	attempts := make(chan struct{}, 1)
	attempts <- struct{}{}
	count := 0
	flaky := roundTrip(func(r *http.Request) (*http.Response, error) {
		<-attempts
		count++
		fail := count%10 == 0
		attempts <- struct{}{}
		if fail {
			return nil, fmt.Errorf("the tenth")
		}
		return recv.RoundTrip(r)
	})
	ep := webhook.Endpoint{ID: "acme", URL: "https://acme.example", Secrets: []webhook.Secret{secret(t, "whsec_current")}, Health: webhook.NoHealth(),
		Schedule: webhook.Schedule{Kind: "list", List: []time.Duration{50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond}}}
	hooks, err := webhook.NewDispatcher(b.store, &webhook.DispatcherOptions{Transport: flaky, Logger: quiet(), Poll: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := hooks.PutEndpoint(t.Context(), ep); err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(direct.DSN)
	if err != nil {
		t.Fatal(err)
	}
	pool := pgxPool(t, b.dsn, pgx.QueryExecModeExec)
	h := &hinted{}
	hints, listens := make(chan struct{}, 10_000), make(chan struct{}, 10)
	h.background(t, hooks.Run)
	h.background(t, func(ctx context.Context) error {
		return pgxwebhook.Listen(ctx, config, b.store, func() { hints <- struct{}{}; hooks.Wake() },
			&pgxwebhook.ListenOptions{Logger: quiet(), Connected: func() { listens <- struct{}{} }})
	})
	<-listens
	together(workers, func(w int) {
		for i := w; i < n; i += workers {
			ev := webhook.Event{ID: fmt.Sprintf("bounced%d", i), Type: "x", Payload: []byte("{}")}
			if i%3 == 0 {
				ev.OrderingKey = fmt.Sprint("k", i%5)
			}
			if err := b.send(hooks, pool, i, ev); err != nil {
				t.Errorf("send %d: %v", i, err)
			}
		}
	})
	waitFor(t, 60*time.Second, "all to be delivered", func() bool {
		var delivered int
		err := b.db.QueryRow("SELECT count(*) FROM webhook_delivery WHERE state = 'delivered'").Scan(&delivered)
		if err != nil && !strings.Contains(err.Error(), "prepared") {
			t.Fatal(err)
		}
		return delivered == n
	})
	if len(hints) < 2 { // the first is for listening
		t.Errorf("%d hints came through", len(hints))
	}
	key := &webhook.BeginRequest{Now: at(0), Scope: "s", Key: "k", Hold: time.Minute}
	res, err := b.store.Begin(t.Context(), key)
	if err != nil || res.Status != webhook.KeyTaken {
		t.Errorf("an idempotency key: %+v, %v", res, err)
	}
}

// send sends in one of three ways.
func (b *bounced) send(hooks *webhook.Dispatcher, pool interface {
	Begin(context.Context) (pgx.Tx, error)
}, i int, ev webhook.Event) error {
	ctx := context.Background()
	switch i % 3 {
	case 0:
		_, err := hooks.Send(ctx, ev)
		return err
	case 1:
		tx, err := b.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := hooks.SendTx(ctx, b.store.Tx(tx), ev); err != nil {
			return err
		}
		return tx.Commit()
	}
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if _, err := hooks.SendTx(ctx, pgxwebhook.NotifyTx(b.store, tx), ev); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
