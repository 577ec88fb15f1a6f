package webhook_test

import (
	"bytes"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// Receive verified webhooks, each once.
func ExampleMiddleware() {
	secret, err := webhook.IssuedSecret("as issued by the other side")
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		log.Fatal(err)
	}
	opts := &webhook.ReceiveOptions{Dedupe: memstore.New(), Scope: "gett"}
	if err := opts.Validate(); err != nil {
		log.Fatal(err)
	}
	receive := webhook.Middleware(verifier, opts)

	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/gett", receive(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ev := webhook.FromContext(r.Context()) // verified, and not processed before
		fmt.Println("handled:", ev.Type, string(ev.Payload))
		w.WriteHeader(http.StatusOK) // 2xx: done; anything else: the sender comes again
	})))

	// The same request twice, as a sender that missed the first answer makes it.
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
		fmt.Println("answered:", w.Code, "from memory:", w.Header().Get(webhook.ReplayedHeader) == "true")
	}
	// Output:
	// handled: order_create {"type":"order_create","data":{"permalink_url":"https://gett.com/orders/42"}}
	// answered: 200 from memory: false
	// answered: 200 from memory: true
}
