package storetest

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/signalpost/webhook"
)

// drain is many workers that enqueue, claim and complete at once, and the history of what they saw.
type drain struct {
	e *env

	clock     sync.RWMutex // held for reading while somebody works: time stands still then
	now       time.Time
	producing int // batches still to be enqueued
	idle      int // how often in a row nothing could be claimed

	mu      sync.Mutex
	tick    int64 // orders what happens
	waiting int   // deliveries not ended yet
	spans   []*span
	endings map[string]int
	late    []webhook.Outcome // of leases let run out
}

// span is one lease as its holder saw it: it held no longer than from before Claim returned until after Complete began.
type span struct {
	c          webhook.Claimed
	now        time.Time // of the claim
	start, end int64     // ticks; end 0: let run out
}

const (
	drainWorkers = 8
	drainBatches = 12 // for each of two producers
)

// concurrentDrain has two producers and eight workers, which deliver, retry, give back and forget. Time moves on only when all are idle.
// Afterwards the history must show: each delivery leased to one at a time under growing tokens and ended once; each key in order.
func concurrentDrain(e *env) {
	d := &drain{e: e, now: at(0), endings: map[string]int{}, waiting: 2 * drainBatches * 6, producing: 2 * drainBatches}
	e.parallel(drainWorkers+2, func(i int) {
		if i < 2 {
			d.produce(i)
			return
		}
		for d.work(e.handle(i)) {
		}
	})
	for _, o := range d.late {
		e.stale(d.now, o)
	}
	d.check()
	e.same("lanes", len(e.lanes(100)), 0)
}

// produce enqueues six deliveries a batch: two keys, some unordered.
func (d *drain) produce(i int) {
	for b := range drainBatches {
		var events []webhook.NewEvent
		for n := range 6 {
			id, ep := fmt.Sprintf("p%d-%02d-%d", i, b, n), fmt.Sprint("ep", n%3)
			if n < 4 {
				events = append(events, keyed(ep, fmt.Sprint("k", n%2), id))
			} else {
				events = append(events, plain(ep, id))
			}
		}
		d.enqueue(d.e.handle(i), events)
	}
}

func (d *drain) enqueue(s webhook.Store, events []webhook.NewEvent) {
	d.clock.RLock()
	defer d.clock.RUnlock()
	d.e.enqueueOn(s, d.now, events...)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.producing--
}

// work claims once and completes what it got. With nothing got and nobody at work it moves time on. It reports false when all is done.
func (d *drain) work(s webhook.Store) bool {
	waiting, before := d.progress()
	if waiting == 0 || d.e.stopped.Load() {
		return false
	}
	got, now, next := d.claim(s)
	if got > 0 {
		return true
	}
	d.clock.Lock()
	defer d.clock.Unlock()
	switch waiting, after := d.progress(); {
	case after != before || !d.now.Equal(now) || d.producing > 0:
		d.idle = 0
	case !next.IsZero():
		d.now, d.idle = next, 0
	default: // a store may need a few claims to find what is claimable, but not many
		if d.idle++; d.idle > 100 {
			d.e.failf("%d deliveries have not ended, but nothing can be claimed any more", waiting)
		}
	}
	return true
}

// progress returns how many deliveries wait for their end and how much has happened.
func (d *drain) progress() (waiting int, tick int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting, d.tick
}

// claim claims from all lanes, completes what it got and returns how much that was and when more is due.
func (d *drain) claim(s webhook.Store) (n int, now, next time.Time) {
	d.clock.RLock()
	defer d.clock.RUnlock()
	page, err := s.Lanes(d.e.ctx, &webhook.LanesRequest{Limit: 100})
	d.e.ok("Lanes", err)
	var lanes []webhook.LaneClaim
	for _, l := range page.Lanes {
		lanes = append(lanes, lane(l.EndpointID, l.Class, 3))
		if l.Earliest.After(d.now) && (next.IsZero() || l.Earliest.Before(next)) {
			next = l.Earliest
		}
	}
	if len(lanes) == 0 {
		return 0, d.now, next
	}
	got := d.e.claimOn(s, d.now, 5, lanes...).Deliveries
	if len(got) > 0 {
		d.finish(s, d.now, got)
	}
	return len(got), d.now, next
}

// finish enters the leases into the history and completes them.
func (d *drain) finish(s webhook.Store, now time.Time, got []webhook.Claimed) {
	var spans []*span
	d.mu.Lock()
	d.tick++
	for _, c := range got {
		spans = append(spans, &span{c: c, now: now, start: d.tick})
	}
	d.spans = append(d.spans, spans...)
	d.mu.Unlock()

	var outcomes []webhook.Outcome
	for _, sp := range spans {
		if o, ok := fate(sp.c, now); ok {
			outcomes = append(outcomes, o)
			continue
		}
		d.mu.Lock()
		d.late = append(d.late, ended(sp.c, now, webhook.Delivered))
		d.mu.Unlock()
	}
	if len(outcomes) == 0 {
		return
	}
	d.mu.Lock()
	d.tick++
	for _, sp := range spans {
		if slices.ContainsFunc(outcomes, func(o webhook.Outcome) bool { return o.DeliveryID == sp.c.Delivery.ID }) {
			sp.end = d.tick
		}
	}
	d.mu.Unlock()
	res, err := s.Complete(d.e.ctx, &webhook.CompleteRequest{Now: now, Outcomes: outcomes})
	d.e.ok("Complete", err)
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, st := range res.Outcomes {
		if st != webhook.Applied {
			d.e.failf("Complete of %s: got status %d, but its lease runs", outcomes[i].DeliveryID, st)
		}
		if outcomes[i].Next.Final() {
			d.endings[outcomes[i].DeliveryID]++
			d.waiting--
		}
	}
}

// fate decides, by ID and token, what becomes of a claimed delivery; false: its lease is let run out. The tenth attempt ends it.
func fate(c webhook.Claimed, now time.Time) (webhook.Outcome, bool) {
	h := fnv.New32a()
	fmt.Fprint(h, c.Delivery.ID, c.Token)
	switch n := h.Sum32() % 10; {
	case n < 6 || c.Token > 9:
		return ended(c, now, webhook.Delivered), true
	case n == 6:
		o := ended(c, now, webhook.DeadLetter)
		o.BehindDeadLetter = webhook.SkipDeadLetter
		return o, true
	case n == 7:
		return ended(c, now, webhook.RetryScheduled), true
	case n == 8:
		return back(c), true
	}
	return webhook.Outcome{}, false
}

// check reads the history.
func (d *drain) check() {
	byDelivery, byKey := map[string][]*span{}, map[string][]*span{}
	for _, sp := range d.spans {
		byDelivery[sp.c.Delivery.ID] = append(byDelivery[sp.c.Delivery.ID], sp)
		if k := sp.c.Delivery.OrderingKey; k != "" {
			k = sp.c.Delivery.EndpointID + " " + k
			byKey[k] = append(byKey[k], sp)
		}
	}
	d.e.same("deliveries claimed", len(byDelivery), 2*drainBatches*6)
	for id, spans := range byDelivery {
		if d.endings[id] != 1 {
			d.e.failf("%s ended %d times", id, d.endings[id])
		}
		slices.SortFunc(spans, func(a, b *span) int { return cmp.Compare(a.c.Token, b.c.Token) })
		d.oneAtATime(spans)
	}
	for _, spans := range byKey {
		slices.SortStableFunc(spans, func(a, b *span) int {
			return cmp.Or(cmp.Compare(a.c.Delivery.Sequence, b.c.Delivery.Sequence), cmp.Compare(a.c.Token, b.c.Token))
		})
		d.oneAtATime(spans)
	}
}

// oneAtATime fails unless each lease began after the one before it ended.
func (d *drain) oneAtATime(spans []*span) {
	for i := 1; i < len(spans); i++ {
		a, b := spans[i-1], spans[i]
		sameDelivery := a.c.Delivery.ID == b.c.Delivery.ID
		if sameDelivery && a.c.Token == b.c.Token {
			d.e.failf("%s was claimed twice under token %d", a.c.Delivery.ID, a.c.Token)
		}
		completed := a.end != 0 && a.end < b.start
		if !completed && (!sameDelivery || b.now.Before(a.c.LeaseUntil)) {
			d.e.failf("%s (token %d) was leased while %s (token %d) was", b.c.Delivery.ID, b.c.Token, a.c.Delivery.ID, a.c.Token)
		}
	}
}
