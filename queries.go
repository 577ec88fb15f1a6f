package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalpost/webhook/internal/ids"
)

// errNoQueries is what lists and Explain fail with on a store that lacks QueryStore.
var errNoQueries = errors.New("the store answers no questions (it is no QueryStore)")

const (
	queryLimit   = 100             // of a page that does not say
	queryMost    = 1000            // of a page
	queryPages   = 10              // of the store, for one page here
	querySlack   = 2 * time.Hour   // how far an ID's time may be from the store's
	deliveryIDs  = "dlv_"          // prefix of the IDs of deliveries
	queryTimeout = 5 * time.Second // after which a page is given as it is
)

// DeliveryQuery says which deliveries to list. The zero value lists all, the newest first.
type DeliveryQuery struct {
	Filter
	EventID     string        // "": of any event
	States      []State       // any of these, besides Filter.State; none: any state
	Response    ResponseClass // of the last attempt; "": any, and those without attempts
	OldestFirst bool
	Page        string // Next of the page before; "": the first
	Limit       int    // zero: 100; at most 1,000
}

// DeliveryPage is a page of deliveries.
type DeliveryPage struct {
	Deliveries []Delivery
	Next       string // as DeliveryQuery.Page for the next one; "": that was all
}

// Deliveries lists deliveries in the order of their making, with their states as of now. It costs as little with millions as with few: a
// page examines at most about 100,000 deliveries, and may therefore have fewer than its limit, even none, while Next says where to go on. What
// waits and what ended otherwise than delivered is found at once, however much was delivered; so is what belongs to an endpoint or event,
// and with Since and Until only deliveries of about that time are looked at. Type, Tenant and Response are judged one by one.
func (d *Dispatcher) Deliveries(ctx context.Context, q DeliveryQuery) (*DeliveryPage, error) {
	query, now, err := d.queryStore(ctx)
	if err == nil {
		err = q.check()
	}
	if err != nil {
		return nil, listError("deliveries", err)
	}
	req := &ListDeliveriesRequest{
		Now: now, EventID: q.EventID, EndpointID: q.Endpoint, State: q.State, States: q.States, Type: q.Type, Tenant: q.Tenant,
		Response: q.Response, Since: q.Since, Until: q.Until, Newest: !q.OldestFirst,
	}
	if !q.Since.IsZero() && q.EventID == "" {
		req.After = ids.At(deliveryIDs, q.Since.Add(-querySlack))
	}
	if !q.Until.IsZero() && q.EventID == "" {
		req.Before = ids.At(deliveryIDs, q.Until.Add(querySlack))
	}
	page := &DeliveryPage{}
	page.Next, err = fillPage(q.Page, q.Limit, func(at string, limit int) (int, string, error) {
		req.Limit = limit
		turnTo(&req.After, &req.Before, req.Newest, at)
		res, err := query.ListDeliveries(ctx, req)
		if err == nil && res == nil {
			err = errMalformedAnswer
		}
		if err != nil {
			return 0, "", err
		}
		page.Deliveries = append(page.Deliveries, res.Deliveries...)
		return len(res.Deliveries), res.Next, nil
	})
	if err != nil {
		return nil, listError("deliveries", err)
	}
	return page, nil
}

func (q *DeliveryQuery) check() error {
	if q.State == Unmatched {
		return &FieldError{Op: "list", Field: "State", Reason: "is that of events without deliveries: see Dispatcher.Events"}
	}
	switch q.Response {
	case "", Response2xx, Response3xx, Response4xx, Response5xx, NoResponse:
	default:
		return &FieldError{Op: "list", Field: "Response", Reason: fmt.Sprintf("%q is no class; want 2xx, 3xx, 4xx, 5xx or none", q.Response)}
	}
	return checkPage(q.Limit)
}

// EventQuery says which events to list. The zero value lists all, those with the greatest ID first.
type EventQuery struct {
	Type        string    // exact ("order_create") or by prefix ("order_*"); "": any
	Tenant      *string   // nil: any
	Unmatched   bool      // only those that matched no endpoint
	Since       time.Time // when they were accepted, inclusive; zero: no bound
	Until       time.Time // exclusive; zero: no bound
	OldestFirst bool
	Page        string // Next of the page before; "": the first
	Limit       int    // zero: 100; at most 1,000
}

// EventPage is a page of events, without payloads and headers.
type EventPage struct {
	Events []EventRecord
	Next   string // as EventQuery.Page for the next one; "": that was all
}

// Events lists events in the order of their IDs, which is that of their making where Send gave them. Events that matched nothing are found
// at once; for the rest it examines like Deliveries, and so a page may have fewer than its limit, even none, while Next says where to go on.
func (d *Dispatcher) Events(ctx context.Context, q EventQuery) (*EventPage, error) {
	query, _, err := d.queryStore(ctx)
	if err == nil {
		err = checkPage(q.Limit)
	}
	if err != nil {
		return nil, listError("events", err)
	}
	req := &ListEventsRequest{Type: q.Type, Tenant: q.Tenant, Unmatched: q.Unmatched, Since: q.Since, Until: q.Until, Newest: !q.OldestFirst}
	page := &EventPage{}
	page.Next, err = fillPage(q.Page, q.Limit, func(at string, limit int) (int, string, error) {
		req.Limit = limit
		turnTo(&req.After, &req.Before, req.Newest, at)
		res, err := query.ListEvents(ctx, req)
		if err == nil && res == nil {
			err = errMalformedAnswer
		}
		if err != nil {
			return 0, "", err
		}
		page.Events = append(page.Events, res.Events...)
		return len(res.Events), res.Next, nil
	})
	if err != nil {
		return nil, listError("events", err)
	}
	return page, nil
}

// queryStore is the store as it answers questions, and its time.
func (d *Dispatcher) queryStore(ctx context.Context) (QueryStore, time.Time, error) {
	query, ok := d.store.(QueryStore)
	if !ok {
		return nil, time.Time{}, errNoQueries
	}
	now, err := d.clock.now(ctx)
	return query, now, err
}

func checkPage(limit int) error {
	if limit < 0 || limit > queryMost {
		return &FieldError{Op: "list", Field: "Limit", Reason: fmt.Sprintf("is %d, want 0 (%d) to %d", limit, queryLimit, queryMost)}
	}
	return nil
}

// turnTo makes a request go on at an ID; "" is where it begins anyway.
func turnTo(after, before *string, newest bool, at string) {
	switch {
	case at == "":
	case newest:
		*before = at
	default:
		*after = at
	}
}

// fillPage reads pages of the store until one here is full, or enough was examined, and tells where to go on.
func fillPage(at string, limit int, read func(at string, limit int) (got int, next string, err error)) (next string, err error) {
	began := time.Now()
	left := cmp.Or(limit, queryLimit)
	for range queryPages {
		got, next, err := read(at, left)
		if err != nil {
			return "", err
		}
		left -= got
		if at = next; at == "" || left <= 0 || time.Since(began) > queryTimeout {
			break
		}
	}
	return at, nil
}

func listError(what string, err error) error {
	if _, ok := errors.AsType[*FieldError](err); ok {
		return err
	}
	return opError("list "+what, err)
}
