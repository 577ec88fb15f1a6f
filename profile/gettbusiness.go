package profile

import (
	"net/http"
	"strconv"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/object"
)

// GettBusiness is the webhooks of Gett's business API (rides): "sha256=" and the base64 HMAC-SHA256 of the body, under the
// subscription's secret_id as text. The key of an event is the id in its body, which is signed.
//
// Gett's public pages do not say which header carries the signature: read its name from a first delivery. "" means
// "Signature". The format has no freshness rule.
//
// As a sender it does not retry, as Gett does unless asked: set a schedule for that, which Gett has as
// webhook.Exponential(time.Minute, 30*time.Minute, n).
func GettBusiness(header string) webhook.Profile {
	if header == "" {
		header = "Signature"
	}
	return webhook.Profile{
		Name: "gettbusiness",
		Scheme: base64Body{
			name:   "gettbusiness",
			header: http.CanonicalHeaderKey(header),
			prefix: "sha256=",
		},
		Schedule:  delays(),
		Timeout:   30 * time.Second,
		Success:   success2xx(),
		Tolerance: anyAge,
		Key:       webhook.KeyFromJSON("id"),
		Describe:  describeGettBusiness,
	}
}

// describeGettBusiness reads the envelope, and what the message within it is about.
func describeGettBusiness(m *webhook.Message) webhook.Description {
	return describe(m, func(o *object.Object) webhook.Description {
		d := webhook.Description{ID: o.Text("id"), Type: o.Text("event_type"), Time: o.Time("timestamp")}
		inner := object.Parse("describe", []byte(o.Text("message")))
		if inner.Err() != nil {
			return d
		}
		if id, ok := inner.Int("order_id"); ok {
			d.OrderingKey = webhook.JoinKey("order", strconv.FormatInt(id, 10))
		} else if id := inner.Text("delivery_id"); id != "" {
			d.OrderingKey = webhook.JoinKey("delivery", id)
		}
		return d
	})
}
