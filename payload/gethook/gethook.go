// Package gethook reads what comes from GetHook: what it delivers to destinations, after it was verified, and its API's envelope with
// events and attempts in it. What the package does not know it keeps: fields in Unknown, states and outcomes as they are written.
//
// What is delivered is the payload as its source wrote it, so its shape is the source's business: [Parse] reads the type and ID where
// they usually stand, and takes the envelope off where there is one.
package gethook

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/object"
)

const op = "gethook"

// Envelope is what GetHook puts around every JSON answer: data or an error, and how long it took.
type Envelope struct {
	Data       json.RawMessage // as it is written; nil with an error
	Error      string          // ""
	DurationMS int64           // in milliseconds; 0: not given

	Unknown map[string]json.RawMessage // other fields; nil: none
}

// Open reads an envelope. The error is a [*webhook.FieldError] if it is none; what GetHook says in it is [Envelope.Err].
func Open(body []byte) (*Envelope, error) {
	o := object.Parse(op, body)
	e := &Envelope{Data: o.Raw("data"), Error: o.Text("error")}
	e.DurationMS, _ = o.Int("duration_ms")
	if e.Data == nil && e.Error == "" {
		o.Fail("data", "is missing, and there is no error either")
	}
	e.Unknown = o.Rest()
	if err := o.Err(); err != nil {
		return nil, err
	}
	return e, nil
}

// Err is what GetHook answered instead of data; nil: nothing.
func (e *Envelope) Err() error {
	if e.Error == "" {
		return nil
	}
	return errors.New("gethook: " + e.Error)
}

// MarshalJSON writes the envelope as GetHook does.
func (e Envelope) MarshalJSON() ([]byte, error) {
	return object.Marshal(e.Unknown,
		object.Field{Name: "data", Value: e.Data, Omit: e.Data == nil},
		object.Field{Name: "error", Value: e.Error, Omit: e.Error == ""},
		object.Field{Name: "duration_ms", Value: e.DurationMS, Omit: e.DurationMS == 0},
	)
}

// Message is what was delivered to a destination.
type Message struct {
	ID   string // "" where the source gives none
	Type string // "" likewise

	Fields map[string]json.RawMessage // all others, as they are written; nil: none
}

// Parse reads what was delivered: a JSON object, within GetHook's envelope or not. The error is a [*webhook.FieldError]; sources may
// send anything, and then ev.Payload is all there is.
func Parse(ev webhook.Event) (*Message, error) {
	body := ev.Payload
	if e, err := Open(body); err == nil && e.Data != nil && e.Data[0] == '{' && len(e.Unknown) == 0 {
		body = e.Data
	}
	o := object.Parse(op, body)
	m := &Message{ID: o.Text("id"), Type: o.Text("type"), Fields: o.Rest()}
	if err := o.Err(); err != nil {
		return nil, err
	}
	return m, nil
}

// Status is where an event stands. Others than those below may come.
type Status string

// The statuses that GetHook names.
const (
	Received       Status = "received"
	Accepted       Status = "accepted"
	Queued         Status = "queued"
	Delivering     Status = "delivering"
	Delivered      Status = "delivered"
	RetryScheduled Status = "retry_scheduled"
	DeadLetter     Status = "dead_letter"
	Replayed       Status = "replayed"
)

// Event is GetHook's record of an event, as its API gives it.
type Event struct {
	ID              string
	AccountID       string
	Direction       string // "inbound" or "outbound"
	SourceID        string // "": none
	EventType       string // "": none
	ExternalEventID string // "": none
	ReceivedAt      time.Time
	Headers         json.RawMessage // an object, which cannot carry repeated headers
	Body            string          // which cannot carry any bytes: what is not UTF-8 has changed
	PayloadHash     string
	Status          Status
	AttemptsCount   int64
	NextAttemptAt   time.Time // zero: none
	FinalState      string
	CreatedAt       time.Time

	Unknown map[string]json.RawMessage
}

// ReadEvent reads a record, as from [Envelope].Data. ID and status are required.
func ReadEvent(data []byte) (*Event, error) {
	o := object.Parse(op, data)
	e := &Event{
		ID: o.Must("id"), AccountID: o.Text("account_id"), Direction: o.Text("direction"), SourceID: o.Text("source_id"),
		EventType: o.Text("event_type"), ExternalEventID: o.Text("external_event_id"), ReceivedAt: o.Time("received_at"),
		Headers: o.Raw("headers"), Body: o.Text("body"), PayloadHash: o.Text("payload_hash"), Status: Status(o.Must("status")),
		NextAttemptAt: o.Time("next_attempt_at"), FinalState: o.Text("final_state"), CreatedAt: o.Time("created_at"),
	}
	e.AttemptsCount, _ = o.Int("attempts_count")
	e.Unknown = o.Rest()
	if err := o.Err(); err != nil {
		return nil, err
	}
	return e, nil
}
