package webhook

import (
	"context"
	"sync/atomic"
	"time"
)

// clockAge is how old a reading of the store's clock may be: at 100 ppm of drift it is off by 3 ms then.
const clockAge = 30 * time.Second

// clockSlow is how long a reading may take: it is off by up to half of that.
const clockSlow = 100 * time.Millisecond

// storeClock estimates a store's clock without asking it each time: its last reading plus the monotonic time since.
// Steps of this process's wall clock do not move it.
type storeClock struct {
	source  nower // nil: the store has no clock of its own and goes by time.Now
	last    atomic.Pointer[clockReading]
	reading atomic.Bool // somebody reads the store's clock anew
}

// clockReading is what the store's clock said when this process's clock, with its monotonic part, said local.
type clockReading struct{ local, store time.Time }

// nower is the part of a store, or of a caller's transaction, that tells the time.
type nower interface {
	Now(ctx context.Context) (time.Time, error)
}

func newStoreClock(store any) *storeClock {
	c := &storeClock{}
	c.source, _ = store.(nower)
	return c
}

// now is the store's time. It asks the store at first and then every 30 s, one caller for all. When a later reading fails,
// the last is good enough.
func (c *storeClock) now(ctx context.Context) (time.Time, error) { return c.nowFrom(ctx, c.source) }

// nowFrom does so by asking source, as a caller's transaction, where another connection may not be had.
func (c *storeClock) nowFrom(ctx context.Context, source nower) (time.Time, error) {
	if source == nil {
		return time.Now().Truncate(time.Microsecond), nil
	}
	last := c.last.Load()
	if last == nil {
		if err := c.read(ctx, source); err != nil {
			return time.Time{}, err
		}
	} else if time.Since(last.local) > clockAge && c.reading.CompareAndSwap(false, true) {
		c.read(ctx, source)
		c.reading.Store(false)
	}
	return c.estimate(), nil
}

func (c *storeClock) read(ctx context.Context, source nower) error {
	asked := time.Now()
	t, err := source.Now(ctx)
	if err == nil {
		c.set(t, asked)
	}
	return err
}

// set takes a reading that was asked for at asked: the store looked at its clock halfway to now, on average. One that
// took long is worth less than the last, unless that is old.
func (c *storeClock) set(t, asked time.Time) {
	local := time.Now()
	if last := c.last.Load(); last != nil && local.Sub(asked) > clockSlow && local.Sub(last.local) <= clockAge {
		return
	}
	c.last.Store(&clockReading{local: local, store: t.Add(local.Sub(asked) / 2)})
}

// estimate is the store's time by the last reading, however old. There must have been one, unless there is no source.
func (c *storeClock) estimate() time.Time {
	last := c.last.Load()
	if last == nil {
		return time.Now().Truncate(time.Microsecond)
	}
	return last.store.Add(time.Since(last.local)).Truncate(time.Microsecond)
}

// latest is the later of two times.
func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
