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

const (
	hangTimeout = 3 * time.Second
	noisyRounds = 5               // at least
	noisyTime   = 5 * time.Second // of load in a round
	noisySettle = 2 * time.Second // before it: attempts hang, and are known to
)

// noisyCase is some endpoints that never answer, among others.
type noisyCase struct {
	name      string
	endpoints int
	hanging   int // of those
	waiting   int // deliveries for each of those
	age       time.Duration
	rounds    int
	noHealth  bool // hanging endpoints are not slowed down
}

var noisyCases = []noisyCase{
	{name: "1 of 10 hangs, 10,000 waiting", endpoints: 10, hanging: 1, waiting: 10_000},
	{name: "10 of 100 hang, 1,000 waiting for each", endpoints: 100, hanging: 10, waiting: 1_000},
	{name: "1 of 10 hangs, 10,000 waiting, an hour older", endpoints: 10, hanging: 1, waiting: 10_000, age: time.Hour},
}

// hugeCases take long to fill: they are measured with -only million.
var hugeCases = []noisyCase{
	{name: "1 of 10 hangs, 1,000,000 waiting, an hour older", endpoints: 10, hanging: 1, waiting: 1_000_000, age: time.Hour},
}

func measureNoisy(o *options) ([]*table, error) { return measureCases(o, noisyCases) }

func measureMillion(o *options) ([]*table, error) { return measureCases(o, hugeCases) }

// measureCases measures the latency of healthy deliveries beside hanging ones, and without them. The two take turns, each
// on a store of its own, so that what else the machine does meets both.
func measureCases(o *options, cases []noisyCase) (tables []*table, err error) {
	r, err := startReceiver()
	if err != nil {
		return nil, err
	}
	defer r.stop()
	for _, c := range cases {
		policy := "default health policy"
		if c.noHealth = o.noHealth; c.noHealth {
			policy = "no health policy"
		}
		c.rounds = max(o.rounds, noisyRounds)
		t := newTable(fmt.Sprintf("Noisy neighbour: %s (limit %v, %s); %d a second for the others, %d rounds", c.name, hangTimeout, policy, lightRate, c.rounds))
		tables = append(tables, t)
		for _, name := range splitNames(o.stores) {
			if err := c.measure(name, r, t); err != nil {
				return tables, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return tables, nil
}

func (c *noisyCase) measure(name string, r *receiver, t *table) error {
	backends, stop, err := openBackends(name + "," + name)
	if err != nil {
		return err
	}
	defer stop()
	quiet, noisy := backends[0], backends[1]
	ctx := context.Background()
	now, err := noisy.store.Now(ctx)
	if err != nil {
		return err
	}
	for i := range c.hanging {
		if err := noisy.fillHanging(ctx, endpointID(i), i, c.waiting, now.Add(-c.age)); err != nil {
			return err
		}
	}
	runtime.GC()
	var number int // of the next event
	for round := range c.rounds + 1 {
		var p99 [2]time.Duration
		for i, be := range []*backend{quiet, noisy} {
			f, err := c.round(&number, be, r)
			if err != nil {
				return err
			}
			if p99[i] = f.P99; round == 0 {
				continue // to warm up
			}
			what := []string{"without", "with"}[i]
			t.add(be.name, "p50 ms "+what, ms(f.P50))
			t.add(be.name, "p99 ms "+what, ms(f.P99))
			if i == 1 {
				t.add(be.name, "hung attempts", float64(f.Hung))
				t.add(be.name, "p99 with / without", float64(p99[1])/float64(p99[0]))
			}
		}
	}
	return nil
}

// round runs a dispatcher for a while, sends to its healthy endpoints at a steady rate, and returns how long that took.
func (c *noisyCase) round(number *int, be *backend, r *receiver) (f figures, err error) {
	d, err := c.dispatcher(be, r)
	if err != nil {
		return f, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	time.Sleep(noisySettle)
	f, err = c.load(number, d, r)
	cancel()
	return f, errors.Join(err, <-ended)
}

func (c *noisyCase) dispatcher(be *backend, r *receiver) (*webhook.Dispatcher, error) {
	secret, err := webhook.ParseSecret(benchSecret)
	if err != nil {
		return nil, err
	}
	opts := &webhook.DispatcherOptions{AllowPrivate: true, Grace: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	for i := range c.endpoints {
		ep := webhook.Endpoint{
			ID: endpointID(i), URL: fmt.Sprintf("%s/%d", r.url, i), Secrets: []webhook.Secret{secret}, Types: []string{eventType(i)},
		}
		if i < c.hanging {
			ep.URL, ep.Timeout = r.url+"/hang", hangTimeout
		}
		if c.noHealth {
			ep.Health = webhook.NoHealth()
		}
		opts.Endpoints = append(opts.Endpoints, ep)
	}
	return webhook.NewDispatcher(be.store, opts)
}

// load is lightRate a second. Every other delivery is given an ordering key of its own, so that it goes by way of the store as those
// of other processes do.
func (c *noisyCase) load(next *int, d *webhook.Dispatcher, r *receiver) (f figures, err error) {
	n := int(noisyTime.Seconds() * lightRate)
	tick := time.NewTicker(time.Second / lightRate)
	defer tick.Stop()
	errs := make(chan error, n)
	for range n {
		<-tick.C
		*next++
		go func(number int) {
			ev := webhook.Event{Type: eventType(c.hanging + number%(c.endpoints-c.hanging)), Payload: makePayload(number)}
			if number%2 == 0 {
				ev.OrderingKey = fmt.Sprint(number)
			}
			_, err := d.Send(context.Background(), ev)
			errs <- err
		}(*next)
	}
	for range n {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return f, err
	}
	return r.await(n, phaseLimit)
}
