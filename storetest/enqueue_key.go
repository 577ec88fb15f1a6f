package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

func enqueueKeyCases() []Case {
	const sequence = "Deliveries with an ordering key get the next sequence numbers of their endpoint and key, in request order, from 1 without gaps"
	return []Case{
		{"Sequence/InRequestOrder", sequence, needStore, sequenceInRequestOrder},
		{"Sequence/PerEndpointAndKey", sequence, needStore, sequencePerEndpointAndKey},
		{"Sequence/KeysAreBytes", sequence, needStore, sequenceKeysAreBytes},
		{"Sequence/GoesOnAfterTheEnd", "get the next sequence numbers of their endpoint and key", needStore, sequenceGoesOn},
		{"Sequence/RepeatTakesNone", "neither stores anything … in request order, from 1 without gaps", needStore, sequenceRepeatTakesNone},
		{"Sequence/ErrorTakesNone", "from 1 without gaps: a rolled back transaction leaves none", needStore, sequenceErrorTakesNone},
		{"Sequence/UnorderedHaveNone", "place within EndpointID and OrderingKey, from 1 without gaps; 0 when unordered", needStore, sequenceUnordered},
	}
}

// drainKey claims and delivers what one key of an endpoint has, one at a time, and returns IDs and sequence numbers in that order.
func (e *env) drainKey(now time.Time, endpoint, key string) (order []string, seqs []int64) {
	for {
		got := e.claim(now, fresh(endpoint))
		progress := false
		for _, c := range got {
			next := webhook.Delivered
			if c.Delivery.OrderingKey == key {
				order, seqs = append(order, c.Delivery.ID), append(seqs, c.Delivery.Sequence)
				progress = true
			} else {
				next = webhook.RetryScheduled // out of the way
			}
			e.apply(now, ended(c, now, next))
		}
		if !progress {
			return order, seqs
		}
	}
}

// wantKey fails the case unless the key's deliveries come in this order, with the sequence numbers 1, 2, 3, …
func (e *env) wantKey(now time.Time, endpoint, key string, want ...string) {
	order, seqs := e.drainKey(now, endpoint, key)
	if !slices.Equal(order, want) {
		e.failf("key %q of %q: got deliveries %v, want %v", key, endpoint, order, want)
	}
	for i, seq := range seqs {
		if seq != int64(i+1) {
			e.failf("key %q of %q: got sequence numbers %v, want 1, 2, 3, …", key, endpoint, seqs)
		}
	}
}

func sequenceInRequestOrder(e *env) {
	e.put(at(0), keyed("a", "k", "z"), keyed("a", "k", "b"), keyed("a", "k", "y"))
	e.put(at(0), keyed("a", "k", "a"), keyed("a", "k", "x"))
	e.wantKey(at(0), "a", "k", "z", "b", "y", "a", "x")
}

func sequencePerEndpointAndKey(e *env) {
	e.put(at(0), keyed("a", "k", "d1"), keyed("a", "l", "d2"), keyed("b", "k", "d3"), keyed("a", "k", "d4"), plain("a", "d5"), keyed("b", "k", "d6"))
	e.wantKey(at(0), "b", "k", "d3", "d6")
	e.wantKey(at(0), "a", "k", "d1", "d4")
	for _, c := range e.all(at(time.Hour), []string{"d2", "d5"}, retry("a")) {
		e.same("sequence number of "+c.Delivery.ID, c.Delivery.Sequence, map[string]int64{"d2": 1}[c.Delivery.ID])
	}
}

func sequenceKeysAreBytes(e *env) {
	keys := []string{"key", "KEY", "key ", "kéy", "ke\u0301y", "straße", "strasse", "🚚", "🚛", "k%", "k_", "%"}
	var events []webhook.NewEvent
	var want []string
	for i, k := range keys {
		id := fmt.Sprintf("d%02d", i)
		events, want = append(events, keyed("a", k, id)), append(want, id)
	}
	e.put(at(0), events...)
	for _, c := range e.all(at(0), want, fresh("a")) {
		e.same(fmt.Sprintf("sequence number in key %q", c.Delivery.OrderingKey), c.Delivery.Sequence, int64(1))
	}
}

func sequenceGoesOn(e *env) {
	e.put(at(0), keyed("a", "k", "d1"))
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.Delivered))
	e.put(at(0), keyed("a", "k", "d2"))
	c := e.one("d2", at(0), fresh("a"))
	e.same("sequence number of the second", c.Delivery.Sequence, int64(2))
}

func sequenceRepeatTakesNone(e *env) {
	e.put(at(0), keyed("a", "k", "d1"))
	got := e.enqueue(at(0), keyed("a", "k", "d1"), other(keyed("a", "k", "d1")), keyed("a", "k", "d2"))
	e.same("statuses", got, []webhook.EnqueueStatus{webhook.Repeat, webhook.Conflict, webhook.Stored})
	e.wantKey(at(0), "a", "k", "d1", "d2")
}

func sequenceErrorTakesNone(e *env) {
	e.put(at(0), keyed("a", "k", "d1"))
	_, err := e.s.Enqueue(e.ctx, &webhook.EnqueueRequest{Now: at(0), Owner: "tester", Events: []webhook.NewEvent{keyed("a", "k", "d2"), leasedKeyed("d3")}})
	if err == nil {
		e.failf("Enqueue of a leased delivery with an ordering key: no error")
	}
	e.put(at(0), keyed("a", "k", "d4"))
	e.wantKey(at(0), "a", "k", "d1", "d4")
}

func sequenceUnordered(e *env) {
	e.put(at(0), plain("a", "d1"), plain("a", "d2"))
	for _, c := range e.all(at(0), []string{"d1", "d2"}, fresh("a")) {
		e.same("Sequence", c.Delivery.Sequence, int64(0))
		e.same("OrderingKey", c.Delivery.OrderingKey, "")
	}
}

func leasedCases() []Case {
	const leased = "inserted claimed by Owner under token 1 until Now+Lease"
	return []Case{
		{"Leased/NotClaimed", leased, needStore, leasedNotClaimed},
		{"Leased/Completed", leased, needStore, leasedCompleted},
		{"Leased/TakenOver", leased, needStore, leasedTakenOver},
		{"Leased/RepeatLeasesNothing", "known, same content: nothing written, nothing leased", needStore, leasedRepeat},
		{"Leased/RefusedWithKey", "Refused with an OrderingKey", needStore, leasedRefusedWithKey},
		{"Leased/InTx", "and with ErrLeaseInTx in a caller's transaction", needStore | needTx, leasedInTx},
	}
}

func leasedFor(endpoint, id string, lease time.Duration) webhook.NewEvent {
	ev := plain(endpoint, id)
	ev.Deliveries[0].Lease = lease
	return ev
}

func leasedNotClaimed(e *env) {
	e.put(at(0), leasedFor("a", "d1", time.Minute), plain("a", "d2"))
	e.one("d2", at(0), fresh("a"), retry("a"))
	e.none("the lease runs", at(time.Minute-time.Microsecond), fresh("a"), retry("a"))
}

func leasedCompleted(e *env) {
	e.put(at(0), leasedFor("a", "d1", time.Minute))
	e.apply(at(time.Second), webhook.Outcome{EndpointID: "a", DeliveryID: "d1", Token: 1, Next: webhook.Delivered,
		Attempt: &webhook.Attempt{DeliveryID: "d1", Number: 1, Token: 1, StartedAt: at(0), Duration: time.Second, Status: 200}})
	e.none("it is delivered", at(time.Hour), fresh("a"), retry("a"))
}

func leasedTakenOver(e *env) {
	e.put(at(0), leasedFor("a", "d1", time.Minute))
	c := e.one("d1", at(time.Minute), fresh("a"))
	if c.Token <= 1 {
		e.failf("token of the second claim is %d, want more than 1", c.Token)
	}
	old := c
	old.Token = 1
	e.stale(at(time.Minute), ended(old, at(time.Minute), webhook.Delivered))
	e.apply(at(time.Minute), ended(c, at(time.Minute), webhook.Delivered))
}

func leasedRepeat(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.same("status", e.enqueue(at(0), leasedFor("a", "d1", time.Hour))[0], webhook.Repeat)
	e.one("d1", at(0), fresh("a"))
}

func leasedRefusedWithKey(e *env) {
	_, err := e.s.Enqueue(e.ctx, &webhook.EnqueueRequest{Now: at(0), Owner: "tester", Events: []webhook.NewEvent{leasedKeyed("d1")}})
	if err == nil {
		e.failf("Enqueue: no error")
	}
}

func leasedInTx(e *env) {
	tx := e.begin()
	_, err := tx.Enqueue(e.ctx, &webhook.EnqueueRequest{Now: at(0), Owner: "tester", Events: []webhook.NewEvent{leasedFor("a", "d1", time.Minute)}})
	e.wantErr("Enqueue", err, webhook.ErrLeaseInTx)
	e.ok("Rollback", tx.Rollback())
	e.put(at(0), plain("a", "d1"))
}
