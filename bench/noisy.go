package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/signalpost/webhook"
)

const (
	hangingEvents = 10_000
	healthyEvents = 1_000
	hangTimeout   = 3 * time.Second
)

// measureNoisy measures how long healthy deliveries take while many wait for an endpoint that never answers.
func measureNoisy(o *options) ([]*table, error) {
	t := newTable(fmt.Sprintf("Noisy neighbour: %d waiting for an endpoint that hangs (limit %v), then %d for a healthy one", hangingEvents, hangTimeout, healthyEvents))
	backends, stop, err := openBackends(o.stores)
	if err != nil {
		return nil, err
	}
	defer stop()
	r, err := startReceiver()
	if err != nil {
		return nil, err
	}
	defer r.stop()
	for _, be := range backends {
		if err := measureNoisyOn(be, r, t); err != nil {
			return []*table{t}, fmt.Errorf("%s: %w", be.name, err)
		}
	}
	return []*table{t}, nil
}

func measureNoisyOn(be *backend, r *receiver, t *table) error {
	secret, err := webhook.ParseSecret(benchSecret)
	if err != nil {
		return err
	}
	d, err := webhook.NewDispatcher(be.store, &webhook.DispatcherOptions{
		AllowPrivate: true, Grace: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Endpoints: []webhook.Endpoint{
			{ID: "hanging", URL: r.url + "/hang", Secrets: []webhook.Secret{secret}, Types: []string{eventType(0)}, Timeout: hangTimeout},
			{ID: "healthy", URL: r.url + "/healthy", Secrets: []webhook.Secret{secret}, Types: []string{eventType(1)}},
		},
	})
	if err != nil {
		return err
	}
	b := &dispatchBench{}
	send := func(endpoint, n int) error {
		b.only = endpoint
		return b.send(d, n, batchSenders)
	}
	if err := errors.Join(send(0, hangingEvents), send(1, healthyEvents)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- d.Run(ctx) }()
	err = func() error {
		f, err := r.await(healthyEvents, phaseLimit)
		if err != nil {
			return err
		}
		t.add(be.name, "both waiting at the start: last healthy after s", f.Last.Sub(began).Seconds())
		t.add(be.name, "hung attempts by then", float64(f.Hung))
		began = time.Now()
		if err := send(1, healthyEvents); err != nil {
			return err
		}
		if f, err = r.await(healthyEvents, phaseLimit); err != nil {
			return err
		}
		t.add(be.name, "sent while it hangs: last healthy after s", f.Last.Sub(began).Seconds())
		return nil
	}()
	cancel()
	return errors.Join(err, <-ended)
}
