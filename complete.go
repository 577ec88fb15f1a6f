package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Bounds of completion. What is unflushed when the process is killed is sent again, so it is few and not for long.
const (
	completeLinger  = 10 * time.Millisecond // outcomes gather for so long …
	completeRows    = 256                   // … or until there are so many
	completeMost    = 1024                  // unflushed; then senders wait
	completeTimeout = 15 * time.Second
	completePause   = 200 * time.Millisecond // after an error
)

// completer records outcomes in batches. One goroutine flushes; senders add.
type completer struct {
	d       *Dispatcher
	slots   chan struct{} // one per unflushed outcome
	wake    chan struct{}
	mu      sync.Mutex
	pending []finished
	urgent  bool // something waits for the outcome: do not linger
}

// finished is an outcome with what is needed to tell of it.
type finished struct {
	item    *item
	outcome Outcome
}

func newCompleter(d *Dispatcher) *completer {
	return &completer{d: d, slots: make(chan struct{}, completeMost), wake: make(chan struct{}, 1)}
}

// add queues an outcome. It blocks while too many are unflushed, until ctx ends: then the outcome is dropped, and the
// delivery is sent again when its lease ends.
func (c *completer) add(ctx context.Context, f finished, urgent bool) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		c.d.log.Error("webhook: outcome dropped at the end of the grace time; the delivery will be sent again",
			slog.String("delivery", f.outcome.DeliveryID), slog.String("endpoint", f.outcome.EndpointID))
		return
	}
	c.mu.Lock()
	c.pending = append(c.pending, f)
	n := len(c.pending)
	c.urgent = c.urgent || urgent
	signal := n == 1 || n == completeRows || urgent
	c.mu.Unlock()
	if signal {
		c.signal()
	}
}

func (c *completer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run flushes until end is closed and nothing is left, or ctx ends. It reports how many outcomes were left unrecorded.
func (c *completer) run(ctx context.Context, end <-chan struct{}) int {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		ended := false
		select {
		case <-end:
			ended = true
		case <-c.wake:
		case <-ctx.Done():
			return c.size()
		}
		if !ended && !c.isUrgent() {
			timer.Reset(completeLinger)
			c.linger(end, timer)
		}
		for batch := c.take(); len(batch) > 0; batch = c.take() {
			if !c.flush(ctx, batch) {
				return c.size() + len(batch)
			}
			if !ended && c.size() < completeRows {
				break
			}
		}
		if ended {
			return 0
		}
		if c.size() > 0 {
			c.signal()
		}
	}
}

// linger waits for more outcomes: until the timer fires, enough are there or something is urgent.
func (c *completer) linger(end <-chan struct{}, timer *time.Timer) {
	for c.size() < completeRows && !c.isUrgent() {
		select {
		case <-timer.C:
			return
		case <-c.wake:
		case <-end:
			return
		}
	}
}

func (c *completer) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}

func (c *completer) isUrgent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.urgent
}

// take removes a batch. No delivery stands in it twice: a second outcome waits for the next.
func (c *completer) take() []finished {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.urgent = false
	seen := make(map[string]bool, len(c.pending))
	for i, f := range c.pending {
		if i == completeMost || seen[f.outcome.DeliveryID] {
			batch := c.pending[:i:i]
			c.pending = c.pending[i:]
			return batch
		}
		seen[f.outcome.DeliveryID] = true
	}
	batch := c.pending
	c.pending = nil
	return batch
}

// flush records a batch, trying again until it succeeds or ctx ends.
func (c *completer) flush(ctx context.Context, batch []finished) bool {
	for tries := 1; ; tries++ {
		err := c.record(ctx, batch)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return false
		}
		c.d.log.Error("webhook: recording outcomes failed; trying again", slog.Int("outcomes", len(batch)), slog.Any("error", err))
		if tries == 3 {
			return c.flushSingly(ctx, batch)
		}
		if !sleep(ctx, completePause) {
			return false
		}
	}
	for range batch {
		<-c.slots
	}
	return true
}

// flushSingly records outcomes one by one, so that one that the store cannot take does not keep the others. That one is
// tried again without what its receiver sent, until its lease is over and it is due again anyway.
func (c *completer) flushSingly(ctx context.Context, batch []finished) bool {
	for i := range batch {
		f := batch[i : i+1]
		for err := c.record(ctx, f); err != nil; err = c.record(ctx, f) {
			if ctx.Err() != nil {
				return false
			}
			if a := f[0].outcome.Attempt; a != nil {
				a.Response, a.Detail = nil, "not recordable: "+a.Error
			}
			if c.d.clock.estimate().After(f[0].item.LeaseUntil) {
				c.d.log.Error("webhook: outcome dropped; the delivery will be sent again",
					slog.String("delivery", f[0].outcome.DeliveryID), slog.Any("error", err))
				break
			}
			if !sleep(ctx, completePause) {
				return false
			}
		}
		<-c.slots
	}
	return true
}

// record writes a batch once, and tells of what became of it.
func (c *completer) record(ctx context.Context, batch []finished) error {
	req := &CompleteRequest{Now: c.d.clock.estimate(), Outcomes: make([]Outcome, len(batch))}
	for i, f := range batch {
		req.Outcomes[i] = f.outcome
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	res, err := c.d.store.Complete(ctx, req)
	if err != nil {
		return err
	}
	if len(res.Outcomes) != len(batch) {
		return fmt.Errorf("store answered %d of %d outcomes", len(res.Outcomes), len(batch))
	}
	woken := false
	for i, f := range batch {
		if res.Outcomes[i] != Applied {
			c.d.traceStale(ctx, f)
			continue
		}
		switch f.outcome.Next {
		case RetryScheduled:
			c.d.feed.hint(LaneID{f.outcome.EndpointID, Retry}, f.outcome.DueAt)
		case DeadLetter:
			c.d.traceDeadLetter(ctx, f)
		}
		if f.item.Delivery.OrderingKey != "" && f.outcome.Next.Final() {
			c.d.feed.hint(LaneID{f.outcome.EndpointID, Fresh}, req.Now)
			woken = true
		}
	}
	if woken {
		c.d.feed.kick()
	}
	return nil
}

// sleep waits for d and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
