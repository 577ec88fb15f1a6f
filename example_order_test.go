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

// Events of one order go one at a time and in the order of Send; those of other orders do not wait for them. When one is given up,
// this endpoint's key waits until somebody has looked.
func ExampleEndpoint_order() {
	received := make(chan string)
	acme := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		number := r.Header.Get("Webhook-Sequence")
		if number == "2" {
			w.WriteHeader(http.StatusBadRequest)
		}
		received <- "number " + number
	}))
	defer acme.Close()

	gaveUp := make(chan string)
	hooks, err := webhook.NewDispatcher(memstore.New(), &webhook.DispatcherOptions{
		Endpoints: []webhook.Endpoint{{
			ID: "acme", URL: acme.URL, Secrets: []webhook.Secret{webhook.GenerateSecret()}, Schedule: webhook.NoRetry(),
			Order: webhook.BlockBehindDeadLetter, SequenceHeader: "Webhook-Sequence",
			AllowPrivate: true, // this one is on the loopback interface
		}},
		Trace: &webhook.Trace{DeadLetter: func(_ context.Context, info webhook.DeadLetterInfo) { gaveUp <- info.Delivery.OrderingKey }},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- hooks.Run(ctx) }()

	for range 3 {
		if _, err := hooks.Send(ctx, webhook.Event{Type: "order_update", OrderingKey: "order 42"}); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(<-received)
	fmt.Println(<-received)
	fmt.Println("gave up on", <-gaveUp)

	keys, err := hooks.BlockedKeys(ctx, "acme")
	if err != nil {
		log.Fatal(err)
	}
	for _, k := range keys {
		released, err := hooks.ReleaseKey(ctx, k.EndpointID, k.OrderingKey)
		fmt.Println("released", k.OrderingKey, released, err)
	}
	fmt.Println(<-received)
	cancel() // drains
	fmt.Println("ended:", <-done)
	// Output:
	// number 1
	// number 2
	// gave up on order 42
	// released order 42 true <nil>
	// number 3
	// ended: <nil>
}
