package webhook

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Bounds of one group commit.
const (
	batchEvents   = 500
	batchBytes    = 8 << 20
	commitTimeout = 15 * time.Second
)

// batcher commits concurrent sends together: whoever arrives while a commit is under way shares the next. A lone caller
// waits for nobody. The goroutine that commits lives only while there is something to commit.
type batcher struct {
	d       *Dispatcher
	mu      sync.Mutex
	pending []*sendCall
	busy    bool // a goroutine is committing
}

// sendCall is one caller waiting for its event to be committed.
type sendCall struct {
	event  NewEvent
	routes []*route   // of event.Deliveries
	done   chan error // gets one value
	taken  bool       // being committed: cancelling comes too late
	leased []bool     // per delivery: a sender is reserved for it
	now    time.Time
}

// submit commits an event and returns when it is durable. When ctx ends first, the event is withdrawn if that is
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
	n, bytes := 0, 0
	for n < len(b.pending) && n < batchEvents && (n == 0 || bytes < batchBytes) {
		b.pending[n].taken = true
		bytes += len(b.pending[n].event.Event.Payload)
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
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		b.commit(ctx, calls)
		cancel()
	}
}

// commit writes a batch. On an error it tries the halves by themselves, so that one event that the store cannot take
// fails alone. Trying again is safe: an event that was stored after all is a repeat.
func (b *batcher) commit(ctx context.Context, calls []*sendCall) {
	res, err := b.enqueue(ctx, calls)
	switch {
	case err == nil:
		for i, call := range calls {
			b.finish(ctx, call, res.Events[i])
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
	req := &EnqueueRequest{Now: now, Owner: b.d.opts.Owner, Events: make([]NewEvent, len(calls))}
	for i, call := range calls {
		call.now = now
		b.reserve(call)
		req.Events[i] = call.event
	}
	res, err := b.d.store.Enqueue(ctx, req)
	if err == nil && (res == nil || len(res.Events) != len(calls)) {
		err = errMalformedAnswer
	}
	if err != nil {
		for _, call := range calls {
			b.release(call)
		}
	}
	return res, err
}

// reserve asks for a sender for each delivery that may be handed over in memory: unordered, unlimited and not held.
func (b *batcher) reserve(call *sendCall) {
	call.leased = make([]bool, len(call.routes))
	for i, rt := range call.routes {
		del := &call.event.Deliveries[i]
		if _, blocked := rt.blocked(call.now); blocked || del.OrderingKey != "" || rt.effectiveRate().Events > 0 || rt.err != nil {
			continue
		}
		if b.d.lanes.reserve(del.EndpointID, rt) {
			call.leased[i] = true
			del.Lease = rt.lease
		}
	}
}

func (b *batcher) release(call *sendCall) {
	for i, leased := range call.leased {
		if leased {
			call.event.Deliveries[i].Lease = 0
			b.d.lanes.cancel(call.event.Deliveries[i].EndpointID)
		}
	}
	call.leased = nil
}

// finish answers a caller, and hands over what is leased.
func (b *batcher) finish(ctx context.Context, call *sendCall, status EnqueueStatus) {
	if status != Stored {
		b.release(call)
		if status == Conflict {
			call.done <- fmt.Errorf("event %q: %w", call.event.Event.ID, ErrEventConflict)
			return
		}
		call.done <- nil
		return
	}
	call.done <- nil
	waiting := false
	for i, del := range call.event.Deliveries {
		if !call.leased[i] {
			b.d.feed.hint(LaneID{del.EndpointID, Fresh}, call.now)
			waiting = true
			continue
		}
		it := &item{Claimed: Claimed{
			Delivery: Delivery{
				ID: del.ID, EventID: call.event.Event.ID, EndpointID: del.EndpointID,
				State: Delivering, DueAt: call.now.Add(del.Lease), CreatedAt: call.now,
			},
			Event: call.event.Event, Token: 1, LeaseUntil: call.now.Add(del.Lease),
		}}
		if !b.d.lanes.redeem(it) {
			b.d.giveBack(ctx, it)
			b.d.lanes.cancel(del.EndpointID)
		}
	}
	if waiting {
		b.d.feed.kick()
	}
}
