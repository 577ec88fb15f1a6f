package webhook

import (
	"context"
	"log/slog"
	"slices"
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

	completeWhole    = 3               // times a batch is only tried as a whole, then its outcomes one by one too
	completeFailures = 3               // of single outcomes in a row tell that the store is away
	failingMost      = 5 * time.Minute // that claims wait for outcomes to be recorded
)

// completer records outcomes in batches. One goroutine flushes; senders add.
type completer struct {
	d       *Dispatcher
	slots   chan struct{} // one per unflushed outcome
	wake    chan struct{}
	mu      sync.Mutex
	pending []finished
	spare   []finished      // empty; what pending may be when it begins anew
	seen    map[string]bool // empty; for take
	urgent  bool            // something waits for the outcome: do not linger
	dropped int             // outcomes for which there was no room when Run ended
	failing time.Time       // since when nothing can be recorded; zero: all is well

	tells bool // the store tells whom an end woke; known to the goroutine that flushes alone
}

// finished is an outcome with what is needed to tell of it.
type finished struct {
	item    *item
	outcome Outcome
}

func newCompleter(d *Dispatcher) *completer {
	return &completer{d: d, slots: make(chan struct{}, completeMost), wake: make(chan struct{}, 1), seen: make(map[string]bool)}
}

// add queues an outcome. It blocks while too many are unflushed, until ctx ends: then the outcome is dropped, and the
// delivery is sent again when its lease ends.
func (c *completer) add(ctx context.Context, f finished, urgent bool) {
	select {
	case c.slots <- struct{}{}:
	default: // full; only now does the end of ctx count
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			c.mu.Lock()
			defer c.mu.Unlock()
			c.dropped++
			return
		}
	}
	if f.outcome.Next != DeadLetter || c.d.opts.Trace.DeadLetter == nil {
		f.item.Event = Event{ID: f.item.Event.ID} // nobody needs the payload any more
	}
	c.mu.Lock()
	if c.pending == nil {
		c.pending, c.spare = c.spare, nil
	}
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

// run flushes until end is closed and nothing is left, or ctx ends.
func (c *completer) run(ctx context.Context, end <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	if c.size() > 0 { // came after the end of the last run
		c.signal()
	}
	for {
		ended := false
		select {
		case <-end:
			ended = true
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		if !ended && !c.isUrgent() {
			timer.Reset(completeLinger)
			c.linger(end, timer)
		}
		for batch := c.take(nil); len(batch) > 0; batch = c.take(nil) {
			if !c.flush(ctx, batch) {
				return
			}
			c.recycle(batch)
			if !ended && c.size() < completeRows {
				break
			}
		}
		if ended {
			return
		}
		if c.size() > 0 {
			c.signal()
		}
	}
}

// recycle takes back a batch that is recorded.
func (c *completer) recycle(batch []finished) {
	clear(batch)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare = batch[:0]
}

// abandon forgets what is not recorded when Run has ended, and reports how much that is.
func (c *completer) abandon() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing = time.Time{}
	n := len(c.pending) + c.dropped
	c.release(len(c.pending))
	c.pending, c.dropped = nil, 0
	return n
}

// release gives back the room of n outcomes.
func (c *completer) release(n int) {
	for range n {
		<-c.slots
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

// take removes a batch, which may be recorded together with others. No delivery stands in both or in one twice: a second outcome waits for the next.
func (c *completer) take(with []finished) []finished {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.urgent = false
	defer clear(c.seen)
	for i := range with {
		c.seen[with[i].outcome.DeliveryID] = true
	}
	for i := range c.pending {
		id := c.pending[i].outcome.DeliveryID
		if i == completeMost || c.seen[id] {
			batch := c.pending[:i:i]
			c.pending = c.pending[i:]
			return batch
		}
		c.seen[id] = true
	}
	batch := c.pending
	c.pending = nil
	return batch
}

// flush records a batch, trying again until it succeeds or ctx ends: then what is left goes back to pending.
func (c *completer) flush(ctx context.Context, batch []finished) bool {
	for tries := 1; ; tries++ {
		left, err := batch, c.record(ctx, batch)
		switch {
		case err == nil:
			left = nil
		case tries > completeWhole:
			left, err = c.recordSingly(ctx, batch)
		}
		c.noteProgress(len(left) < len(batch))
		c.release(len(batch) - len(left))
		if len(left) == 0 {
			return true
		}
		if ctx.Err() == nil {
			c.d.log.Error("webhook: recording outcomes failed; trying again", slog.Int("outcomes", len(left)), slog.Any("error", err))
		}
		if !sleep(ctx, completePause) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.pending = append(left, c.pending...)
			return false
		}
		if batch = left; tries >= completeWhole {
			batch = append(batch, c.take(batch)...) // those need not wait for the ones that cannot be recorded
		}
	}
}

// recordSingly records outcomes one by one, so that one that the store cannot take does not keep the others, and returns
// those that failed. An outcome that fails by itself is tried without what its receiver sent. It is dropped
// only when its lease has ended and the store did take others: then the delivery is due again.
func (c *completer) recordSingly(ctx context.Context, batch []finished) (left []finished, err error) {
	recorded := 0
	for i := range batch {
		one := batch[i : i+1]
		e := c.record(ctx, one)
		if e != nil && one[0].outcome.Attempt != nil && ctx.Err() == nil {
			e = c.record(ctx, []finished{one[0].withoutAnswer(e)})
		}
		switch {
		case e == nil:
			recorded++
		case recorded > 0 && ctx.Err() == nil && c.d.clock.estimate().After(one[0].item.LeaseUntil):
			c.d.log.Error("webhook: outcome dropped; the delivery will be sent again",
				slog.String("delivery", one[0].outcome.DeliveryID), slog.Any("error", e))
		default:
			left, err = append(left, one[0]), e
		}
		if recorded == 0 && len(left) == completeFailures {
			// The store is away. Next time others come first, lest these be at fault.
			return slices.Concat(batch[i+1:], left), err
		}
	}
	return left, err
}

// withoutAnswer is f without the text that came from the receiver.
func (f finished) withoutAnswer(why error) finished {
	a := *f.outcome.Attempt
	a.Response, a.Detail = nil, "not recordable: "+errorDetail(why)
	f.outcome.Attempt = &a
	if f.outcome.Next != Delivered {
		f.outcome.Reason = a.Detail
	}
	return f
}

// noteProgress remembers whether the store records outcomes. It is told after a whole batch: the rest of one whose first is
// recorded must not be claimed anew before it had its turn.
func (c *completer) noteProgress(some bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !some && c.failing.IsZero():
		c.failing = time.Now()
	case some && !c.failing.IsZero():
		c.failing = time.Time{}
		c.d.feed.kick()
	}
}

// isFailing reports whether outcomes wait for a store that does not take them. What they are about must not be claimed
// anew meanwhile, even if its lease has ended: it would be sent again.
func (c *completer) isFailing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.failing.IsZero() && time.Since(c.failing) < failingMost
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
	if err == nil && (res == nil || len(res.Outcomes) != len(batch)) {
		err = errMalformedAnswer
	}
	if err != nil {
		return err
	}
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
		case Expired:
			c.d.traceExpired(ctx, f.item.Delivery, f.outcome.Reason)
		}
	}
	c.wakeNext(batch, res)
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
