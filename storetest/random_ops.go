package storetest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

// walkEndpoints are few, and so are walkKeys, so that things meet. The last endpoint has a rate.
var walkEndpoints = [...]string{"a", "b", "limited"}

var walkKeys = [...]string{"k", "l"}

func walkRate() webhook.Rate { return webhook.Rate{Events: 1, Per: 8 * time.Second, Burst: 2} }

// events makes up to four events; some are repeats or conflicts of earlier ones.
func (w *walk) events() []webhook.NewEvent {
	var events []webhook.NewEvent
	for i := range 1 + w.r.IntN(4) {
		id := fmt.Sprintf("e%x-%d", w.id, i)
		switch {
		case w.chance(6) && len(w.m.order) > 0:
			id = w.m.order[w.r.IntN(len(w.m.order))].d.EventID
		case w.chance(8) && i > 0:
			id = events[0].Event.ID
		}
		ev := event(id)
		if w.chance(10) {
			ev = other(ev)
		}
		key := ""
		if w.chance(2) {
			key = walkKeys[w.r.IntN(len(walkKeys))]
		}
		for n := range 1 + w.r.IntN(2) {
			ev.Deliveries = append(ev.Deliveries, w.delivery(fmt.Sprintf("d%x-%d-%d", w.id, i, n), key))
		}
		events = append(events, ev)
	}
	return events
}

func (w *walk) delivery(id, key string) webhook.NewDelivery {
	d := webhook.NewDelivery{ID: id, EndpointID: walkEndpoints[w.r.IntN(len(walkEndpoints))], OrderingKey: key}
	switch {
	case w.chance(3):
		d.DueAt = w.m.now.Add(time.Duration(w.r.IntN(20)-5) * time.Second)
	case w.chance(5) && key == "":
		d.Lease = time.Duration(1+w.r.IntN(30)) * time.Second
	}
	if w.chance(4) {
		d.ExpiresAt = w.m.now.Add(time.Duration(w.r.IntN(60)-5) * time.Second)
	}
	return d
}

func (w *walk) opEnqueue() {
	events := w.events()
	w.note("Enqueue %s", describeEvents(events))
	got := w.enqueueOn(w.store(), w.m.now, events...)
	w.same("statuses", got, w.m.enqueue(events))
}

func describeEvents(events []webhook.NewEvent) (s string) {
	for _, ev := range events {
		s += fmt.Sprintf("%s(%x)", ev.Event.ID, ev.Digest[:2])
		for _, d := range ev.Deliveries {
			s += fmt.Sprintf(" %s→%s", d.ID, d.EndpointID)
			if d.OrderingKey != "" {
				s += " key " + d.OrderingKey
			}
			if !d.DueAt.IsZero() {
				s += fmt.Sprintf(" due %v", d.DueAt.Sub(at(0)))
			}
			if d.Lease > 0 {
				s += fmt.Sprintf(" leased %v", d.Lease)
			}
			if !d.ExpiresAt.IsZero() {
				s += fmt.Sprintf(" expires %v", d.ExpiresAt.Sub(at(0)))
			}
		}
		s += "; "
	}
	return s
}

// opTx enqueues in a transaction and commits or rolls back.
func (w *walk) opTx() {
	if w.h.Begin == nil {
		return
	}
	events := w.events()
	for i := range events {
		for j := range events[i].Deliveries {
			events[i].Deliveries[j].Lease = 0
		}
	}
	commit := !w.chance(2)
	w.note("Enqueue in a transaction, commit %v: %s", commit, describeEvents(events))
	tx := w.begin()
	got := w.enqueueOn(tx, w.m.now, events...)
	if !commit {
		w.ok("Rollback", tx.Rollback())
		return
	}
	w.ok("Commit", tx.Commit())
	w.same("statuses", got, w.m.enqueue(events))
}

// opRefused enqueues events of which one cannot be stored.
func (w *walk) opRefused() {
	bad := leasedKeyed(fmt.Sprintf("bad%x", w.id))
	events := append(w.events(), bad)
	w.note("Enqueue, to be refused: %s", describeEvents(events))
	_, err := w.store().Enqueue(w.ctx, &webhook.EnqueueRequest{Now: w.m.now, Owner: "tester", Events: events})
	if err == nil {
		w.failf("Enqueue of a leased delivery with an ordering key: no error")
	}
}

func (w *walk) opLanes() {
	w.note("Lanes")
	w.try("Lanes", w.m.listed(w.lanes(1+w.r.IntN(4))))
}

// opClaim claims from some lanes, in some order; now and then with From as Lanes gives it.
func (w *walk) opClaim() {
	var lanes []webhook.LaneClaim
	from := map[webhook.LaneID]time.Time{}
	if w.chance(3) {
		for _, l := range w.lanes(100) {
			from[l.LaneID] = l.From
		}
	}
	for _, ep := range walkEndpoints {
		for _, class := range []webhook.Class{webhook.Fresh, webhook.Retry} {
			if w.chance(3) {
				continue
			}
			l := lane(ep, class, 1+w.r.IntN(4))
			l.Lease = time.Duration(1+w.r.IntN(40)) * time.Second
			l.From = from[l.LaneID]
			if ep == walkEndpoints[2] {
				l.Rate = walkRate()
			}
			lanes = append(lanes, l)
		}
	}
	if len(lanes) == 0 {
		return
	}
	w.r.Shuffle(len(lanes), func(i, j int) { lanes[i], lanes[j] = lanes[j], lanes[i] })
	w.claimLanes(1+w.r.IntN(8), lanes)
}

// claimLanes claims and has the model check the answer. It returns how much that gave.
func (w *walk) claimLanes(limit int, lanes []webhook.LaneClaim) []webhook.Claimed {
	req := &webhook.ClaimRequest{Now: w.m.now, Owner: "tester", Lanes: lanes, Limit: limit}
	w.note("Claim %s limit %d", describeLanes(lanes), limit)
	res, err := w.store().Claim(w.ctx, req)
	w.ok("Claim", err)
	w.log[len(w.log)-1] += fmt.Sprintf(" gives %v", ids(res.Deliveries))
	w.try("Claim", w.m.claimed(req, res))
	return res.Deliveries
}

func describeLanes(lanes []webhook.LaneClaim) (s string) {
	for _, l := range lanes {
		s += fmt.Sprintf("%s/%d max %d for %v, ", l.EndpointID, l.Class, l.Max, l.Lease)
	}
	return s
}

// pick returns a claim: mostly one whose lease should run, else an earlier one of such a delivery, else any that ever was.
func (w *walk) pick() (webhook.Claimed, bool) {
	if len(w.m.claims) == 0 {
		return webhook.Claimed{}, false
	}
	var running, earlier []webhook.Claimed
	for _, c := range w.m.claims {
		switch r := w.m.rows[c.Delivery.ID]; {
		case r.leased && r.token == c.Token:
			running = append(running, c)
		case r.leased:
			earlier = append(earlier, c)
		}
	}
	switch n := w.r.IntN(6); {
	case n < 4 && len(running) > 0:
		return running[w.r.IntN(len(running))], true
	case n == 4 && len(earlier) > 0:
		return earlier[w.r.IntN(len(earlier))], true
	}
	return w.m.claims[w.r.IntN(len(w.m.claims))], true
}

func (w *walk) opExtend() {
	c, ok := w.pick()
	if !ok {
		return
	}
	until := w.m.now.Add(time.Duration(1+w.r.IntN(60)) * time.Second)
	w.note("Extend %s under %d until %v", c.Delivery.ID, c.Token, until.Sub(at(0)))
	w.try("Extend", w.m.extend(ref(c, until), w.extend(c, w.m.now, until)))
}

// opComplete completes up to four claims.
func (w *walk) opComplete() {
	var outcomes []webhook.Outcome
	seen := map[string]bool{}
	for range 1 + w.r.IntN(4) {
		if c, ok := w.pick(); ok && !seen[c.Delivery.ID] {
			seen[c.Delivery.ID] = true
			o := w.outcome(c)
			if w.chance(10) {
				o.OrderingKey = [...]string{"", "other"}[w.r.IntN(2)] // a hint
			}
			outcomes = append(outcomes, o)
		}
	}
	if w.chance(10) {
		outcomes = append(outcomes, webhook.Outcome{EndpointID: "a", DeliveryID: "nobody", Token: 1, Next: webhook.Delivered})
	}
	if len(outcomes) == 0 {
		return
	}
	text := ""
	for _, o := range outcomes {
		text += fmt.Sprintf("%s under %d to %s (attempt %v, behind %d), ", o.DeliveryID, o.Token, o.Next, o.Attempt != nil, o.BehindDeadLetter)
	}
	w.note("Complete %s", text)
	res, err := w.store().Complete(w.ctx, &webhook.CompleteRequest{Now: w.m.now, Outcomes: outcomes})
	w.ok("Complete", err)
	for i, o := range outcomes {
		w.same("status of "+o.DeliveryID, res.Outcomes[i], w.m.complete(o))
	}
	w.try("Complete", w.m.woken(res.Woken))
}

func (w *walk) outcome(c webhook.Claimed) webhook.Outcome {
	next := []webhook.State{webhook.Delivered, webhook.Delivered, webhook.Delivered, webhook.RetryScheduled, webhook.RetryScheduled,
		webhook.DeadLetter, webhook.Queued, webhook.Canceled, webhook.Expired}[w.r.IntN(9)]
	o := ended(c, w.m.now, next)
	o.Reason = fmt.Sprintf("reason %x", w.id%256)
	o.BehindDeadLetter = webhook.OrderPolicy(w.r.IntN(3))
	switch next {
	case webhook.RetryScheduled:
		o.DueAt = w.m.now.Add(time.Duration(w.r.IntN(30)) * time.Second)
	case webhook.Queued:
		if w.chance(2) {
			o.Attempt = nil
		}
		if w.chance(2) {
			o.DueAt = w.m.now.Add(time.Duration(w.r.IntN(10)) * time.Second)
		}
	case webhook.Canceled, webhook.Expired:
		o.Attempt = nil
	}
	return o
}

func (w *walk) opHold() {
	if _, ok := w.h.Store.(webhook.HoldStore); !ok {
		return
	}
	ep, until := walkEndpoints[w.r.IntN(len(walkEndpoints))], time.Time{}
	if !w.chance(3) {
		until = w.m.now.Add(time.Duration(1+w.r.IntN(40)) * time.Second)
	}
	w.note("Hold %s until %v", ep, until)
	w.hold(ep, until)
	w.m.hold(ep, until)
}

func (w *walk) opUnhold() {
	if _, ok := w.h.Store.(webhook.HoldStore); !ok {
		return
	}
	ep := walkEndpoints[w.r.IntN(len(walkEndpoints))]
	w.note("Unhold %s", ep)
	w.unhold(ep)
	w.m.unhold(ep)
}

func (w *walk) opRelease() {
	if _, ok := w.h.Store.(webhook.HoldStore); !ok {
		return
	}
	ep, key := walkEndpoints[w.r.IntN(len(walkEndpoints))], walkKeys[w.r.IntN(len(walkKeys))]
	w.note("ReleaseKey %s of %s", key, ep)
	w.release(ep, key, w.m.release(ep, key))
}

func (w *walk) opAdvance() {
	w.m.now = w.m.now.Add(time.Duration(w.r.IntN(15_000_000)) * time.Microsecond)
}

// opRead compares all deliveries, and the attempts of one, with the model.
func (w *walk) opRead() {
	q, ok := w.h.Store.(webhook.QueryStore)
	if !ok {
		return
	}
	w.note("read all")
	n, after := 0, ""
	for {
		res, err := q.ListDeliveries(w.ctx, &webhook.ListDeliveriesRequest{Now: w.m.now, After: after})
		w.ok("ListDeliveries", err)
		for _, d := range res.Deliveries {
			w.try("ListDeliveries", w.m.read(d))
			n++
		}
		if after = res.Next; after == "" {
			break
		}
	}
	w.same("deliveries listed", n, len(w.m.rows))
	if n > 0 {
		w.readAttempts(w.m.order[w.r.IntN(len(w.m.order))])
		w.readAttempts(slices.MaxFunc(w.m.order, func(a, b *mrow) int { return cmp.Compare(len(a.attempts), len(b.attempts)) }))
	}
}

func (w *walk) readAttempts(r *mrow) {
	got := w.attempts(r.d.ID, len(r.attempts))
	for i, a := range got {
		if i > 0 && a.Token <= got[i-1].Token {
			w.failf("attempts of %s: not in the order of their tokens", r.d.ID)
		}
		w.sameAttempt(a, r.attempts[a.Token])
	}
}

// drain ends all holds and delivers everything, so that nothing can be lost unseen.
func (w *walk) drain() {
	w.r = rand.New(rand.NewPCG(1, 1))
	w.opBacklog()
	for _, ep := range walkEndpoints {
		if hs, ok := w.h.Store.(webhook.HoldStore); ok {
			w.ok("Unhold", hs.Unhold(w.ctx, ep))
			w.m.unhold(ep)
			for _, key := range walkKeys {
				w.release(ep, key, w.m.release(ep, key))
			}
		}
	}
	w.note("deliver all")
	var lanes []webhook.LaneClaim
	for _, ep := range walkEndpoints {
		lanes = append(lanes, lane(ep, webhook.Fresh, 100), lane(ep, webhook.Retry, 100))
	}
	w.m.now = w.m.now.Add(time.Hour)
	for range 10 * (1 + len(w.m.order)) {
		got := w.claimLanes(50, lanes)
		var outcomes []webhook.Outcome
		for _, c := range got {
			outcomes = append(outcomes, ended(c, w.m.now, webhook.Delivered))
			w.m.complete(outcomes[len(outcomes)-1])
		}
		if len(outcomes) > 0 {
			w.apply(w.m.now, outcomes...)
		} else if !w.anyClaimable() {
			break
		}
	}
	for _, r := range w.m.order {
		if waits, _ := w.m.blocked(r); r.waits() && !waits {
			w.failf("%s cannot be claimed any more: %s", r.d.ID, w.m.describe(r.d.ID))
		}
	}
	w.r = rand.New(rand.NewPCG(1, 1))
	w.opRead()
}

// anyClaimable reports whether something should still be claimable.
func (w *walk) anyClaimable() bool {
	return slices.ContainsFunc(w.m.order, func(r *mrow) bool {
		waits, _ := w.m.blocked(r)
		return r.waits() && !waits && !r.due().After(w.m.now)
	})
}
