package webhook

import (
	"context"
	"sync"
	"time"
)

// recalibrate is how long an estimate of the store's clock is good for: at 50 ppm of drift it is off by 3 ms then.
const recalibrate = time.Minute

// storeClock estimates the store's clock without asking it each time: its last reading plus the monotonic time since. Steps
// of the process's wall clock do not move it.
type storeClock struct {
	mu   sync.Mutex
	base time.Time // the store's clock …
	at   time.Time // … when this process's monotonic clock read at
}

// nower is the part of a Store, or of a caller's transaction, that tells the time.
type nower interface {
	Now(ctx context.Context) (time.Time, error)
}

// now returns the estimate, reading the store's clock first when there is no good one.
func (c *storeClock) now(ctx context.Context, store nower) (time.Time, error) {
	c.mu.Lock()
	base, at := c.base, c.at
	c.mu.Unlock()
	if !base.IsZero() && time.Since(at) < recalibrate {
		return base.Add(time.Since(at)).Truncate(time.Microsecond), nil
	}
	asked := time.Now()
	read, err := store.Now(ctx)
	if err != nil {
		return time.Time{}, err
	}
	c.set(read, asked)
	return c.estimate(), nil
}

// set calibrates by a reading of the store's clock that was asked for at asked: it was taken halfway to now, on average.
func (c *storeClock) set(read, asked time.Time) {
	at := time.Now()
	read = read.Add(at.Sub(asked) / 2)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.at = read, at
}

// estimate returns the estimate, however old its base. It is for use after a first now has succeeded.
func (c *storeClock) estimate() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base.Add(time.Since(c.at)).Truncate(time.Microsecond)
}
