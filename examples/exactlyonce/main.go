// Exactlyonce books orders from webhooks exactly once, in the database's sense: the signature is verified, and the booking and the
// knowledge that this event is done are committed together, in the service's own SQLite file. It plays the sender too: it sends each event
// several times at once, has the first booking fail, and shows what was booked.
//
//	go run ./examples/exactlyonce
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"

	_ "modernc.org/sqlite" // the library itself imports no driver
)

func main() {
	dir, err := os.MkdirTemp("", "exactlyonce")
	if err != nil {
		log.Fatal(err)
	}
	err = run(context.Background(), filepath.Join(dir, "shop.db"), os.Stdout)
	os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, path string, out io.Writer) error {
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)")
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
	if _, err := db.ExecContext(ctx, `CREATE TABLE bookings (event TEXT NOT NULL)`); err != nil {
		return err
	}
	secret, err := webhook.IssuedSecret("as issued by the other side")
	if err != nil {
		return err
	}
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		return err
	}
	var runs atomic.Int64
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/gett", store.HandleTx(verifier, func(ctx context.Context, tx *sql.Tx, ev webhook.Event) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO bookings (event) VALUES (?)`, string(ev.Payload)); err != nil {
			return err
		}
		if runs.Add(1) == 1 {
			return errors.New("the first one fails after it has written") // rolled back; the sender comes again
		}
		return nil // booking and key are committed, then 200
	}, &sqlstore.HandleTxOptions{Receive: webhook.ReceiveOptions{Logger: slog.New(slog.DiscardHandler)}}))

	server := httptest.NewServer(mux)
	defer server.Close()
	if err := sendAll(ctx, server.URL+"/webhooks/gett", secret); err != nil {
		return err
	}
	var bookings, events int
	if err := db.QueryRowContext(ctx, `SELECT count(*), count(DISTINCT event) FROM bookings`).Scan(&bookings, &events); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d events, each sent 5 times at once: %d runs, the first failed, %d bookings\n", events, runs.Load(), bookings)
	return nil
}

// sendAll sends 10 events, each by 5 senders at once, of which each tries until it is answered 200.
func sendAll(ctx context.Context, url string, secret webhook.Secret) error {
	signer, err := webhook.NewSigner(secret)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	errs := make(chan error, 50)
	for i := range 50 {
		body := fmt.Appendf(nil, `{"type":"order_create","data":{"permalink_url":"https://gett.com/orders/%d"}}`, i/5)
		all.Go(func() { errs <- send(ctx, url, signer, body) })
	}
	all.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

func send(ctx context.Context, url string, signer *webhook.Signer, body []byte) error {
	for range 100 {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		if err := signer.Sign(r.Header, body); err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("never answered 200")
}
