package storetest

import (
	"bytes"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

func attemptCases() []Case {
	return []Case{
		{"Attempt/RoundTrip", "recorded, and counted unless Next is Queued; nil when none was made", needStore | needQuery, attemptRoundTrip},
		{"Attempt/Microseconds", "Times are kept to the microsecond, rounded down", needStore | needQuery, attemptMicroseconds},
		{"Attempt/Late", "and its attempt, if any, is recorded with Late set", needStore | needQuery, attemptLate},
		{"Attempt/RecordedOnce", "is answered as before and recorded once", needStore | needQuery, attemptOnce},
		{"Attempt/Order", "ListAttempts returns the attempts of a delivery in the order of their tokens", needStore | needQuery, attemptOrder},
		{"Attempt/NoneWhenGivenBack", "recorded, and counted unless Next is Queued; nil when none was made", needStore | needQuery, attemptNone},
		{"Attempt/UnknownNotRecorded", "no such delivery", needStore | needQuery, attemptUnknown},
	}
}

// attempts lists a delivery's attempts and fails unless there are n.
func (e *env) attempts(id string, n int) []webhook.Attempt {
	got, err := e.queries().ListAttempts(e.ctx, id)
	e.ok("ListAttempts", err)
	if len(got) != n {
		e.failf("ListAttempts of %s: got %d attempts, want %d: %+v", id, len(got), n, got)
	}
	return got
}

// sameAttempt compares attempts; durations to the microsecond, an empty Response and none being the same.
func (e *env) sameAttempt(got, want webhook.Attempt) {
	e.sameTime("StartedAt", got.StartedAt, want.StartedAt)
	e.sameTime("NextAt", got.NextAt, want.NextAt)
	if !bytes.Equal(got.Response, want.Response) {
		e.failf("Response: got %q, want %q", got.Response, want.Response)
	}
	e.same("Duration", got.Duration.Truncate(time.Microsecond), want.Duration.Truncate(time.Microsecond))
	for _, a := range []*webhook.Attempt{&got, &want} {
		a.StartedAt, a.NextAt, a.Response, a.Duration = time.Time{}, time.Time{}, nil, 0
	}
	e.same("Attempt", got, want)
}

func attemptRoundTrip(e *env) {
	e.put(at(0), plain("a", "d1"))
	c := e.one("d1", at(0), fresh("a"))
	o := ended(c, at(0), webhook.RetryScheduled)
	o.Attempt = &webhook.Attempt{DeliveryID: "d1", Number: 1, Token: c.Token, StartedAt: at(3 * time.Microsecond), Duration: 12345678 * time.Microsecond,
		Status: 599, Detail: strings.Repeat("ü", 256), Response: bytes.Repeat(allBytes(), 16), NextAt: o.DueAt}
	e.apply(at(0), o)
	c2 := e.one("d1", at(time.Minute), retry("a"))
	o2 := ended(c2, at(0), webhook.Delivered)
	o2.Attempt = &webhook.Attempt{DeliveryID: "d1", Number: 2, Token: c2.Token, StartedAt: at(time.Minute), Error: "refused"}
	e.apply(at(0), o2)
	got := e.attempts("d1", 2)
	e.sameAttempt(got[0], *o.Attempt)
	e.sameAttempt(got[1], *o2.Attempt)
}

func attemptMicroseconds(e *env) {
	e.put(at(0), plain("a", "d1"))
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.RetryScheduled)
	o.Attempt.StartedAt, o.Attempt.NextAt = at(999), at(time.Minute+999)
	e.apply(at(0), o)
	got := e.attempts("d1", 1)[0]
	e.sameTime("StartedAt", got.StartedAt, at(0))
	e.sameTime("NextAt", got.NextAt, at(time.Minute))
}

func attemptLate(e *env) {
	e.put(at(0), plain("a", "d1"))
	old := e.one("d1", at(0), fresh("a"))
	c := e.one("d1", at(time.Minute), fresh("a"))
	e.stale(at(time.Minute), ended(old, at(0), webhook.Delivered))
	want := *attempt(old, at(0))
	want.Late = true
	e.sameAttempt(e.attempts("d1", 1)[0], want)
	e.stale(at(time.Minute), back(old)) // has no attempt
	e.apply(at(time.Minute), ended(c, at(time.Minute), webhook.Delivered))
	got := e.attempts("d1", 2)
	e.sameAttempt(got[0], want)
	e.same("Late of the second", got[1].Late, false)
}

func attemptOnce(e *env) {
	e.put(at(0), plain("a", "d1"))
	old := e.one("d1", at(0), fresh("a"))
	c := e.one("d1", at(time.Minute), fresh("a"))
	for range 2 {
		e.stale(at(time.Minute), ended(old, at(0), webhook.Delivered))
		e.apply(at(time.Minute), ended(c, at(time.Minute), webhook.Delivered))
	}
	got := e.attempts("d1", 2)
	e.same("tokens", []int64{got[0].Token, got[1].Token}, []int64{old.Token, c.Token})
}

func attemptOrder(e *env) {
	e.put(at(0), plain("a", "d1"))
	var cs []webhook.Claimed
	for i := range 12 { // over nine, so that an order by text shows
		cs = append(cs, e.one("d1", at(time.Duration(i)*time.Minute), fresh("a")))
	}
	for _, i := range []int{5, 1, 11, 10, 0, 9, 2, 8, 3, 7, 4, 6} {
		e.complete(at(11*time.Minute), ended(cs[i], at(0), webhook.Delivered))
	}
	for i, a := range e.attempts("d1", 12) {
		e.same("token", a.Token, cs[i].Token)
		e.same("Late", a.Late, i != 11)
	}
}

func attemptNone(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.apply(at(0), back(e.one("d1", at(0), fresh("a"))))
	e.attempts("d1", 0)
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.Canceled)
	o.Attempt = nil
	e.apply(at(0), o)
	e.attempts("d1", 0)
}

func attemptUnknown(e *env) {
	completeUnknown(e)
	got, _ := e.queries().ListAttempts(e.ctx, "nobody") // an error is as good as none
	e.same("attempts of a delivery that is not there", len(got), 0)
}
