package webhook_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/profile"
)

// Tests count neither against an endpoint nor for it.
func TestTestsDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &states{Store: memstore.New()}
		rc := newSwitchable(500)
		var log healthLog
		r := &running{store: s.Store, on: s, rc: &rc.receiver}
		r.start(t, webhook.DispatcherOptions{Trace: log.trace()}, watchedEndpoint(t, "acme", webhook.Graduated()))
		for range 300 {
			if res, err := r.SendTest(t.Context(), "acme", nil); err != nil || res.Delivered {
				t.Fatalf("test: %+v, %v", res, err)
			}
			time.Sleep(5 * time.Second)
		}
		if n := s.counts().puts; n != 0 || log.count() != 0 {
			t.Errorf("%d puts, told of %d things after failed tests", n, log.count())
		}
		for range 5 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(10*time.Minute + 10*time.Second)
		if got := r.stage(t, "acme"); got != webhook.HealthProbed {
			t.Fatalf("stage is %s", got)
		}
		rc.set(200)
		if _, err := r.SendTest(t.Context(), "acme", nil); err != nil {
			t.Fatal(err)
		}
		if h, err := r.Health(t.Context(), "acme"); err != nil || h.FailingSince.IsZero() {
			t.Errorf("a test ended the streak of failures: %+v, %v", h, err)
		}
	})
}

// A test that succeeds ends a hold that failures or a 410 made, unless the policy keeps it, and never a person's.
func TestSuccessfulTestReenables(t *testing.T) {
	keep := webhook.FailingFor(time.Hour)
	keep.KeepHeld = true
	for _, tt := range []struct {
		name   string
		policy webhook.HealthPolicy
		status int
		pause  bool
		ends   bool
	}{
		{name: "failures", policy: webhook.FailingFor(time.Hour), status: 500, ends: true},
		{name: "gone", policy: webhook.FailingFor(time.Hour), status: 410, ends: true},
		{name: "kept", policy: keep, status: 500},
		{name: "kept gone", policy: keep, status: 410},
		{name: "a person's", policy: webhook.FailingFor(time.Hour), status: 200, pause: true},
		{name: "a person's after failures", policy: webhook.FailingFor(time.Hour), status: 500, pause: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rc := newSwitchable(tt.status)
				r := &running{store: memstore.New(), rc: &rc.receiver}
				r.start(t, webhook.DispatcherOptions{Profiles: []webhook.Profile{profile.TradeGecko()}}, watchedEndpoint(t, "acme", tt.policy))
				for range 90 {
					r.send(t, webhook.Event{Type: "x"})
					time.Sleep(time.Minute)
				}
				if tt.pause {
					if err := r.PauseEndpoint(t.Context(), "acme", "works"); err != nil {
						t.Fatal(err)
					}
				}
				waits := r.send(t, webhook.Event{Type: "x"})
				time.Sleep(time.Minute)
				if res, err := r.SendTest(t.Context(), "acme", nil); tt.status >= 400 && (err != nil || res.Delivered || r.hold(t, "acme") == nil) {
					t.Errorf("a test that failed: %+v, %v, hold %+v", res, err, r.hold(t, "acme"))
				}
				rc.set(200)
				if res, err := r.SendTest(t.Context(), "acme", nil); err != nil || !res.Delivered {
					t.Fatalf("test: %+v, %v", res, err)
				}
				if h := r.hold(t, "acme"); (h == nil) != tt.ends {
					t.Errorf("hold after the test: %+v", h)
				}
				time.Sleep(3 * time.Minute)
				want := webhook.Held
				if tt.ends {
					want = webhook.Delivered
				}
				if d := r.delivery(t, waits); d.State != want {
					t.Errorf("what waited is %+v, want %s", d, want)
				}
			})
		})
	}
}
