package webhook_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// What waits for one tenant's endpoint is never sent to another tenant's that has got its ID, in whatever way.
func TestEndpointOfAnotherTenantGetsNothing(t *testing.T) {
	for _, tc := range []struct {
		name string
		move func(t *testing.T, r *running, ep webhook.Endpoint) error
	}{
		{"put over it", func(t *testing.T, r *running, ep webhook.Endpoint) error { return r.PutEndpoint(t.Context(), ep) }},
		{"updated", func(t *testing.T, r *running, ep webhook.Endpoint) error {
			return r.UpdateEndpoint(t.Context(), ep.ID, func(is *webhook.Endpoint) error { *is = ep; return nil })
		}},
		{"deleted and put", func(t *testing.T, r *running, ep webhook.Endpoint) error {
			if err := r.DeleteEndpoint(t.Context(), ep.ID); err != nil {
				return err
			}
			return r.PutEndpoint(t.Context(), ep)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rc := newSwitchable(500)
				r := &running{store: memstore.New(), rc: &rc.receiver}
				r.start(t, webhook.DispatcherOptions{Logger: quiet()})
				ep := watchedEndpoint(t, "acme", webhook.NoHealth())
				ep.Tenant = "a"
				put(t, r.Dispatcher, ep)
				secret := r.send(t, webhook.Event{Type: "x", Tenant: "a", Payload: []byte("of a")})
				time.Sleep(10 * time.Second)
				ep.Tenant = "b"
				if err := tc.move(t, r, ep); err != nil {
					t.Fatal(err)
				}
				rc.set(200)
				was := len(rc.requests())
				r.send(t, webhook.Event{Type: "x", Tenant: "b", Payload: []byte("of b")})
				time.Sleep(2 * time.Hour)
				for _, req := range rc.requests()[was:] {
					if req.body != "of b" {
						t.Errorf("b's endpoint was sent %q", req.body)
					}
				}
				if n := len(rc.requests()) - was; n != 1 {
					t.Errorf("b's endpoint got %d requests, want its own one", n)
				}
				if d := r.delivery(t, secret); d.State != webhook.Canceled || d.Reason == "" {
					t.Errorf("a's delivery is %s (%s), want canceled with a reason", d.State, d.Reason)
				}
			})
		})
	}
}
