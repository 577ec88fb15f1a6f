// Package gett reads the events of Gett's order webhooks, API version 2026-01-30, after they were verified. What it does not know it keeps:
// fields in Unknown, and statuses and kinds as they are written.
//
//	order, err := gett.Order(webhook.FromContext(r.Context()))
package gett

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/object"
)

// The types of events.
const (
	OrderCreate = "order_create" // an order was accepted; it may come before the answer to placing it
	OrderUpdate = "order_update" // its status or its refunds have changed
)

// Status is where an order stands. Others than those below may come.
type Status string

// The statuses that Gett names.
const (
	Created      Status = "created"
	ManualReview Status = "manual_review"
	Confirmed    Status = "confirmed"
	Canceled     Status = "canceled"
	Shipped      Status = "shipped"
	Fulfilled    Status = "fulfilled"
)

// Known reports whether s is one of those.
func (s Status) Known() bool {
	switch s {
	case Created, ManualReview, Confirmed, Canceled, Shipped, Fulfilled:
		return true
	}
	return false
}

// RefundType is where a refund goes. Others than those below may come.
type RefundType string

// The types of refunds that Gett names.
const (
	StoreCredit     RefundType = "store_credit"
	OriginalPayment RefundType = "original_payment"
)

// OrderEvent is an order_create or order_update. It tells how the order stands, not what has changed. Nothing in it says when: a
// late retry can come after newer events, so do not set an order back without a rule for it.
type OrderEvent struct {
	Type string // OrderCreate or OrderUpdate
	Data

	// OrderID names the order: an orderId field where there is one, else the last part of the permalink's path; "" when neither tells. It is
	// made by Order, and not written by MarshalJSON.
	OrderID string

	Unknown map[string]json.RawMessage // fields beside type and data; nil: none
}

// Data is how an order stands.
type Data struct {
	Kind              string // "order"
	CheckoutSessionID string
	PermalinkURL      string
	Status            Status

	// Refunds are all refunds of the order so far. Replace what you have by them: adding up those of several events counts each many times.
	// Nil means that the event does not say; an empty list that there are none.
	Refunds []Refund

	Unknown map[string]json.RawMessage // other fields of data; nil: none
}

// Refund is one of an order.
type Refund struct {
	Type    RefundType
	Amount  int64 // in minor units: 1050 are 10.50 USD
	Unknown map[string]json.RawMessage
}

// Order reads an event. The error is a [*webhook.FieldError] that names the field, also when the event is of another type; ev.Payload is
// there in any case. Type, data and data.status are required.
func Order(ev webhook.Event) (*OrderEvent, error) {
	o := object.Parse("gett", ev.Payload)
	e := &OrderEvent{Type: o.Must("type")}
	if e.Type != OrderCreate && e.Type != OrderUpdate {
		o.Fail("type", fmt.Sprintf("is %.60q, want %s or %s", e.Type, OrderCreate, OrderUpdate))
	}
	data := o.Object("data")
	if data == nil {
		o.Fail("data", "is missing")
	}
	e.Data = Data{
		Kind:              data.Text("type"),
		CheckoutSessionID: data.Text("checkout_session_id"),
		PermalinkURL:      data.Text("permalink_url"),
		Status:            Status(data.Must("status")),
	}
	if refunds := data.Objects("refunds"); refunds != nil {
		e.Refunds = make([]Refund, len(refunds))
		for i, r := range refunds {
			e.Refunds[i] = Refund{Type: RefundType(r.Must("type")), Amount: r.MustInt("amount"), Unknown: r.Rest()}
		}
	}
	e.Data.Unknown, e.Unknown = data.Rest(), o.Rest()
	if err := o.Err(); err != nil {
		return nil, err
	}
	e.OrderID = orderID(e)
	return e, nil
}

// orderID is as [webhook.DefaultKey] has it.
func orderID(e *OrderEvent) string {
	for _, fields := range []map[string]json.RawMessage{e.Data.Unknown, e.Unknown} {
		raw, ok := fields["orderId"]
		if !ok {
			continue
		}
		var text string
		if json.Unmarshal(raw, &text) == nil && text != "" {
			return text
		}
		if c := raw[0]; c == '-' || '0' <= c && c <= '9' {
			return string(raw)
		}
	}
	u, err := url.Parse(e.PermalinkURL)
	if err != nil {
		return ""
	}
	path := strings.Trim(u.EscapedPath(), "/")
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "" // one part names all orders
	}
	return path[i+1:]
}

// MarshalJSON writes the event as Gett does, and what is unknown after what is known.
func (e OrderEvent) MarshalJSON() ([]byte, error) {
	return object.Marshal(e.Unknown, object.Field{Name: "type", Value: e.Type}, object.Field{Name: "data", Value: e.Data})
}

// MarshalJSON writes refunds unless they are nil.
func (d Data) MarshalJSON() ([]byte, error) {
	return object.Marshal(d.Unknown,
		object.Field{Name: "type", Value: d.Kind},
		object.Field{Name: "checkout_session_id", Value: d.CheckoutSessionID},
		object.Field{Name: "permalink_url", Value: d.PermalinkURL},
		object.Field{Name: "status", Value: d.Status},
		object.Field{Name: "refunds", Value: d.Refunds, Omit: d.Refunds == nil},
	)
}

// MarshalJSON writes a refund as Gett does.
func (r Refund) MarshalJSON() ([]byte, error) {
	return object.Marshal(r.Unknown, object.Field{Name: "type", Value: r.Type}, object.Field{Name: "amount", Value: r.Amount})
}
