package main

import (
	"fmt"
	"runtime"
	"time"
)

const (
	inFlightEach = 4                // deliveries that wait for each endpoint
	inFlightWait = 10 * time.Second // until the receiver answers
	inFlightSlow = 4                // of Senders are under way at most when all are slow: themselves, and three times as many
	kib          = 1024.0
)

// measureInFlight measures what an attempt under way takes while its receiver is slow: many at once, with as many endpoints.
func measureInFlight(o *options) ([]*table, error) {
	t := newTable(fmt.Sprintf("%d attempts under way at receivers that take %v, %d endpoints with %d deliveries each", o.many, inFlightWait, o.many, inFlightEach))
	for _, name := range splitNames(o.stores) {
		if err := inFlightOn(o, name, t); err != nil {
			return []*table{t}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return []*table{t}, nil
}

// inFlightOn has a receiver for itself: the last one's would still be answering.
func inFlightOn(o *options, name string, t *table) error {
	r, err := startReceiver()
	if err != nil {
		return err
	}
	defer r.stop()
	backends, stop, err := openBackends(name)
	if err != nil {
		return err
	}
	defer stop()
	be := backends[0]
	s := &ours{be: be, endpoints: o.many, senders: max(1, o.many/inFlightSlow)}
	if err := s.open(slowURL(r, inFlightWait)); err != nil {
		return err
	}
	if err := s.fill(0, inFlightEach*o.many); err != nil {
		return err
	}
	if err := r.watch(o.many); err != nil {
		return err
	}
	heap, stack := memory()
	began := time.Now()
	if err := s.run(); err != nil {
		return err
	}
	defer s.close()
	f, err := r.ask(command{Wait: o.many, Timeout: inFlightWait})
	if err != nil {
		return err
	}
	took := time.Since(began)
	heapNow, stackNow := memory()
	if f, err = r.ask(command{}); err != nil {
		return err
	}
	n := float64(f.Requests)
	t.atMost(be.name, heapColumn, 40)
	t.add(be.name, heapColumn, (heapNow-heap)/n/kib)
	t.add(be.name, "stack KiB each", (stackNow-stack)/n/kib)
	t.add(be.name, "under way", n)
	t.add(be.name, "until so many, s", took.Seconds())
	if f.Spread == nil {
		return fmt.Errorf("only %d of %d attempts were under way at once", f.Requests, o.many)
	}
	t.add(be.name, reachedColumn, float64(f.Spread.Endpoints)/float64(o.many))
	t.add(be.name, "most at one endpoint", float64(f.Spread.Most))
	if f, err = r.ask(command{Wait: o.many * inFlightEach, Timeout: phaseLimit}); err != nil {
		return err
	}
	t.add(be.name, "requests in all / deliveries", float64(f.Requests)/float64(o.many*inFlightEach))
	return s.close()
}

const (
	heapColumn    = "heap KiB each"
	reachedColumn = "endpoints reached, of all"
)

// memory is what lives on the heap and what stacks take, in bytes.
func memory() (heap, stack float64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc), float64(m.StackInuse)
}
