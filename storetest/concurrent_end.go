package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/signalpost/webhook"
)

// ending is workers that claim and complete while others end what they can get, and the history of what they saw.
type ending struct {
	e *env
	d *drain // for its history

	mu      sync.Mutex
	endings map[string][]string // by delivery, how it ended
	over    map[string]int      // how often it was taken out of its key
}

const (
	endingKeys = 4
	endingEach = 12 // deliveries of each key, and as many unordered ones
)

// concurrentEnd has four workers deliver and retry while four others end every third delivery, whatever becomes of it, and what has
// expired. Each must end once, each key go on in order and one at a time, and nothing be left.
func concurrentEnd(e *env) {
	w := &ending{e: e, d: &drain{e: e, endings: map[string]int{}}, endings: map[string][]string{}, over: map[string]int{}}
	var all []string
	for i := range (endingKeys + 1) * endingEach {
		id, key := fmt.Sprintf("d%02d", i), fmt.Sprint("k", i%(endingKeys+1))
		ev := keyed("a", key, id)
		if i%(endingKeys+1) == endingKeys {
			ev = plain("a", id)
		}
		if i%7 == 3 {
			ev.Deliveries[0].ExpiresAt = at(time.Second)
		}
		e.put(at(0), ev)
		all = append(all, id)
	}
	const now = 2 * time.Second
	e.parallel(8, func(i int) {
		if i < 4 {
			for idle := 0; idle < 5; idle++ {
				if w.work(e.handle(i), at(now)) {
					idle = 0
				}
			}
			return
		}
		for n := i - 4; n < len(all); n += 4 {
			if n%3 == 0 {
				w.end(i, webhook.EndRequest{Now: at(now), DeliveryID: all[n], Leased: n%2 == 0, Next: webhook.Canceled})
			}
			if n%10 == 0 {
				w.end(i, webhook.EndRequest{Now: at(now), Expired: true, Leased: i == 7, Next: webhook.Expired, Limit: 3})
			}
		}
	})
	for idle := 0; idle < 20; idle++ { // leases that were fenced have run out by then
		if w.work(e.s, at(time.Hour)) {
			idle = 0
		}
	}
	w.check(all)
	e.same("lanes", len(e.lanes(100)), 0)
	e.nothingWaits("a", at(time.Hour))
}

// work claims, and completes what it got. It reports whether that was any.
func (w *ending) work(s webhook.Store, now time.Time) bool {
	got := w.e.claimOn(s, now, 4, lane("a", webhook.Fresh, 3), lane("a", webhook.Retry, 3)).Deliveries
	var spans []*span
	var outcomes []webhook.Outcome
	w.d.mu.Lock()
	w.d.tick++
	for i, c := range got {
		spans = append(spans, &span{c: c, now: now, start: w.d.tick})
		next := webhook.Delivered
		if c.Token == 1 && i%2 == 1 {
			next = webhook.RetryScheduled
		}
		o := ended(c, now, next)
		o.DueAt = now
		outcomes = append(outcomes, o)
	}
	w.d.spans = append(w.d.spans, spans...)
	w.d.tick++
	for _, sp := range spans {
		sp.end = w.d.tick
	}
	w.d.mu.Unlock()
	if len(got) == 0 {
		return false
	}
	res, err := s.Complete(w.e.ctx, &webhook.CompleteRequest{Now: now, Outcomes: outcomes})
	w.e.ok("Complete", err)
	for i, o := range outcomes {
		w.d.mu.Lock()
		if res.Outcomes[i] != webhook.Applied { // fenced: its lease goes on, and nobody may run beside it
			spans[i].end = 0
		}
		w.d.mu.Unlock()
		w.mu.Lock()
		switch {
		case res.Outcomes[i] != webhook.Applied:
		case got[i].Delivery.ExpiresAt.Equal(time.Unix(0, 0)):
			w.over[o.DeliveryID]++
		case o.Next.Final():
			w.endings[o.DeliveryID] = append(w.endings[o.DeliveryID], string(o.Next))
		}
		w.mu.Unlock()
	}
	return true
}

func (w *ending) end(handle int, req webhook.EndRequest) {
	life := w.e.h.Store.(webhook.LifeStore)
	if handle%2 == 1 {
		life = w.e.h.Second.(webhook.LifeStore)
	}
	res, err := life.End(w.e.ctx, &req)
	w.e.ok("End", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range res.Ended {
		w.endings[d.ID] = append(w.endings[d.ID], "by End: "+string(d.State))
	}
}

// check reads the history.
func (w *ending) check(all []string) {
	for _, id := range all {
		if n := len(w.endings[id]); n != 1 {
			w.e.failf("%s ended %d times: %v", id, n, w.endings[id])
		}
		if w.over[id] > 1 {
			w.e.failf("%s was taken out of its key %d times", id, w.over[id])
		}
	}
	byKey := map[string][]*span{}
	for _, sp := range w.d.spans {
		key := sp.c.Delivery.OrderingKey
		if key == "" {
			key = sp.c.Delivery.ID
		}
		byKey[key] = append(byKey[key], sp)
	}
	for _, spans := range byKey {
		slices.SortStableFunc(spans, func(a, b *span) int {
			return cmp.Or(cmp.Compare(a.c.Delivery.Sequence, b.c.Delivery.Sequence), cmp.Compare(a.c.Token, b.c.Token))
		})
		w.d.oneAtATime(spans)
	}
}
