package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// hooksFor is a dispatcher with an endpoint, for examples.
func hooksFor(ep webhook.Endpoint, opts *webhook.DispatcherOptions) *webhook.Dispatcher {
	if opts == nil {
		opts = &webhook.DispatcherOptions{}
	}
	ep.URL, ep.Secrets = "https://acme.example/hooks", []webhook.Secret{webhook.GenerateSecret()}
	opts.Endpoints = append(opts.Endpoints, ep)
	hooks, err := webhook.NewDispatcher(memstore.New(), opts)
	if err != nil {
		log.Fatal(err)
	}
	return hooks
}

// Send an event later, and give it up when it is no use any more.
func ExampleEvent_schedule() {
	hooks := hooksFor(webhook.Endpoint{ID: "acme"}, nil)
	_, err := hooks.Send(context.Background(), webhook.Event{
		Type: "cart_reminder", Payload: []byte(`{"cart":7}`),
		SendAt: time.Now().Add(24 * time.Hour), // not before tomorrow
		TTL:    6 * time.Hour,                  // nor later than six hours after that
	})
	fmt.Println(err)
	// Output:
	// <nil>
}

// Take back what has not been delivered yet.
func ExampleDispatcher_Cancel() {
	ctx := context.Background()
	hooks := hooksFor(webhook.Endpoint{ID: "acme"}, nil)
	id, err := hooks.Send(ctx, webhook.Event{Type: "cart_reminder", SendAt: time.Now().Add(time.Hour)})
	if err != nil {
		log.Fatal(err)
	}
	n, err := hooks.Cancel(ctx, id, "the cart was bought")
	fmt.Println(n, err)

	_, err = hooks.Cancel(ctx, "evt_unknown", "")
	fmt.Println(err)
	// Output:
	// 1 <nil>
	// webhook: cancel: event "evt_unknown": not found
}

// Send many events in one commit. Those that exist with other content are named.
func ExampleDispatcher_SendBatch() {
	ctx := context.Background()
	hooks := hooksFor(webhook.Endpoint{ID: "acme"}, nil)
	if _, err := hooks.Send(ctx, webhook.Event{ID: "order-2", Type: "order_create", Payload: []byte(`{"total":5}`)}); err != nil {
		log.Fatal(err)
	}
	ids, err := hooks.SendBatch(ctx, []webhook.Event{
		{ID: "order-1", Type: "order_create", OrderingKey: "shop-7"},
		{ID: "order-2", Type: "order_create", OrderingKey: "shop-7"},
		{ID: "order-3", Type: "order_create", OrderingKey: "shop-7"},
	})
	fmt.Println(ids)
	fmt.Println(err)
	if conflict, ok := errors.AsType[*webhook.ConflictError](err); ok {
		fmt.Println("not stored:", conflict.IDs)
	}
	// Output:
	// [order-1 order-2 order-3]
	// webhook: send: event "order-2": event exists with other content
	// not stored: [order-2]
}

// Refuse events for an endpoint that does not keep up.
func ExampleBacklogError() {
	ctx := context.Background()
	hooks := hooksFor(webhook.Endpoint{ID: "acme", MaxBacklog: 2}, nil)
	for range 3 {
		_, err := hooks.Send(ctx, webhook.Event{Type: "order_create"})
		fmt.Println(err)
		if full, ok := errors.AsType[*webhook.BacklogError](err); ok {
			fmt.Println(full.EndpointID, "is full:", errors.Is(err, webhook.ErrBacklogFull))
		}
	}
	// Output:
	// <nil>
	// <nil>
	// webhook: send: endpoint "acme" has 2 deliveries waiting, allowed 2 (Endpoint.MaxBacklog)
	// acme is full: true
}

// Keep the newest events of a tenant, over all of its endpoints.
func ExampleTenantPolicy_maxBacklog() {
	hooks := hooksFor(webhook.Endpoint{ID: "acme", Tenant: "trial-42"}, &webhook.DispatcherOptions{
		Tenants: func(tenant string) webhook.TenantPolicy {
			if tenant == "trial-42" {
				return webhook.TenantPolicy{MaxBacklog: 1000, WhenFull: webhook.ExpireOldest}
			}
			return webhook.TenantPolicy{Weight: 4}
		},
	})
	_, err := hooks.Send(context.Background(), webhook.Event{Type: "order_create", Tenant: "trial-42"})
	fmt.Println(err)
	// Output:
	// <nil>
}

// Be told when deliveries are late or too many wait.
func ExampleAlarms() {
	hooksFor(webhook.Endpoint{ID: "acme"}, &webhook.DispatcherOptions{
		Alarms: webhook.Alarms{OldestDue: 5 * time.Minute, Backlog: 10_000},
		Trace: &webhook.Trace{Alarm: func(_ context.Context, info webhook.AlarmInfo) {
			switch {
			case info.Cleared:
				log.Printf("%s of %q is over, since %v", info.Kind, info.EndpointID, info.Since)
			case info.Kind == webhook.AlarmOldestDue:
				log.Printf("%q is %v late", info.EndpointID, info.Age)
			case info.Kind == webhook.AlarmBacklog:
				log.Printf("at least %d wait for %q", info.Waiting, info.EndpointID)
			}
		}},
	})
}

// Look at what waits, as for a dashboard.
func ExampleDispatcher_Backlog() {
	ctx := context.Background()
	hooks := hooksFor(webhook.Endpoint{ID: "acme"}, nil) // does not run
	for range 3 {
		if _, err := hooks.Send(ctx, webhook.Event{Type: "order_create"}); err != nil {
			log.Fatal(err)
		}
	}
	waiting, err := hooks.Backlog(ctx, &webhook.BacklogOptions{Count: 1000})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(waiting.Waiting, "wait, the oldest for less than a minute:", waiting.OldestDue < time.Minute)
	for _, e := range waiting.Endpoints {
		fmt.Println(e.EndpointID, e.Waiting)
	}
	// Output:
	// 3 wait, the oldest for less than a minute: true
	// acme 3
}

// Count the repeats that were answered without running the handler.
func ExampleRepeatCounter() {
	verifier, err := webhook.NewVerifier(webhook.GenerateSecret())
	if err != nil {
		log.Fatal(err)
	}
	var repeats webhook.RepeatCounter
	receive := webhook.Middleware(verifier, &webhook.ReceiveOptions{Dedupe: memstore.New(), Repeats: &repeats})
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/gett", receive(http.NotFoundHandler()))

	fmt.Println(repeats.Read().Answered)
	// Output:
	// 0
}
