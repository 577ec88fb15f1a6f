package main

import (
	"context"
	"fmt"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// shop is the sending side.
type shop struct {
	store     *sqlstore.Store
	hooks     *webhook.Dispatcher
	delivered chan string
	cancel    context.CancelFunc
	ended     chan error
}

func startShop(ctx context.Context, path, url string, secret webhook.Secret) (*shop, error) {
	store, err := openStore(ctx, path)
	if err != nil {
		return nil, err
	}
	s := &shop{store: store, delivered: make(chan string, 1000), ended: make(chan error, 1)}
	s.hooks, err = webhook.NewDispatcher(store, &webhook.DispatcherOptions{
		AllowPrivate: true, // the receiver of this demonstration is on the loopback interface
		Logger:       quiet,
		Trace:        &webhook.Trace{AttemptDone: s.print},
	})
	if err != nil {
		return nil, err
	}
	err = s.hooks.PutEndpoint(ctx, webhook.Endpoint{
		ID: "acme", URL: url, Secrets: []webhook.Secret{secret}, Types: []string{"order_*"},
		Schedule: webhook.Delays(500*time.Millisecond, time.Second, 2*time.Second), // Gett's own begins at 30 s
	})
	if err != nil {
		return nil, err
	}
	ctx, s.cancel = context.WithCancel(ctx)
	go func() { s.ended <- s.hooks.Run(ctx) }()
	return s, nil
}

// print tells of each attempt as it ends.
func (s *shop) print(_ context.Context, info webhook.AttemptDoneInfo) {
	a := info.Attempt
	outcome := fmt.Sprintf("answered %d", a.Status)
	if a.Error != "" {
		outcome = a.Error
	}
	next := "delivered"
	switch {
	case info.Next == webhook.RetryScheduled:
		next = fmt.Sprintf("next try in %v", a.NextAt.Sub(a.StartedAt).Round(100*time.Millisecond))
	case info.Next != webhook.Delivered:
		next = string(info.Next)
	}
	fmt.Printf("   %-13s attempt %d %s in %4d ms: %s\n", info.Event.Type, a.Number, outcome, a.Duration.Milliseconds(), next)
	if info.Next.Final() {
		s.delivered <- info.Event.ID
	}
}

// awaitDelivered waits until n events have come to an end.
func (s *shop) awaitDelivered(n int, limit time.Duration) error {
	deadline := time.After(limit)
	for range n {
		select {
		case <-s.delivered:
		case <-deadline:
			return fmt.Errorf("not all of %d events came to an end within %v", n, limit)
		}
	}
	return nil
}

// close lets Run drain, so that all outcomes are recorded.
func (s *shop) close() error {
	s.cancel()
	return <-s.ended
}
