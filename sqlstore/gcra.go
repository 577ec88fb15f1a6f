package sqlstore

import (
	"math"
	"time"

	"github.com/signalpost/webhook"
)

// bucket is the rate limit of one endpoint during one claim, by the generic cell rate algorithm: one time in the database says
// when the bucket will be full again, so any number of processes can share it. Times are nanoseconds since the Unix epoch.
type bucket struct {
	tat     int64 // theoretical arrival time
	now     int64
	every   int64 // between two attempts at the full rate, rounded up so that the rate is never exceeded
	burst   int64
	taken   int64
	locked  bool // the row is ours; else another claim has it just now
	clipped bool // tat was further away than this rate can have put it
}

// busyPause is how long a caller is told to wait when another claim was taking from the same bucket.
const busyPause = 5 * time.Millisecond

// limited says whether r limits at all.
func limited(r webhook.Rate) bool { return r.Events > 0 }

func newBucket(r webhook.Rate, now time.Time) *bucket {
	per := r.Per
	if per <= 0 {
		per = time.Second
	}
	burst := int64(r.Burst)
	if burst <= 0 {
		burst = int64(r.Events)
	}
	every := int64(per) / int64(r.Events)
	if int64(per)%int64(r.Events) > 0 {
		every++
	}
	// What is longer than 73 years is no time that anybody would notice, and stays clear of an int64's end.
	every = min(every, math.MaxInt64/4)
	burst = min(burst, math.MaxInt64/4/every)
	return &bucket{now: now.UnixNano(), every: every, burst: burst}
}

// depth is how far ahead a burst may reach.
func (b *bucket) depth() int64 { return b.burst * b.every }

// set starts from what the database says: a time, and the depth of the rate that it was last reckoned with. What a stricter rate
// has put further ahead is an empty bucket of this one, and must not be waited out. With the same depth it is
// a clock ahead of ours that has put it there, which is no reason to give anything back.
func (b *bucket) set(tat, depth int64) {
	b.tat = max(tat, b.now)
	b.locked = true
	if end := b.now + b.depth(); b.tat > end && depth != b.depth() {
		b.tat, b.clipped = end, true
	}
}

// left is how many more may go now.
func (b *bucket) left() int64 {
	if !b.locked {
		return 0
	}
	return max((b.now+b.depth()-b.tat)/b.every-b.taken, 0)
}

// after is the time to store, with what was taken.
func (b *bucket) after() int64 { return b.tat + b.taken*b.every }

// next is when one more may go.
func (b *bucket) next() time.Time {
	if !b.locked {
		return time.Unix(0, b.now).Add(busyPause).UTC()
	}
	// Rounded up to the microsecond, so that a caller who comes then is not early.
	at := b.after() - (b.burst-1)*b.every
	return time.Unix(0, at).Add(time.Microsecond - 1).Truncate(time.Microsecond).UTC()
}
