package webhook

import (
	"context"
	"sync"
	"time"
)

// lateContext has a deadline and the values of a received request. It is the handler's context, and that of the store's calls
// around it. Most look at neither, so timer and channel are made when Done is first called: from then on
// it is a context of package context, which others can be derived from at no cost of their own.
type lateContext struct {
	base     *receivedContext
	deadline time.Time

	mu      sync.Mutex
	real    context.Context // nil before Done was called
	end     context.CancelFunc
	err     error       // what ended it while there was no real one
	guardAt time.Time   // ends it earlier; zero: nothing does
	guard   *time.Timer // does so; nil while there is no real one
}

var _ context.Context = (*lateContext)(nil)

// Deadline implements [context.Context].
func (c *lateContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done implements [context.Context].
func (c *lateContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil {
		if c.err == context.Canceled {
			c.real, c.end = context.WithCancel(c.base)
			c.end()
			return c.real.Done()
		}
		c.real, c.end = context.WithDeadline(c.base, c.deadline)
		if !c.guardAt.IsZero() {
			c.guard = time.AfterFunc(time.Until(c.guardAt), c.end)
		}
	}
	return c.real.Done()
}

// Err implements [context.Context].
func (c *lateContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real != nil {
		return c.real.Err()
	}
	if c.err == nil {
		switch now := time.Now(); {
		case !now.Before(c.deadline):
			c.err = context.DeadlineExceeded
		case !c.guardAt.IsZero() && !now.Before(c.guardAt):
			c.err = context.Canceled
		}
	}
	return c.err
}

// Value implements [context.Context]. Package context finds its own through it, too.
func (c *lateContext) Value(key any) any {
	if key == (receivedKey{}) {
		return c.base.x
	}
	c.mu.Lock()
	real := c.real
	c.mu.Unlock()
	if real != nil {
		return real.Value(key)
	}
	return c.base.Value(key)
}

// cancel ends it.
func (c *lateContext) cancel() {
	c.mu.Lock()
	if c.guard != nil {
		c.guard.Stop()
	}
	end := c.end
	if end == nil && c.err == nil {
		c.err = context.Canceled
	}
	c.mu.Unlock()
	if end != nil {
		end()
	}
}

// arm makes it end at the given time unless disarm is called before.
func (c *lateContext) arm(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guardAt = at
	switch {
	case c.guard != nil:
		c.guard.Reset(time.Until(at))
	case c.real != nil:
		c.guard = time.AfterFunc(time.Until(at), c.end)
	}
}

// disarm undoes arm. It reports false when that has ended the context already.
func (c *lateContext) disarm() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guardAt = time.Time{}
	if c.guard != nil {
		return c.guard.Stop()
	}
	return c.err == nil
}
