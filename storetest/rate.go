package storetest

import (
	"time"

	"github.com/signalpost/webhook"
)

func rateChangeCases() []Case {
	const changed = "It may differ from claim to claim: what was taken under another rate counts as an empty bucket at most"
	const rate = "A lane with a Rate returns no more than the rate allows all processes together"
	return []Case{
		{"Rate/Changed", changed, needStore, rateChanged},
		{"Rate/ChangedBack", changed + " … " + rate, needStore, rateChangedBack},
		{"Rate/RoundedUp", rate, needStore, rateRoundedUp},
	}
}

// rated is the Fresh lane of an endpoint with a rate.
func rated(endpoint string, r webhook.Rate) webhook.LaneClaim {
	l := lane(endpoint, webhook.Fresh, 1000)
	l.Rate = r
	return l
}

// rateChanged has a strict rate become a loose one, whose first token must not come later than from an empty bucket.
func rateChanged(e *env) {
	e.fill("a", 40)
	slow, fast := webhook.Rate{Events: 1, Per: 5 * time.Minute, Burst: 1}, webhook.Rate{Events: 50, Per: time.Second, Burst: 10}
	e.count(e.s, at(0), 1, rated("a", slow))
	e.count(e.s2, at(time.Second), 0, rated("a", slow))
	res := e.claimOn(e.s, at(time.Second), 1000, rated("a", fast))
	if len(res.Deliveries) > 10 {
		e.failf("%d deliveries at once with a burst of 10", len(res.Deliveries))
	}
	if next := res.Lanes[0].RateUntil; next.After(at(1020 * time.Millisecond)) {
		e.failf("RateUntil is %v after a stricter rate has ended, want 20ms or less", next.Sub(at(time.Second)))
	}
	e.count(e.s2, at(1200*time.Millisecond), 10, rated("a", fast)) // the bucket is full
	e.count(e.s, at(1200*time.Millisecond), 0, rated("a", fast))
}

// rateChangedBack has a loose rate become a strict one, which gives no more than one fresh bucket of its own.
func rateChangedBack(e *env) {
	e.fill("a", 40)
	slow, fast := webhook.Rate{Events: 1, Per: 10 * time.Second, Burst: 1}, webhook.Rate{Events: 10, Per: time.Second, Burst: 10}
	e.count(e.s, at(0), 10, rated("a", fast))
	got := 0
	for i := range 21 {
		got += len(e.claimOn(e.handle(i), at(time.Duration(i)*time.Second), 1000, rated("a", slow)).Deliveries)
	}
	if got < 1 || got > 3 {
		e.failf("%d deliveries in 20 s with a rate of one in 10 s", got)
	}
	e.count(e.s, at(time.Minute), 1, rated("a", slow))
	e.count(e.s, at(time.Minute+time.Second), 0, rated("a", slow))
}

// rateRoundedUp has a rate whose interval is no whole number of nanoseconds, short enough that a microsecond shows how it is rounded.
func rateRoundedUp(e *env) {
	e.fill("a", 700)
	r := webhook.Rate{Events: 3, Per: 10 * time.Nanosecond, Burst: 340}
	e.count(e.s, at(0), 340, rated("a", r))
	if n := len(e.claimOn(e.s, at(time.Microsecond), 1000, rated("a", r)).Deliveries); n > 300 || n < 200 {
		e.failf("%d deliveries in a microsecond with a rate of 3 in 10 ns", n)
	}
}
