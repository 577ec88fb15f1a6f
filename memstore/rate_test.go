package memstore

import (
	"math"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

func TestRateNeverExceedsWhatItSays(t *testing.T) {
	for _, rate := range []webhook.Rate{
		webhook.PerSecond(50),
		{Events: 3, Per: time.Second, Burst: 1}, // an interval that is no whole number of ns
		{Events: 7, Per: time.Minute},
		{Events: 1, Per: time.Hour, Burst: 5},
	} {
		interval, _ := limits(rate)
		burst := rate.Burst
		if burst == 0 {
			burst = rate.Events
		}
		var s rateState
		var taken []time.Time
		now := start
		for range 500 { // greedy, waking up exactly when told to
			got, until := s.take(rate, now, 10)
			for range got {
				taken = append(taken, now)
			}
			if got == 10 {
				continue
			}
			if !until.After(now) {
				t.Fatalf("%+v: until %v is not after %v", rate, until, now)
			}
			now = until
			if n, _ := (&rateState{rate: s.rate, full: s.full}).take(rate, now, 1); n != 1 {
				t.Fatalf("%+v: nothing at %v, as promised", rate, now)
			}
		}
		for i := burst; i < len(taken); i++ {
			if span := taken[i].Sub(taken[i-burst]); span < interval {
				t.Fatalf("%+v: %d within %v", rate, burst+1, span)
			}
		}
		if want := start.Add(time.Duration(len(taken)-burst+1) * (interval + time.Microsecond)); now.After(want) {
			t.Errorf("%+v: %d taken by %v, want by %v", rate, len(taken), now, want)
		}
	}
}

func TestRateCountsOnlyWhatIsReturned(t *testing.T) {
	var s rateState
	rate := webhook.Rate{Events: 10, Per: time.Hour}
	for range 100 {
		if got, until := s.take(rate, start, 0); got != 0 || !until.IsZero() {
			t.Fatalf("asking for nothing: %d, %v", got, until)
		}
	}
	if got, until := s.take(rate, start, 10); got != 10 || !until.IsZero() {
		t.Errorf("first ten: %d, %v", got, until)
	}
	if got, until := s.take(rate, start, 1); got != 0 || !until.Equal(start.Add(6*time.Minute)) {
		t.Errorf("eleventh: %d, %v, want none until 6 minutes later", got, until)
	}
}

// Ten hours of waiting, run up under a rate of one an hour, do not outlive that rate.
func TestRateRaised(t *testing.T) {
	var s rateState
	s.take(webhook.Rate{Events: 1, Per: time.Hour, Burst: 10}, start, 10)
	_, until := s.take(webhook.PerSecond(10), start, 1)
	if wait := until.Sub(start); wait > 100*time.Millisecond {
		t.Errorf("waits %v after the rate was raised to 10/s", wait)
	}
}

func TestRateExtremes(t *testing.T) {
	for _, rate := range []webhook.Rate{
		{Events: math.MaxInt, Per: time.Nanosecond},
		{Events: 1, Per: math.MaxInt64, Burst: math.MaxInt},
		{Events: 1, Per: time.Hour * 24 * 365, Burst: 1_000_000},
	} {
		var s rateState
		if got, _ := s.take(rate, start, 1); got != 1 {
			t.Errorf("%+v: %d, want 1", rate, got)
		}
	}
}
