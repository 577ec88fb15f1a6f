package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
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
// sends are committed together.
//
// Sending an event whose ID exists does nothing and is no error; with other content it is [ErrEventConflict]. An event that
// nobody subscribes to is stored too, and recorded as such. A malformed event is a [*FieldError], and nothing is stored. When ctx
// ends too late to tell, the error is [ErrOutcomeUnknown]: send again with the same ID, which is returned with every error but
// a FieldError's.
//
// The event is copied: the caller may reuse Payload and Header.
func (d *Dispatcher) Send(ctx context.Context, ev Event) (id string, err error) {
	call, err := d.prepare(ctx, &ev, nil)
	if err != nil {
		return ev.ID, err
	}
	if err := d.batcher.submit(ctx, call); err != nil {
		return call.event.Event.ID, fmt.Errorf("webhook: send: %w", err)
	}
	return call.event.Event.ID, nil
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
	call, err := d.prepare(ctx, &ev, tx)
	if err != nil {
		return ev.ID, err
	}
	id = call.event.Event.ID
	clock, ok := tx.(nower)
	if !ok {
		clock = d.store // a transaction that cannot tell the time
	}
	now, err := d.clock.nowFrom(ctx, clock)
	if err != nil {
		return id, fmt.Errorf("webhook: send: %w", err)
	}
	res, err := tx.Enqueue(ctx, &EnqueueRequest{Now: now, Events: []NewEvent{call.event}})
	if err == nil && (res == nil || len(res.Events) != 1) {
		err = errMalformedAnswer
	}
	if err != nil {
		return id, fmt.Errorf("webhook: send: %w", err)
	}
	if res.Events[0] == Conflict {
		return id, fmt.Errorf("webhook: send: event %q: %w", id, ErrEventConflict)
	}
	if d.running.Load() && res.Events[0] == Stored {
		for _, del := range call.event.Deliveries {
			d.feed.hint(LaneID{del.EndpointID, Fresh}, now)
		}
	}
	return id, nil
}

// prepare checks an event, gives it an ID if it has none, copies what it points to, and fans it out.
func (d *Dispatcher) prepare(ctx context.Context, ev *Event, tx Enqueuer) (*sendCall, error) {
	if err := d.checkEvent(ev); err != nil {
		return nil, err
	}
	if ev.ID == "" {
		ev.ID = NewEventID()
	}
	ev.Payload = slices.Clone(ev.Payload)
	ev.Header = canonicalHeader(ev.Header)
	table, err := d.routes.table(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("webhook: send: reading endpoints: %w", err)
	}
	ev.SendAt, ev.TTL = time.Time{}, 0 // no part of what is stored
	call := &sendCall{
		event:  NewEvent{Event: *ev, Digest: digest(ev)},
		routes: table.match(ev),
		done:   make(chan error, 1),
	}
	call.event.Deliveries = make([]NewDelivery, len(call.routes))
	for i, rt := range call.routes {
		call.event.Deliveries[i] = NewDelivery{ID: ids.New("dlv_"), EndpointID: rt.endpoint.ID, OrderingKey: ev.OrderingKey}
	}
	return call, d.backlogs.admit(call)
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
