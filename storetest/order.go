package storetest

import (
	"fmt"
	"time"

	"github.com/signalpost/webhook"
)

const oneOfAKey = "Of an ordering key, only the delivery with no unfinished predecessor is returned"

func orderCases() []Case {
	const end = "Every other end, and only an end, lets the next go"
	return []Case{
		{"Order/OneAtATime", oneOfAKey, needStore, orderOneAtATime},
		{"Order/ThroughRetry", oneOfAKey + " … " + end, needStore, orderThroughRetry},
		{"Order/ThroughLeaseEnd", oneOfAKey, needStore, orderThroughLeaseEnd},
		{"Order/ThroughGiveBack", oneOfAKey + " … " + end, needStore, orderThroughGiveBack},
		{"Order/FirstDueLater", oneOfAKey, needStore, orderFirstDueLater},
		{"Order/SecondDueLater", "Claim leases due deliveries", needStore, orderSecondDueLater},
		{"Order/KeysIndependent", oneOfAKey, needStore, orderKeysIndependent},
		{"Order/EnqueuedBehindLeased", oneOfAKey, needStore, orderEnqueuedBehindLeased},
		{"Order/EveryEndLetsNextGo", end, needStore, orderEveryEnd},
		{"Order/StaleLetsNobodyGo", "Else it is stale: it changes no state", needStore, orderStale},
		{"Order/LongKey", oneOfAKey, needStore, orderLongKey},
		{"Order/ManyKeysAtOnce", oneOfAKey, needStore, orderManyKeys},
	}
}

func orderOneAtATime(e *env) {
	e.queue("a", "k", "d1", "d2", "d3")
	for i, id := range []string{"d1", "d2", "d3"} {
		now := at(time.Duration(i) * time.Second)
		c := e.one(id, now, fresh("a"))
		if got := e.claimAll(e.s2, now, fresh("a"), retry("a")); len(got) > 0 {
			e.failf("Claim while %s is under way: got %v", id, ids(got))
		}
		e.apply(now, ended(c, now, webhook.Delivered))
	}
	e.none("all are delivered", at(time.Hour), fresh("a"), retry("a"))
}

func orderThroughRetry(e *env) {
	e.queue("a", "k", "d1", "d2")
	c := e.one("d1", at(0), fresh("a"))
	for i := range 3 {
		now := at(time.Duration(i) * time.Hour)
		e.apply(now, ended(c, now, webhook.RetryScheduled))
		e.none("the first waits for its retry", now, fresh("a"), retry("a"))
		now = now.Add(time.Minute)
		e.none("the first is not ended", now, fresh("a"))
		c = e.one("d1", now, fresh("a"), retry("a"))
		e.none("the first is under way", now, fresh("a"), retry("a"))
	}
	e.apply(at(4*time.Hour), ended(c, at(4*time.Hour), webhook.Delivered))
	e.one("d2", at(4*time.Hour), fresh("a"))
}

func orderThroughLeaseEnd(e *env) {
	e.queue("a", "k", "d1", "d2")
	e.one("d1", at(0), fresh("a"), retry("a"))
	e.one("d1", at(time.Minute), fresh("a"), retry("a"))
	c := e.one("d1", at(time.Hour), fresh("a"), retry("a"))
	e.none("the first is under way again", at(time.Hour), fresh("a"), retry("a"))
	e.apply(at(2*time.Hour), ended(c, at(2*time.Hour), webhook.Delivered))
	e.one("d2", at(2*time.Hour), fresh("a"))
}

func orderThroughGiveBack(e *env) {
	e.queue("a", "k", "d1", "d2")
	o := back(e.one("d1", at(0), fresh("a")))
	o.DueAt = at(time.Minute)
	e.apply(at(0), o)
	e.none("the first waits again", at(time.Second), fresh("a"), retry("a"))
	c := e.one("d1", at(time.Minute), fresh("a"), retry("a"))
	e.apply(at(time.Minute), ended(c, at(time.Minute), webhook.Delivered))
	e.one("d2", at(time.Minute), fresh("a"))
}

func orderFirstDueLater(e *env) {
	first := keyed("a", "k", "d1")
	first.Deliveries[0].DueAt = at(time.Hour)
	e.put(at(0), first)
	e.put(at(0), keyed("a", "k", "d2"))
	e.none("the first is not due", at(time.Minute), fresh("a"))
	c := e.one("d1", at(time.Hour), fresh("a"))
	e.apply(at(time.Hour), ended(c, at(time.Hour), webhook.Delivered))
	e.one("d2", at(time.Hour), fresh("a"))
}

func orderSecondDueLater(e *env) {
	second := keyed("a", "k", "d2")
	second.Deliveries[0].DueAt = at(time.Hour)
	e.put(at(0), keyed("a", "k", "d1"))
	e.put(at(0), second)
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.Delivered))
	e.none("the second is not due", at(time.Minute), fresh("a"))
	e.one("d2", at(time.Hour), fresh("a"))
}

func orderKeysIndependent(e *env) {
	e.queue("a", "k", "k1", "k2")
	e.queue("a", "l", "l1", "l2")
	e.queue("b", "k", "b1", "b2")
	e.put(at(0), plain("a", "x"), plain("a", "y"))
	e.all(at(0), []string{"k1", "l1", "x", "y", "b1"}, fresh("a"), fresh("b"))
}

func orderEnqueuedBehindLeased(e *env) {
	e.put(at(0), keyed("a", "k", "d1"))
	c := e.one("d1", at(0), fresh("a"))
	e.put(at(0), keyed("a", "k", "d2"))
	e.none("the first is under way", at(0), fresh("a"))
	e.apply(at(0), ended(c, at(0), webhook.RetryScheduled))
	e.put(at(0), keyed("a", "k", "d3"))
	e.none("the first waits for its retry", at(0), fresh("a"), retry("a"))
	e.one("d1", at(time.Minute), fresh("a"), retry("a"))
}

func orderEveryEnd(e *env) {
	for _, end := range []webhook.State{webhook.Delivered, webhook.Canceled, webhook.Expired} {
		ep := string(end)
		e.queue(ep, "k", ep+"1", ep+"2")
		c := e.one(ep+"1", at(0), fresh(ep))
		e.none("the first is under way", at(0), fresh(ep))
		e.apply(at(0), ended(c, at(0), end))
		e.one(ep+"2", at(0), fresh(ep))
	}
}

func orderStale(e *env) {
	e.queue("a", "k", "d1", "d2")
	first := e.one("d1", at(0), fresh("a"))
	e.one("d1", at(time.Minute), fresh("a"), retry("a"))
	e.stale(at(time.Minute), ended(first, at(time.Minute), webhook.Delivered))
	e.none("the first is under way under another token", at(time.Minute), fresh("a"), retry("a"))
}

func orderLongKey(e *env) {
	var want []string
	for i := range 25 {
		want = append(want, fmt.Sprintf("d%02d", i))
	}
	e.queue("a", "k", want...)
	e.wantKey(at(0), "a", "k", want...)
}

func orderManyKeys(e *env) {
	const keys, each = 10, 3
	for i := range keys * each {
		e.queue("a", fmt.Sprint("k", i%keys), fmt.Sprintf("d%02d", i))
	}
	for round := range each {
		var want []string
		for i := range keys {
			want = append(want, fmt.Sprintf("d%02d", round*keys+i))
		}
		var outcomes []webhook.Outcome
		for _, c := range e.all(at(0), want, fresh("a")) {
			outcomes = append(outcomes, ended(c, at(0), webhook.Delivered))
		}
		e.apply(at(0), outcomes...)
	}
}

func deadLetterCases() []Case {
	const dead = "applies when Next is DeadLetter and the delivery is ordered: with SkipDeadLetter the next of the key may be claimed, else the key waits for HoldStore.ReleaseKey"
	const release = "ReleaseKey lets an ordering key go on past the dead letter that blocks it. It reports whether one did"
	return []Case{
		{"DeadLetter/Skip", dead, needStore, func(e *env) { e.deadLetter(webhook.SkipDeadLetter, []string{"d2"}) }},
		{"DeadLetter/Block", dead, needStore, func(e *env) { e.deadLetter(webhook.BlockBehindDeadLetter, nil) }},
		{"DeadLetter/HoldKey", dead, needStore, func(e *env) { e.deadLetter(webhook.HoldKey, nil) }},
		{"DeadLetter/BlocksLaterSends", dead, needStore, deadLetterBlocksLater},
		{"DeadLetter/OtherKeysGoOn", dead, needStore, deadLetterOtherKeys},
		{"DeadLetter/Unordered", "applies when Next is DeadLetter and the delivery is ordered", needStore, deadLetterUnordered},
		{"ReleaseKey/AfterBlock", release, needStore | needHold, func(e *env) { e.releaseKey(webhook.BlockBehindDeadLetter) }},
		{"ReleaseKey/AfterHoldKey", release, needStore | needHold, func(e *env) { e.releaseKey(webhook.HoldKey) }},
		{"ReleaseKey/EmptyKey", release, needStore | needHold, releaseEmptyKey},
		{"ReleaseKey/NothingToRelease", release, needStore | needHold, releaseNothing},
	}
}

// deadLetter has the first of a key become a dead letter and wants to claim what is left.
func (e *env) deadLetter(policy webhook.OrderPolicy, want []string) {
	e.queue("a", "k", "d1", "d2", "d3")
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.DeadLetter)
	o.BehindDeadLetter = policy
	e.none("the first is under way", at(0), fresh("a"))
	e.apply(at(0), o)
	e.all(at(0), want, fresh("a"), retry("a"))
}

func deadLetterBlocksLater(e *env) {
	for ep, policy := range map[string]webhook.OrderPolicy{"a": webhook.BlockBehindDeadLetter, "b": webhook.HoldKey} {
		e.put(at(0), keyed(ep, "k", ep+"1"))
		o := ended(e.one(ep+"1", at(0), fresh(ep)), at(0), webhook.DeadLetter)
		o.BehindDeadLetter = policy
		e.apply(at(0), o)
		e.put(at(0), keyed(ep, "k", ep+"2"))
		e.none("the key is blocked", at(time.Hour), fresh(ep), retry(ep))
	}
}

func deadLetterOtherKeys(e *env) {
	e.queue("a", "k", "k1", "k2")
	e.queue("b", "k", "b1", "b2")
	o := ended(e.one("k1", at(0), fresh("a")), at(0), webhook.DeadLetter)
	e.apply(at(0), o)
	e.put(at(0), keyed("a", "l", "l1"), plain("a", "x"))
	e.all(at(0), []string{"l1", "x", "b1"}, fresh("a"), fresh("b"))
}

func deadLetterUnordered(e *env) {
	e.put(at(0), plain("a", "d1"))
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.DeadLetter)
	o.BehindDeadLetter = webhook.HoldKey
	e.apply(at(0), o)
	e.put(at(0), plain("a", "d2"))
	e.one("d2", at(0), fresh("a"))
}

// release calls ReleaseKey and wants its answer.
func (e *env) release(endpoint, key string, want bool) {
	got, err := e.holds().ReleaseKey(e.ctx, &webhook.ReleaseKeyRequest{Now: at(0), EndpointID: endpoint, OrderingKey: key})
	e.ok("ReleaseKey", err)
	e.same(fmt.Sprintf("ReleaseKey of %q of %q", key, endpoint), got, want)
}

func (e *env) releaseKey(policy webhook.OrderPolicy) {
	e.queue("a", "k", "d1", "d2", "d3")
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.DeadLetter)
	o.BehindDeadLetter = policy
	e.apply(at(0), o)
	if got := e.claimAll(e.s2, at(time.Hour), fresh("a")); len(got) > 0 {
		e.failf("Claim behind a dead letter: got %v", ids(got))
	}
	e.release("a", "l", false)
	e.release("b", "k", false)
	e.release("a", "k", true)
	e.release("a", "k", false)
	c := e.one("d2", at(0), fresh("a"))
	e.none("the second is under way", at(0), fresh("a"))
	e.apply(at(0), ended(c, at(0), webhook.Delivered))
	e.one("d3", at(0), fresh("a"))
}

// releaseEmptyKey releases a key in which nothing waits yet.
func releaseEmptyKey(e *env) {
	e.put(at(0), keyed("a", "k", "d1"))
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.DeadLetter))
	e.release("a", "k", true)
	e.put(at(0), keyed("a", "k", "d2"))
	c := e.one("d2", at(0), fresh("a"))
	e.same("sequence number", c.Delivery.Sequence, int64(2))
}

func releaseNothing(e *env) {
	e.release("a", "k", false)
	e.queue("a", "k", "d1", "d2", "d3")
	e.release("a", "k", false)
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.DeadLetter)
	o.BehindDeadLetter = webhook.SkipDeadLetter
	e.release("a", "k", false)
	e.apply(at(0), o)
	e.release("a", "k", false)
	e.one("d2", at(0), fresh("a"))
	e.none("the second is under way", at(0), fresh("a"))
}
