package sqlstore

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/signalpost/webhook"
)

const (
	maxText  = 255      // bytes of an ID, type, tenant or key: what MySQL's columns hold
	maxRows  = 512      // rows in one statement
	maxBytes = 16 << 20 // payload in one statement, unless one event alone is larger
)

// newEvent is an event as it goes to the database.
type newEvent struct {
	event   *webhook.Event
	header  []byte // JSON, nil for none
	payload []byte // never nil
	digest  []byte
	rows    []newDelivery
}

// newDelivery is a delivery as it goes to the database.
type newDelivery struct {
	id, eventID, endpointID, orderKey string
	dueAt                             int64
	token                             int64 // 1 when inserted under a lease
	seq                               int64
	class                             int64 // parked behind another of the request, whose end cannot come before both are committed
	expiresAt                         sql.NullInt64
}

// newEvents checks a request and brings it into the database's form. What it refuses would be refused again.
func newEvents(req *webhook.EnqueueRequest) ([]newEvent, error) {
	events := make([]newEvent, 0, len(req.Events))
	for i := range req.Events {
		in := &req.Events[i]
		e := newEvent{event: &in.Event, payload: in.Event.Payload, digest: in.Digest[:]}
		if e.payload == nil {
			e.payload = []byte{}
		}
		for _, field := range []struct {
			name, text string
			required   bool
		}{
			{"Event.ID", in.Event.ID, true},
			{"Event.Type", in.Event.Type, false},
			{"Event.Tenant", in.Event.Tenant, false},
			{"Event.OrderingKey", in.Event.OrderingKey, false},
		} {
			if err := checkText("enqueue", field.name, field.text, field.required); err != nil {
				return nil, err
			}
		}
		if in.Event.Header != nil {
			for name, values := range in.Event.Header {
				if !utf8.ValidString(name) || slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }) {
					return nil, &webhook.FieldError{Op: "enqueue", Field: "Event.Header", Reason: fmt.Sprintf("%q is not UTF-8", name)}
				}
			}
			var err error
			if e.header, err = json.Marshal(in.Event.Header); err != nil {
				return nil, err
			}
		}
		for j := range in.Deliveries {
			d, err := newRow(req, in, &in.Deliveries[j])
			if err != nil {
				return nil, err
			}
			e.rows = append(e.rows, d)
		}
		events = append(events, e)
	}
	return events, nil
}

func newRow(req *webhook.EnqueueRequest, in *webhook.NewEvent, d *webhook.NewDelivery) (newDelivery, error) {
	row := newDelivery{id: d.ID, eventID: in.Event.ID, endpointID: d.EndpointID, orderKey: d.OrderingKey, dueAt: micros(req.Now)}
	if err := checkText("enqueue", "NewDelivery.ID", d.ID, true); err != nil {
		return row, err
	}
	if err := checkText("enqueue", "NewDelivery.EndpointID", d.EndpointID, true); err != nil {
		return row, err
	}
	if err := checkText("enqueue", "NewDelivery.OrderingKey", d.OrderingKey, false); err != nil {
		return row, err
	}
	if !d.DueAt.IsZero() {
		row.dueAt = micros(d.DueAt)
	}
	if row.expiresAt = optMicros(d.ExpiresAt); row.expiresAt.Valid && row.expiresAt.Int64 <= 0 {
		return row, &webhook.FieldError{Op: "enqueue", Field: "NewDelivery.ExpiresAt", Reason: "is not after 1970-01-01"}
	}
	if d.Lease <= 0 {
		return row, nil
	}
	if d.OrderingKey != "" {
		return row, &webhook.FieldError{Op: "enqueue", Field: "NewDelivery.Lease", Reason: "an ordered delivery cannot be inserted leased"}
	}
	if err := checkText("enqueue", "EnqueueRequest.Owner", req.Owner, true); err != nil {
		return row, err
	}
	row.dueAt = micros(req.Now.Add(d.Lease))
	row.token = 1
	return row, nil
}

// checkText refuses what one of the databases cannot keep exactly.
func checkText(op, field, text string, required bool) error {
	switch {
	case required && text == "":
		return &webhook.FieldError{Op: op, Field: field, Reason: "is missing"}
	case len(text) > maxText:
		return &webhook.FieldError{Op: op, Field: field, Reason: fmt.Sprintf("has %d bytes, at most %d", len(text), maxText)}
	case strings.IndexByte(text, 0) >= 0:
		return &webhook.FieldError{Op: op, Field: field, Reason: fmt.Sprintf("%q contains a NUL", text)}
	case !utf8.ValidString(text):
		return &webhook.FieldError{Op: op, Field: field, Reason: fmt.Sprintf("%q is not UTF-8", text)}
	}
	return nil
}

// words makes what is said in words fit for every database: an outcome must never fail because of its text.
func words(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	if utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
		return text
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// parts splits events so that a statement gets no more than maxRows and maxBytes.
func parts(events []newEvent) [][]newEvent {
	var all [][]newEvent
	start, rows, size := 0, 0, 0
	for i := range events {
		r, n := 1+len(events[i].rows), len(events[i].payload)
		if i > start && (rows+r > 4*maxRows || size+n > maxBytes) {
			all = append(all, events[start:i])
			start, rows, size = i, 0, 0
		}
		rows, size = rows+r, size+n
	}
	return append(all, events[start:])
}

// deliveriesOf are all deliveries of events, in order.
func deliveriesOf(events []newEvent) []newDelivery {
	var rows []newDelivery
	for i := range events {
		rows = append(rows, events[i].rows...)
	}
	return rows
}
