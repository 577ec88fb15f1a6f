// Receiver is a receiver of Gett's webhooks to play with: it verifies, drops repeats and prints. It prints a curl line
// that it accepts; send it twice to see the repeat, change a byte to see it refused.
//
//	go run ./examples/receiver
//	go run ./examples/receiver -addr 127.0.0.1:8080 -db orders.db -secret 'your webhook secret from Gett'
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"

	_ "modernc.org/sqlite" // the library itself imports no driver
)

const sample = `{"type":"order_create","data":{"type":"order","checkout_session_id":"csn_01hvz9kj0re0000000000000",` +
	`"permalink_url":"https://gett.com/orders/018f4d2a-c5b0-7c4e-9b3a-2d1e8f7a6b5c","status":"created","refunds":[]}}`

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen at")
	path := flag.String("db", filepath.Join(os.TempDir(), "webhook-receiver.db"), "SQLite file that remembers what was processed")
	text := flag.String("secret", "test_secret", "the secret that Gett issued")
	flag.Parse()
	log.SetFlags(log.Ltime)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx, *addr, *path, *text); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, addr, path, text string) error {
	secret, err := webhook.IssuedSecret(text) // Gett chose it, so it is not held to our own standard
	if err != nil {
		return err
	}
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := sqlstore.New(db, sqlstore.SQLite, nil)
	if err != nil {
		return err
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	receive := webhook.Middleware(verifier, &webhook.ReceiveOptions{Dedupe: store, Trace: &webhook.Trace{
		SuppressedRepeat: func(_ context.Context, info webhook.SuppressedRepeatInfo) {
			log.Printf("repeat of %s answered %d from memory", info.Key, info.Status)
		},
	}})
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/gett", receive(http.HandlerFunc(handle)))

	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if err := printCurl(listener.Addr().String(), secret); err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { server.Shutdown(context.WithoutCancel(ctx)) })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handle runs once per event, for verified requests only.
func handle(w http.ResponseWriter, r *http.Request) {
	ev := webhook.FromContext(r.Context())
	log.Printf("%s: %s", ev.Type, ev.Payload)
	fmt.Fprintln(w, `{"received":true}`)
}

// printCurl prints a request that is accepted for the next 5 minutes.
func printCurl(addr string, secret webhook.Secret) error {
	signer, err := webhook.NewSigner(secret)
	if err != nil {
		return err
	}
	header := http.Header{}
	if err := signer.Sign(header, []byte(sample)); err != nil {
		return err
	}
	fmt.Printf("listening at http://%s/webhooks/gett; for the next 5 minutes this is accepted:\n\ncurl -i http://%[1]s/webhooks/gett \\\n", addr)
	for _, name := range []string{"Signature", "Timestamp", "API-Version"} {
		fmt.Printf("  -H '%s: %s' \\\n", name, header.Get(name))
	}
	fmt.Printf("  -H 'Content-Type: application/json' \\\n  -d '%s'\n\n", sample)
	return nil
}
