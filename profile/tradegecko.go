package profile

import (
	"strconv"
	"strings"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/gecko"
	"github.com/signalpost/webhook/internal/object"
)

const headerGeckoDelivery = "X-Gecko-Delivery"

// TradeGecko is the webhooks of TradeGecko, later QuickBooks Commerce: the base64 HMAC-SHA256 of the body in
// X-Gecko-Signature, the event's ID in X-Gecko-Delivery.
//
// It counts redirects as success, so a receiver must never answer with one, and ends a subscription for good on a 410, or when
// nothing but failures came for three days; any success begins anew. Here such an endpoint is put on hold instead, with a notice
// each day before ([webhook.Trace].Health): nothing is lost, and [webhook.Dispatcher.ResumeEndpoint] goes on.
// Retries run for days and are signed as the first attempt was, so there is no freshness rule.
//
// The key is X-Gecko-Delivery, or the body where that is absent. That header is not signed: whoever has seen a valid request can
// send it again under another. Since equal bodies say the same (they carry no state, only what to fetch),
// [webhook.KeyFromBody] is the safer key where handlers only fetch. Event types are told in the singular, as in TradeGecko's list of
// events, whichever way they came; the event's ID is in that header alone and so not in what [webhook.Profile].Describe tells.
func TradeGecko() webhook.Profile {
	return webhook.Profile{
		Name: "tradegecko",
		Scheme: base64Body{
			name:     "tradegecko",
			header:   "X-Gecko-Signature",
			idHeader: headerGeckoDelivery,
		},
		Schedule:     webhook.Schedule{Kind: "sidekiq", Retries: 25},
		Timeout:      10 * time.Second,
		Success:      webhook.SuccessRule{From: 200, To: 399},
		Health:       webhook.FailingFor(72 * time.Hour),
		GoneDisables: true,
		Tolerance:    anyAge,
		Key:          tradeGeckoKey,
		Describe:     describeTradeGecko,
	}
}

func tradeGeckoKey(m *webhook.Message) (webhook.Key, error) {
	if m.Header.Get(headerGeckoDelivery) == "" {
		return webhook.KeyFromBody()(m)
	}
	return webhook.KeyFromHeader(headerGeckoDelivery)(m)
}

// describeTradeGecko reads the body: it has no ID.
func describeTradeGecko(m *webhook.Message) webhook.Description {
	return describe(m, func(o *object.Object) webhook.Description {
		d := webhook.Description{Type: gecko.Name(o.Text("event"))}
		if id, ok := o.Int("object_id"); ok {
			resource, _, _ := strings.Cut(d.Type, ".")
			d.OrderingKey = webhook.JoinKey(resource, strconv.FormatInt(id, 10))
		}
		if seconds, ok := o.Int("timestamp"); ok && seconds > 0 && seconds <= 253402300799 { // 9999-12-31
			d.Time = time.Unix(seconds, 0).UTC()
		}
		return d
	})
}
