package webhook_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/profile"
	"github.com/signalpost/webhook/webhooktest"
)

// What a handler is told of each system's events comes from what is signed: changing every header that the signature does not cover changes
// nothing of it.
func TestDescriptionIsOfWhatIsSigned(t *testing.T) {
	const (
		gett     = `{"type":"order_update","data":{"permalink_url":"https://gett.com/orders/o-1","status":"confirmed"}}`
		business = `{"id":"e-1","event_type":"status_changed","env":"","message":"{\"order_id\":70692316,\"status\":\"Cancelled\"}","timestamp":"2025-09-15T15:11:51.740212996Z"}`
		gecko    = `{"object_id":1234567,"event":"fulfillments.create","timestamp":1546272000,"resource_url":"https://api.tradegecko.com/fulfillments/1234567.json"}`
		hook     = `{"id":"e-2","type":"payment.succeeded","amount":2000}`
		standard = `{"type":"invoice.paid","timestamp":"2022-11-03T20:26:10.344522Z","data":{}}`
	)
	for _, tc := range []struct {
		profile webhook.Profile
		body    string
		want    webhook.Description
		id      string // as FromContext has it
	}{
		{profile.Gett(), gett, webhook.Description{Type: "order_update", OrderingKey: "o-1"}, ""},
		{profile.GettBusiness(""), business, webhook.Description{
			ID: "e-1", Type: "status_changed", OrderingKey: "order:70692316", Time: time.Date(2025, 9, 15, 15, 11, 51, 740212996, time.UTC),
		}, "e-1"},
		{profile.TradeGecko(), gecko, webhook.Description{
			Type: "fulfillment.create", OrderingKey: "fulfillment:1234567", Time: time.Date(2018, 12, 31, 16, 0, 0, 0, time.UTC),
		}, "forged"}, // the format's header, which is not signed
		{profile.GetHook(), hook, webhook.Description{ID: "e-2", Type: "payment.succeeded"}, "e-2"},
		{profile.StandardWebhooks(), standard, webhook.Description{
			ID: "evt_test", Type: "invoice.paid", Time: time.Date(2022, 11, 3, 20, 26, 10, 344522000, time.UTC),
		}, "evt_test"},
	} {
		t.Run(tc.profile.Name, func(t *testing.T) {
			secret := webhook.GenerateSecret()
			verifier, err := tc.profile.Verifier(secret)
			if err != nil {
				t.Fatal(err)
			}
			called := false
			handler := webhook.Middleware(verifier, nil)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				called = true
				got, ok := webhook.DescriptionFromContext(r.Context())
				if !ok || got != tc.want {
					t.Errorf("described as %+v, want %+v", got, tc.want)
				}
				ev := webhook.FromContext(r.Context())
				if ev.ID != tc.id || ev.Type != tc.want.Type || ev.OrderingKey != tc.want.OrderingKey {
					t.Errorf("the event is %q, %q, %q", ev.ID, ev.Type, ev.OrderingKey)
				}
			}))
			forge := []webhooktest.Change{webhooktest.Header("X-Event-Type", "forged"), webhooktest.Header("X-Gecko-Delivery", "forged")}
			if tc.profile.Name != "standardwebhooks" { // which signs it
				forge = append(forge, webhooktest.Header("Webhook-Id", "forged"))
			}
			handler.ServeHTTP(httptest.NewRecorder(), webhooktest.SignedRequest(t, tc.profile, secret, []byte(tc.body), forge...))
			if !called {
				t.Error("the request was refused")
			}
		})
	}
	if _, ok := webhook.DescriptionFromContext(t.Context()); ok {
		t.Error("described outside of a handler")
	}
}
