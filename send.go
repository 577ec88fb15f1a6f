package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"time"

	"github.com/signalpost/webhook/internal/ids"
)

// NewEventID returns a new event ID: "evt_" and 26 characters that sort by time and cannot be guessed.
func NewEventID() string { return ids.New("evt_") }

// Send stores an event with a delivery to every endpoint that subscribes to it, and returns its ID. When it returns without
// error the event is durable, and will be delivered by whichever process runs a dispatcher on the store. Concurrent
// sends are committed together; [Dispatcher.SendBatch] takes many events at once.
//
// Sending an event whose ID exists does nothing and is no error; with other content it is [ErrEventConflict]. An event that
// nobody subscribes to is stored too, and recorded as such. A malformed event is a [*FieldError], and one for which there is no
// room a [*BacklogError]; nothing is stored then. When ctx ends too late to tell, the error is [ErrOutcomeUnknown]: send again with
// the same ID, which is returned with every error but a FieldError's.
//
// The event is copied: the caller may reuse Payload and Header.
func (d *Dispatcher) Send(ctx context.Context, ev Event) (id string, err error) {
	call, err := d.prepare(ctx, []Event{ev}, nil)
	if call == nil {
		return ev.ID, err
	}
	if err == nil {
		err = d.batcher.submit(ctx, call)
		d.backlogs.settle(call, err)
	}
	return call.single(err)
}

// SendTx stores an event as Send does, within the caller's own transaction: it is delivered if and only if that commits. tx
// comes from the store, as sqlstore's Store.Tx. It holds no lock that other sends or deliveries need, save for events with an ordering
// key, whose later sends wait for the commit.
//
// Deliveries begin at the next poll after the commit, or at once when Wake is called after it.
func (d *Dispatcher) SendTx(ctx context.Context, tx Enqueuer, ev Event) (id string, err error) {
	if tx == nil {
		return ev.ID, &FieldError{Op: "send", Field: "tx", Reason: "is nil"}
	}
	call, err := d.prepare(ctx, []Event{ev}, tx)
	if call == nil {
		return ev.ID, err
	}
	if err == nil {
		err = d.enqueueTx(ctx, tx, call)
	}
	return call.single(err)
}

// enqueueTx writes a call's events in the caller's transaction.
func (d *Dispatcher) enqueueTx(ctx context.Context, tx Enqueuer, call *sendCall) (err error) {
	defer func() { d.backlogs.settle(call, err) }()
	clock, ok := tx.(nower)
	if !ok {
		clock = d.store // a transaction that cannot tell the time
	}
	now, err := d.clock.nowFrom(ctx, clock)
	if err != nil {
		return err
	}
	call.schedule(now)
	req := &EnqueueRequest{Now: now, Events: make([]NewEvent, len(call.events))}
	for i := range call.events {
		req.Events[i] = call.events[i].new
	}
	res, err := tx.Enqueue(ctx, req)
	if err == nil && (res == nil || len(res.Events) != len(call.events)) {
		err = errMalformedAnswer
	}
	if err != nil {
		return err
	}
	call.status = res.Events
	if !d.running.Load() {
		return nil
	}
	for i := range call.events {
		if call.status[i] != Stored {
			continue
		}
		for _, del := range call.events[i].new.Deliveries {
			d.feed.hint(LaneID{del.EndpointID, Fresh}, latest(del.DueAt, now))
		}
	}
	return nil
}

// sendCall is one caller waiting for events to be committed, all or none.
type sendCall struct {
	events []sending
	status []EnqueueStatus // per event, once they are committed
	room   []admission     // what they take of backlogs that have a bound
	done   chan error      // gets one value
	taken  bool            // being committed: cancelling comes too late
	now    time.Time       // the store's, when they were
}

// sending is an event on its way into the store.
type sending struct {
	new    NewEvent
	routes []*route // of new.Deliveries
	leased []bool   // per delivery: a sender is reserved for it
	sendAt time.Time
	ttl    time.Duration
}

// single is what Send returns: the event's ID, and an error that is err or tells of a conflict.
func (c *sendCall) single(err error) (id string, _ error) {
	id = c.events[0].new.Event.ID
	if err == nil && c.status[0] == Conflict {
		err = fmt.Errorf("event %q: %w", id, ErrEventConflict)
	}
	return id, sendError(err)
}

// sendError says what failed, unless err does so itself.
func sendError(err error) error {
	if _, full := errors.AsType[*BacklogError](err); err == nil || full {
		return err
	}
	return opError("send", err)
}

// size is how many bytes of payload the events have.
func (c *sendCall) size() (n int) {
	for i := range c.events {
		n += len(c.events[i].new.Event.Payload)
	}
	return n
}

// schedule says when the deliveries are due and when they expire. now is the store's; SendAt is this process's, of which only the
// distance counts, so a wrong wall clock shifts nothing.
func (c *sendCall) schedule(now time.Time) {
	c.now = now
	for i := range c.events {
		s := &c.events[i]
		if s.sendAt.IsZero() && s.ttl == 0 {
			continue
		}
		var due, expires time.Time
		if ahead := time.Until(s.sendAt); !s.sendAt.IsZero() && ahead > 0 {
			due = now.Add(ahead.Truncate(time.Microsecond) + time.Microsecond) // stores round down
		}
		if s.ttl > 0 {
			expires = latest(due, now).Add(s.ttl)
		}
		for j := range s.new.Deliveries {
			s.new.Deliveries[j].DueAt, s.new.Deliveries[j].ExpiresAt = due, expires
		}
	}
}

// prepare checks events, gives those an ID that have none, copies what they point to, fans them out, and makes sure that
// there is room for them. The call is returned unless an event is malformed; with an error it must not be submitted.
func (d *Dispatcher) prepare(ctx context.Context, events []Event, tx Enqueuer) (*sendCall, error) {
	for i := range events {
		if err := d.checkEvent(&events[i]); err != nil {
			return nil, ofBatch(err, i, len(events))
		}
	}
	call := &sendCall{events: make([]sending, len(events)), done: make(chan error, 1)}
	for i := range events {
		ev := &call.events[i].new.Event
		if *ev = events[i]; ev.ID == "" {
			ev.ID = NewEventID()
		}
	}
	table, err := d.routes.table(ctx, tx)
	if err != nil {
		return call, fmt.Errorf("reading endpoints: %w", err)
	}
	deliveries, unmatched := 0, false
	for i := range call.events {
		call.events[i].own()
		call.events[i].fanOut(table)
		unmatched = unmatched || len(call.events[i].routes) == 0
	}
	if unmatched {
		if table, err = d.routes.latest(ctx, tx, table); err != nil {
			return call, fmt.Errorf("reading endpoints: %w", err)
		}
	}
	for i := range call.events {
		if len(call.events[i].routes) == 0 {
			call.events[i].fanOut(table)
		}
		deliveries += len(call.events[i].routes)
	}
	if deliveries > maxBatchDeliveries && len(events) > 1 {
		return nil, &FieldError{Op: "send", Field: "events", Reason: fmt.Sprintf("fan out to %d deliveries, allowed %d", deliveries, maxBatchDeliveries)}
	}
	return call, d.backlogs.admit(ctx, call, tx != nil)
}

// own copies what the event points to.
func (s *sending) own() {
	ev := &s.new.Event
	ev.Payload = slices.Clone(ev.Payload)
	ev.Header = canonicalHeader(ev.Header)
	s.sendAt, s.ttl = ev.SendAt, ev.TTL
	ev.SendAt, ev.TTL = time.Time{}, 0 // no part of what is stored
	s.new.Digest = digest(ev)
}

// fanOut makes the event's deliveries.
func (s *sending) fanOut(table *routeTable) {
	ev := &s.new.Event
	s.routes = table.match(ev)
	s.new.Deliveries = make([]NewDelivery, len(s.routes))
	for i, rt := range s.routes {
		s.new.Deliveries[i] = NewDelivery{ID: ids.New("dlv_"), EndpointID: rt.endpoint.ID, OrderingKey: ev.OrderingKey}
	}
}

// canonicalHeader copies a header, with its names in canonical form.
func canonicalHeader(h http.Header) http.Header {
	if len(h) == 0 {
		return nil
	}
	c := make(http.Header, len(h))
	for name, values := range h {
		c[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	return c
}

// digest is over all that the caller gave but the ID, each part preceded by its length.
func digest(ev *Event) (sum [32]byte) {
	h := sha256.New()
	part(h, ev.Type)
	part(h, ev.Tenant)
	part(h, ev.OrderingKey)
	names := make([]string, 0, len(ev.Header))
	for name := range ev.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	count(h, len(names))
	for _, name := range names {
		part(h, name)
		count(h, len(ev.Header[name]))
		for _, value := range ev.Header[name] {
			part(h, value)
		}
	}
	h.Write(ev.Payload)
	h.Sum(sum[:0])
	return sum
}

func part(h hash.Hash, s string) {
	count(h, len(s))
	h.Write([]byte(s))
}

func count(h hash.Hash, n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

// lease is how long a delivery is leased for an attempt of at most limit. Longer attempts extend it as they go.
func (d *Dispatcher) lease(limit time.Duration) time.Duration {
	return min(limit, leaseMost) + d.opts.LeaseMargin
}

// leaseMost bounds the part of a lease that an attempt's time limit asks for, so that the work of a process that died does
// not wait for hours where an endpoint is given that long.
const leaseMost = time.Minute
