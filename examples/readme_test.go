package examples_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/payload/gett"
	"github.com/signalpost/webhook/sqlstore"

	_ "modernc.org/sqlite"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Example_send is the README's sending part, to a receiver on the loopback interface.
func Example_send() {
	received := make(chan string)
	acme := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- string(body)
	}))
	defer acme.Close()
	dir, err := os.MkdirTemp("", "readme")
	check(err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "webhooks.db")
	ctx, cancel := context.WithCancel(context.Background())
	body := []byte(`{"type":"order_create"}`)

	db, err := sql.Open("sqlite", path) // any *sql.DB; pgx, lib/pq, go-sql-driver alike
	check(err)
	store, err := sqlstore.New(db, sqlstore.SQLite, nil)
	check(err)
	check(store.Migrate(ctx))

	hooks, err := webhook.NewDispatcher(store, nil) // Gett's profile, no private addresses
	check(err)
	done := make(chan error)
	go func() { done <- hooks.Run(ctx) }() // here or in another process; drains when ctx ends

	secret := webhook.GenerateSecret() // share it with the receiver
	check(hooks.PutEndpoint(ctx, webhook.Endpoint{
		ID: "acme", URL: acme.URL, Secrets: []webhook.Secret{secret}, Types: []string{"order_*"},
		AllowPrivate: true, // this one is on the loopback interface
	}))
	id, err := hooks.Send(ctx, webhook.Event{Type: "order_create", Payload: body}) // durable once it returns
	check(err)

	fmt.Println(strings.HasPrefix(id, "evt_"), <-received)

	tx, err := db.BeginTx(ctx, nil)
	check(err)
	_, err = hooks.SendTx(ctx, store.Tx(tx), webhook.Event{Type: "order_create", Payload: body})
	check(err)
	check(tx.Commit()) // both, or neither
	hooks.Wake()       // optional: now instead of at the next poll

	fmt.Println(<-received)
	cancel()
	check(<-done)
	// Output:
	// true {"type":"order_create"}
	// {"type":"order_create"}
}

// Example_receive is the README's receiving part, with a request of its own.
func Example_receive() {
	store := openStore()
	os.Setenv("GETT_SECRET", "test_secret")
	mux := http.NewServeMux()

	secret, err := webhook.IssuedSecret(os.Getenv("GETT_SECRET")) // chosen by the other side
	check(err)
	verifier, err := webhook.NewVerifier(secret) // hex HMAC of the body, ±300 s
	check(err)
	receive := webhook.Middleware(verifier, &webhook.ReceiveOptions{Dedupe: store})
	mux.Handle("POST /webhooks/gett", receive(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		order, err := gett.Order(webhook.FromContext(r.Context())) // verified, and not seen before; package payload/gett
		check(err)
		fmt.Println(order.OrderID, order.Status, order.Refunds) // what it does not know it keeps
	})))

	server := httptest.NewServer(mux)
	defer server.Close()
	signer, err := webhook.NewSigner(secret)
	check(err)
	for range 2 {
		body := []byte(`{"type":"order_create","data":{"permalink_url":"https://gett.com/orders/42","status":"created","refunds":[]}}`)
		req, err := http.NewRequest(http.MethodPost, server.URL+"/webhooks/gett", bytes.NewReader(body))
		check(err)
		check(signer.Sign(req.Header, body))
		resp, err := http.DefaultClient.Do(req)
		check(err)
		resp.Body.Close()
		fmt.Println(resp.StatusCode, resp.Header.Get(webhook.ReplayedHeader) != "")
	}
	// Output:
	// 42 created []
	// 200 false
	// 200 true
}

// Example_inbox is the README's inbox, with a request of its own.
func Example_inbox() {
	store, mux, done := openStore(), http.NewServeMux(), make(chan error)
	ctx, cancel := context.WithCancel(context.Background())
	secret, err := webhook.IssuedSecret("test_secret")
	check(err)
	verifier, err := webhook.NewVerifier(secret)
	check(err)
	processed := make(chan string)
	process := func(_ context.Context, ev webhook.Event) error { processed <- ev.Type; return nil }

	inbox := webhook.NewInbox(store, verifier, func(ctx context.Context, ev webhook.Event) error {
		return process(ctx, ev) // runs again by a schedule until it is nil
	}, nil)
	mux.Handle("POST /webhooks/gett", inbox) // stored, then 200
	go func() { done <- inbox.Run(ctx) }()

	fmt.Println(post(mux, secret), <-processed)
	cancel()
	check(<-done)
	// Output: 200 order_create
}

// Example_handleTx is the README's handler in a transaction, with a request of its own.
func Example_handleTx() {
	store, mux := openStore(), http.NewServeMux()
	secret, err := webhook.IssuedSecret("test_secret")
	check(err)
	verifier, err := webhook.NewVerifier(secret)
	check(err)

	mux.Handle("POST /webhooks/gett", store.HandleTx(verifier, func(ctx context.Context, tx *sql.Tx, ev webhook.Event) error {
		_, err := tx.ExecContext(ctx, `CREATE TABLE orders AS SELECT 1 AS id`)
		return err // nil: key and update commit together, 200; else neither, and the sender retries
	}, nil))

	fmt.Println(post(mux, secret), post(mux, secret)) // the second is answered from the record
	// Output: 200 200
}

// post sends an event as Gett does and returns the status of the answer.
func post(h http.Handler, secret webhook.Secret) int {
	body := []byte(`{"type":"order_create","data":{"permalink_url":"https://gett.com/orders/42"}}`)
	signer, err := webhook.NewSigner(secret)
	check(err)
	r, w := httptest.NewRequest(http.MethodPost, "/webhooks/gett", bytes.NewReader(body)), httptest.NewRecorder()
	check(signer.Sign(r.Header, body))
	h.ServeHTTP(w, r)
	return w.Code
}

func openStore() *sqlstore.Store {
	dir, err := os.MkdirTemp("", "readme")
	check(err)
	db, err := sql.Open("sqlite", filepath.Join(dir, "webhooks.db"))
	check(err)
	store, err := sqlstore.New(db, sqlstore.SQLite, nil)
	check(err)
	check(store.Migrate(context.Background()))
	return store
}

// The README shows what runs here: each line of its Go code stands in this file, but for addresses.
func TestReadmeShowsWhatRuns(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]bool{}
	for line := range strings.Lines(string(source)) {
		lines[code(line)] = true
	}
	differ := []string{
		`db, err := sql.Open("sqlite", "webhooks.db")`,
		`ID: "acme", URL: "https://acme.example/hooks", Secrets: []webhook.Secret{secret}, Types: []string{"order_*"},`,
		"_, err = tx.ExecContext(ctx, `INSERT INTO orders …`)",
		"_, err := tx.ExecContext(ctx, `UPDATE orders …`)",
	}
	for _, line := range differ {
		lines[line] = true
	}
	inGo, n := false, 0
	for line := range strings.Lines(string(readme)) {
		if strings.HasPrefix(line, "```") {
			inGo = strings.HasPrefix(line, "```go")
			continue
		}
		if inGo && !lines[code(line)] {
			t.Errorf("the README shows code that does not run here: %s", line)
		}
		if inGo {
			n++
		}
	}
	if n < 25 {
		t.Errorf("found %d lines of Go in the README", n)
	}
}

// code is a line without its comment and indentation.
func code(line string) string {
	line, _, _ = strings.Cut(line, " //")
	return strings.TrimSpace(line)
}
