package main

import (
	"fmt"
	"time"
)

// Sizes of the phases of a round.
const (
	singleSenders = 16  // goroutines that send one event at a time
	crowdSenders  = 256 // goroutines that do so where many come at once
	lightRate     = 200 // events a second, to see the latency
	lightTime     = 3 * time.Second
	phaseLimit    = 2 * time.Minute
)

// Columns that several tables have.
const (
	drainColumn    = "drain/s"
	drainRawColumn = "drain / net/http"
	singleColumn   = "single enqueue/s"
	batchColumn    = "batch enqueue/s"
	bothColumn     = "enqueue+deliver/s"
	p50Column      = "p50 ms at 200/s"
	p99Column      = "p99 ms at 200/s"
	dupColumn      = "duplicates"
)

// measureDispatch measures ours on all stores that are asked for, beside the requests alone, taking turns.
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
	entries := oursOn(o, backends...)
	c := &contest{n: o.n, crowd: true, receiver: r, profile: &profiler{o.profile}}
	c.table = newTable(fmt.Sprintf("Enqueue and drain: %d deliveries of 1 KiB, %d endpoints, %d rounds%s", o.n, o.endpoints, o.rounds, versions(backends)))
	least := map[string]float64{"memory": 0.9, "SQLite": 0.75, "PostgreSQL": 0.8, "MariaDB": 0.6}
	for i, be := range backends {
		c.table.atLeast(entries[i].name, drainRawColumn, least[be.name])
		c.table.atMost(entries[i].name, callsColumn, 0.01)
		c.table.atMost(entries[i].name, txsColumn, 0.01)
	}
	tables := []*table{c.table}
	if o.statements {
		c.statements = newTable("Statements of the drain on PostgreSQL, a delivery")
		tables = append(tables, c.statements)
	}
	return tables, c.rounds(o, entries, c.round)
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

// rounds measures entries by turns, with the requests alone before and after each. Each round begins with another one, so that
// what one leaves behind, as for autovacuum, does not always meet the same next.
func (c *contest) rounds(o *options, entries []*entry, measure func(*entry) error) error {
	if _, err := c.raw(o); err != nil { // warm up
		return err
	}
	c.table.forget()
	for round := range o.rounds {
		before, err := c.raw(o)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := measure(e); err != nil {
				return fmt.Errorf("%s, round %d: %w", e.name, round+1, err)
			}
			after, err := c.raw(o)
			if err != nil {
				return err
			}
			c.table.add(e.name, drainRawColumn, c.table.last(e.name, drainColumn)/((before+after)/2))
			before = after
		}
		entries = append(entries[1:len(entries):len(entries)], entries[0])
		if c.after != nil {
			if err := c.after(); err != nil {
				return err
			}
		}
	}
	return nil
}
