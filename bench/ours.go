package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/signalpost/webhook"
)

// ours is the library on one of its stores, with its defaults, as a contender.
type ours struct {
	be        *backend
	endpoints int
	inFlight  int // 0: the library's default, as below
	senders   int
	d         *webhook.Dispatcher
	done      int64 // recorded before open
	cancel    context.CancelFunc
	ended     chan error
}

// oursOn makes entries of backends.
func oursOn(o *options, backends ...*backend) (entries []*entry) {
	for _, be := range backends {
		c := &ours{be: be, endpoints: o.endpoints, inFlight: o.inFlight, senders: o.senders}
		entries = append(entries, &entry{name: "ours, " + be.name, calls: be.store.calls.Load, gauges: be.gauges, be: be, contender: c})
	}
	return entries
}

// benchEndpoints are endpoints below url, each with an event type of its own.
func benchEndpoints(url string, n int, id func(i int) string) (endpoints []webhook.Endpoint, err error) {
	secret, err := webhook.ParseSecret(benchSecret)
	if err != nil {
		return nil, err
	}
	for i := range n {
		endpoints = append(endpoints, webhook.Endpoint{
			ID: id(i), URL: fmt.Sprintf("%s/%d", url, i), Secrets: []webhook.Secret{secret}, Types: []string{eventType(i)},
		})
	}
	return endpoints, nil
}

func endpointID(i int) string { return fmt.Sprintf("endpoint-%03d", i) }

func eventType(endpoint int) string { return fmt.Sprintf("order_%03d", endpoint) }

func (c *ours) open(url string) error { return c.openFor(url, c.endpoints, endpointID) }

// openFor is open with n endpoints whose IDs id makes.
func (c *ours) openFor(url string, n int, id func(i int) string) error {
	endpoints, err := benchEndpoints(url, n, id)
	if err != nil {
		return err
	}
	c.done = c.be.store.delivered.Load()
	c.d, err = webhook.NewDispatcher(c.be.store, &webhook.DispatcherOptions{
		Endpoints: endpoints, AllowPrivate: true, MaxInFlight: c.inFlight, Senders: c.senders, Logger: slog.Default(),
	})
	return err
}

func (c *ours) send(number int) error {
	_, err := c.d.Send(context.Background(), webhook.Event{Type: eventType(number % c.endpoints), Payload: makePayload(number)})
	return err
}

func (c *ours) fill(first, n int) error {
	const each = 500
	return sendMany(0, (n+each-1)/each, 2, func(batch int) error {
		var events []webhook.Event
		for i := batch * each; i < min(n, (batch+1)*each); i++ {
			events = append(events, webhook.Event{Type: eventType((first + i) % c.endpoints), Payload: makePayload(first + i)})
		}
		_, err := c.d.SendBatch(context.Background(), events)
		return err
	})
}

func (c *ours) run() error {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.ended = cancel, make(chan error, 1)
	go func() { c.ended <- c.d.Run(ctx) }()
	return nil
}

func (c *ours) await(n int) error { return awaitCount(&c.be.store.delivered, c.done+int64(n)) }

func (c *ours) close() error {
	if c.cancel == nil {
		return nil
	}
	c.cancel()
	c.cancel = nil
	return <-c.ended
}
