package webhook_test

import (
	"fmt"
	"log"
	"net/http"

	"github.com/signalpost/webhook"
)

// Receive verified webhooks, each once.
func ExampleMiddleware() {
	var (
		verifier *webhook.Verifier   // from webhook.NewVerifier(secret), or of a profile
		store    webhook.DedupeStore // as memstore and sqlstore are
	)
	opts := &webhook.ReceiveOptions{Dedupe: store, Scope: "gett"}
	if err := opts.Validate(); err != nil {
		log.Fatal(err)
	}
	receive := webhook.Middleware(verifier, opts)

	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/gett", receive(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ev := webhook.FromContext(r.Context()) // verified, and not processed before
		fmt.Println(ev.Type, len(ev.Payload))
		w.WriteHeader(http.StatusOK) // 2xx: done; anything else: the sender comes again
	})))
}
