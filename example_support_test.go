package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/signalpost/webhook"
)

// What became of an event? Ask.
func ExampleDispatcher_Explain() {
	ctx := context.Background()
	hooks := hooksFor(webhook.Endpoint{ID: "acme", Types: []string{"order_*"}}, nil)
	if _, err := hooks.Send(ctx, webhook.Event{ID: "evt_1", Type: "refund"}); err != nil {
		log.Fatal(err)
	}
	x, err := hooks.Explain(ctx, "evt_1") // fmt.Println(x) tells the whole story
	fmt.Println(x.Matched, len(x.Deliveries), err)

	if err := hooks.PauseEndpoint(ctx, "acme", "they move house"); err != nil {
		log.Fatal(err)
	}
	if _, err := hooks.Send(ctx, webhook.Event{ID: "evt_2", Type: "order_create"}); err != nil {
		log.Fatal(err)
	}
	x, err = hooks.Explain(ctx, "evt_2")
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range x.Deliveries {
		fmt.Println(d.Delivery.EndpointID, d.Delivery.State, d.Wait)
		fmt.Println(d.Why)
		fmt.Println(d.Next)
	}
	// Output:
	// 0 0 <nil>
	// acme held hold
	// its endpoint is on hold (paused): they move house
	// it is kept until the endpoint is resumed (ResumeEndpoint)
}

// The dead letters of an endpoint, the newest first, page by page.
func ExampleDispatcher_Deliveries() {
	ctx := context.Background()
	hooks := hooksFor(webhook.Endpoint{ID: "acme"}, nil)
	query := webhook.DeliveryQuery{
		Filter:   webhook.Filter{Endpoint: "acme", State: webhook.DeadLetter, Since: time.Now().Add(-24 * time.Hour)},
		Response: webhook.Response5xx,
	}
	for {
		page, err := hooks.Deliveries(ctx, query)
		if err != nil {
			log.Fatal(err)
		}
		for _, d := range page.Deliveries {
			fmt.Println(d.ID, d.Reason)
		}
		if query.Page = page.Next; query.Page == "" {
			break
		}
	}
	fmt.Println("that was all")
	// Output:
	// that was all
}

// Forget what was delivered after a week, and what was sent as soon as it is delivered; keep dead letters.
func ExampleRetention() {
	hooks := hooksFor(webhook.Endpoint{ID: "acme"}, &webhook.DispatcherOptions{Retention: webhook.Retention{
		Delivered:            7 * 24 * time.Hour,
		Canceled:             30 * 24 * time.Hour,
		Unmatched:            24 * time.Hour,
		PayloadAfterDelivery: true,
		EventIDs:             14 * 24 * time.Hour,
	}})
	// hooks.Run applies it all the time; Prune does so now.
	done, err := hooks.Prune(context.Background(), webhook.Retention{Delivered: 24 * time.Hour})
	fmt.Println(done.Deliveries, err)
	// Output:
	// 0 <nil>
}

// Erase what was sent for a tenant. What still waits is not erased silently.
func ExampleDispatcher_EraseTenant() {
	ctx := context.Background()
	hooks := hooksFor(webhook.Endpoint{ID: "acme", Tenant: "acme"}, nil)
	if _, err := hooks.Send(ctx, webhook.Event{Type: "order_create", Tenant: "acme"}); err != nil {
		log.Fatal(err)
	}
	_, err := hooks.EraseTenant(ctx, "acme", nil)
	fmt.Println(errors.Is(err, webhook.ErrStillWaiting))

	done, err := hooks.EraseTenant(ctx, "acme", &webhook.EraseOptions{CancelWaiting: true, Reason: "the contract ended"})
	fmt.Println(done.Canceled, done.Deliveries, err)
	// Output:
	// true
	// 1 1 <nil>
}
