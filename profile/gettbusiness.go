package profile

import (
	"net/http"
	"time"

	"github.com/signalpost/webhook"
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
		Describe: func(m *webhook.Message) (id, eventType string) {
			f := readBody(m.Body)
			return string(f.ID), string(f.EventType)
		},
	}
}
