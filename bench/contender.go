package main

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
)

// contender delivers webhooks durably: our library on a store, or a peer.
type contender interface {
	// open makes ready to take in deliveries and to send them to url. Nothing is sent before run.
	open(url string) error
	// fill stores n deliveries, numbered from first on, the quickest way that there is.
	fill(first, n int) error
	// send stores one, durably; called by many goroutines at once.
	send(number int) error
	run() error
	// await waits until n since open have been sent and recorded as done.
	await(n int) error
	// close ends sending.
	close() error
}

// entry is a contender with what a run needs to know about it.
type entry struct {
	name   string
	calls  func() int64 // see meter
	slowN  int          // deliveries at a slow receiver; 0: as many as elsewhere
	gauges gauges
	be     *backend // nil: not ours
	contender
}

// slowAnswer is how long the slow receiver takes.
const slowAnswer = 20 * time.Millisecond

// slowURL is a receiver's URL whose answers take that long.
func slowURL(r *receiver, wait time.Duration) string {
	return fmt.Sprintf("%s/wait/%d", r.url, wait.Milliseconds())
}

// contest measures contenders alike.
type contest struct {
	n          int
	crowd      bool // enqueue from many goroutines too
	receiver   *receiver
	table      *table
	statements *table       // of pg_stat_statements; nil: not asked for
	profile    *profiler    // of drains; nil: none
	after      func() error // at the end of each round; may be nil
	number     int          // of the next delivery
}

// numbers takes n numbers.
func (c *contest) numbers(n int) (first int) {
	first = c.number
	c.number += n
	return first
}

// round measures an entry on the receiver that answers at once: every phase of the dispatch part.
func (c *contest) round(e *entry) (err error) {
	if err := e.open(c.receiver.url); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	left := c.n
	if err := c.enqueue(e, singleColumn, c.n/3, &left, singleSenders); err != nil {
		return err
	}
	if c.crowd {
		if err := c.enqueue(e, "enqueue/s, 256 at once", c.n/3, &left, crowdSenders); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := e.fill(c.numbers(left), left); err != nil {
		return err
	}
	c.table.add(e.name, batchColumn, float64(left)/time.Since(began).Seconds())
	if err := c.drain(e, c.n, drainColumn, true); err != nil {
		return err
	}
	both, err := c.both(e)
	if err != nil {
		return err
	}
	light, err := c.light(e)
	if err != nil {
		return err
	}
	return e.await(c.n + both + light)
}

// enqueue measures n sends, each durable, from so many goroutines.
func (c *contest) enqueue(e *entry, column string, n int, left *int, goroutines int) error {
	stopProfile := c.profile.start(e.name + ", " + strings.ReplaceAll(column, "/s", ""))
	began := time.Now()
	if err := sendMany(c.numbers(n), n, goroutines, e.send); err != nil {
		return err
	}
	c.table.add(e.name, column, float64(n)/time.Since(began).Seconds())
	*left -= n
	return stopProfile()
}

// both measures sending one at a time while the same process delivers, until the last one is recorded.
func (c *contest) both(e *entry) (n int, err error) {
	n = c.n / 3
	var calls int64
	if e.calls != nil {
		calls = e.calls()
	}
	stopProfile := c.profile.start(e.name + ", " + strings.ReplaceAll(bothColumn, "/s", ""))
	began := time.Now()
	if err := sendMany(c.numbers(n), n, singleSenders, e.send); err != nil {
		return n, err
	}
	if err := e.await(c.n + n); err != nil {
		return n, err
	}
	c.table.add(e.name, bothColumn, float64(n)/time.Since(began).Seconds())
	if err := stopProfile(); err != nil {
		return n, err
	}
	if e.calls != nil {
		c.table.add(e.name, "transactions a delivery, enqueue+deliver", float64(e.calls()-calls)/float64(n))
	}
	return n, c.received(e, n)
}

// drain runs an entry and measures until the n that wait are recorded as done.
func (c *contest) drain(e *entry, n int, column string, meters bool) error {
	runtime.GC()
	m, err := startMeter(e.gauges, e.calls)
	if err != nil {
		return err
	}
	tellsStatements := c.statements != nil && e.be != nil
	if tellsStatements {
		if err := e.be.resetStatements(); err != nil {
			return err
		}
	}
	stopProfile := c.profile.start(e.name)
	began := time.Now()
	if err := e.run(); err != nil {
		return err
	}
	if err := e.await(n); err != nil {
		return err
	}
	c.table.add(e.name, column, float64(n)/time.Since(began).Seconds())
	if err := stopProfile(); err != nil {
		return err
	}
	if tellsStatements {
		if err := e.be.readStatements(c.statements, "", n); err != nil {
			return err
		}
	}
	if meters {
		if err := m.read(c.table, e.name, n); err != nil {
			return err
		}
	}
	return c.received(e, n)
}

func (c *contest) received(e *entry, n int) error {
	f, err := c.receiver.await(n, phaseLimit)
	if err != nil {
		return err
	}
	if f.Distinct != n {
		return fmt.Errorf("%d of %d were received", f.Distinct, n)
	}
	c.table.add(e.name, dupColumn, float64(f.Requests-n))
	return nil
}

// light measures the latency from before the send to receipt, at a rate that leaves the machine idle.
func (c *contest) light(e *entry) (n int, err error) {
	n = int(lightTime.Seconds() * lightRate)
	used := cpu()
	if err := sendSteadily(c.numbers(n), n, e.send); err != nil {
		return n, err
	}
	f, err := c.receiver.await(n, phaseLimit)
	if err != nil {
		return n, err
	}
	c.table.add(e.name, "CPU % at 200/s", (cpu()-used).Seconds()/lightTime.Seconds()*100)
	c.table.add(e.name, p50Column, ms(f.P50))
	c.table.add(e.name, p99Column, ms(f.P99))
	return n, nil
}

// slow measures the drain on a receiver that takes slowAnswer.
func (c *contest) slow(e *entry) (err error) {
	if err := e.open(slowURL(c.receiver, slowAnswer)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	n := c.n
	if e.slowN > 0 {
		n = min(n, e.slowN)
	}
	if err := e.fill(c.numbers(n), n); err != nil {
		return err
	}
	return c.drain(e, n, slowColumn, false)
}

const slowColumn = "drain/s at 20 ms"

// awaitCount waits until count says n.
func awaitCount(count *atomic.Int64, n int64) error {
	for limit := time.Now().Add(phaseLimit); count.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			return fmt.Errorf("%d deliveries were not made within %v", n-count.Load(), phaseLimit)
		}
	}
	return nil
}

// awaitTrue waits until done says so.
func awaitTrue(done func() (bool, error)) error {
	for limit := time.Now().Add(phaseLimit); ; time.Sleep(2 * time.Millisecond) {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if time.Now().After(limit) {
			return fmt.Errorf("deliveries were not recorded within %v", phaseLimit)
		}
	}
}
