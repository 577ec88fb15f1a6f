// Package tradegecko reads the notifications of TradeGecko, later QuickBooks Commerce, after they were verified. A notification carries no state: it
// says what to fetch. Fields that the package does not know it keeps in Unknown.
//
//	n, err := tradegecko.Parse(webhook.FromContext(r.Context()))
//	switch n.Name() {
//	case "fulfillment.create":
package tradegecko

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/gecko"
	"github.com/signalpost/webhook/internal/object"
)

// Notification is an event. It does not say in whose account: give each account a URL of its own.
type Notification struct {
	ObjectID    int64
	Event       string    // as it came, singular or plural: compare Name
	Timestamp   time.Time // of the event, to the second
	ResourceURL string    // before fetching it, see FetchURL

	Unknown map[string]json.RawMessage // other fields; nil: none
}

// Parse reads a notification. The error is a [*webhook.FieldError] that names the field. Object_id, event and timestamp are required.
func Parse(ev webhook.Event) (*Notification, error) {
	o := object.Parse("tradegecko", ev.Payload)
	n := &Notification{ObjectID: o.MustInt("object_id"), Event: o.Must("event"), ResourceURL: o.Text("resource_url")}
	seconds := o.MustInt("timestamp")
	if seconds < 0 || seconds > 253402300799 { // 9999-12-31
		o.Fail("timestamp", fmt.Sprintf("is %d, want seconds since 1970", seconds))
	}
	n.Timestamp, n.Unknown = time.Unix(seconds, 0).UTC(), o.Rest()
	if err := o.Err(); err != nil {
		return nil, err
	}
	return n, nil
}

// Name is the event in the singular, as TradeGecko's list of events has it: "fulfillment.create" also of "fulfillments.create". Of resources that
// are not on that list it is Event.
func (n *Notification) Name() string { return gecko.Name(n.Event) }

// Resource is the first part of Name, as "fulfillment".
func (n *Notification) Resource() string {
	resource, _, _ := strings.Cut(n.Name(), ".")
	return resource
}

// Action is the second part of Name, as "create".
func (n *Notification) Action() string {
	_, action, _ := strings.Cut(n.Name(), ".")
	return action
}

// FetchURL is ResourceURL if it leads to TradeGecko's API by https, and an error otherwise: with it goes an access token, and it came from outside.
func (n *Notification) FetchURL() (string, error) {
	u, err := url.Parse(n.ResourceURL)
	if err != nil || u.Scheme != "https" || u.Host != "api.tradegecko.com" || u.User != nil {
		return "", &webhook.FieldError{Op: "tradegecko", Field: "resource_url", Reason: "does not lead to https://api.tradegecko.com"}
	}
	return u.String(), nil
}

// MarshalJSON writes the notification as TradeGecko does.
func (n Notification) MarshalJSON() ([]byte, error) {
	return object.Marshal(n.Unknown,
		object.Field{Name: "object_id", Value: n.ObjectID},
		object.Field{Name: "event", Value: n.Event},
		object.Field{Name: "timestamp", Value: n.Timestamp.Unix()},
		object.Field{Name: "resource_url", Value: n.ResourceURL},
	)
}
