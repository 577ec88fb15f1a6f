package memstore

import (
	"math"
	"time"

	"github.com/signalpost/webhook"
)

// rateState is the generic cell rate algorithm (GCRA): one instant says all. full is when the bucket will be
// full again; each token taken moves it one interval ahead, at most burst intervals beyond now.
type rateState struct {
	rate webhook.Rate // that full was reckoned with
	full time.Time
}

// take takes up to want tokens at now. When it gives fewer, until says when the next can be had.
func (s *rateState) take(rate webhook.Rate, now time.Time, want int) (got int, until time.Time) {
	if want == 0 {
		return 0, time.Time{}
	}
	interval, depth := limits(rate)
	full := s.full
	if full.Before(now) {
		full = now
	}
	if end := now.Add(depth); s.rate != rate && full.After(end) {
		full = end // a stricter rate that no longer holds must not be waited out
	}
	got = want
	if free := depth - full.Sub(now); free < interval {
		got = 0
	} else if n := int64(free / interval); n < int64(want) {
		got = int(n)
	}
	full = full.Add(time.Duration(got) * interval)
	if got > 0 || s.rate != rate {
		s.rate, s.full = rate, full
	}
	if got < want {
		// Rounded up, so that at this microsecond the token is really there.
		until = micro(full.Add(interval - depth + time.Microsecond - time.Nanosecond))
	}
	return got, until
}

// forever is longer than any burst may reach, and can be added to a time.
const forever = time.Duration(math.MaxInt64 / 4)

// limits gives the time between two attempts, rounded up so that the rate is never exceeded, and how far ahead a burst may reach.
func limits(rate webhook.Rate) (interval, depth time.Duration) {
	per, burst := rate.Per, rate.Burst
	if per <= 0 {
		per = time.Second
	}
	if burst <= 0 {
		burst = rate.Events
	}
	events := time.Duration(rate.Events)
	interval = min(per/events+min(per%events, 1), forever)
	if int64(burst) > int64(forever/interval) {
		return interval, forever
	}
	return interval, time.Duration(burst) * interval
}
