package webhook_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/profile"
)

// Whatever keeps an endpoint from being sent to when it is deleted: what waits for it is canceled, nothing goes out, and one that is put under the
// same ID begins anew.
func TestDeletedWhileNothingMayBeSent(t *testing.T) {
	for _, tc := range []struct {
		name   string
		verify webhook.VerifyMode
		status int
		pause  bool
		stray  bool // the hold of a process that did not know is put after the deletion
	}{
		{name: "paused", status: 200, pause: true},
		{name: "gone", status: 410},
		{name: "asked for time", status: 429},
		{name: "unverified", status: 200, verify: webhook.VerifyChallenge},
		{name: "unverified, and told so too late", status: 200, verify: webhook.VerifyChallenge, stray: true},
	} {
		for _, phase := range []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond, 400 * time.Millisecond} {
			t.Run(fmt.Sprint(tc.name, " ", phase), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					rc := newSwitchable(tc.status)
					rc.header = http.Header{"Retry-After": {"36000"}} // counts with a 429
					a := &running{store: memstore.New(), rc: &rc.receiver}
					opts := webhook.DispatcherOptions{Profiles: []webhook.Profile{profile.TradeGecko()}, Logger: quiet()}
					a.start(t, opts)
					time.Sleep(170 * time.Millisecond)
					b := &running{store: a.store, rc: &rc.receiver}
					b.start(t, opts)
					c, err := webhook.NewDispatcher(a.store, &opts) // does not run
					if err != nil {
						t.Fatal(err)
					}
					ep := watchedEndpoint(t, "acme", webhook.Graduated())
					ep.Verify = tc.verify
					put(t, a.Dispatcher, ep)
					if tc.pause {
						if err := a.PauseEndpoint(t.Context(), "acme", "works"); err != nil {
							t.Fatal(err)
						}
					}
					a.send(t, webhook.Event{Type: "x"})
					time.Sleep(10 * time.Second)
					waits := a.send(t, webhook.Event{Type: "x"})
					time.Sleep(2*time.Second + phase)
					if s := a.delivery(t, waits).State; s != webhook.Held && s != webhook.Queued {
						t.Fatalf("what waits is %s", s)
					}
					sent := func() (n int) {
						for _, g := range rc.requests() {
							if !strings.Contains(g.body, "webhook.verification") { // which a process that does not know yet may send
								n++
							}
						}
						return n
					}
					before := sent()
					if err := c.DeleteEndpoint(t.Context(), "acme"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(100 * time.Millisecond)
					if err := a.PauseEndpoint(t.Context(), "acme", "too late"); !errors.Is(err, webhook.ErrNotFound) {
						t.Errorf("pausing it then: %v", err)
					}
					if tc.stray {
						time.Sleep(1500 * time.Millisecond)
						if err := a.store.Hold(t.Context(), &webhook.HoldRequest{Now: time.Now(), EndpointID: "acme", Kind: webhook.HoldUnverified}); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(5 * time.Second)
					if d := a.delivery(t, waits); d.State != webhook.Canceled || d.Reason != "its endpoint does not exist" {
						t.Errorf("what waited is %+v", d)
					}
					if n := sent(); n != before {
						t.Errorf("%d requests after it was deleted", n-before)
					}
					rc.set(200)
					ep.Verify = ""
					put(t, b.Dispatcher, ep)
					id := b.send(t, webhook.Event{Type: "x"})
					time.Sleep(time.Second)
					if d := a.delivery(t, id); d.State != webhook.Delivered {
						t.Errorf("one for its successor is %+v", d)
					}
					for _, r := range []*running{a, b} {
						if h, err := r.Health(t.Context(), "acme"); err != nil || h.Stage != webhook.HealthOK || !h.FailingSince.IsZero() || !h.NotBefore.IsZero() || h.Hold != nil {
							t.Errorf("its successor's health is %+v, %v", h, err)
						}
					}
				})
			})
		}
	}
}

// Deleting the stored one of two endpoints with the same ID changes nothing for that in code.
func TestDeletedBesideOneInCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		put(t, r.Dispatcher, endpoint(t, "acme"))
		if err := r.PauseEndpoint(t.Context(), "acme", "works"); err != nil {
			t.Fatal(err)
		}
		if err := r.DeleteEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		id := r.send(t, webhook.Event{Type: "x"})
		time.Sleep(time.Minute)
		if d := r.delivery(t, id); d.State != webhook.Held || d.Reason != "works" {
			t.Errorf("what waits for the one in code is %+v", d)
		}
	})
}

// A process that has seen an endpoint deleted does not cancel what is sent to its successor, however soon that comes.
func TestDeletedAndPutAgainElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &running{store: memstore.New(), rc: &receiver{}}
		a.start(t, webhook.DispatcherOptions{})
		b, err := webhook.NewDispatcher(a.store, &webhook.DispatcherOptions{Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			time.Sleep(2*time.Second + time.Duration(i)*37*time.Millisecond)
			put(t, b, endpoint(t, "acme"))
			id, err := b.Send(t.Context(), webhook.Event{Type: "x"})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			if d := a.delivery(t, id); d.State != webhook.Delivered {
				t.Errorf("round %d: %+v", i, d)
			}
			if err := b.DeleteEndpoint(t.Context(), "acme"); err != nil {
				t.Fatal(err)
			}
		}
	})
}
