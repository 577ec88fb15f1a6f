// Package profile has the behaviour of webhook systems, one file each: signature format, retry schedule, time limit, what
// counts as success, idempotency key. Each function returns a plain value; change a field of it to change the rule.
//
//	verifier, err := profile.TradeGecko().Verifier(secret)
//	signer, err := profile.StandardWebhooks().Signer(newSecret, oldSecret)
package profile

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	"github.com/signalpost/webhook"
)

// All returns every profile here, for a dispatcher that is to know them by name.
func All() []webhook.Profile {
	return []webhook.Profile{
		Gett(),
		GettBusiness(""),
		TradeGecko(),
		GetHook(),
		StandardWebhooks(),
	}
}

// anyAge is the tolerance of formats without a freshness rule.
const anyAge = time.Duration(-1)

// mac is an HMAC-SHA256.
type mac = [sha256.Size]byte

func success2xx() webhook.SuccessRule { return webhook.SuccessRule{From: 200, To: 299} }

func delays(list ...time.Duration) webhook.Schedule {
	return webhook.Schedule{Kind: "list", List: list}
}

// bodyFields reads a few string members of a JSON body; what is absent or of another kind stays empty.
type bodyFields struct {
	ID        text `json:"id"`
	Type      text `json:"type"`
	Event     text `json:"event"`
	EventType text `json:"event_type"`
}

// text is a JSON string, or "" for anything else.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*t = text(s)
	}
	return nil
}

func readBody(body []byte) bodyFields {
	var f bodyFields
	if json.Unmarshal(body, &f) != nil {
		return bodyFields{}
	}
	return f
}
