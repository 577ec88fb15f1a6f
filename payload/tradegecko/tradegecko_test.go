package tradegecko_test

import (
	"errors"
	"fmt"
	"log"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/payload/tradegecko"
	"github.com/signalpost/webhook/profile"
)

// The page's sample, which has the plural, and what its list of events makes of it.
const (
	plural   = `{"object_id":1234567,"event":"fulfillments.create","timestamp":1546272000,"resource_url":"https://api.tradegecko.com/fulfillments/1234567.json"}`
	singular = `{"object_id":1234567,"event":"fulfillment.create","timestamp":1546272000,"resource_url":"https://api.tradegecko.com/fulfillments/1234567.json"}`
)

func read(body string) (*tradegecko.Notification, error) {
	return tradegecko.Parse(webhook.Event{Payload: []byte(body)})
}

func TestParse(t *testing.T) {
	for _, body := range []string{plural, singular} {
		n, err := read(body)
		if err != nil {
			t.Fatal(err)
		}
		if n.ObjectID != 1234567 || n.Name() != "fulfillment.create" || n.Resource() != "fulfillment" || n.Action() != "create" ||
			!n.Timestamp.Equal(time.Date(2018, 12, 31, 16, 0, 0, 0, time.UTC)) || n.Unknown != nil {
			t.Errorf("%+v", n)
		}
		if again, err := n.MarshalJSON(); err != nil || string(again) != body {
			t.Errorf("%s became %s, %v", body, again, err)
		}
		// What the profile tells is the same of both.
		d := profile.TradeGecko().Describe(&webhook.Message{Body: []byte(body)})
		if d.Type != n.Name() || d.OrderingKey != "fulfillment:1234567" || !d.Time.Equal(n.Timestamp) || d.ID != "" {
			t.Errorf("the profile says %+v", d)
		}
	}
	n, err := read(`{"object_id":-9223372036854775808,"event":"x","timestamp":0,"resource_url":"","account":{"id":12345678901234567890}}`)
	if err != nil || n.Name() != "x" || n.Resource() != "x" || n.Action() != "" || string(n.Unknown["account"]) != `{"id":12345678901234567890}` {
		t.Errorf("%+v, %v", n, err)
	}
}

// The names of TradeGecko's list stay; their plurals become them; others stay.
func TestNames(t *testing.T) {
	for plural, singular := range map[string]string{
		"accounts.update": "account.update", "addresses.create": "address.create", "channels.destroy": "channel.destroy", "companies.update": "company.update",
		"contacts.create": "contact.create", "document_themes.update": "document_theme.update", "fulfillments.fulfilled": "fulfillment.fulfilled",
		"fulfillment_returns.received": "fulfillment_return.received", "invoices.destroy": "invoice.destroy", "locations.update": "location.update",
		"orders.finalized": "order.finalized", "payments.create": "payment.create", "products.destroy": "product.destroy", "procurements.create": "procurement.create",
		"purchase_orders.received": "purchase_order.received", "stock_adjustments.create": "stock_adjustment.create", "stock_transfers.create": "stock_transfer.create",
		"variants.stock_level_update": "variant.stock_level_update", "images.create": "image.create",
		"status.create": "status.create", "widgets.create": "widgets.create", "orders": "orders", "": "", ".": ".", "Orders.create": "Orders.create",
	} {
		for _, name := range []string{plural, singular} {
			n := tradegecko.Notification{Event: name}
			if got := n.Name(); got != singular {
				t.Errorf("%q is %q, want %q", name, got, singular)
			}
		}
	}
}

func TestFetchURL(t *testing.T) {
	for link, fine := range map[string]bool{
		"https://api.tradegecko.com/orders/1.json":          true,
		"http://api.tradegecko.com/orders/1.json":           false,
		"https://api.tradegecko.com.evil.example/orders":    false,
		"https://evil.example/?https://api.tradegecko.com/": false,
		"https://api.tradegecko.com@evil.example/":          false,
		"https://me:secret@api.tradegecko.com/":             false,
		"https://api.tradegecko.com:8443/":                  false,
		"//api.tradegecko.com/":                             false,
		"https://169.254.169.254/":                          false,
		"%":                                                 false,
		"":                                                  false,
	} {
		n := tradegecko.Notification{ResourceURL: link}
		if got, err := n.FetchURL(); (err == nil) != fine || fine && got != link {
			t.Errorf("%q: %q, %v", link, got, err)
		}
	}
}

func TestErrorsNameTheField(t *testing.T) {
	for body, want := range map[string]string{
		`{"event":"a","timestamp":1}`:                           `object_id: is missing`,
		`{"object_id":"1","event":"a","timestamp":1}`:           `object_id: is a string, want an integer of at most 64 bits`,
		`{"object_id":1e3,"event":"a","timestamp":1}`:           `object_id: is 1e3, want an integer of at most 64 bits`,
		`{"object_id":1,"timestamp":1}`:                         `event: is missing or empty`,
		`{"object_id":1,"event":"a"}`:                           `timestamp: is missing`,
		`{"object_id":1,"event":"a","timestamp":-1}`:            `timestamp: is -1, want seconds since 1970`,
		`{"object_id":1,"event":"a","timestamp":1546272000000}`: `timestamp: is 1546272000000, want seconds since 1970`,
		`"{\"object_id\":1}"`:                                   `payload: is not an object`,
	} {
		_, err := read(body)
		if err == nil || err.Error() != "webhook: tradegecko: "+want || !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(plural)
	f.Add(singular)
	f.Add(`{"object_id":1,"event":"companies.create","timestamp":0,"x":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		n, err := read(body)
		if err != nil {
			if _, ok := errors.AsType[*webhook.FieldError](err); !ok || n != nil {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		text, err := n.MarshalJSON()
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		again, err := read(string(text))
		if err != nil || again.ObjectID != n.ObjectID || again.Event != n.Event || !again.Timestamp.Equal(n.Timestamp) || len(again.Unknown) != len(n.Unknown) {
			t.Fatalf("%q became %q: %s, %v", body, text, cmp.Diff(n, again), err)
		}
		d := tradegecko.Notification{Event: n.Name()}
		if d.Name() != n.Name() {
			t.Fatalf("%q is %q, which is %q", n.Event, n.Name(), d.Name())
		}
	})
}

func ExampleParse() {
	n, err := tradegecko.Parse(webhook.Event{Payload: []byte(plural)}) // in a handler: webhook.FromContext(r.Context())
	if err != nil {
		log.Fatal(err)
	}
	switch n.Name() {
	case "fulfillment.create": // also "fulfillments.create"
		link, err := n.FetchURL()
		fmt.Println("fetch", link, err)
	}
	// Output: fetch https://api.tradegecko.com/fulfillments/1234567.json <nil>
}
