package webhook_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// An endpoint that gets two attempts at once and then one an hour, whichever processes send to it.
func ExampleRate() {
	received := make(chan string, 10)
	acme := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { received <- r.URL.Path }))
	defer acme.Close()

	hooks, err := webhook.NewDispatcher(memstore.New(), nil)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = hooks.PutEndpoint(ctx, webhook.Endpoint{
		ID: "acme", URL: acme.URL, Secrets: []webhook.Secret{webhook.GenerateSecret()},
		Rate:         webhook.Rate{Events: 1, Per: time.Hour, Burst: 2}, // more often webhook.PerSecond(50)
		MaxInFlight:  8,                                                 // at once, from each process
		AllowPrivate: true,                                              // this one is on the loopback interface
	})
	if err != nil {
		log.Fatal(err)
	}
	for range 5 {
		if _, err := hooks.Send(ctx, webhook.Event{Type: "order_create"}); err != nil {
			log.Fatal(err)
		}
	}
	done := make(chan error)
	go func() { done <- hooks.Run(ctx) }()
	<-received
	<-received
	cancel()
	<-done
	fmt.Println("received 2 of 5, and so many more:", len(received))
	// Output:
	// received 2 of 5, and so many more: 0
}

// Tenants that share the senders by weight while there are more deliveries than can be sent: those who pay have five times the
// share of the others, however many endpoints and deliveries these have.
func ExampleTenantPolicy() {
	paying := map[string]bool{"acme": true}
	hooks, err := webhook.NewDispatcher(memstore.New(), &webhook.DispatcherOptions{
		Tenants: func(tenant string) webhook.TenantPolicy {
			if paying[tenant] {
				return webhook.TenantPolicy{Weight: 5}
			}
			return webhook.TenantPolicy{} // weight 1
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	for _, tenant := range []string{"acme", "globex"} {
		err := hooks.PutEndpoint(ctx, webhook.Endpoint{
			ID: tenant + "-orders", Tenant: tenant, URL: "https://" + tenant + ".example/hooks",
			Secrets: []webhook.Secret{webhook.GenerateSecret()},
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	_, err = hooks.Send(ctx, webhook.Event{Type: "order_create", Tenant: "acme", Payload: []byte(`{"id":42}`)})
	fmt.Println(err)
	// Output:
	// <nil>
}
