// Package profile has the behaviour of webhook systems, one file each: signature format, retry schedule, time limit, what
// counts as success, idempotency key. Each function returns a plain value; change a field of it to change the rule.
//
//	verifier, err := profile.TradeGecko().Verifier(secret)
//	signer, err := profile.StandardWebhooks().Signer(newSecret, oldSecret)
package profile

import (
	"crypto/sha256"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/object"
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

// describe reads a JSON body, exactly: a body in which a name comes twice, which readers understand differently, tells nothing.
func describe(m *webhook.Message, read func(o *object.Object) webhook.Description) webhook.Description {
	o := object.Parse("describe", m.Body)
	if o.Err() != nil {
		return webhook.Description{}
	}
	return read(o)
}
