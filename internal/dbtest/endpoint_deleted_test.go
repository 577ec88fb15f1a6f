package dbtest

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// TestDeletedOnHold deletes a paused endpoint from one dispatcher while another delivers: nothing goes out, what waits is canceled, and an endpoint
// that is put under the same ID gets what is sent to it.
func TestDeletedOnHold(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		store, _ := v.handle(t, v.database(t))
		migrate(t, store)
		var came atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { came.Add(1) }))
		t.Cleanup(server.Close)
		secret, err := webhook.IssuedSecret(childSecret)
		if err != nil {
			t.Fatal(err)
		}
		ep := webhook.Endpoint{ID: "acme", URL: server.URL, Secrets: []webhook.Secret{secret}}
		opts := &webhook.DispatcherOptions{AllowPrivate: true, Logger: slog.New(slog.DiscardHandler)}
		admin, err := webhook.NewDispatcher(store, opts)
		if err != nil {
			t.Fatal(err)
		}
		d, err := webhook.NewDispatcher(store, opts)
		if err != nil {
			t.Fatal(err)
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		state := func(event string) (webhook.State, string) {
			t.Helper()
			now, err := store.Now(t.Context())
			must(err)
			res, err := store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: now, EventID: event})
			must(err)
			if len(res.Deliveries) != 1 {
				t.Fatalf("%d deliveries, want 1", len(res.Deliveries))
			}
			return res.Deliveries[0].State, res.Deliveries[0].Reason
		}
		must(admin.PutEndpoint(t.Context(), ep))
		must(admin.PauseEndpoint(t.Context(), "acme", "works"))
		waits, err := admin.Send(t.Context(), webhook.Event{Type: "x"})
		must(err)
		if _, err := d.Health(t.Context(), "acme"); err != nil { // a process that never knew the endpoint would wait for an hour
			t.Fatal(err)
		}
		startRun(t, d)
		if s, why := state(waits); s != webhook.Held || why != "works" {
			t.Errorf("what waits is %s (%s)", s, why)
		}
		must(admin.DeleteEndpoint(t.Context(), "acme"))
		waitFor(t, 20*time.Second, "what waited to be canceled", func() bool { s, _ := state(waits); return s == webhook.Canceled })
		if n := came.Load(); n != 0 {
			t.Errorf("%d requests", n)
		}
		must(admin.PutEndpoint(t.Context(), ep))
		next, err := admin.Send(t.Context(), webhook.Event{Type: "x"})
		must(err)
		waitFor(t, 20*time.Second, "one for its successor to be delivered", func() bool { s, _ := state(next); return s == webhook.Delivered })
	})
}
