package webhook_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// Register an endpoint, send it an event, and deliver.
func ExampleDispatcher() {
	received := make(chan string)
	acme := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		received <- r.Header.Get("Content-Type")
	}))
	defer acme.Close()

	hooks, err := webhook.NewDispatcher(memstore.New(), nil) // sqlstore keeps events through crashes
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- hooks.Run(ctx) }()

	err = hooks.PutEndpoint(ctx, webhook.Endpoint{
		ID: "acme", URL: acme.URL, Secrets: []webhook.Secret{webhook.GenerateSecret()}, Types: []string{"order_*"},
		AllowPrivate: true, // this one is on the loopback interface
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := hooks.Send(ctx, webhook.Event{Type: "order_create", Payload: []byte(`{"id":42}`)}); err != nil {
		log.Fatal(err)
	}
	fmt.Println("received:", <-received)

	cancel() // drains
	fmt.Println("ended:", <-done)
	// Output:
	// received: application/json
	// ended: <nil>
}

// An endpoint at a private address is refused, unless it is allowed.
func ExampleDispatcher_PutEndpoint() {
	hooks, err := webhook.NewDispatcher(memstore.New(), nil)
	if err != nil {
		log.Fatal(err)
	}
	err = hooks.PutEndpoint(context.Background(), webhook.Endpoint{
		ID: "acme", URL: "https://10.0.0.7/hooks", Secrets: []webhook.Secret{webhook.GenerateSecret()},
	})
	fmt.Println(err)
	// Output:
	// webhook: endpoint "acme": URL: host 10.0.0.7 is private (RFC 1918); allow it with AllowPrivate
}
