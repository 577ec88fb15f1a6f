package gett_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/payload/gett"
)

// The page's payloads.
const (
	created = `{"type":"order_create","data":{"type":"order","checkout_session_id":"csn_01hvz9kj0re0000000000000","permalink_url":"https://gett.com/orders/018f4d2a-c5b0-7c4e-9b3a-2d1e8f7a6b5c","status":"created","refunds":[]}}`
	updated = `{"type":"order_update","data":{"type":"order","checkout_session_id":"csn_01hvz9kj0re0000000000000","permalink_url":"https://gett.com/orders/018f4d2a-c5b0-7c4e-9b3a-2d1e8f7a6b5c","status":"confirmed","refunds":[{"type":"store_credit","amount":1050}]}}`
)

func read(body string) (*gett.OrderEvent, error) {
	return gett.Order(webhook.Event{Payload: []byte(body)})
}

func TestOrder(t *testing.T) {
	got, err := read(updated)
	want := &gett.OrderEvent{
		Type: gett.OrderUpdate,
		Data: gett.Data{
			Kind: "order", CheckoutSessionID: "csn_01hvz9kj0re0000000000000", Status: gett.Confirmed,
			PermalinkURL: "https://gett.com/orders/018f4d2a-c5b0-7c4e-9b3a-2d1e8f7a6b5c",
			Refunds:      []gett.Refund{{Type: gett.StoreCredit, Amount: 1050}},
		},
		OrderID: "018f4d2a-c5b0-7c4e-9b3a-2d1e8f7a6b5c",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, body := range []string{
		created,
		updated,
		`{"type":"order_create","data":{"type":"order","checkout_session_id":"","permalink_url":"","status":"created"}}`, // no refunds
		`{"type":"order_update","data":{"type":"order","checkout_session_id":"a<b>&c","permalink_url":"u","status":"lost_in_space","refunds":[{"type":"cash","amount":-9223372036854775808,"reason":{"x":1.10}}],"adjustments":[1e400],"orderId":12345678901234567890},"sent_by":"gett"}`,
	} {
		e, err := read(body)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if again, err := e.MarshalJSON(); err != nil || string(again) != body {
			t.Errorf("%s became %s, %v", body, again, err)
		}
		if again, err := json.Marshal(e); err != nil || !json.Valid(again) {
			t.Errorf("%s became %s, %v", body, again, err)
		}
	}
}

// The refunds of an event that does not speak of refunds are nil, which is not the same as none.
func TestRefundsAreAFullList(t *testing.T) {
	for _, body := range []string{
		created, `{"type":"order_update","data":{"status":"confirmed"}}`, `{"type":"order_update","data":{"status":"confirmed","refunds":null}}`,
	} {
		e, err := read(body)
		if err != nil {
			t.Fatal(err)
		}
		if said := e.Refunds != nil; said != (body == created) || len(e.Refunds) != 0 {
			t.Errorf("%s: refunds %#v", body, e.Refunds)
		}
	}
}

func TestOrderID(t *testing.T) {
	for data, want := range map[string]string{
		`"permalink_url":"https://gett.com/orders/o-1/?a=b#c"`:             "o-1",
		`"permalink_url":"https://gett.com/orders"`:                        "",
		`"permalink_url":"https://gett.com/orders/o-1","orderId":"o-2"`:    "o-2",
		`"permalink_url":"https://gett.com/orders/o-1","orderId":12345678`: "12345678",
		`"permalink_url":"%"`: "",
		`"a":1`:               "",
	} {
		body := `{"type":"order_update","data":{"status":"created",` + data + `}}`
		e, err := read(body)
		if err != nil || e.OrderID != want {
			t.Errorf("%s: %q, %v, want %q", data, e.OrderID, err, want)
		}
		// It is the order that the profile tells.
		if d := webhook.DefaultProfile().Describe(&webhook.Message{Body: []byte(body)}); d.OrderingKey != want {
			t.Errorf("%s: the profile says %q", data, d.OrderingKey)
		}
	}
}

func TestErrorsNameTheField(t *testing.T) {
	for body, want := range map[string]string{
		``:                                   `payload: is not JSON`,
		`[]`:                                 `payload: is not an object`,
		`{}`:                                 `type: is missing or empty`,
		`{"type":7}`:                         `type: is 7, want a string`,
		`{"type":"x","data":{"status":"y"}}`: `type: is "x", want order_create or order_update`,
		`{"type":"order_create"}`:            `data: is missing`,
		`{"type":"order_create","data":"x"}`: `data: is not an object`,
		`{"type":"order_create","data":{}}`:  `data.status: is missing or empty`,
		`{"type":"order_create","data":{"status":{}}}`:                                                        `data.status: is an object, want a string`,
		`{"type":"order_create","data":{"status":"a","status":"b"}}`:                                          `data.status: is there twice`,
		`{"type":"order_create","type":"order_create"}`:                                                       `type: is there twice`,
		`{"type":"order_create","data":{"status":"a","refunds":{}}}`:                                          `data.refunds: is an object, want a list`,
		`{"type":"order_create","data":{"status":"a","refunds":[7]}}`:                                         `data.refunds[0]: is not an object`,
		`{"type":"order_create","data":{"status":"a","refunds":[{"type":"b","amount":1},{"type":"b"}]}}`:      `data.refunds[1].amount: is missing`,
		`{"type":"order_create","data":{"status":"a","refunds":[{"type":"b","amount":10.50}]}}`:               `data.refunds[0].amount: is 10.50, want an integer of at most 64 bits`,
		`{"type":"order_create","data":{"status":"a","refunds":[{"type":"b","amount":9223372036854775808}]}}`: `data.refunds[0].amount: is 9223372036854775808, want an integer of at most 64 bits`,
		`{"type":"order_create","data":{"status":"a","refunds":[{"type":"b","amount":"1050"}]}}`:              `data.refunds[0].amount: is a string, want an integer of at most 64 bits`,
		`{"type":"order_create","data":{"STATUS":"a"}}`:                                                       `data.status: is missing or empty`,
	} {
		_, err := read(body)
		if err == nil || err.Error() != "webhook: gett: "+want || !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

func TestStatusKnown(t *testing.T) {
	for _, s := range []gett.Status{gett.Created, gett.ManualReview, gett.Confirmed, gett.Canceled, gett.Shipped, gett.Fulfilled} {
		if !s.Known() {
			t.Errorf("%s is not known", s)
		}
	}
	if gett.Status("Cancelled").Known() {
		t.Error("Gett Business's spelling is known")
	}
}

func FuzzOrder(f *testing.F) {
	f.Add(created)
	f.Add(updated)
	f.Add(`{"type":"order_update","data":{"status":"a","refunds":[{"type":"b","amount":1,"x":[]}],"y":"\ud800"},"z":1e9}`)
	f.Fuzz(func(t *testing.T, body string) {
		e, err := read(body)
		if err != nil {
			if _, ok := errors.AsType[*webhook.FieldError](err); !ok || e != nil {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		text, err := e.MarshalJSON()
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		again, err := read(string(text))
		if err != nil {
			t.Fatalf("%q became %q: %v", body, text, err)
		}
		if text2, err := again.MarshalJSON(); err != nil || string(text2) != string(text) {
			t.Fatalf("%q became %q, then %q, %v", body, text, text2, err)
		}
	})
}

func ExampleOrder() {
	secret := webhook.GenerateSecret()
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		log.Fatal(err)
	}
	handler := webhook.Middleware(verifier, nil)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		order, err := gett.Order(webhook.FromContext(r.Context()))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(order.OrderID, "is", order.Status)
		for _, refund := range order.Refunds { // all there are: replace what you have
			fmt.Println(refund.Amount, "as", refund.Type)
		}
	}))

	r := httptest.NewRequest("POST", "/webhooks/gett", strings.NewReader(updated))
	signer, err := webhook.NewSigner(secret)
	if err != nil {
		log.Fatal(err)
	}
	if err := signer.Sign(r.Header, []byte(updated)); err != nil {
		log.Fatal(err)
	}
	handler.ServeHTTP(httptest.NewRecorder(), r)
	// Output:
	// 018f4d2a-c5b0-7c4e-9b3a-2d1e8f7a6b5c is confirmed
	// 1050 as store_credit
}
