package webhook

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// Bounds of one group commit.
const (
	batchEvents   = 500
	batchBytes    = 8 << 20
	commitTimeout = 15 * time.Second

	regatherPatience = 50 * time.Microsecond // without anybody coming; waiting keeps a processor
	regatherMost     = 2 * time.Millisecond  // in all
	regatherYields   = 256                   // without anybody coming where time stands still, as in a test of virtual time
)

// batcher commits concurrent sends together: whoever arrives while a commit is under way shares the next, with those that send again as
// soon as it has ended. A lone caller waits for nobody. The goroutine that commits lives only while there is something to commit.
type batcher struct {
	d       *Dispatcher
	mu      sync.Mutex
	pending []*sendCall
	busy    bool // a goroutine is committing
}

// submit commits a call's events and returns when they are durable. When ctx ends first, they are withdrawn if that is
// still possible; else the error wraps ErrOutcomeUnknown.
func (b *batcher) submit(ctx context.Context, call *sendCall) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	b.pending = append(b.pending, call)
	if !b.busy {
		b.busy = true
		go b.commitAll()
	}
	b.mu.Unlock()
	select {
	case err := <-call.done:
		return err
	case <-ctx.Done():
	}
	if b.withdraw(call) {
		return ctx.Err()
	}
	select {
	case err := <-call.done: // it was committed just now
		return err
	default:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

func (b *batcher) withdraw(call *sendCall) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if call.taken {
		return false
	}
	for i, c := range b.pending {
		if c == call {
			b.pending = append(b.pending[:i], b.pending[i+1:]...)
			break
		}
	}
	return true
}

// take removes the next batch; nil ends the goroutine that asks.
func (b *batcher) take() []*sendCall {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, events, bytes := 0, 0, 0
	for _, call := range b.pending {
		if n > 0 && (events+len(call.events) > batchEvents || bytes >= batchBytes) {
			break
		}
		call.taken = true
		events += len(call.events)
		bytes += call.size()
		n++
	}
	calls := b.pending[:n:n]
	if b.pending = b.pending[n:]; len(b.pending) == 0 {
		b.pending = nil
	}
	b.busy = n > 0
	return calls
}

func (b *batcher) commitAll() {
	for calls := b.take(); len(calls) > 0; calls = b.take() {
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		b.commit(ctx, calls)
		cancel()
		b.regather(len(calls), time.Since(began))
	}
}

// regather lets the callers that were answered just now come again, if that is what they do, before the next commit begins. Else they and
// those that came meanwhile would take turns, half of all in each commit. It ends when as many have come, when none comes for a while, and in any
// case after a quarter of what the commit took: those that did come wait meanwhile.
func (b *batcher) regather(answered int, took time.Duration) {
	if answered < 2 { // who sends alone has nobody to wait for
		return
	}
	patience, most := min(took/32, regatherPatience), min(took/4, regatherMost)
	began := time.Now()
	n, last := b.waiting(), began
	for enough, idle := n+answered, 0; n < enough && idle < regatherYields; idle++ {
		runtime.Gosched()
		now, came := time.Now(), b.waiting()
		if came > n {
			n, last, idle = came, now, 0
		}
		if now.Sub(last) >= patience || now.Sub(began) >= most {
			return
		}
	}
}

// waiting is how many calls the next commit can take already.
func (b *batcher) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pending)
}

// commit writes a batch. On an error it tries the halves by themselves, so that a caller whose events the store cannot take
// fails alone. Trying again is safe: an event that was stored after all is a repeat.
func (b *batcher) commit(ctx context.Context, calls []*sendCall) {
	res, err := b.enqueue(ctx, calls)
	switch {
	case err == nil:
		statuses := res.Events
		for _, call := range calls {
			call.status, statuses = statuses[:len(call.events):len(call.events)], statuses[len(call.events):]
			b.finish(ctx, call)
		}
	case len(calls) > 1 && ctx.Err() == nil:
		b.commit(ctx, calls[:len(calls)/2])
		b.commit(ctx, calls[len(calls)/2:])
	default:
		if ctx.Err() != nil && !errors.Is(err, ErrOutcomeUnknown) {
			err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		for _, call := range calls {
			call.done <- err
		}
	}
}

// enqueue reserves senders for what can be handed over and writes the batch. Reservations do not outlive an error.
func (b *batcher) enqueue(ctx context.Context, calls []*sendCall) (*EnqueueResult, error) {
	now, err := b.d.clock.now(ctx)
	if err != nil {
		return nil, err
	}
	req := &EnqueueRequest{Now: now, Owner: b.d.opts.Owner, Events: make([]NewEvent, 0, len(calls))}
	for _, call := range calls {
		call.schedule(now)
		for i := range call.events {
			b.reserve(&call.events[i], now)
			req.Events = append(req.Events, call.events[i].new)
		}
	}
	res, err := b.d.store.Enqueue(ctx, req)
	if err == nil && (res == nil || len(res.Events) != len(req.Events)) {
		err = errMalformedAnswer
	}
	if err != nil {
		for _, call := range calls {
			for i := range call.events {
				b.release(&call.events[i])
			}
		}
	}
	return res, err
}

// reserve asks for a sender for each delivery that may be handed over in memory: due, unordered, unlimited and not held.
func (b *batcher) reserve(s *sending, now time.Time) {
	s.leased = make([]bool, len(s.routes))
	for i, rt := range s.routes {
		del := &s.new.Deliveries[i]
		if _, blocked := rt.blocked(now); blocked || del.OrderingKey != "" || rt.effectiveRate().Events > 0 || rt.err != nil {
			continue
		}
		if del.DueAt.After(now) {
			continue
		}
		if b.d.lanes.reserve(del.EndpointID, rt) {
			s.leased[i] = true
			del.Lease = rt.lease
		}
	}
}

func (b *batcher) release(s *sending) {
	for i, leased := range s.leased {
		if leased {
			s.new.Deliveries[i].Lease = 0
			b.d.lanes.cancel(s.new.Deliveries[i].EndpointID)
		}
	}
	s.leased = nil
}

// finish answers a caller, and hands over what is leased.
func (b *batcher) finish(ctx context.Context, call *sendCall) {
	call.done <- nil
	waiting := false
	for i := range call.events {
		if call.status[i] != Stored {
			b.release(&call.events[i])
			continue
		}
		waiting = b.handOver(ctx, &call.events[i], call.now) || waiting
	}
	if waiting {
		b.d.feed.kick()
	}
}

// handOver gives what is leased to the lanes, and hints at the rest. It reports whether there is a rest.
func (b *batcher) handOver(ctx context.Context, s *sending, now time.Time) (waiting bool) {
	for i, del := range s.new.Deliveries {
		if !s.leased[i] {
			b.d.feed.hint(LaneID{del.EndpointID, Fresh}, latest(del.DueAt, now))
			waiting = true
			continue
		}
		it := &item{Claimed: Claimed{
			Delivery: Delivery{
				ID: del.ID, EventID: s.new.Event.ID, EndpointID: del.EndpointID,
				State: Delivering, DueAt: now.Add(del.Lease), ExpiresAt: del.ExpiresAt, CreatedAt: now,
			},
			Event: s.new.Event, Token: 1, LeaseUntil: now.Add(del.Lease),
		}}
		if !b.d.lanes.redeem(it) {
			b.d.giveBack(ctx, it)
			b.d.lanes.cancel(del.EndpointID)
		}
	}
	return waiting
}
