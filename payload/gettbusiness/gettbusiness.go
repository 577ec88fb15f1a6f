// Package gettbusiness reads the events of Gett Business (rides and deliveries) after they were verified. An event is an envelope whose message is
// JSON within a string. What the package does not know it keeps: fields in Unknown, statuses and types as they are written.
//
//	n, err := gettbusiness.Parse(webhook.FromContext(r.Context()))
//	ride, err := n.Ride()
package gettbusiness

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/object"
)

// The types of events that Gett names. Of a business_report nothing is published but the name: read [Notification].Message.
const (
	StatusChanged         = "status_changed"          // of a ride: see Notification.Ride
	DeliveryStatusChanged = "delivery_status_changed" // see Notification.Delivery
	BusinessReport        = "business_report"
)

// Cancelled is the one status of a ride in Gett's sample. It has two l's, unlike that of package gett.
const Cancelled = "Cancelled"

// Notification is an event.
type Notification struct {
	ID        string // of the event, the key to drop repeats by
	EventType string
	Env       string    // "" happens, and does not mean a sandbox
	Message   string    // JSON, as text
	Timestamp time.Time // to the nanosecond; order events by it

	Unknown map[string]json.RawMessage // other fields; nil: none
}

// Ride is how a ride stands.
type Ride struct {
	OrderID   int64
	ProductID string
	Status    string // capitalised, as Cancelled; others may come

	Unknown map[string]json.RawMessage
}

// Delivery is how a delivery stands.
type Delivery struct {
	DeliveryID string
	ProductID  string
	Status     string         // others may come
	Courier    *Courier       // when confirmed; nil: not given
	CannotDo   *CannotDeliver // when cancelled or not delivered; nil: not given

	Unknown map[string]json.RawMessage
}

// Courier is who delivers.
type Courier struct {
	Name, Phone string
	Unknown     map[string]json.RawMessage
}

// CannotDeliver is why not.
type CannotDeliver struct {
	Description string
	ReasonID    json.RawMessage // as it is written
	ReasonType  string
	Unknown     map[string]json.RawMessage
}

const op = "gettbusiness"

// Parse reads an event's envelope. The error is a [*webhook.FieldError] that names the field. ID, event_type and timestamp are required.
func Parse(ev webhook.Event) (*Notification, error) {
	o := object.Parse(op, ev.Payload)
	n := &Notification{ID: o.Must("id"), EventType: o.Must("event_type"), Env: o.Text("env"), Message: o.Text("message"), Timestamp: o.Time("timestamp")}
	if n.Timestamp.IsZero() {
		o.Fail("timestamp", "is missing")
	}
	n.Unknown = o.Rest()
	if err := o.Err(); err != nil {
		return nil, err
	}
	return n, nil
}

// Ride reads the message of a status_changed. The error is a [*webhook.FieldError], also when the event is of another type.
func (n *Notification) Ride() (*Ride, error) {
	o, err := n.open(StatusChanged)
	if err != nil {
		return nil, err
	}
	r := &Ride{OrderID: o.MustInt("order_id"), ProductID: o.Text("product_id"), Status: o.Must("status"), Unknown: o.Rest()}
	if err := o.Err(); err != nil {
		return nil, err
	}
	return r, nil
}

// Delivery reads the message of a delivery_status_changed, as Ride does.
func (n *Notification) Delivery() (*Delivery, error) {
	o, err := n.open(DeliveryStatusChanged)
	if err != nil {
		return nil, err
	}
	d := &Delivery{DeliveryID: o.Text("delivery_id"), ProductID: o.Text("product_id"), Status: o.Must("status")}
	if c := o.Object("courier"); c != nil {
		d.Courier = &Courier{Name: c.Text("name"), Phone: c.Text("phone"), Unknown: c.Rest()}
	}
	if c := o.Object("cannot_deliver_info"); c != nil {
		d.CannotDo = &CannotDeliver{Description: c.Text("description"), ReasonID: c.Raw("reason_id"), ReasonType: c.Text("reason_type"), Unknown: c.Rest()}
	}
	d.Unknown = o.Rest()
	if err := o.Err(); err != nil {
		return nil, err
	}
	return d, nil
}

func (n *Notification) open(eventType string) (*object.Object, error) {
	if n.EventType != eventType {
		return nil, &webhook.FieldError{Op: op, Field: "event_type", Reason: fmt.Sprintf("is %.60q, want %s", n.EventType, eventType)}
	}
	o := object.Parse(op+": message", []byte(n.Message))
	return o, o.Err()
}

// timeLayout has the nine digits that Gett writes, zeros included.
const timeLayout = "2006-01-02T15:04:05.000000000Z07:00"

// MarshalJSON writes the envelope as Gett does, with nine digits of the second.
func (n Notification) MarshalJSON() ([]byte, error) {
	return object.Marshal(n.Unknown,
		object.Field{Name: "id", Value: n.ID},
		object.Field{Name: "event_type", Value: n.EventType},
		object.Field{Name: "env", Value: n.Env},
		object.Field{Name: "message", Value: n.Message},
		object.Field{Name: "timestamp", Value: n.Timestamp.Format(timeLayout)},
	)
}

// MarshalJSON writes the text for [Notification].Message.
func (r Ride) MarshalJSON() ([]byte, error) {
	return object.Marshal(r.Unknown,
		object.Field{Name: "order_id", Value: r.OrderID},
		object.Field{Name: "product_id", Value: r.ProductID},
		object.Field{Name: "status", Value: r.Status},
	)
}
