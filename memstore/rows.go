package memstore

import (
	"cmp"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

// event is a stored event. What ev points to never changes, so that it may be copied without the lock.
type event struct {
	ev      webhook.Event
	at      time.Time
	fanout  int
	rows    []*row // those not forgotten
	idEntry *eventID

	erasedAt time.Time // when payload and header were; zero: they are there
	ended    int64     // with no deliveries: its number in the history
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
	ended    bool      // by End: the record is final, and the row here only to keep its place in its key
	key      *orderKey // nil when unordered
	attempts []webhook.Attempt
	left     int64 // number in the history, which it has once nothing waits for it; 0: not yet
}

func rowsByID(a, b *row) int { return strings.Compare(a.d.ID, b.d.ID) }

// rowsByExpiry orders rows by when they expire.
func rowsByExpiry(a, b *row) int {
	return cmp.Or(a.d.ExpiresAt.Compare(b.d.ExpiresAt), cmp.Compare(a.n, b.n))
}

// state is r's delivery as of now.
func (r *row) state(now time.Time) webhook.Delivery {
	d := r.d
	if d.State.Final() {
		return d
	}
	d.DueAt = r.due
	held, reason := r.held(now)
	switch {
	case r.underLease(now):
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

// claimed is r's delivery for who has just claimed it.
func (r *row) claimed(now time.Time) webhook.Delivery {
	if !r.ended {
		return r.state(now)
	}
	d := r.d
	d.State, d.Reason, d.FinishedAt = webhook.Delivering, "", time.Time{}
	d.DueAt, d.ExpiresAt = r.due, time.Unix(0, 0).UTC()
	return d
}

// underLease reports whether r is leased at now.
func (r *row) underLease(now time.Time) bool { return r.leased && r.due.After(now) }

// lane is r's lane with r as its earliest.
func (r *row) lane() webhook.Lane {
	return webhook.Lane{LaneID: webhook.LaneID{EndpointID: r.d.EndpointID, Class: r.class}, Earliest: r.due}
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
	id    string
	lanes [2]lane // by Class
	rate  rateState
	byID  sorted[*row] // all its deliveries that are not forgotten

	failed sorted[*row] // of those, the ones that ended otherwise than delivered, by ID

	keys    map[string]*orderKey
	parked  sorted[waiting]   // behind the first of their key, those that End has ended excepted
	blocked sorted[*orderKey] // behind a dead letter
	ended   int               // rows in the lanes that End has ended

	version   int64 // of what follows; 0: none yet
	hold      *hold
	notBefore time.Time
	doc       []byte
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
	name      string
	tail      int64     // last sequence number given
	first     *row      // in a lane; nil: none waits, or the key is blocked
	parked    []*row    // behind first, or behind the dead letter
	blockedBy string    // ID of the dead letter that the key waits behind
	blockedAt int64     // and its sequence number
	onHold    bool      // blocked, and what waits reads as held
	since     time.Time // when blockedBy ended
}

// add gives r the next sequence number and its place. The caller holds s.mu.
func (s *Store) add(k *orderKey, r *row) {
	k.tail++
	r.key, r.d.Sequence = k, k.tail
	k.parked = append(k.parked, r)
	if s.advance(k) != r {
		r.ep.parked.insert(r.place())
	}
}

// advance makes the next of k claimable, if it may go, and returns it. The caller holds s.mu.
func (s *Store) advance(k *orderKey) *row {
	if k.first != nil || k.blockedBy != "" || len(k.parked) == 0 {
		return nil
	}
	r := k.parked[0]
	k.first = r
	k.parked[0] = nil
	k.parked = k.parked[1:]
	if r.ended {
		r.ep.ended++
	} else {
		r.ep.parked.remove(r.place())
	}
	s.toLane(r)
	return r
}

// keysByBlock orders blocked keys by how long they are.
func keysByBlock(a, b *orderKey) int {
	return cmp.Or(a.since.Compare(b.since), strings.Compare(a.name, b.name))
}
