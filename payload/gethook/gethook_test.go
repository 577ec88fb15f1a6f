package gethook_test

import (
	"errors"
	"fmt"
	"log"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/payload/gethook"
)

func TestEnvelope(t *testing.T) {
	for body, want := range map[string]gethook.Envelope{
		`{"data":{"id":"a","status":"queued"},"duration_ms":12}`: {Data: []byte(`{"id":"a","status":"queued"}`), DurationMS: 12},
		`{"error":"name is required","duration_ms":3}`:           {Error: "name is required", DurationMS: 3},
		`{"data":[1.10,12345678901234567890]}`:                   {Data: []byte(`[1.10,12345678901234567890]`)},
		`{"data":{"status":"accepted","note":"duplicate"}}`:      {Data: []byte(`{"status":"accepted","note":"duplicate"}`)},
		`{"data":1,"page":2}`:                                    {Data: []byte(`1`)},
	} {
		e, err := gethook.Open([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if string(e.Data) != string(want.Data) || e.Error != want.Error || e.DurationMS != want.DurationMS || (e.Err() != nil) != (want.Error != "") {
			t.Errorf("%s: %+v", body, e)
		}
		if again, err := e.MarshalJSON(); err != nil || string(again) != body {
			t.Errorf("%s became %s, %v", body, again, err)
		}
	}
}

func TestParse(t *testing.T) {
	for body, want := range map[string]string{
		`{"type":"payment.succeeded","amount":2000}`:                                        ` payment.succeeded 2000`,
		`{"id":"evt_1","type":"a","amount":20.00}`:                                          `evt_1 a 20.00`,
		`{"data":{"id":"evt_1","type":"a","amount":12345678901234567890},"duration_ms":12}`: `evt_1 a 12345678901234567890`,
		`{"type":"stripe.like","data":{"amount":1}}`:                                        ` stripe.like `, // no envelope: it has fields of its own
		`{}`: `  `,
	} {
		m, err := gethook.Parse(webhook.Event{Payload: []byte(body)})
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if got := fmt.Sprintf("%s %s %s", m.ID, m.Type, m.Fields["amount"]); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

func TestReadEvent(t *testing.T) {
	e, err := gethook.ReadEvent([]byte(`{"id":"e1","account_id":"a1","direction":"inbound","source_id":"s1","event_type":null,"received_at":"2026-01-02T03:04:05.123456789Z","headers":{"A":"b"},"body":"{\"x\":1}","status":"paused","attempts_count":2,"created_at":"2026-01-02T03:04:06Z","region":"eu"}`))
	if err != nil {
		t.Fatal(err)
	}
	if e.ID != "e1" || e.SourceID != "s1" || e.EventType != "" || e.Body != `{"x":1}` || e.Status != "paused" || e.AttemptsCount != 2 ||
		!e.ReceivedAt.Equal(time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)) || !e.NextAttemptAt.IsZero() || string(e.Unknown["region"]) != `"eu"` {
		t.Errorf("%+v", e)
	}
}

func TestErrorsNameTheField(t *testing.T) {
	open := func(body string) error { _, err := gethook.Open([]byte(body)); return err }
	parse := func(body string) error {
		_, err := gethook.Parse(webhook.Event{Payload: []byte(body)})
		return err
	}
	event := func(body string) error { _, err := gethook.ReadEvent([]byte(body)); return err }
	for _, tc := range []struct {
		read       func(string) error
		body, want string
	}{
		{open, `{"duration_ms":1}`, `data: is missing, and there is no error either`},
		{open, `{"data":1,"error":{}}`, `error: is an object, want a string`},
		{open, `{"data":1,"duration_ms":1.5}`, `duration_ms: is 1.5, want an integer of at most 64 bits`},
		{parse, `plain text`, `payload: is not JSON`},
		{parse, `{"type":7}`, `type: is 7, want a string`},
		{event, `{"status":"queued"}`, `id: is missing or empty`},
		{event, `{"id":"a","status":"queued","received_at":"today"}`, `received_at: is "today", want an RFC 3339 time`},
	} {
		if err := tc.read(tc.body); err == nil || err.Error() != "webhook: gethook: "+tc.want || !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("%s: %v, want %s", tc.body, err, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"type":"payment.succeeded","amount":2000}`)
	f.Add(`{"data":{"id":"a","status":"queued"},"duration_ms":12}`)
	f.Add(`{"error":"x"}`)
	f.Fuzz(func(t *testing.T, body string) {
		if m, err := gethook.Parse(webhook.Event{Payload: []byte(body)}); (err == nil) != (m != nil) {
			t.Fatalf("%q: %v, %v", body, m, err)
		}
		_, _ = gethook.ReadEvent([]byte(body))
		e, err := gethook.Open([]byte(body))
		if err != nil {
			return
		}
		text, err := e.MarshalJSON()
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if again, err := gethook.Open(text); err != nil || again.Error != e.Error || again.DurationMS != e.DurationMS {
			t.Fatalf("%q became %q: %v", body, text, err)
		}
	})
}

func ExampleParse() {
	ev := webhook.Event{Payload: []byte(`{"type":"payment.succeeded","amount":2000}`)} // in a handler: webhook.FromContext(r.Context())
	m, err := gethook.Parse(ev)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Type, string(m.Fields["amount"]))
	// Output: payment.succeeded 2000
}
