// Outbox shows an order row and its event in one transaction: the event is delivered if and only if the order is committed.
//
// It runs on SQLite in a temporary folder, or on PostgreSQL when given a DSN:
//
//	go run ./examples/outbox
//	go run ./examples/outbox -postgres 'postgres://localhost/shop?sslmode=disable'
//
// It places one order that commits and one that rolls back, and exits with status 1 unless exactly the first arrives.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"

	_ "github.com/jackc/pgx/v5/stdlib" // the library itself imports no driver
	_ "modernc.org/sqlite"
)

func main() {
	dsn := flag.String("postgres", "", "DSN of a PostgreSQL database; default: SQLite in a temporary folder")
	flag.Parse()
	log.SetFlags(0)
	if err := run(context.Background(), *dsn); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dsn string) error {
	db, dialect, err := open(dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := sqlstore.New(db, dialect, nil)
	if err != nil {
		return err
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS shop_order (id TEXT PRIMARY KEY, total INTEGER NOT NULL)`); err != nil {
		return err
	}

	arrived := make(chan string, 10)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- string(body)
	}))
	defer partner.Close()

	secret := webhook.GenerateSecret()
	hooks, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{
		AllowPrivate: true, // the partner of this demonstration is on the loopback interface
		Logger:       slog.New(slog.DiscardHandler),
		Endpoints:    []webhook.Endpoint{{ID: "partner", URL: partner.URL, Secrets: []webhook.Secret{secret}}},
	})
	if err != nil {
		return err
	}
	runCtx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- hooks.Run(runCtx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			log.Print(err)
		}
	}()

	shop := &shop{db: db, store: store, hooks: hooks}
	good, bad := fmt.Sprintf("order-%d", time.Now().UnixNano()), fmt.Sprintf("order-%d-bad", time.Now().UnixNano())
	if err := shop.placeOrder(ctx, good, 4200); err != nil {
		return err
	}
	fmt.Printf("%s: committed with its event\n", good)
	if err := shop.placeOrder(ctx, bad, -1); !errors.Is(err, errTotal) {
		return fmt.Errorf("an order with a negative total gave %v", err)
	}
	fmt.Printf("%s: rolled back with its event\n", bad)
	return check(arrived, good)
}

func open(dsn string) (*sql.DB, sqlstore.Dialect, error) {
	if dsn != "" {
		db, err := sql.Open("pgx", dsn)
		return db, sqlstore.PostgreSQL, err
	}
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		return nil, sqlstore.SQLite, err
	}
	fmt.Printf("SQLite in %s\n", dir)
	// Transactions begin as writers: one that reads first and writes later can fail when another has written between.
	db, err := sql.Open("sqlite", filepath.Join(dir, "shop.db")+"?_txlock=immediate&_pragma=busy_timeout(5000)")
	return db, sqlstore.SQLite, err
}

type shop struct {
	db    *sql.DB
	store *sqlstore.Store
	hooks *webhook.Dispatcher
}

var errTotal = errors.New("total must not be negative")

// placeOrder writes the order and its event, both or neither.
func (s *shop) placeOrder(ctx context.Context, id string, total int) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `INSERT INTO shop_order (id, total) VALUES ($1, $2)`, id, total); err != nil {
		return err
	}
	body := fmt.Appendf(nil, `{"id":%q,"total":%d}`, id, total)
	if _, err := s.hooks.SendTx(ctx, s.store.Tx(tx), webhook.Event{Type: "order_create", Payload: body}); err != nil {
		return err
	}
	if total < 0 {
		return errTotal // the deferred Rollback takes the event with it
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.hooks.Wake() // optional: now instead of at the next poll
	return nil
}

// check waits for the one event that must arrive, and a little longer for one that must not.
func check(arrived <-chan string, good string) error {
	select {
	case body := <-arrived:
		fmt.Printf("received: %s\n", body)
	case <-time.After(10 * time.Second):
		return fmt.Errorf("the event of %s did not arrive", good)
	}
	select {
	case body := <-arrived:
		return fmt.Errorf("received an event that was rolled back: %s", body)
	case <-time.After(time.Second):
		fmt.Println("nothing else: as it must be")
		return nil
	}
}
