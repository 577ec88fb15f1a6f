package h1

import (
	"context"
	"sync"
)

// Watch returns ctx with a place for what its end interrupts. An exchange whose [Limit] has the result as its Context takes that place, where with any other
// context it registers with it, for five allocations and a lock. There is one place: of exchanges at the same time the others register.
//
// stop ends the watch. It reports false when ctx has ended before.
func Watch(ctx context.Context) (_ context.Context, stop func() bool) {
	w := &watchedContext{Context: ctx}
	return w, context.AfterFunc(ctx, w.end)
}

// watchedContext is a context that Watch returned.
type watchedContext struct {
	context.Context
	mu    sync.Mutex
	conn  *conn // of the exchange under way; nil: there is none
	ended bool
}

func (w *watchedContext) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.conn != nil {
		w.conn.interrupt()
	}
}

// enter takes the place, unless it is taken.
func (w *watchedContext) enter(c *conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		return false
	}
	w.conn = c
	if w.ended {
		c.interrupt()
	}
	return true
}

// leave gives the place back. It reports false when the connection was interrupted, like what context.AfterFunc returns.
func (w *watchedContext) leave() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = nil
	return !w.ended
}
