package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// processCounts is how many dispatcher processes share a database.
var processCounts = []int{1, 2, 4}

// What a killed process leaves is taken over after the time limit, the margin and one poll. These are short, so that it need not
// be waited for.
const (
	takeoverLimit  = time.Second
	takeoverMargin = time.Second
	takeoverPoll   = 200 * time.Millisecond // the library's default
	takeoverWait   = 100 * time.Millisecond // until the receiver answers, so that what is under way is never nothing
	takeoverFew    = 2000                   // deliveries that the others have sent before the leases end
)

// processBench measures several processes on one PostgreSQL.
type processBench struct {
	o        *options
	be       *backend
	receiver *receiver
	table    *table
	sender   *contest
	number   int // of processes started
}

// measureProcesses measures drains by 1, 2 and 4 processes, and how long work waits whose process was killed.
func measureProcesses(o *options) ([]*table, error) {
	backends, stop, err := openBackends("postgres")
	if err != nil {
		return nil, err
	}
	defer stop()
	r, err := startReceiver()
	if err != nil {
		return nil, err
	}
	defer r.stop()
	b := &processBench{o: o, be: backends[0], receiver: r, sender: &contest{receiver: r}}
	b.table = newTable(fmt.Sprintf("Dispatcher processes on one PostgreSQL: %d deliveries, %d endpoints, %d rounds; time limit %v, margin %v, poll %v",
		o.n, o.endpoints, o.rounds, takeoverLimit, takeoverMargin, takeoverPoll))
	for range o.rounds {
		var alone float64
		for _, n := range processCounts {
			rate, err := b.drain(n)
			if err != nil {
				return []*table{b.table}, fmt.Errorf("%d processes: %w", n, err)
			}
			if n == 1 {
				alone = rate
			}
			b.table.add(processRow(n), "/ one process", rate/alone)
		}
		for _, n := range processCounts[1:] {
			err := errors.Join(b.takeover(n, min(b.o.n, takeoverFew), takeoverColumn), b.takeover(n, b.o.n, backlogColumn))
			if err != nil {
				return []*table{b.table}, fmt.Errorf("takeover from one of %d: %w", n, err)
			}
		}
	}
	return []*table{b.table}, nil
}

func processRow(n int) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}

// fill stores n deliveries, which nobody sends yet.
func (b *processBench) fill(n int, url string) error {
	s := &ours{be: b.be, endpoints: b.o.endpoints}
	if err := s.open(url); err != nil {
		return err
	}
	return s.fill(b.sender.numbers(n), n)
}

// start starts processes, which do not run yet.
func (b *processBench) start(n int, url string, limit, margin time.Duration) (children []*child, owners []string, err error) {
	for range n {
		b.number++
		owner := fmt.Sprintf("process-%d", b.number)
		c, err := startChild(childSettings{
			DSN: b.be.server.dsn("webhook"), URL: url, Endpoints: b.o.endpoints, Owner: owner, Timeout: limit, Margin: margin,
		})
		if err != nil {
			return nil, nil, errors.Join(err, stopChildren(children))
		}
		children, owners = append(children, c), append(owners, owner)
	}
	return children, owners, nil
}

func stopChildren(children []*child) (err error) {
	for _, c := range children {
		err = errors.Join(err, c.stop())
	}
	return err
}

func runChildren(children []*child) error {
	for _, c := range children {
		if _, err := c.ask(childRun); err != nil {
			return err
		}
	}
	return nil
}

// drain measures a drain by n processes.
func (b *processBench) drain(n int) (rate float64, err error) {
	if err := b.fill(b.o.n, b.receiver.url); err != nil {
		return 0, err
	}
	children, _, err := b.start(n, b.receiver.url, 0, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stopChildren(children)) }()
	m, err := startMeter(b.be.gauges, nil)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := runChildren(children); err != nil {
		return 0, err
	}
	f, err := b.receiver.await(b.o.n, phaseLimit)
	if err != nil {
		return 0, err
	}
	if err := b.empty(); err != nil {
		return 0, err
	}
	rate = float64(b.o.n) / time.Since(began).Seconds()
	row := processRow(n)
	b.table.add(row, drainColumn, rate)
	b.table.add(row, dbCPUColumn, (b.be.cpu()-m.serverCPU).Seconds()/float64(b.o.n)*1000)
	b.table.add(row, dupColumn, float64(f.Requests-f.Distinct))
	var shares []float64
	for _, c := range children {
		done, err := c.ask(childCount)
		if err != nil {
			return 0, err
		}
		shares = append(shares, float64(done)/float64(b.o.n))
	}
	b.table.add(row, "smallest share", slices.Min(shares))
	b.table.add(row, "greatest share", slices.Max(shares))
	return rate, nil
}

// empty waits until nothing is left to do.
func (b *processBench) empty() error {
	return awaitTrue(func() (done bool, err error) {
		err = b.be.db.QueryRow("SELECT NOT EXISTS (SELECT FROM webhook_queue)").Scan(&done)
		return done, err
	})
}

// A lease that ended is due when it did: behind what has been due for longer. So takeover is quick where the others keep up, and
// where there is a backlog it waits for that.
const (
	takeoverColumn = "takeover s"
	backlogColumn  = "takeover s, behind a backlog"
)

// takeover kills one of n processes in the middle of a drain and measures until another has what it had leased, and until all is
// delivered.
func (b *processBench) takeover(n, deliveries int, column string) (err error) {
	url := slowURL(b.receiver, takeoverWait)
	if err := b.fill(deliveries, url); err != nil {
		return err
	}
	children, owners, err := b.start(n, url, takeoverLimit, takeoverMargin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopChildren(children)) }()
	if err := runChildren(children); err != nil {
		return err
	}
	if f, err := b.receiver.ask(command{Wait: deliveries / 8, Timeout: phaseLimit}); err != nil || f.Requests < deliveries/8 {
		return errors.Join(err, fmt.Errorf("only %d requests came", f.Requests))
	}
	killed, owner := time.Now(), owners[0]
	if err := children[0].kill(); err != nil {
		return err
	}
	children = children[1:]
	var left int
	if err := b.be.db.QueryRow("SELECT count(*) FROM webhook_queue WHERE owner = $1", owner).Scan(&left); err != nil {
		return err
	}
	err = awaitTrue(func() (done bool, err error) {
		err = b.be.db.QueryRow("SELECT NOT EXISTS (SELECT FROM webhook_queue WHERE owner = $1)", owner).Scan(&done)
		return done, err
	})
	if err != nil {
		return err
	}
	row := processRow(n)
	b.table.atMost(row, takeoverColumn, (takeoverLimit + takeoverMargin + takeoverPoll).Seconds())
	b.table.add(row, column, time.Since(killed).Seconds())
	b.table.add(row, "leased by the killed one", float64(left))
	if err := b.empty(); err != nil {
		return err
	}
	f, err := b.receiver.await(deliveries, phaseLimit)
	if err != nil {
		return err
	}
	if f.Distinct != deliveries {
		return fmt.Errorf("%d of %d were received", f.Distinct, deliveries)
	}
	b.table.add(row, "sent twice after the kill", float64(f.Requests-f.Distinct))
	return nil
}
