package webhook

import (
	"context"
	"sync"
	"time"
)

// How far ahead of its senders an endpoint may have deliveries claimed and waiting in memory.
const (
	prefetchTime  = 250 * time.Millisecond // as many as its senders are expected to start in this time …
	prefetchMost  = 512                    // … and no more than this
	prefetchBytes = 64 << 20               // payloads waiting in memory, over all endpoints

	// How many may wait for each sender: among several tenants, and where one has all. More come cheaper, but come less often, so that a tenant that sends
	// little waits for others' claims.
	aheadShared = 2
	aheadAlone  = 4

	// limitedTime is what may be claimed ahead for an endpoint with a rate, in terms of that rate: each has its token already.
	limitedTime = 20 * time.Millisecond
)

// item is a leased delivery waiting in memory for a sender, or being sent.
type item struct {
	Claimed
	lanes   *endpointLanes
	slow    bool // counts as slow
	overdue bool // has lasted slowAfter
	over    bool // its slot is free again
}

// lane is where an item came from.
func (it *item) lane() LaneID {
	id := LaneID{EndpointID: it.Delivery.EndpointID, Class: Fresh}
	if it.Delivery.Attempts > 0 {
		id.Class = Retry
	}
	return id
}

// size is what an item weighs against prefetchBytes.
func (it *item) size() int { return len(it.Event.Payload) + 512 }

// lanes hands leased deliveries to free senders: tenants in proportion to their weights, round robin over the endpoints of each,
// fresh deliveries before retries but retries at least 1 in 8, and never more than an endpoint's cap at once. It knows
// nothing of stores.
type lanes struct {
	mu        sync.Mutex
	work      sync.Cond // senders wait here for an item
	settled   sync.Cond // the drain waits here for reservations to be used or returned
	byID      map[string]*endpointLanes
	ready     fair[*endpointLanes] // have an item and a free slot, each once
	parked    fair[*endpointLanes] // would be ready, but are slow, and there are as many slow attempts as may be
	hungry    fair[*endpointLanes] // are slow and have nothing to start, and the feed was refused for the same reason
	lasting   fifo[*item]          // attempts that are overdue but do not count as slow, as there are too many of those
	open      bool                 // takes items and reservations
	grow      func()               // starts another sender
	senders   int                  // DispatcherOptions.Senders
	started   int                  // senders at work or waiting
	idle      int                  // senders waiting
	slow      int                  // slow attempts under way
	granted   int                  // slow attempts that the claim being planned may bring
	startable int                  // items waiting that nothing but a sender is missing for
	bytes     int                  // size of all items waiting
	typical   int                  // size of an item, on average
	ahead     int                  // items that may wait for each sender
	reserved  int
	full      bool     // the feed found no room at all, and is kicked when there is some
	roomy     []string // endpoints that the feed was refused, and that have room now
	kick      func()   // wakes the feed: there is room for more of a lane it wants to fill
}

// endpointLanes is one endpoint's share of the process. Its fields belong to lanes.mu.
type endpointLanes struct {
	id       string
	tenant   *tenant
	cap      int // attempts under way at once
	ahead    int // as many as may be prefetched, however quick it is
	inFlight int
	reserved int // slots promised to sends that are being committed
	fresh    fifo[*item]
	retry    fifo[*item]
	turns    int  // items taken, to give retries their turn
	inReady  bool // stands in lanes.ready or is parked
	parked   bool
	hungry   bool // stands in lanes.hungry
	overdue  int  // attempts under way that have lasted slowAfter
	wanted   bool // the feed is to be kicked when there is room
	counted  int  // its part of lanes.startable
	backlog  bool // the feed knows of due deliveries in the store, or is claiming some
	average  time.Duration
}

func newLanes(senders, maxPayload int, kick func()) *lanes {
	l := &lanes{byID: make(map[string]*endpointLanes), senders: senders, typical: maxPayload, ahead: aheadShared, kick: kick}
	l.work.L, l.settled.L = &l.mu, &l.mu
	return l
}

// start opens the lanes and starts the senders. Each takes what next gives it until that is nil.
func (l *lanes) start(grow func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open, l.grow, l.started = true, grow, l.senders
	for range l.senders {
		grow()
	}
}

// get returns the endpoint's lanes with what now counts for it. The caller holds l.mu.
func (l *lanes) get(id string, rt *route) *endpointLanes {
	e := l.byID[id]
	if e == nil {
		e = &endpointLanes{id: id}
		l.byID[id] = e
	}
	e.cap, e.tenant, e.ahead = rt.inFlight, rt.tenant, prefetchMost
	if rate := rt.effectiveRate(); rate.Events > 0 {
		e.ahead = int(min(rate.perSecond()*limitedTime.Seconds(), prefetchMost))
	}
	return e
}

// reserve promises a sender to a delivery that is about to be committed. It fails when none is free for it now: then the
// delivery waits in the store like any other.
func (l *lanes) reserve(id string, rt *route) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open || l.idle <= l.reserved+l.startable {
		return false
	}
	e := l.get(id, rt)
	if e.backlog || e.isSlow() && l.slow >= slowShare*l.senders || e.inFlight+e.reserved+e.waiting() >= e.cap {
		l.tidy(e)
		return false // what waits in the store comes first, above all retries
	}
	e.reserved++
	l.reserved++
	return true
}

// redeem ends a reservation with the delivery, once it is committed and leased. After stop it reports false: then the
// delivery must be given back, and the reservation ended by cancel after that, so that the drain waits for both.
func (l *lanes) redeem(it *item) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return false
	}
	e := l.byID[it.Delivery.EndpointID]
	l.unreserve(e)
	return l.put(e, it)
}

// cancel ends a reservation without a delivery.
func (l *lanes) cancel(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.byID[id]
	l.unreserve(e)
	l.refill(e)
	l.tidy(e)
}

func (l *lanes) unreserve(e *endpointLanes) {
	e.reserved--
	l.reserved--
	if l.reserved == 0 {
		l.settled.Broadcast()
	}
}

// push queues a claimed delivery. It reports whether it was taken; after stop it is not, and must be given back.
func (l *lanes) push(it *item, rt *route) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.put(l.get(it.Delivery.EndpointID, rt), it)
}

func (l *lanes) put(e *endpointLanes, it *item) bool {
	if !l.open {
		return false
	}
	it.lanes = e
	if it.lane().Class == Retry {
		e.retry.push(it)
	} else {
		e.fresh.push(it)
	}
	l.bytes += it.size()
	l.typical += (it.size() - l.typical) / 16
	l.offer(e)
	l.count(e)
	return true
}

// offer puts the endpoint in the round if it has an item and a free slot.
func (l *lanes) offer(e *endpointLanes) {
	if !e.inReady && e.waiting() > 0 && e.inFlight < e.cap {
		e.inReady = true
		l.ready.push(e.tenant, e)
		l.work.Signal()
	}
}

// next waits for an item to send and takes a slot for it. It returns nil after stop, and when there are more senders than
// attempts call for.
func (l *lanes) next() *item {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if !l.open {
			return nil
		}
		if it := l.takeReady(); it != nil {
			return it
		}
		if l.started > l.senders+l.slow {
			l.started--
			return nil
		}
		l.idle++
		l.work.Wait()
		l.idle--
	}
}

// takeReady takes the next item of an endpoint that may start one, and parks those that may not.
func (l *lanes) takeReady() *item {
	for {
		e, whose, ok := l.ready.pop()
		switch {
		case !ok:
			return nil
		case e.waiting() == 0: // they were given back
			e.inReady = false
			continue
		case e.isSlow() && l.slow >= slowShare*l.senders:
			e.parked = true
			l.parked.push(e.tenant, e)
			continue
		}
		e.inReady = false
		it := e.take()
		e.inFlight++
		l.taken(e, it)
		if e.isSlow() {
			l.countSlow(it) // on a sender of its own: it costs the others nothing
		} else {
			l.ready.charge(whose, 1)
		}
		l.offer(e)
		l.refill(e)
		return it
	}
}

// taken counts an item that waits no longer.
func (l *lanes) taken(e *endpointLanes, it *item) {
	l.bytes -= it.size()
	l.count(e)
	if l.full && l.allowance() > 0 {
		l.full = false
		l.kick()
	}
}

// count brings lanes.startable up to date after a change to an endpoint.
func (l *lanes) count(e *endpointLanes) {
	l.startable -= e.counted
	e.counted = max(min(e.waiting(), e.cap-e.inFlight), 0)
	l.startable += e.counted
}

// done frees the slot of an item. took is how long its attempt took, 0 when none was made.
func (l *lanes) done(it *item, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := it.lanes
	e.inFlight--
	it.over = true
	if it.overdue {
		e.overdue--
	}
	if took > 0 {
		if e.average == 0 {
			e.average = took
		} else {
			e.average += (took - e.average) / 8
		}
	}
	if e.parked && !e.isSlow() {
		l.unpark(e)
	}
	if it.slow {
		l.slow--
		l.useSlow()
	}
	l.offer(e)
	l.count(e)
	l.refill(e)
	l.tidy(e)
}

// refill wakes the feed, once, when a lane that it wants to fill has run low.
func (l *lanes) refill(e *endpointLanes) {
	if e.wanted && e.waiting() <= e.prefetch()/2 && e.room() > 0 {
		l.feedMore(e)
	}
}

// feedMore tells the feed that there is room for an endpoint that it wants to fill.
func (l *lanes) feedMore(e *endpointLanes) {
	e.wanted = false
	l.roomy = append(l.roomy, e.id)
	l.kick()
}

// tidy forgets an endpoint that has nothing in memory. Its average goes too: it is learned anew.
func (l *lanes) tidy(e *endpointLanes) {
	if e.inFlight == 0 && e.reserved == 0 && e.waiting() == 0 && !e.inReady && !e.hungry && !e.wanted && !e.backlog && len(l.byID) > 1024 {
		delete(l.byID, e.id)
	}
}

// room tells how many due deliveries may be claimed for an endpoint now. From then on nothing is handed over to it past those that
// wait in the store, until settleClaim. When there is no room, the feed is kicked as soon as there is.
func (l *lanes) room(id string, rt *route, most int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.get(id, rt)
	n := min(e.room(), most)
	if places := slowShare*l.senders - l.slow - l.granted; n > 0 && e.isSlow() {
		if n = min(n, places); n <= 0 && !e.hungry {
			e.hungry = true
			l.hungry.push(e.tenant, e)
		}
		l.granted += max(n, 0)
	}
	e.wanted, e.backlog = n <= 0, true
	return max(n, 0)
}

// settleClaim ends what room began: nothing more is due in the store, or more is, and the feed is kicked when the endpoint runs low.
func (l *lanes) settleClaim(id string, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.byID[id]; e != nil {
		e.wanted, e.backlog = e.wanted || more, more
		l.refill(e)
		l.tidy(e)
	}
}

// limit tells how many deliveries may be claimed in all, at the beginning of a plan. When that is none, or too few to be worth
// a claim, it is 0, and the feed is kicked when it is more; a few may be claimed all the same. It adds to roomy the endpoints that have
// had no room, and have some now.
func (l *lanes) limit(ahead int, roomy []string) (n, few int, all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.granted, l.ahead = 0, ahead
	n = l.allowance()
	l.full = n == 0
	roomy = append(roomy, l.roomy...)
	l.roomy = l.roomy[:0]
	few = min((l.senders+7)/8, (prefetchBytes-l.bytes)/max(l.typical, 1))
	return n, few, roomy
}

// allowance is as many as there are idle senders, and up to ahead more for each sender as far as their payloads have room in
// memory. Less than a quarter of that is none. Items of endpoints that have no free slot do not count: room bounds them.
func (l *lanes) allowance() int {
	size := max(l.typical, 1)
	most := min(l.ahead*l.senders, prefetchBytes/size+1)
	n := min(l.idle+most-l.startable-l.reserved, (prefetchBytes-l.bytes)/size)
	switch {
	case l.bytes == 0:
		return max(n, 1) // however large
	case n < (most+3)/4 && l.startable > 0:
		return 0
	}
	return max(n, 0)
}

// stop takes nothing more, sends all senders home and returns what was not started.
func (l *lanes) stop() []*item {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = false
	l.work.Broadcast()
	var left []*item
	for _, e := range l.byID {
		for e.waiting() > 0 {
			left = append(left, e.take())
		}
		l.count(e)
		e.inReady, e.parked, e.hungry, e.wanted, e.backlog = false, false, false, false, false
	}
	l.bytes = 0
	l.ready, l.parked, l.hungry = fair[*endpointLanes]{}, fair[*endpointLanes]{}, fair[*endpointLanes]{}
	l.lasting, l.roomy = fifo[*item]{}, nil
	return left
}

// settle waits until no reservation is left, or ctx ends.
func (l *lanes) settle(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.settled.Broadcast()
	})
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.reserved > 0 && ctx.Err() == nil {
		l.settled.Wait()
	}
}

func (e *endpointLanes) waiting() int { return e.fresh.len() + e.retry.len() }

func (e *endpointLanes) room() int {
	return e.cap + e.prefetch() - e.inFlight - e.reserved - e.waiting()
}

// prefetch is none until an attempt has been timed, and none for an endpoint that takes long. With a rate it is a few.
func (e *endpointLanes) prefetch() int {
	if e.average <= 0 || e.isSlow() {
		return 0
	}
	return int(min(time.Duration(e.cap)*prefetchTime/e.average, time.Duration(e.ahead)))
}

// take removes the next item: a fresh one, but a retry in every eighth turn and when there is nothing fresh.
func (e *endpointLanes) take() *item {
	e.turns++
	first, second := &e.fresh, &e.retry
	if e.turns%8 == 0 {
		first, second = second, first
	}
	it, ok := first.pop()
	if !ok {
		it, _ = second.pop()
	}
	return it
}

// takeLast removes the item that would be taken last.
func (e *endpointLanes) takeLast() *item {
	it, ok := e.fresh.popLast()
	if !ok {
		it, _ = e.retry.popLast()
	}
	return it
}
