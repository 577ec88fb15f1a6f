package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/signalpost/webhook"
)

// healthyCount deliveries to an endpoint that answers, beside healthyHung to one that hangs: case F of the peers, where River takes 310 s.
const (
	healthyCount = 1_000
	healthyHung  = 10_000
)

const lastHealthyColumn = "last healthy s"

// measureHealthy measures until the last healthy delivery is received. alone is the same without the deliveries that hang.
func measureHealthy(o *options) ([]*table, error) {
	t := newTable(fmt.Sprintf("Noisy neighbour: %d deliveries to an endpoint that hangs (limit %v), %d to one that answers, %d rounds",
		healthyHung, hangTimeout, healthyCount, o.rounds))
	for _, name := range splitNames(o.stores) {
		for range o.rounds {
			if err := healthyOn(name, t); err != nil {
				return []*table{t}, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return []*table{t}, nil
}

// healthyOn has stores and receivers for itself each time: what hangs would hang in the next round too.
func healthyOn(name string, t *table) error {
	r, err := startReceiver()
	if err != nil {
		return err
	}
	defer r.stop()
	for _, c := range []struct {
		what string
		hung int
		sent bool // while the others hang, instead of before
	}{{"alone", 0, false}, {"both waiting", healthyHung, false}, {"sent while it hangs", healthyHung, true}} {
		took, be, err := healthyCase(name, r, c.hung, c.sent)
		if err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		column := lastHealthyColumn + ", " + c.what
		t.add(be, column, took.Seconds())
		if c.hung > 0 {
			t.atMost(be, column, 0.5)
		}
	}
	return nil
}

func healthyCase(name string, r *receiver, hung int, sent bool) (took time.Duration, row string, err error) {
	backends, stop, err := openBackends(name)
	if err != nil {
		return 0, "", err
	}
	defer stop()
	be := backends[0]
	d, err := healthyDispatcher(be, r)
	if err != nil {
		return 0, "", err
	}
	ctx, cancel := context.WithCancel(context.Background())
	now, err := be.store.Now(ctx)
	if err == nil && hung > 0 {
		err = be.fillHanging(ctx, endpointID(0), 0, hung, now)
	}
	if err != nil {
		cancel()
		return 0, "", err
	}
	send := func() error {
		return sendMany(0, healthyCount, crowdSenders, func(number int) error {
			_, err := d.Send(ctx, webhook.Event{Type: eventType(1), Payload: makePayload(number)})
			return err
		})
	}
	if !sent {
		err = send()
	}
	runtime.GC()
	began, ended := time.Now(), make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	if sent {
		time.Sleep(noisySettle)
		began = time.Now()
		err = errors.Join(err, send())
	}
	f, waited := r.await(healthyCount, phaseLimit)
	cancel()
	return f.Last.Sub(began), be.name, errors.Join(err, waited, <-ended)
}

// healthyDispatcher has two endpoints: the first hangs.
func healthyDispatcher(be *backend, r *receiver) (*webhook.Dispatcher, error) {
	endpoints, err := benchEndpoints(r.url, 2, endpointID)
	if err != nil {
		return nil, err
	}
	endpoints[0].URL, endpoints[0].Timeout = r.url+"/hang", hangTimeout
	return webhook.NewDispatcher(be.store, &webhook.DispatcherOptions{
		Endpoints: endpoints, AllowPrivate: true, Grace: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
}
