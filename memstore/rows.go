package memstore

import (
	"cmp"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

// event is a stored event. Its content never changes, so it may be copied without the lock.
type event struct {
	ev      webhook.Event
	at      time.Time
	fanout  int
	rows    []*row // those not forgotten
	idEntry *eventID
}

// eventID is remembered longer than its event.
type eventID struct {
	id     string
	digest [32]byte
	at     time.Time
	n      int64
}

func idsByAge(a, b *eventID) int {
	return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.n, b.n))
}

// row is a delivery, waiting or finished.
type row struct {
	n  int64 // order of arrival
	ev *event
	ep *endpointState

	// d is the record. While the delivery is unfinished its State and DueAt are worked out from the fields below.
	d        webhook.Delivery
	class    webhook.Class
	due      time.Time // or the end of the lease
	token    int64
	leased   bool
	key      *orderKey // nil when unordered
	attempts []webhook.Attempt
}

func rowsByID(a, b *row) int { return strings.Compare(a.d.ID, b.d.ID) }

// state is r's delivery as of now.
func (r *row) state(now time.Time) webhook.Delivery {
	d := r.d
	if d.State.Final() {
		return d
	}
	d.DueAt = r.due
	held, reason := r.held(now)
	switch {
	case r.leased && r.due.After(now):
		d.State = webhook.Delivering
	case held:
		d.State, d.Reason = webhook.Held, reason
	case r.class == webhook.Retry:
		d.State = webhook.RetryScheduled
	default:
		d.State = webhook.Queued
	}
	return d
}

// held reports whether r's endpoint or ordering key is on hold, and why.
func (r *row) held(now time.Time) (bool, string) {
	if h := r.ep.hold; h.active(now) {
		return true, h.reason
	}
	if r.key != nil && r.key.onHold {
		return true, "ordering key is on hold behind dead letter " + r.key.blockedBy
	}
	return false, ""
}

// attempt gives the attempt that was recorded under a token.
func (r *row) attempt(token int64) (a webhook.Attempt, ok bool) {
	for i := len(r.attempts) - 1; i >= 0; i-- {
		if r.attempts[i].Token == token {
			return r.attempts[i], true
		}
	}
	return a, false
}

// endpointState is what sending to an endpoint has left.
type endpointState struct {
	lanes [2]lane // by Class
	hold  *hold
	rate  rateState
	keys  map[string]*orderKey
	byID  sorted[*row] // all its deliveries that are not forgotten
}

// lane is the deliveries of an endpoint and class that may be claimed when they are due, or are leased.
// Of an ordering key only the first unfinished one is in a lane.
type lane struct {
	id      webhook.LaneID
	waiting sorted[waiting]
}

func lanesByID(a, b *lane) int {
	return cmp.Or(strings.Compare(a.id.EndpointID, b.id.EndpointID), cmp.Compare(a.id.Class, b.id.Class))
}

// waiting is a row's place in its lane.
type waiting struct {
	due int64 // unix µs
	n   int64
	row *row
}

func byDue(a, b waiting) int {
	return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.n, b.n))
}

func (r *row) place() waiting { return waiting{r.due.UnixMicro(), r.n, r} }

// toLane makes r claimable from its due time on. The caller holds s.mu.
func (s *Store) toLane(r *row) {
	l := &r.ep.lanes[r.class]
	if l.waiting.n == 0 {
		s.lanes.insert(l)
	}
	l.waiting.insert(r.place())
}

// fromLane takes r out of its lane, before its due time, class or arrival change. The caller holds s.mu.
func (s *Store) fromLane(r *row) {
	l := &r.ep.lanes[r.class]
	if l.waiting.remove(r.place()) && l.waiting.n == 0 {
		s.lanes.remove(l)
	}
}

// orderKey is the deliveries of one endpoint and ordering key, in order. The first unfinished one is in a lane, the others are
// parked here until it is finished: each is touched once, however many wait.
type orderKey struct {
	tail      int64  // last sequence number given
	first     *row   // in a lane; nil: none waits, or the key is blocked
	parked    []*row // behind first, or behind the dead letter
	blockedBy string // ID of the dead letter that the key waits behind
	onHold    bool   // blocked, and what waits reads as held
}

// add gives r the next sequence number and its place. The caller holds s.mu.
func (s *Store) add(k *orderKey, r *row) {
	k.tail++
	r.key, r.d.Sequence = k, k.tail
	k.parked = append(k.parked, r)
	s.advance(k)
}

// advance makes the next of k claimable, if it may go. The caller holds s.mu.
func (s *Store) advance(k *orderKey) {
	if k.first != nil || k.blockedBy != "" || len(k.parked) == 0 {
		return
	}
	k.first = k.parked[0]
	k.parked[0] = nil
	k.parked = k.parked[1:]
	s.toLane(k.first)
}
