package gettbusiness_test

import (
	"errors"
	"fmt"
	"log"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/payload/gettbusiness"
)

// Gett's own sample.
const cancelled = `{"id":"01e829ee-5d79-467b-89e1-1cd1741ab177","event_type":"status_changed","env":"","message":"{\"order_id\":70692316,\"product_id\":\"ee5fd157-c16d-4fe8-838a-a6ca6fa08956\",\"status\":\"Cancelled\"}","timestamp":"2025-09-15T15:11:51.740212996Z"}`

func read(body string) (*gettbusiness.Notification, error) {
	return gettbusiness.Parse(webhook.Event{Payload: []byte(body)})
}

func with(message string) string {
	return `{"id":"1","event_type":"status_changed","message":` + message + `,"timestamp":"2025-09-15T15:11:51Z"}`
}

func TestParse(t *testing.T) {
	n, err := read(cancelled)
	if err != nil {
		t.Fatal(err)
	}
	want := &gettbusiness.Notification{
		ID: "01e829ee-5d79-467b-89e1-1cd1741ab177", EventType: gettbusiness.StatusChanged,
		Message:   `{"order_id":70692316,"product_id":"ee5fd157-c16d-4fe8-838a-a6ca6fa08956","status":"Cancelled"}`,
		Timestamp: time.Date(2025, 9, 15, 15, 11, 51, 740212996, time.UTC),
	}
	if diff := cmp.Diff(want, n); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	ride, err := n.Ride()
	if diff := cmp.Diff(&gettbusiness.Ride{OrderID: 70692316, ProductID: "ee5fd157-c16d-4fe8-838a-a6ca6fa08956", Status: gettbusiness.Cancelled}, ride); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if inner, err := ride.MarshalJSON(); err != nil || string(inner) != n.Message {
		t.Errorf("%s, %v", inner, err)
	}
	if _, err := n.Delivery(); err == nil || err.Error() != `webhook: gettbusiness: event_type: is "status_changed", want delivery_status_changed` {
		t.Error(err)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, body := range []string{
		cancelled,
		strings.Replace(cancelled, "740212996Z", "740212990Z", 1), // a zero at the end
		strings.Replace(cancelled, "740212996Z", "000000001+02:00", 1),
		strings.Replace(cancelled, `"env":""`, `"env":"moon"`, 1),
		`{"id":"x","event_type":"business_report","env":"","message":"not JSON \u003c","timestamp":"0001-01-01T00:00:00.000000001Z","extra":{"n":1.0}}`,
	} {
		n, err := read(body)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if again, err := n.MarshalJSON(); err != nil || strings.ReplaceAll(string(again), "<", `\u003c`) != body {
			t.Errorf("%s became %s, %v", body, again, err)
		}
	}
}

func TestDelivery(t *testing.T) {
	n, err := read(`{"id":"1","event_type":"delivery_status_changed","env":"prod","message":"{\"delivery_id\":\"d-1\",\"product_id\":\"p-1\",\"status\":\"not_delivered\",\"courier\":{\"name\":\"Ada\",\"phone\":\"+1\",\"car\":\"red\"},\"cannot_deliver_info\":{\"description\":\"nobody there\",\"reason_id\":7,\"reason_type\":\"absent\"},\"proof\":[]}","timestamp":"2025-09-15T15:11:51Z"}`)
	if err != nil {
		t.Fatal(err)
	}
	d, err := n.Delivery()
	if err != nil {
		t.Fatal(err)
	}
	if d.DeliveryID != "d-1" || d.Status != "not_delivered" || d.Courier.Name != "Ada" || string(d.Courier.Unknown["car"]) != `"red"` ||
		d.CannotDo.Description != "nobody there" || string(d.CannotDo.ReasonID) != "7" || string(d.Unknown["proof"]) != "[]" {
		t.Errorf("%+v", d)
	}
}

func TestErrorsNameTheField(t *testing.T) {
	for body, want := range map[string]string{
		`{"event_type":"status_changed","timestamp":"2025-09-15T15:11:51Z"}`:  `gettbusiness: id: is missing or empty`,
		`{"id":"1","timestamp":"2025-09-15T15:11:51Z"}`:                       `gettbusiness: event_type: is missing or empty`,
		`{"id":"1","event_type":"status_changed"}`:                            `gettbusiness: timestamp: is missing`,
		`{"id":"1","event_type":"status_changed","timestamp":1757949111}`:     `gettbusiness: timestamp: is 1757949111, want a string`,
		`{"id":"1","event_type":"status_changed","timestamp":"15 September"}`: `gettbusiness: timestamp: is "15 September", want an RFC 3339 time`,
		with(`{"order_id":1}`):                        `gettbusiness: message: is an object, want a string`,
		with(`"no JSON"`):                             `gettbusiness: message: payload: is not JSON`,
		with(`""`):                                    `gettbusiness: message: payload: is not JSON`,
		with(`"{\"status\":\"x\"}"`):                  `gettbusiness: message: order_id: is missing`,
		with(`"{\"order_id\":1}"`):                    `gettbusiness: message: status: is missing or empty`,
		with(`"{\"order_id\":1.5,\"status\":\"x\"}"`): `gettbusiness: message: order_id: is 1.5, want an integer of at most 64 bits`,
	} {
		n, err := read(body)
		if err == nil {
			_, err = n.Ride()
		}
		if err == nil || err.Error() != "webhook: "+want || !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(cancelled)
	f.Add(with(`"{\"order_id\":1,\"status\":\"x\",\"y\":null}"`))
	f.Fuzz(func(t *testing.T, body string) {
		n, err := read(body)
		if err != nil {
			if _, ok := errors.AsType[*webhook.FieldError](err); !ok || n != nil {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		if r, err := n.Ride(); (err == nil) != (r != nil) {
			t.Fatalf("%q: %v, %v", body, r, err)
		}
		text, err := n.MarshalJSON()
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		again, err := read(string(text))
		if err != nil || !again.Timestamp.Equal(n.Timestamp) || again.Message != n.Message {
			t.Fatalf("%q became %q: %v", body, text, err)
		}
	})
}

func ExampleNotification_Ride() {
	n, err := gettbusiness.Parse(webhook.Event{Payload: []byte(cancelled)}) // in a handler: webhook.FromContext(r.Context())
	if err != nil {
		log.Fatal(err)
	}
	ride, err := n.Ride()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ride.OrderID, ride.Status, "at", n.Timestamp.Format(time.RFC3339Nano))
	// Output: 70692316 Cancelled at 2025-09-15T15:11:51.740212996Z
}
