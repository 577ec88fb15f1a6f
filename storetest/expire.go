package storetest

import (
	"fmt"
	"time"

	"github.com/signalpost/webhook"
)

func expireCases() []Case {
	const expires = "From then on it is not to be sent; see LifeStore.End"
	const due = "those whose ExpiresAt has come, earliest first"
	const need = needStore | needLife
	return []Case{
		{"Enqueue/ExpiresAt", "zero: never; else after the Unix epoch", needStore, enqueueExpiresAt},
		{"Enqueue/ExpiresAtWhenRead", "zero: never; else after the Unix epoch", needStore | needQuery, enqueueExpiresAtRead},
		{"Enqueue/ExpiresAtRefused", "zero: never; else after the Unix epoch", needStore, enqueueExpiresAtRefused},
		{"Enqueue/ExpiresAtOfRepeat", "neither stores anything, and neither is an error", need, enqueueExpiresAtRepeat},
		{"Expire/StillClaimed", expires, needStore, expireStillClaimed},
		{"Expire/Due", due, need | needQuery, expireDue},
		{"Expire/EarliestFirst", due, need, expireEarliestFirst},
		{"Expire/Leased", "What is leased at Now is left alone unless req.Leased is set", need | needQuery, expireLeased},
		{"Expire/LeaseExtended", "What is leased at Now is left alone unless req.Leased is set", need, expireLeaseExtended},
		{"Expire/Retrying", due, need, expireRetrying},
		{"Expire/Finished", "What is final already is not touched", need | needQuery, expireFinished},
		{"Expire/Ordered", endPlace, need | needQuery, expireOrdered},
		{"Expire/More", "Limit cut it short", need, expireMore},
		{"Expire/InTx", due, need | needTx, expireInTx},
	}
}

// until is a delivery that expires so long after at(0).
func until(endpoint, id string, after time.Duration) webhook.NewDelivery {
	return webhook.NewDelivery{ID: id, EndpointID: endpoint, ExpiresAt: at(after)}
}

// expire ends what has expired and wants those named, earliest first, asking again while there is More.
func (e *env) expire(now time.Time, limit int, want ...string) {
	var all []string
	for range 100 {
		res := e.end(webhook.EndRequest{Now: now, Expired: true, Next: webhook.Expired, Reason: "too late", Limit: limit})
		all = append(all, deliveryIDs(res.Ended)...)
		if !res.More {
			e.same(fmt.Sprintf("expired at %v", now.Sub(at(0))), all, want)
			return
		}
	}
	e.failf("End says More without end")
}

func enqueueExpiresAt(e *env) {
	late := event("e1", until("a", "d1", time.Hour+1999), to("a", "d2"))
	late.Deliveries = append(late.Deliveries, webhook.NewDelivery{ID: "d3", EndpointID: "a", OrderingKey: "k", ExpiresAt: at(time.Minute)},
		webhook.NewDelivery{ID: "d4", EndpointID: "a", DueAt: at(-time.Second), ExpiresAt: at(-time.Second)})
	e.put(at(0), late)
	want := map[string]time.Time{"d1": at(time.Hour + time.Microsecond), "d3": at(time.Minute), "d4": at(-time.Second)}
	for _, c := range e.all(at(0), []string{"d1", "d2", "d3", "d4"}, fresh("a")) {
		e.sameTime("ExpiresAt of "+c.Delivery.ID, c.Delivery.ExpiresAt, want[c.Delivery.ID])
	}
}

func enqueueExpiresAtRead(e *env) {
	e.put(at(0), event("e1", until("a", "d1", time.Hour), to("a", "d2")))
	for i := range 3 {
		e.sameTime("ExpiresAt when read", e.delivery("d1", at(0)).ExpiresAt, at(time.Hour))
		e.sameTime("ExpiresAt of what never expires", e.delivery("d2", at(0)).ExpiresAt, time.Time{})
		next := []webhook.State{webhook.RetryScheduled, webhook.Delivered}
		if i < len(next) {
			now := at(time.Duration(i) * time.Minute)
			for _, c := range e.all(now, []string{"d1", "d2"}, fresh("a"), retry("a")) {
				e.apply(now, ended(c, now, next[i]))
			}
		}
	}
}

func enqueueExpiresAtRefused(e *env) {
	for _, bad := range []time.Time{time.Unix(0, 0), time.Unix(0, 999), time.Unix(-1, 0)} {
		d := to("a", "d2")
		d.ExpiresAt = bad
		_, err := e.s.Enqueue(e.ctx, &webhook.EnqueueRequest{Now: at(0), Owner: "tester", Events: []webhook.NewEvent{plain("a", "d1"), event("e2", d)}})
		e.wantErr(fmt.Sprintf("Enqueue with ExpiresAt %v", bad), err, webhook.ErrInvalid)
	}
	e.none("nothing was stored", at(0), fresh("a"))
}

func enqueueExpiresAtRepeat(e *env) {
	e.put(at(0), event("e1", to("a", "d1")))
	e.enqueue(at(0), event("e1", until("a", "d1", time.Second)), event("e1", until("a", "d2", time.Second)))
	e.expire(at(time.Hour), 0)
	e.same("ExpiresAt", e.one("d1", at(0), fresh("a")).Delivery.ExpiresAt, time.Time{})
}

// expireStillClaimed checks that a store leaves the judgement to who claims.
func expireStillClaimed(e *env) {
	e.put(at(0), event("e1", until("a", "d1", time.Second)))
	c := e.one("d1", at(time.Minute), fresh("a"))
	e.sameTime("ExpiresAt", c.Delivery.ExpiresAt, at(time.Second))
	e.apply(at(time.Minute), webhook.Outcome{EndpointID: "a", DeliveryID: "d1", Token: c.Token, Next: webhook.Expired})
}

func expireDue(e *env) {
	e.put(at(0), event("e1", until("a", "d1", 2*time.Second), to("a", "d2"), until("b", "d3", time.Second)))
	e.expire(at(time.Second-time.Microsecond), 0)
	e.expire(at(time.Second), 0, "d3")
	d := e.delivery("d3", at(time.Second))
	e.sameDelivery(d, webhook.Delivery{ID: "d3", EventID: "e1", EndpointID: "b", State: webhook.Expired, Reason: "too late",
		CreatedAt: at(0), FinishedAt: at(time.Second), ExpiresAt: at(time.Second)})
	e.expire(at(time.Second), 0)
	e.expire(at(time.Hour), 0, "d1")
	e.one("d2", at(time.Hour), fresh("a"), fresh("b"))
}

func expireEarliestFirst(e *env) {
	e.put(at(0), event("e1", until("a", "d1", 3*time.Second), until("a", "d2", time.Second), until("b", "d3", 2*time.Second),
		webhook.NewDelivery{ID: "d4", EndpointID: "a", DueAt: at(time.Hour), ExpiresAt: at(1500 * time.Millisecond)}))
	e.expire(at(time.Minute), 1, "d2", "d4", "d3", "d1")
}

func expireLeased(e *env) {
	e.put(at(0), event("e1", until("a", "d1", time.Second)), event("e2", until("a", "d2", time.Second)), event("e3", until("a", "d3", time.Second)))
	got := e.all(at(0), []string{"d1", "d2", "d3"}, fresh("a"))
	e.expire(at(2*time.Second), 0)
	for _, c := range got {
		if c.Delivery.ID == "d1" {
			e.apply(at(3*time.Second), ended(c, at(3*time.Second), webhook.Delivered))
		}
	}
	e.expire(at(time.Minute-time.Microsecond), 0)
	res := e.end(webhook.EndRequest{Now: at(time.Minute - time.Microsecond), DeliveryID: "d2", Leased: true, Next: webhook.Expired})
	e.same("ended under its lease", deliveryIDs(res.Ended), []string{"d2"})
	e.expire(at(time.Minute), 0, "d3")
	e.same("state of what was delivered meanwhile", e.delivery("d1", at(time.Minute)).State, webhook.Delivered)
	e.none("all are ended", at(time.Hour), fresh("a"), retry("a"))
}

func expireLeaseExtended(e *env) {
	e.put(at(0), event("e1", until("a", "d1", time.Second)))
	c := e.one("d1", at(0), fresh("a"))
	e.expire(at(2*time.Second), 0)
	e.extend(c, at(30*time.Second), at(2*time.Minute))
	e.expire(at(time.Minute), 0)
	e.expire(at(2*time.Minute), 0, "d1")
}

func expireRetrying(e *env) {
	e.put(at(0), event("e1", until("a", "d1", time.Hour)), event("e2", until("b", "d2", time.Hour+time.Microsecond)))
	for _, c := range e.all(at(0), []string{"d1", "d2"}, fresh("a"), fresh("b")) {
		o := ended(c, at(0), webhook.RetryScheduled)
		o.DueAt = at(2 * time.Hour)
		e.apply(at(0), o)
	}
	e.expire(at(time.Hour-time.Microsecond), 0)
	e.expire(at(time.Hour), 0, "d1")
	e.expire(at(2*time.Hour), 0, "d2")
	e.none("both are ended", at(3*time.Hour), retry("a"), retry("b"))
}

func expireFinished(e *env) {
	e.put(at(0), event("e1", until("a", "d1", time.Second), until("a", "d2", time.Second), until("a", "d3", time.Second)))
	states := map[string]webhook.State{"d1": webhook.Delivered, "d2": webhook.DeadLetter, "d3": webhook.Canceled}
	for _, c := range e.all(at(0), []string{"d1", "d2", "d3"}, fresh("a")) {
		e.apply(at(0), ended(c, at(0), states[c.Delivery.ID]))
	}
	e.expire(at(time.Hour), 2)
	e.wantStates(at(time.Hour), states)
}

func expireOrdered(e *env) {
	for _, id := range []string{"d1", "d2", "d3"} {
		ev := keyed("a", "k", id)
		if id != "d3" {
			ev.Deliveries[0].ExpiresAt = at(time.Second)
		}
		e.put(at(0), ev)
	}
	first := e.one("d1", at(0), fresh("a"))
	e.none("the first is under way", at(0), fresh("a"))
	e.expire(at(2*time.Second), 0, "d2")
	e.same("state of the second", e.delivery("d2", at(2*time.Second)).State, webhook.Expired)
	e.apply(at(2*time.Second), ended(first, at(2*time.Second), webhook.Delivered))
	c := e.one("d2", at(2*time.Second), fresh("a"))
	e.over(c)
	e.expire(at(time.Hour), 0)
	e.apply(at(2*time.Second), ended(c, at(2*time.Second), webhook.Expired))
	e.one("d3", at(2*time.Second), fresh("a"))
}

func expireMore(e *env) {
	var rows []webhook.NewDelivery
	var want []string
	for i := range 20 {
		d := until("a", fmt.Sprintf("d%02d", i), time.Duration(i)*time.Second)
		rows, want = append(rows, d), append(want, d.ID)
	}
	e.put(at(0), event("e1", rows...))
	res := e.end(webhook.EndRequest{Now: at(time.Hour), Expired: true, Next: webhook.Expired, Limit: 6})
	e.same("the first", []any{deliveryIDs(res.Ended), res.More}, []any{want[:6], true})
	e.expire(at(time.Hour), 7, want[6:]...)
}

func expireInTx(e *env) {
	tx := e.begin()
	e.enqueueOn(tx, at(0), event("e1", until("a", "d1", time.Second)))
	e.ok("Rollback", tx.Rollback())
	e.expire(at(time.Hour), 0)
	tx = e.begin()
	e.enqueueOn(tx, at(0), event("e1", until("a", "d1", time.Second)))
	e.ok("Commit", tx.Commit())
	e.expire(at(time.Hour), 0, "d1")
}
