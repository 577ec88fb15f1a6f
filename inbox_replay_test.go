package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// Dead letters of an inbox are processed again by hand, one or all, within its tenants too; and by nobody else.
func TestInboxReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		in := newInboxTest(t, store, &webhook.InboxOptions{Schedule: webhook.NoRetry(), Receive: webhook.ReceiveOptions{Scope: "tenant 1"}})
		other := newInboxTest(t, store, &webhook.InboxOptions{Name: "other", Schedule: webhook.NoRetry()})
		var sent atomic.Int64
		d, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				sent.Add(1)
				return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
			}),
			Endpoints: []webhook.Endpoint{{
				ID: "acme", Tenant: "tenant 1", URL: "https://acme.example", Secrets: []webhook.Secret{mustSecret(t, "whatever it is, it is long")},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		var failing atomic.Bool
		failing.Store(true)
		in.then = func(context.Context, webhook.Event) error {
			if failing.Load() {
				return errors.New("no")
			}
			return nil
		}
		other.then = in.then
		in.start()
		other.start()
		for _, id := range []string{"1", "2", "3"} {
			in.post(order(id), 200, false)
			other.post(order(id), 200, false)
		}
		time.Sleep(time.Hour)
		// Rerouted, all that there is goes to whoever subscribes: but not what was received.
		if _, err := d.Replay(t.Context(), webhook.Filter{}, &webhook.ReplayOptions{Reroute: true}); err != nil {
			t.Fatal(err)
		}
		failing.Store(false)
		time.Sleep(time.Hour)
		if sent.Load() != 0 || len(in.ran()) != 3 || len(other.ran()) != 3 {
			t.Errorf("%d sent, %d and %d runs; a dispatcher replays none of it", sent.Load(), len(in.ran()), len(other.ran()))
		}
		one := in.deliveries()[0]
		made, err := in.ReplayDelivery(t.Context(), one.ID)
		if err != nil || made.EventID != one.EventID || made.EndpointID != in.EndpointID() {
			t.Errorf("replayed: %+v, %v", made, err)
		}
		time.Sleep(time.Second)
		if _, err := in.ReplayDelivery(t.Context(), other.deliveries()[0].ID); !errors.Is(err, webhook.ErrNotFound) {
			t.Errorf("another inbox's delivery: %v", err)
		}
		for _, want := range []int{2, 0} { // what succeeded since is none any more
			if n, err := in.Replay(t.Context(), webhook.Filter{State: webhook.DeadLetter}); n != want || err != nil {
				t.Errorf("replayed %d, %v; want %d", n, err, want)
			}
			time.Sleep(time.Second)
		}
		if diff := cmp.Diff([]string{order("1"), order("1"), order("2"), order("2"), order("3"), order("3")}, slices.Sorted(slices.Values(in.bodies()))); diff != "" {
			t.Error(diff)
		}
		if len(other.ran()) != 3 {
			t.Errorf("the other inbox ran %d times", len(other.ran()))
		}
		if n, err := other.Replay(t.Context(), webhook.Filter{Type: "order_*"}); n != 3 || err != nil {
			t.Errorf("replayed %d, %v; want all 3", n, err)
		}
		for _, f := range []webhook.Filter{{Endpoint: "acme"}, {State: webhook.Unmatched}, {State: webhook.Queued}} {
			if _, err := in.Replay(t.Context(), f); !errors.Is(err, webhook.ErrInvalid) {
				t.Errorf("%+v: %v", f, err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		r, err := d.Replay(t.Context(), webhook.Filter{Endpoint: "acme"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if r, err = d.GetReplay(t.Context(), r.ID); err != nil || r.State != webhook.ReplayRunning {
			t.Errorf("a replay of a dispatcher that does not run is %s, %v: an inbox has worked on it", r.State, err)
		}
		in.stop()
		other.stop()
	})
}
