package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// Answer at once, work afterwards: what was received is stored before it is answered, and processed with retries of its own.
func ExampleInbox() {
	secret, err := webhook.IssuedSecret("as issued by the other side")
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan bool)
	inbox := webhook.NewInbox(memstore.New(), verifier, func(ctx context.Context, ev webhook.Event) error {
		if del, _ := webhook.DeliveryFromContext(ctx); del.Attempts == 0 {
			fmt.Println("fails:", ev.Type)
			return errors.New("our own database is away") // run again by the schedule
		}
		fmt.Println("done: ", ev.Type, string(ev.Payload))
		done <- true
		return nil
	}, &webhook.InboxOptions{
		Schedule: webhook.Exponential(10*time.Millisecond, time.Hour, 20),
		Receive:  webhook.ReceiveOptions{Logger: slog.New(slog.DiscardHandler)},
	})
	if err := inbox.Err(); err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/gett", inbox) // stored, then 200

	// The sender, which missed the first answer.
	signer, err := webhook.NewSigner(secret)
	if err != nil {
		log.Fatal(err)
	}
	body := []byte(`{"type":"order_create","data":{"permalink_url":"https://gett.com/orders/42"}}`)
	for range 2 {
		r := httptest.NewRequest(http.MethodPost, "/webhooks/gett", bytes.NewReader(body))
		if err := signer.Sign(r.Header, body); err != nil {
			log.Fatal(err)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println("answered:", w.Code, "known already:", w.Header().Get(webhook.ReplayedHeader) == "true")
	}

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- inbox.Run(ctx) }() // in this process or in another one
	<-done
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output:
	// answered: 200 known already: false
	// answered: 200 known already: true
	// fails: order_create
	// done:  order_create {"type":"order_create","data":{"permalink_url":"https://gett.com/orders/42"}}
}

// See what does not get in, and why.
func ExampleRefusedRequests() {
	secret, err := webhook.IssuedSecret("as issued by the other side")
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		log.Fatal(err)
	}
	var refused webhook.RefusedRequests // at most 100 requests and 1 MiB, in memory
	receive := webhook.Middleware(verifier, &webhook.ReceiveOptions{
		Refused: &refused, Logger: slog.New(slog.DiscardHandler),
	})
	handler := receive(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))

	r := httptest.NewRequest(http.MethodPost, "/webhooks/gett", bytes.NewReader([]byte(`{"type":"order_create"}`)))
	r.Header.Set("User-Agent", "gett-webhooks/1.0")
	handler.ServeHTTP(httptest.NewRecorder(), r)

	latest, total := refused.Read()
	for _, r := range latest {
		fmt.Println(r.Status, r.Reason, r.Header.Get("User-Agent"), string(r.Body))
	}
	fmt.Println("in all:", total)
	// Output:
	// 401 webhook: verify: header Signature is missing gett-webhooks/1.0 {"type":"order_create"}
	// in all: 1
}
