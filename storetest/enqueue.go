package storetest

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

func nowCases() []Case {
	return []Case{
		{"Now/GoesForward", "Now is the clock that leases and due times are read against", needStore, nowGoesForward},
	}
}

func nowGoesForward(e *env) {
	last := time.Time{}
	for i := range 4 {
		now, err := e.handle(i).Now(e.ctx)
		e.ok("Now", err)
		if now.IsZero() || now.Before(last) {
			e.failf("Now: %v after %v (the handles in turn)", now, last)
		}
		last = now
	}
}

func enqueueCases() []Case {
	return []Case{
		{"Enqueue/Stored", "Enqueue stores events with their deliveries, all or none, durably before it returns … written, with its deliveries", needStore, enqueueStored},
		{"Enqueue/EventRoundTrip", "Claimed is a leased delivery with its event", needStore, enqueueEventRoundTrip},
		{"Enqueue/Many", "Enqueue stores events with their deliveries, all or none", needStore, enqueueMany},
		{"Enqueue/Repeat", "An event whose ID is stored already, or stands earlier in the same request, is a Repeat when its Digest is the same … neither stores anything, and neither is an error", needStore, enqueueRepeat},
		{"Enqueue/RepeatOnOtherHandle", "An event whose ID is stored already", needStore, enqueueRepeatOnOtherHandle},
		{"Enqueue/RepeatWithinRequest", "or stands earlier in the same request, is a Repeat when its Digest is the same", needStore, enqueueRepeatWithin},
		{"Enqueue/RepeatOfFinished", "An ID is remembered at least as long as its event is kept", needStore, enqueueRepeatOfFinished},
		{"Enqueue/Conflict", "and a Conflict when it differs; neither stores anything, and neither is an error … known, other content: nothing written", needStore, enqueueConflict},
		{"Enqueue/ConflictWithinRequest", "or stands earlier in the same request, is a Repeat when its Digest is the same and a Conflict when it differs", needStore, enqueueConflictWithin},
		{"Enqueue/StatusesInOrder", "EnqueueResult is the answer of Enqueuer.Enqueue … in request order", needStore, enqueueStatusesInOrder},
		{"Enqueue/IDsAreBytes", "An event whose ID is stored already", needStore, enqueueIDsAreBytes},
		{"Enqueue/RefusedLeavesNothing", "an error means that nothing of the request was done", needStore, enqueueRefusedLeavesNothing},
		{"Enqueue/PoisonedLeavesNothing", "Enqueue stores events with their deliveries, all or none", needStore, enqueuePoisoned},
		{"Enqueue/MatchesNothing", "none: recorded as matching nothing", needStore, enqueueMatchesNothing},
		{"Enqueue/DueAt", "zero: Now", needStore, enqueueDueAt},
	}
}

func enqueueStored(e *env) {
	e.put(at(0), event("e1", to("a", "d1"), to("b", "d2")), plain("a", "d3"))
	got := e.all(at(0), []string{"d1", "d2", "d3"}, fresh("a"), fresh("b"))
	for _, c := range got {
		want := "e1"
		if c.Delivery.ID == "d3" {
			want = "d3"
		}
		e.same("Event.ID of "+c.Delivery.ID, c.Event.ID, want)
		e.same("Delivery.EventID of "+c.Delivery.ID, c.Delivery.EventID, want)
	}
}

// allBytes is every byte value once: no encoding is safe for it but bytes.
func allBytes() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// richEvent is an event in which every field is set to something that a careless column would change.
func richEvent(id string) webhook.Event {
	return webhook.Event{
		ID: id, Type: "Order.create", Payload: allBytes(), Tenant: "Zürich 東京 🚚 ", OrderingKey: "Käse/1 ",
		Header: http.Header{"Content-Type": {"application/x-thing; charset=utf-8"}, "X-Many": {"one", "two", "ünë, \"three\""}, "X-Empty": {""}},
	}
}

// sameEvent compares events; a nil and an empty Payload or Header are the same.
func (e *env) sameEvent(got, want webhook.Event) {
	if !bytes.Equal(got.Payload, want.Payload) {
		e.failf("Event %q: got Payload %q, want %q", want.ID, got.Payload, want.Payload)
	}
	if len(got.Header)+len(want.Header) > 0 && !reflect.DeepEqual(got.Header, want.Header) {
		e.failf("Event %q: got Header %q, want %q", want.ID, got.Header, want.Header)
	}
	got.Payload, got.Header, want.Payload, want.Header = nil, nil, nil, nil
	e.same("Event", fmt.Sprintf("%q", got), fmt.Sprintf("%q", want))
}

func enqueueEventRoundTrip(e *env) {
	rich := event("e1")
	rich.Event = richEvent("e1")
	rich.Deliveries = []webhook.NewDelivery{{ID: "d1", EndpointID: "a", OrderingKey: rich.Event.OrderingKey}}
	bare := plain("b", "d2")
	bare.Event.Payload = nil
	e.put(at(0), rich, bare)
	c := e.one("d1", at(0), fresh("a"))
	e.sameEvent(c.Event, rich.Event)
	e.same("Delivery.OrderingKey", c.Delivery.OrderingKey, rich.Event.OrderingKey)
	e.sameEvent(e.one("d2", at(0), fresh("b")).Event, bare.Event)
}

func enqueueMany(e *env) {
	var events []webhook.NewEvent
	var want []string
	for i := range 150 {
		x, y := fmt.Sprintf("x%03d", i), fmt.Sprintf("y%03d", i)
		events = append(events, event(fmt.Sprintf("e%03d", i), to("a", x), to("b", y)))
		want = append(want, x, y)
	}
	e.put(at(0), events...)
	e.all(at(0), want, fresh("a"), fresh("b"))
}

func enqueueRepeat(e *env) {
	first := event("e1", to("a", "d1"))
	e.put(at(0), first)
	again := event("e1", to("a", "d2"), to("b", "d3"))
	e.same("status of the repeat", e.enqueue(at(time.Second), again)[0], webhook.Repeat)
	e.all(at(time.Second), []string{"d1"}, fresh("a"), fresh("b"))
}

func enqueueRepeatOnOtherHandle(e *env) {
	e.put(at(0), plain("a", "d1"))
	got := e.enqueueOn(e.s2, at(0), plain("a", "d1"), other(plain("a", "d1")))
	e.same("statuses on the other handle", got, []webhook.EnqueueStatus{webhook.Repeat, webhook.Conflict})
}

func enqueueRepeatWithin(e *env) {
	got := e.enqueue(at(0), event("e1", to("a", "d1")), event("e2", to("a", "d2")), event("e1", to("a", "d3")))
	e.same("statuses", got, []webhook.EnqueueStatus{webhook.Stored, webhook.Stored, webhook.Repeat})
	e.all(at(0), []string{"d1", "d2"}, fresh("a"))
}

func enqueueRepeatOfFinished(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.Delivered))
	got := e.enqueue(at(time.Hour), event("d1", to("a", "d2")), other(event("d1", to("a", "d3"))))
	e.same("statuses", got, []webhook.EnqueueStatus{webhook.Repeat, webhook.Conflict})
	e.none("neither a repeat nor a conflict stores anything", at(time.Hour), fresh("a"), retry("a"))
}

func enqueueConflict(e *env) {
	first := event("e1", to("a", "d1"))
	e.put(at(0), first)
	e.same("status", e.enqueue(at(0), other(event("e1", to("a", "d2"))))[0], webhook.Conflict)
	c := e.one("d1", at(0), fresh("a"))
	e.sameEvent(c.Event, first.Event)
}

func enqueueConflictWithin(e *env) {
	first := event("e1", to("a", "d1"))
	got := e.enqueue(at(0), first, other(event("e1", to("a", "d2"))), event("e1", to("a", "d3")))
	e.same("statuses", got, []webhook.EnqueueStatus{webhook.Stored, webhook.Conflict, webhook.Repeat})
	e.sameEvent(e.one("d1", at(0), fresh("a")).Event, first.Event)
}

func enqueueStatusesInOrder(e *env) {
	e.put(at(0), plain("a", "m"), plain("a", "k"))
	got := e.enqueue(at(0), plain("a", "z"), plain("a", "m"), plain("a", "b"), other(plain("a", "k")), plain("a", "c"))
	e.same("statuses", got, []webhook.EnqueueStatus{webhook.Stored, webhook.Repeat, webhook.Stored, webhook.Conflict, webhook.Stored})
	e.all(at(0), []string{"m", "k", "z", "b", "c"}, fresh("a"))
}

func enqueueIDsAreBytes(e *env) {
	var events []webhook.NewEvent
	var want []string
	for i, id := range []string{"evt_A", "evt_a", "EVT_A", "evt-a", "evt_a_", "evt_00", "evt_0"} {
		d := fmt.Sprintf("d%d", i)
		events, want = append(events, event(id, to("a", d))), append(want, d)
	}
	e.put(at(0), events...)
	e.all(at(0), want, fresh("a"))
}

// leasedKeyed is a delivery that every store must refuse: leased and ordered at once.
func leasedKeyed(id string) webhook.NewEvent {
	ev := keyed("a", "k", id)
	ev.Deliveries[0].Lease = time.Minute
	return ev
}

func enqueueRefusedLeavesNothing(e *env) {
	events := []webhook.NewEvent{plain("a", "d1"), leasedKeyed("d2"), plain("a", "d3")}
	_, err := e.s.Enqueue(e.ctx, &webhook.EnqueueRequest{Now: at(0), Owner: "tester", Events: events})
	if err == nil {
		e.failf("Enqueue of a leased delivery with an ordering key: no error")
	}
	e.same("lanes after the error", laneIDs(e.lanes(10)), []webhook.LaneID(nil))
	e.put(at(0), plain("a", "d1"), plain("a", "d3"))
	e.all(at(0), []string{"d1", "d3"}, fresh("a"))
}

// enqueuePoisoned gives what some databases refuse and others take. Either is well; half of it is not.
func enqueuePoisoned(e *env) {
	poison := plain("a", "d2")
	poison.Event.Tenant = "nul \x00 and \xff no UTF-8"
	events := []webhook.NewEvent{plain("a", "d1"), poison, plain("a", "d3")}
	_, err := e.s.Enqueue(e.ctx, &webhook.EnqueueRequest{Now: at(0), Owner: "tester", Events: events})
	want := []string{"d1", "d2", "d3"}
	if err != nil {
		want = nil
	}
	got := ids(e.claim(at(0), fresh("a")))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		e.failf("Enqueue with the error %v left %v, want %v", err, got, want)
	}
	if err != nil {
		e.put(at(0), plain("a", "d1"), plain("a", "d3"))
	}
}

func enqueueMatchesNothing(e *env) {
	e.put(at(0), event("e1"))
	e.same("lanes", len(e.lanes(10)), 0)
	e.same("status of the repeat", e.enqueue(at(0), event("e1"))[0], webhook.Repeat)
}

func enqueueDueAt(e *env) {
	e.put(at(0), event("e1", to("a", "now"), toAt("b", "later", at(time.Hour)), toAt("c", "past", at(-time.Hour))))
	lanes := []webhook.LaneClaim{fresh("a"), fresh("b"), fresh("c")}
	e.none("none is due before", at(-2*time.Hour), lanes...)
	e.one("past", at(-time.Microsecond), lanes...)
	e.one("now", at(0), lanes...)
	e.one("later", at(time.Hour), fresh("b"))
}
