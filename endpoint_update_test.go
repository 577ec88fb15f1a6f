package webhook_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// between is a store in which something happens right after an endpoint was read, or before it is updated.
type between struct {
	*memstore.Store
	do func()
}

func (b *between) GetEndpoint(ctx context.Context, id string) (webhook.Endpoint, error) {
	ep, err := b.Store.GetEndpoint(ctx, id)
	b.happen()
	return ep, err
}

func (b *between) UpdateEndpoint(ctx context.Context, id string, change func(ep *webhook.Endpoint) error) error {
	b.happen()
	return b.Store.UpdateEndpoint(ctx, id, change)
}

func (b *between) happen() {
	if do := b.do; do != nil {
		b.do = nil
		do()
	}
}

// updating is a dispatcher on such a store with the endpoint "acme", and another dispatcher on the same data.
func updating(t *testing.T, opts *webhook.DispatcherOptions) (d, other *webhook.Dispatcher, store *between) {
	t.Helper()
	store = &between{Store: memstore.New()}
	var err error
	if d, err = webhook.NewDispatcher(store, opts); err != nil {
		t.Fatal(err)
	}
	if other, err = webhook.NewDispatcher(store.Store, opts); err != nil {
		t.Fatal(err)
	}
	put(t, d, endpoint(t, "acme"))
	return d, other, store
}

// A rotation in the middle of a change is not undone by it, nor the change by the rotation.
func TestUpdateEndpointUndoesNoRotation(t *testing.T) {
	d, other, store := updating(t, nil)
	fresh := webhook.GenerateSecret()
	store.do = func() {
		if err := other.RotateSecret(t.Context(), "acme", fresh, time.Hour); err != nil {
			t.Error(err)
		}
	}
	err := d.UpdateEndpoint(t.Context(), "acme", func(ep *webhook.Endpoint) error {
		ep.ID, ep.MaxInFlight, ep.Header = "other", 3, map[string][]string{"x-kind": {"a"}}
		return nil
	})
	if err != nil || store.do != nil {
		t.Fatalf("%v, or nothing happened meanwhile", err)
	}
	ep, err := store.Store.GetEndpoint(t.Context(), "acme")
	if err != nil || ep.MaxInFlight != 3 || ep.Header.Get("X-Kind") != "a" {
		t.Errorf("got MaxInFlight %d, header %v, error %v", ep.MaxInFlight, ep.Header, err)
	}
	if !ep.Secrets[0].Equal(fresh) || len(ep.Retiring) != 1 {
		t.Error("the rotation was undone")
	}
}

func TestUpdateEndpointRefuses(t *testing.T) {
	given := endpoint(t, "given")
	d, _, store := updating(t, &webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{given}})
	before, err := store.Store.GetEndpoint(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	own := errors.New("own")
	for _, tc := range []struct {
		name, id string
		change   func(ep *webhook.Endpoint) error
		want     error
		text     string
	}{
		{"no such endpoint", "none", func(*webhook.Endpoint) error { return nil }, webhook.ErrNotFound, `webhook: endpoint "none": not found`},
		{"given in code", "given", func(*webhook.Endpoint) error { return nil }, webhook.ErrInvalid, `webhook: endpoint "given": ID: `},
		{"change fails", "acme", func(ep *webhook.Endpoint) error { ep.MaxInFlight = 3; return own }, own, `webhook: endpoint "acme": own`},
		{"private", "acme", func(ep *webhook.Endpoint) error { ep.URL = "http://10.0.0.7/"; return nil }, webhook.ErrBlockedAddress, `webhook: endpoint "acme": URL: host 10.0.0.7`},
		{"unknown profile", "acme", func(ep *webhook.Endpoint) error { ep.Profile = "x"; return nil }, webhook.ErrUnknownProfile, `webhook: endpoint "acme": Profile: `},
		{"no secret", "acme", func(ep *webhook.Endpoint) error { ep.Secrets = nil; return nil }, webhook.ErrInvalid, `webhook: endpoint "acme": Secrets: `},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := d.UpdateEndpoint(t.Context(), tc.id, tc.change)
			if !errors.Is(err, tc.want) || !strings.HasPrefix(err.Error(), tc.text) || strings.Count(err.Error(), "webhook:") != 1 {
				t.Errorf("got  %v\nwant %s… (%v)", err, tc.text, tc.want)
			}
		})
	}
	after, err := store.Store.GetEndpoint(t.Context(), "acme")
	if err != nil || after.MaxInFlight != before.MaxInFlight || after.URL != before.URL {
		t.Errorf("it was changed, or %v", err)
	}
}

// A new URL is verified before anything goes to it, also when it is not the change itself that brings it.
func TestUpdateEndpointVerifies(t *testing.T) {
	for _, phase := range []string{"before", "meanwhile"} {
		t.Run(phase, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rc := newSwitchable(200)
				r := &running{store: memstore.New(), rc: &rc.receiver}
				r.start(t, webhook.DispatcherOptions{Logger: quiet()})
				ep := endpoint(t, "acme")
				ep.Verify = webhook.VerifyPing
				put(t, r.Dispatcher, ep)
				time.Sleep(5 * time.Second)
				r.send(t, webhook.Event{Type: "x"})
				time.Sleep(time.Second)
				rc.set(500)
				was := len(rc.requests())

				store := &between{Store: r.store}
				d, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{Logger: quiet()})
				if err != nil {
					t.Fatal(err)
				}
				move := func(ep *webhook.Endpoint) error { ep.URL += "/new"; return nil }
				change := move
				if phase == "meanwhile" {
					store.do = func() {
						ep, err := r.store.GetEndpoint(t.Context(), "acme")
						if err == nil {
							err = move(&ep)
						}
						if err == nil {
							err = r.store.PutEndpoint(t.Context(), ep)
						}
						if err != nil {
							t.Error(err)
						}
					}
					change = func(ep *webhook.Endpoint) error { ep.MaxInFlight = 3; return nil }
				}
				if err := d.UpdateEndpoint(t.Context(), "acme", change); err != nil {
					t.Fatal(err)
				}
				if h := r.hold(t, "acme"); h == nil || h.Kind != webhook.HoldUnverified {
					t.Errorf("got %+v, want a hold from the change on", h)
				}
				for range 5 {
					r.send(t, webhook.Event{Type: "x"})
					time.Sleep(time.Second)
				}
				for _, req := range rc.requests()[was:] {
					// What went to the old URL until the running one knew is as it should be.
					if strings.HasSuffix(req.url, "/new") && !strings.Contains(req.body, "webhook.verification") {
						t.Errorf("it got %q before it was verified", req.body)
					}
				}
			})
		})
	}
}

// What is wrong with an endpoint or a replay is said once, and by one name.
func TestErrorsSayItOnce(t *testing.T) {
	d, _, _ := updating(t, nil)
	ctx := t.Context()
	for name, ask := range map[string]func() error{
		"DeleteEndpoint": func() error { return d.DeleteEndpoint(ctx, "none") },
		"RotateSecret":   func() error { return d.RotateSecret(ctx, "none", webhook.GenerateSecret(), 0) },
		"GetReplay":      func() error { _, err := d.GetReplay(ctx, "none"); return err },
		"PauseReplay":    func() error { _, err := d.PauseReplay(ctx, "none", ""); return err },
		"CancelReplay":   func() error { _, err := d.CancelReplay(ctx, "none", ""); return err },
	} {
		err := ask()
		if !errors.Is(err, webhook.ErrNotFound) || strings.Count(err.Error(), "none") != 1 || strings.Count(err.Error(), "webhook:") != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := webhook.DefaultProfile()
	p.Schedule = webhook.Delays(-1)
	_, err := webhook.NewDispatcher(memstore.New(), &webhook.DispatcherOptions{Profiles: []webhook.Profile{p}})
	if !errors.Is(err, webhook.ErrInvalid) || strings.Count(err.Error(), "webhook:") != 1 || !strings.Contains(err.Error(), p.Name) {
		t.Errorf("profile: %v", err)
	}
}
