package main

import (
	"fmt"
	"runtime"
	"time"
)

// endpointShare is how many deliveries each of many endpoints gets at least: of fewer, no shares could be told.
const endpointShare = 8

// measureEndpoints measures drains to one endpoint, to 10 and to many, and how evenly half of a drain is shared.
func measureEndpoints(o *options) ([]*table, error) {
	r, err := startReceiver()
	if err != nil {
		return nil, err
	}
	defer r.stop()
	t := newTable(fmt.Sprintf("Endpoints: drains of %d deliveries, %d at least to each of %d endpoints, %d rounds", o.n, endpointShare, o.many, o.rounds))
	for _, name := range splitNames(o.stores) {
		if err := endpointsOn(o, name, r, t); err != nil {
			return []*table{t}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return []*table{t}, nil
}

func endpointsOn(o *options, name string, r *receiver, t *table) error {
	backends, stop, err := openBackends(name)
	if err != nil {
		return err
	}
	defer stop()
	be := backends[0]
	c := &contest{receiver: r, table: t}
	for range o.rounds {
		for _, endpoints := range []int{1, 10, o.many} {
			if err := c.spread(be, endpoints, max(o.n, endpointShare*endpoints)); err != nil {
				return fmt.Errorf("%d endpoints: %w", endpoints, err)
			}
		}
	}
	return nil
}

// spread drains n deliveries to so many endpoints.
func (c *contest) spread(be *backend, endpoints, n int) error {
	row := fmt.Sprintf("%s, %d", be.name, endpoints)
	s := &ours{be: be, endpoints: endpoints}
	if err := s.open(c.receiver.url); err != nil {
		return err
	}
	if err := s.fill(c.numbers(n), n); err != nil {
		return err
	}
	if err := c.receiver.watch(n / 2); err != nil {
		return err
	}
	runtime.GC()
	used, began := cpu(), time.Now()
	if err := s.run(); err != nil {
		return err
	}
	defer s.close()
	if err := s.await(n); err != nil {
		return err
	}
	c.table.add(row, drainColumn, float64(n)/time.Since(began).Seconds())
	c.table.add(row, cpuColumn, (cpu()-used).Seconds()/float64(n)*1000)
	f, err := c.receiver.await(n, phaseLimit)
	if err != nil {
		return err
	}
	if f.Spread == nil {
		return fmt.Errorf("of %d requests half did not come", n)
	}
	least := f.Spread.Least
	if f.Spread.Endpoints < endpoints {
		least = 0
	}
	c.table.add(row, "endpoints reached at half", float64(f.Spread.Endpoints))
	c.table.add(row, "smallest / greatest share at half", float64(least)/float64(f.Spread.Most))
	return s.close()
}
