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
)

// item is a leased delivery waiting in memory for a sender, or being sent.
type item struct {
	Claimed
	lanes *endpointLanes
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

// lanes hands leased deliveries to free senders: round robin over the endpoints, fresh deliveries before retries but
// retries at least 1 in 8, and never more than an endpoint's cap at once. It knows nothing of stores.
type lanes struct {
	mu       sync.Mutex
	work     sync.Cond // senders wait here for an item
	settled  sync.Cond // the drain waits here for reservations to be used or returned
	byID     map[string]*endpointLanes
	ready    fifo[*endpointLanes] // have an item and a free slot, each once
	open     bool                 // takes items and reservations
	idle     int                  // senders waiting
	queued   int                  // items waiting
	size     int                  // of a delivery in memory, on average
	reserved int
	low      int    // the feed is kicked when fewer are queued; 0: it is not waiting for that
	kick     func() // wakes the feed: there is room for more of a lane it wants to fill
}

// endpointLanes is one endpoint's share of the process. Its fields belong to lanes.mu.
type endpointLanes struct {
	id       string
	cap      int // attempts under way at once
	inFlight int
	reserved int // slots promised to sends that are being committed
	fresh    fifo[*item]
	retry    fifo[*item]
	turns    int  // items taken, to give retries their turn
	inReady  bool // stands in lanes.ready
	wanted   bool // the feed is to be kicked when there is room
	backlog  bool // the feed knows of due deliveries in the store, or is claiming some
	average  time.Duration
}

func newLanes(kick func()) *lanes {
	l := &lanes{byID: make(map[string]*endpointLanes), kick: kick}
	l.work.L, l.settled.L = &l.mu, &l.mu
	return l
}

// start opens the lanes.
func (l *lanes) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = true
}

// get returns the endpoint's lanes with its present cap. The caller holds l.mu.
func (l *lanes) get(id string, cap int) *endpointLanes {
	e := l.byID[id]
	if e == nil {
		e = &endpointLanes{id: id}
		l.byID[id] = e
	}
	e.cap = cap
	return e
}

// reserve promises a sender to a delivery that is about to be committed. It fails when none is free for it now: then the
// delivery waits in the store like any other.
func (l *lanes) reserve(id string, cap int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open || l.idle <= l.reserved+l.queued {
		return false
	}
	e := l.get(id, cap)
	if e.backlog || e.inFlight+e.reserved+e.waiting() >= e.cap {
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
func (l *lanes) push(it *item, cap int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.put(l.get(it.Delivery.EndpointID, cap), it)
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
	l.queued++
	if l.size == 0 {
		l.size = it.size()
	} else {
		l.size += (it.size() - l.size) / 8
	}
	l.offer(e)
	return true
}

// offer puts the endpoint in the round if it has an item and a free slot.
func (l *lanes) offer(e *endpointLanes) {
	if !e.inReady && e.waiting() > 0 && e.inFlight < e.cap {
		e.inReady = true
		l.ready.push(e)
		l.work.Signal()
	}
}

// next waits for an item to send and takes a slot for it. It returns nil after stop.
func (l *lanes) next() *item {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if !l.open {
			return nil
		}
		if e, ok := l.ready.pop(); ok {
			e.inReady = false
			it := e.take()
			e.inFlight++
			l.queued--
			l.offer(e)
			l.refill(e)
			if l.queued < l.low {
				l.low = 0
				l.kick()
			}
			return it
		}
		l.idle++
		l.work.Wait()
		l.idle--
	}
}

// done frees the slot of an item. took is how long its attempt took, 0 when none was made.
func (l *lanes) done(it *item, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := it.lanes
	e.inFlight--
	if took > 0 {
		if e.average == 0 {
			e.average = took
		} else {
			e.average += (took - e.average) / 8
		}
	}
	l.offer(e)
	l.refill(e)
	l.tidy(e)
}

// refill wakes the feed, once, when a lane that it wants to fill has run low.
func (l *lanes) refill(e *endpointLanes) {
	if e.wanted && e.waiting() <= e.prefetch()/2 && e.room() > 0 {
		e.wanted = false
		l.kick()
	}
}

// tidy forgets an endpoint that has nothing in memory. Its average goes too: it is learned anew.
func (l *lanes) tidy(e *endpointLanes) {
	if e.inFlight == 0 && e.reserved == 0 && e.waiting() == 0 && !e.inReady && !e.wanted && !e.backlog && len(l.byID) > 1024 {
		delete(l.byID, e.id)
	}
}

// room tells how many due deliveries may be claimed for an endpoint now. From then on nothing is handed over to it past those that
// wait in the store, until settleClaim. When there is no room, the feed is kicked as soon as there is.
func (l *lanes) room(id string, cap int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.get(id, cap)
	n := e.room()
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

// limit tells how many deliveries may be claimed in all: for the idle senders, and up to two more for each sender as far as
// their payloads have room in memory. When that is not worth a claim, less than a quarter of it all, it is none, and the
// feed is kicked when it is.
func (l *lanes) limit(senders int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := 2 * senders
	if l.size > 0 {
		most = min(most, prefetchBytes/l.size+1)
	}
	n := l.idle + most - l.queued - l.reserved
	if worth := (most + 3) / 4; n < worth && l.queued > 0 {
		l.low = max(l.queued-(worth-n), 0) + 1
		return 0
	}
	return n
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
		e.inReady, e.wanted, e.backlog = false, false, false
	}
	l.queued, l.low = 0, 0
	l.ready = fifo[*endpointLanes]{}
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

// prefetch is none until an attempt has been timed, and none for an endpoint that takes long.
func (e *endpointLanes) prefetch() int {
	if e.average <= 0 {
		return 0
	}
	return int(min(time.Duration(e.cap)*prefetchTime/e.average, prefetchMost))
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

// fifo is a queue. The zero value is empty.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(v T) { q.items = append(q.items, v) }

func (q *fifo[T]) pop() (T, bool) {
	var zero T
	if q.len() == 0 {
		return zero, false
	}
	v := q.items[q.head]
	q.items[q.head] = zero
	q.head++
	switch {
	case q.head == len(q.items):
		q.items, q.head = q.items[:0], 0
	case q.head > 1024 && q.head > len(q.items)/2:
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return v, true
}
