package main

import (
	"errors"
	"fmt"
)

// asManyRow is ours with as many attempts under way as River has workers: the defaults are half as many, which drain quick receivers faster.
const asManyRow = oursRow + ", as many senders"

// oursAsMany is that on PostgreSQL, if it is one of the backends.
func oursAsMany(o *options, backends []*backend) (entries []*entry) {
	more := *o
	more.senders, more.inFlight = riverWorkers, (riverWorkers+o.endpoints-1)/o.endpoints
	for _, e := range oursOn(&more, backends...) {
		if e.name == oursRow {
			e.name = asManyRow
			entries = append(entries, e)
		}
	}
	return entries
}

// measureSlow measures drains while the receiver takes 20 ms: ours on each store and River tuned, beside net/http at the
// same concurrency.
func measureSlow(o *options) ([]*table, error) {
	backends, stop, err := openBackends(o.stores)
	if err != nil {
		return nil, err
	}
	defer stop()
	entries := append(oursOn(o, backends...), oursAsMany(o, backends)...)
	server, err := startPostgres()
	if err != nil {
		return nil, err
	}
	stops := stoppers{server.stop}
	defer func() { stops.stop() }()
	river, stopRiver, err := openRiver(server, tunedRow, "river_tuned", riverTuning)
	if err != nil {
		return nil, err
	}
	stops = append(stops, stopRiver)
	r, err := startReceiver()
	if err != nil {
		return nil, err
	}
	defer r.stop()
	c := &contest{n: o.n, receiver: r, profile: &profiler{o.profile}}
	c.table = newTable(fmt.Sprintf("A receiver that takes %v: %d deliveries, %d rounds; net/http with %d goroutines", slowAnswer, o.n, o.rounds, rawSlow))
	c.table.atLeast(oursRow, over(tunedRow), 1.9)
	c.table.atLeast(asManyRow, over(tunedRow), 1.9)
	for range o.rounds {
		if err := c.slowRound(entries, river); err != nil {
			return []*table{c.table}, err
		}
	}
	return []*table{c.table}, nil
}

func (c *contest) slowRound(entries []*entry, river *entry) error {
	if err := c.slow(river); err != nil {
		return fmt.Errorf("%s: %w", river.name, err)
	}
	peer := c.table.last(river.name, slowColumn)
	for _, e := range entries {
		err := c.rawSlow()
		if err == nil {
			err = c.slow(e)
		}
		if err != nil {
			return errors.Join(errors.New(e.name), err)
		}
		rate := c.table.last(e.name, slowColumn)
		if e.name != asManyRow { // it has more under way
			c.table.add(e.name, "/ net/http just before", rate/c.table.last(rawRow, slowColumn))
		}
		c.table.add(e.name, over(tunedRow), rate/peer)
	}
	return nil
}
