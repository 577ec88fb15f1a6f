package sqlstore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/signalpost/webhook"
)

// Bounds of what is gathered.
const (
	gatherCalls    = 128 // in a batch
	gatherBytes    = 1 << 20
	gatherTimeout  = 15 * time.Second
	gatherPatience = 250 * time.Millisecond // what is under way for longer hangs, and the next to come waits for it no more
)

// errAlone tells a caller that its batch failed, so that nobody knows whose fault it was: it asks for itself.
var errAlone = errors.New("webhook: sqlstore: the batch failed")

// keyCall is one caller's Begin or Finish.
type keyCall struct {
	begin  webhook.BeginRequest
	finish finishArgs

	done  chan struct{} // closed at the end; then res and err are constant
	res   *webhook.BeginResult
	err   error
	batch *keyBatch // that it runs in; nil while it waits
	gone  bool      // nobody waits for it any more
}

// keyBatch is a batch under way.
type keyBatch struct {
	calls  []*keyCall
	live   int // callers that still wait
	cancel context.CancelFunc
}

// gatherer runs calls that come while another is under way together: one statement or transaction, one commit. When none is, a call
// runs at once, by itself and in the caller's goroutine. Goroutines of its own live only while there is something to run.
type gatherer struct {
	run  func(ctx context.Context, calls []*keyCall) error // an error is no answer to any of them; nil: all run alone
	undo func(left []*keyCall)                             // of calls whose callers did not wait for the answer; may be nil

	mu      sync.Mutex
	busy    int       // calls alone and batches under way: one, unless some hang
	started time.Time // when the latest was
	pending []*keyCall
}

// do runs a call: alone where it may, which gets the caller's context, else in a batch.
func (g *gatherer) do(ctx context.Context, call *keyCall, alone func(context.Context, *keyCall) error) error {
	if g.run == nil {
		return alone(ctx, call)
	}
	g.mu.Lock()
	if now := time.Now(); g.busy == 0 || now.Sub(g.started) > gatherPatience {
		g.busy++
		g.started = now
		g.mu.Unlock()
		defer g.next()
		return alone(ctx, call)
	}
	call.done = make(chan struct{})
	call.finish.body = slices.Clone(call.finish.body) // the caller may be gone first
	g.pending = append(g.pending, call)
	g.mu.Unlock()
	select {
	case <-call.done:
	case <-ctx.Done():
		if g.leave(call) {
			return ctx.Err()
		}
	}
	if call.err == errAlone {
		return alone(ctx, call)
	}
	return call.err
}

// next ends a call that ran alone: those that have come meanwhile run now.
func (g *gatherer) next() {
	if b, ctx := g.take(); b != nil {
		go g.runAll(ctx, b)
	}
}

func (g *gatherer) runAll(ctx context.Context, b *keyBatch) {
	for ; b != nil; b, ctx = g.take() {
		err := g.run(ctx, b.calls)
		b.cancel()
		if left := g.settle(b, err); len(left) > 0 && err == nil && g.undo != nil {
			g.undo(left)
		}
	}
}

// settle answers the callers of a batch, and returns the calls whose callers are gone.
func (g *gatherer) settle(b *keyBatch, err error) (left []*keyCall) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, call := range b.calls {
		if err != nil {
			call.err = errAlone
		}
		close(call.done)
		if call.gone {
			left = append(left, call)
		}
	}
	return left
}

// take removes the next batch; without one, the goroutine that asks is done.
func (g *gatherer) take() (*keyBatch, context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, bytes := 0, 0
	for n < len(g.pending) && n < gatherCalls && (n == 0 || bytes < gatherBytes) {
		bytes += len(g.pending[n].finish.body) + len(g.pending[n].finish.header)
		n++
	}
	if n == 0 {
		g.busy--
		return nil, nil
	}
	g.started = time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), gatherTimeout)
	b := &keyBatch{calls: g.pending[:n:n], live: n, cancel: cancel}
	if g.pending = g.pending[n:]; len(g.pending) == 0 {
		g.pending = nil
	}
	for _, call := range b.calls {
		call.batch = b
	}
	return b, ctx
}

// leave gives a call up whose caller's context has ended, and with the last of its callers a batch. It reports false when the
// answer is there.
func (g *gatherer) leave(call *keyCall) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-call.done:
		return false
	default:
	}
	call.gone = true
	if b := call.batch; b == nil {
		g.pending = slices.DeleteFunc(slices.Clone(g.pending), func(c *keyCall) bool { return c == call })
	} else if b.live--; b.live == 0 {
		b.cancel()
	}
	return true
}
