package webhook_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// Send again what an endpoint did not take last night: count first, then go.
func ExampleDispatcher_Replay() {
	ctx, stop := context.WithCancel(context.Background())
	var repaired atomic.Bool
	again := make(chan string, 10)
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !repaired.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		again <- r.URL.Path
	}))
	defer shop.Close()

	dead := make(chan struct{}, 10)
	hooks, err := webhook.NewDispatcher(memstore.New(), &webhook.DispatcherOptions{
		Endpoints: []webhook.Endpoint{{
			ID: "acme", URL: shop.URL + "/hooks", Secrets: []webhook.Secret{webhook.GenerateSecret()}, AllowPrivate: true,
			Schedule: webhook.NoRetry(), // for the example; else it takes 7 hours
		}},
		Logger: quiet(),
		Trace:  &webhook.Trace{DeadLetter: func(context.Context, webhook.DeadLetterInfo) { dead <- struct{}{} }},
	})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- hooks.Run(ctx) }()
	for range 3 {
		if _, err := hooks.Send(ctx, webhook.Event{Type: "order_create", Payload: []byte(`{}`)}); err != nil {
			log.Fatal(err)
		}
		<-dead
	}

	lastNight := time.Now().Add(-12 * time.Hour)
	failed := webhook.Filter{Endpoint: "acme", State: webhook.DeadLetter, Since: lastNight}
	n, err := hooks.Replay(ctx, failed, &webhook.ReplayOptions{DryRun: true})
	fmt.Println(n.Redelivered, "would be sent again", err)

	repaired.Store(true)
	replay, err := hooks.Replay(ctx, failed, nil)
	fmt.Println(replay.State, err)
	for range 3 {
		fmt.Println(<-again)
	}

	stop()
	fmt.Println(<-ended)
	// Output:
	// 3 would be sent again <nil>
	// running <nil>
	// /hooks
	// /hooks
	// /hooks
	// <nil>
}
