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

// Sizes of the parts of a round.
const (
	singleSenders = 16  // goroutines that send one event at a time
	batchSenders  = 256 // goroutines that fill the store
	lightRate     = 200 // events a second, to see the latency
	lightTime     = 3 * time.Second
	phaseLimit    = 2 * time.Minute
)

// Columns that several tables have.
const (
	drainColumn    = "drain/s"
	drainRawColumn = "drain / net/http"
	singleColumn   = "single enqueue/s"
	bothColumn     = "enqueue+deliver/s"
	p50Column      = "p50 ms at 200/s"
	p99Column      = "p99 ms at 200/s"
	dupColumn      = "duplicates"
)

// dispatchBench measures sending end to end on each backend, beside net/http without a store.
type dispatchBench struct {
	n          int
	endpoints  int
	inFlight   int
	senders    int
	rawSenders int
	rounds     int
	receiver   *receiver
	table      *table
	profile    *profiler
	statements *table // of pg_stat_statements; nil: not asked for
	number     int    // of the next event
	only       int    // send to this endpoint alone; -1: to all in turn
}

// measureDispatch measures all stores that are asked for.
func measureDispatch(o *options) ([]*table, error) {
	var settings []string
	if o.statements {
		settings = statementSettings
	}
	backends, stop, err := openBackends(o.stores, settings...)
	if err != nil {
		return nil, err
	}
	defer stop()
	r, err := startReceiver()
	if err != nil {
		return nil, err
	}
	defer r.stop()
	b := &dispatchBench{
		n: o.n, rounds: o.rounds, endpoints: o.endpoints, inFlight: o.inFlight, senders: o.senders, rawSenders: o.rawSenders,
		only: -1, receiver: r, profile: &profiler{o.profile},
		table: newTable(fmt.Sprintf("Enqueue and drain: %d deliveries of 1 KiB, %d endpoints, %d rounds%s", o.n, o.endpoints, o.rounds, versions(backends))),
	}
	for store, least := range map[string]float64{"memory": 0.9, "SQLite": 0.75, "PostgreSQL": 0.8, "MariaDB": 0.6} {
		b.table.atLeast(store, drainRawColumn, least)
		b.table.atMost(store, callsColumn, 0.01)
		b.table.atMost(store, txsColumn, 0.01)
	}
	tables := []*table{b.table}
	if o.statements {
		b.statements = newTable("Statements of the drain on PostgreSQL, a delivery")
		tables = append(tables, b.statements)
	}
	return tables, b.run(backends)
}

// versions are those of the databases.
func versions(backends []*backend) (text string) {
	for _, be := range backends {
		if be.version != "" {
			text += "; " + be.name + " " + be.version
		}
	}
	return text
}

func (b *dispatchBench) run(backends []*backend) error {
	if _, err := b.raw(); err != nil { // warm up
		return err
	}
	b.table.forget()
	for round := range b.rounds {
		before, err := b.raw()
		if err != nil {
			return err
		}
		for _, be := range backends {
			drain, err := b.round(be)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", be.name, round+1, err)
			}
			after, err := b.raw()
			if err != nil {
				return err
			}
			b.table.add(be.name, drainRawColumn, drain/((before+after)/2))
			before = after
		}
	}
	return nil
}

// raw measures net/http without a store: requests a second.
func (b *dispatchBench) raw() (float64, error) {
	runtime.GC()
	return rawLimit(b.receiver, b.table, rawRow, b.receiver.url+"/0", b.n, b.rawSenders, postRaw)
}

// round measures all of one backend and returns its drain rate.
func (b *dispatchBench) round(be *backend) (float64, error) {
	d, err := b.dispatcher(be)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	single := b.n / 3
	if err := b.send(d, single, singleSenders); err != nil {
		return 0, err
	}
	b.table.add(be.name, singleColumn, float64(single)/time.Since(began).Seconds())
	began = time.Now()
	if err := b.send(d, b.n-single, batchSenders); err != nil {
		return 0, err
	}
	b.table.add(be.name, "enqueue/s, 256 at once", float64(b.n-single)/time.Since(began).Seconds())
	runtime.GC()

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	rate, err := b.drain(be, func() { go func() { ended <- d.Run(ctx) }() })
	if err == nil {
		err = b.both(be, d)
	}
	if err == nil {
		err = b.light(be, d)
	}
	cancel()
	return rate, errors.Join(err, <-ended)
}

func (b *dispatchBench) dispatcher(be *backend) (*webhook.Dispatcher, error) {
	endpoints, err := benchEndpoints(b.receiver.url, b.endpoints, endpointID)
	if err != nil {
		return nil, err
	}
	return webhook.NewDispatcher(be.store, &webhook.DispatcherOptions{
		Endpoints: endpoints, AllowPrivate: true, MaxInFlight: b.inFlight, Senders: b.senders, Logger: slog.Default(),
	})
}

// send sends n events from several goroutines, each one at a time, spread over the endpoints.
func (b *dispatchBench) send(d *webhook.Dispatcher, n, senders int) error {
	first := b.number
	b.number += n
	return sendMany(first, n, senders, func(number int) error { return b.sendOne(d, number) })
}

func (b *dispatchBench) sendOne(d *webhook.Dispatcher, number int) error {
	endpoint := b.only
	if endpoint < 0 {
		endpoint = number % b.endpoints
	}
	ev := webhook.Event{Type: eventType(endpoint), Payload: makePayload(number)}
	_, err := d.Send(context.Background(), ev)
	return err
}

// drain starts a dispatcher on what waits and measures until all of it is received and recorded.
func (b *dispatchBench) drain(be *backend, start func()) (float64, error) {
	m, err := be.meter()
	if err != nil {
		return 0, err
	}
	if err := b.resetStatements(be); err != nil {
		return 0, err
	}
	stopProfile := b.profile.start(be.name)
	done := be.store.delivered.Load() + int64(b.n)
	began := time.Now()
	start()
	if err := awaitRecorded(be, done); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if err := stopProfile(); err != nil {
		return 0, err
	}
	rate := float64(b.n) / took.Seconds()
	b.table.add(be.name, drainColumn, rate)
	if err := b.readStatements(be); err != nil {
		return 0, err
	}
	if err := m.read(b.table, be.name, b.n); err != nil {
		return 0, err
	}
	return rate, b.received(be, b.n)
}

// received takes the receiver's figures of a phase and adds its duplicates.
func (b *dispatchBench) received(be *backend, n int) error {
	f, err := b.receiver.await(n, phaseLimit)
	if err != nil {
		return err
	}
	if f.Distinct != n {
		return fmt.Errorf("%d of %d events were received", f.Distinct, n)
	}
	b.table.add(be.name, dupColumn, float64(f.Requests-n))
	return nil
}

// awaitRecorded waits until the store has recorded so many deliveries as delivered.
func awaitRecorded(be *backend, n int64) error {
	for limit := time.Now().Add(phaseLimit); be.store.delivered.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			return fmt.Errorf("%d deliveries were not recorded within %v", n-be.store.delivered.Load(), phaseLimit)
		}
	}
	return nil
}

// both measures sending one at a time while the same process delivers, until the last one is recorded.
func (b *dispatchBench) both(be *backend, d *webhook.Dispatcher) error {
	n := b.n / 3
	done := be.store.delivered.Load() + int64(n)
	calls, began := be.store.calls.Load(), time.Now()
	if err := b.send(d, n, singleSenders); err != nil {
		return err
	}
	if err := awaitRecorded(be, done); err != nil {
		return err
	}
	b.table.add(be.name, bothColumn, float64(n)/time.Since(began).Seconds())
	b.table.add(be.name, "transactions a delivery, enqueue+deliver", float64(be.store.calls.Load()-calls)/float64(n))
	return b.received(be, n)
}

// light measures the latency from before Send to receipt, at a rate that leaves the machine idle.
func (b *dispatchBench) light(be *backend, d *webhook.Dispatcher) error {
	n := int(lightTime.Seconds() * lightRate)
	first := b.number
	b.number += n
	if err := sendSteadily(first, n, func(number int) error { return b.sendOne(d, number) }); err != nil {
		return err
	}
	f, err := b.receiver.await(n, phaseLimit)
	if err != nil {
		return err
	}
	b.table.add(be.name, p50Column, ms(f.P50))
	b.table.add(be.name, p99Column, ms(f.P99))
	return nil
}
