package webhook

import (
	"sync/atomic"
	"time"
)

// RepeatCounter counts received requests that were answered without the handler, because their key was processed before or is being
// processed. Give it to [ReceiveOptions]; one may serve several routes. The zero value is ready; it must not be copied. It is safe for concurrent use.
type RepeatCounter struct {
	answered atomic.Int64
	running  atomic.Int64
	last     atomic.Int64 // Unix ns; 0: none
}

// RepeatCounts are what a [RepeatCounter] has counted since it was made.
type RepeatCounts struct {
	Answered int64     // from the record of the first
	Running  int64     // with 409, the first being processed still
	Last     time.Time // when the latest came; zero: none did
}

// Read returns the counts.
func (c *RepeatCounter) Read() RepeatCounts {
	counts := RepeatCounts{Answered: c.answered.Load(), Running: c.running.Load()}
	if ns := c.last.Load(); ns != 0 {
		counts.Last = time.Unix(0, ns)
	}
	return counts
}

// count counts one. c may be nil.
func (c *RepeatCounter) count(running bool) {
	if c == nil {
		return
	}
	if running {
		c.running.Add(1)
	} else {
		c.answered.Add(1)
	}
	c.last.Store(time.Now().UnixNano())
}
