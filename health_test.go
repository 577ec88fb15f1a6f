package webhook_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/profile"
)

// Six days of an endpoint that only fails: slowed, probed, warned about, held; each told of once. Resumed, it goes on.
func TestGraduatedHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log healthLog
		rc := newSwitchable(500)
		r := &running{store: memstore.New(), rc: &rc.receiver}
		ep := watchedEndpoint(t, "acme", webhook.HealthPolicy{})
		opts := webhook.DispatcherOptions{Trace: log.trace()}
		r.start(t, opts, ep)
		began := time.Now()
		for range 20 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(5 * time.Minute)
		if got := r.stage(t, "acme"); got != webhook.HealthSlowed {
			t.Errorf("after 5 minutes: %s, want slowed", got)
		}
		time.Sleep(2*time.Hour - 5*time.Minute)
		if n := begun(rc.requests(), began.Add(time.Hour)); n < 11 || n > 13 {
			t.Errorf("%d attempts in an hour of probing, want one in 5 minutes", n)
		}
		if got := r.stage(t, "acme"); got != webhook.HealthProbed {
			t.Errorf("after 2 hours: %s, want probed", got)
		}
		r.stop()
		r.inSpells(t, opts, ep, 15*time.Minute, began.Add(120*time.Hour), nil)
		time.Sleep(10 * time.Second)
		want := "ok>slowed 1m0s, slowed>probed 10m0s, notice 24h0m0s, notice 48h0m0s, notice 72h0m0s, warning 96h0m0s, probed>held 120h0m0s"
		if diff := cmp.Diff(want, log.since(began, 10*time.Second)); diff != "" {
			t.Errorf("told of (-want +got):\n%s", diff)
		}
		for _, info := range log.all() {
			if info.EndpointID != "acme" || info.URL != ep.URL || info.Reason == "" {
				t.Errorf("told of %+v", info)
			}
		}
		if w := log.all()[5]; w.DisableAt.Sub(began).Round(10*time.Second) != 5*24*time.Hour || w.Failures < 300 {
			t.Errorf("the warning is %+v", w)
		}
		if h := r.hold(t, "acme"); h == nil || h.Kind != webhook.HoldDisabled {
			t.Fatalf("hold is %+v", h)
		}
		before := len(rc.requests())
		held := r.send(t, webhook.Event{Type: "x"})
		time.Sleep(time.Hour)
		if d := r.delivery(t, held); d.State != webhook.Held || len(rc.requests()) != before {
			t.Errorf("while held: %+v, %d requests more", d, len(rc.requests())-before)
		}
		rc.set(200)
		if err := r.ResumeEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if d := r.delivery(t, held); d.State != webhook.Delivered {
			t.Errorf("after it was resumed: %+v", d)
		}
		time.Sleep(10 * time.Minute)
		if got := r.stage(t, "acme"); got != webhook.HealthOK {
			t.Errorf("long after it was resumed: %s", got)
		}
	})
}

// An endpoint that answers costs the store nothing for its health.
func TestHealthyEndpointsWriteNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &states{Store: memstore.New()}
		r := &running{store: s.Store, on: s, rc: &receiver{}}
		r.start(t, webhook.DispatcherOptions{}, watchedEndpoint(t, "acme", webhook.Graduated()))
		synctest.Wait()
		s.mu.Lock()
		s.read = 0
		s.mu.Unlock()
		for range 1000 {
			r.send(t, webhook.Event{Type: "x"})
			time.Sleep(20 * time.Millisecond)
		}
		if got := len(r.rc.requests()); got != 1000 {
			t.Errorf("%d requests", got)
		}
		// 20 s: one look for changes a poll, and one each half second by routes.
		if n := s.counts(); n.puts != 0 || n.changes != 0 || n.read > 100+40+2 {
			t.Errorf("%d puts, %d changes, %d lookups; want 0, 0, about 140", n.puts, n.changes, n.read)
		}
	})
}

// However many attempts fail, that alone neither probes nor holds; nor do failures that lie far apart.
func TestHealthNeverByCountAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log healthLog
		rc := newSwitchable(500)
		r := &running{store: memstore.New(), rc: &rc.receiver}
		ep := watchedEndpoint(t, "acme", webhook.Graduated())
		ep.Schedule = webhook.NoRetry()
		r.start(t, webhook.DispatcherOptions{Trace: log.trace()}, ep)
		for range 10_000 {
			r.send(t, webhook.Event{Type: "x"})
			time.Sleep(5 * time.Millisecond)
		}
		if len(rc.requests()) != 10_000 || log.count() != 0 {
			t.Errorf("%d failures in 50 s: told %v", len(rc.requests()), log.all())
		}
		rc.set(200)
		r.send(t, webhook.Event{Type: "x"})
		time.Sleep(time.Minute)
		rc.set(500)
		for range 3 { // 12 days, in which nobody tries
			r.send(t, webhook.Event{Type: "x"})
			time.Sleep(2 * time.Minute)
			r.stop()
			time.Sleep(6 * 24 * time.Hour)
			r.start(t, webhook.DispatcherOptions{Trace: log.trace()}, ep)
		}
		r.stop()                         // it tells no more
		for _, info := range log.all() { // slowed it may have been: nearly all of a minute's attempts failed
			if info.Kind != webhook.HealthChanged || info.To == webhook.HealthProbed || info.To == webhook.HealthHeld {
				t.Errorf("failures 6 days apart: told of %+v", info)
			}
		}
	})
}

// TradeGecko: 410 at once; three days of only failures; any success begins anew; a notice each day.
func TestTradeGeckoRules(t *testing.T) {
	start := func(t *testing.T, status int) (*running, *switchable, *healthLog, func(every, until time.Duration, sends bool)) {
		log, rc := &healthLog{}, newSwitchable(status)
		r := &running{store: memstore.New(), rc: &rc.receiver}
		ep := endpoint(t, "acme")
		ep.Health = webhook.HealthPolicy{} // the profile's
		opts := webhook.DispatcherOptions{Trace: log.trace(), Profiles: []webhook.Profile{profile.TradeGecko()}}
		r.start(t, opts, ep)
		synctest.Wait()
		began := time.Now()
		return r, rc, log, func(every, until time.Duration, sends bool) {
			r.stop()
			r.inSpells(t, opts, ep, every, began.Add(until), func() {
				if sends {
					r.send(t, webhook.Event{Type: "x"})
				}
			})
		}
	}
	t.Run("three days", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, _, log, pass := start(t, 500)
			began := time.Now()
			pass(30*time.Minute, 71*time.Hour+50*time.Minute, true)
			time.Sleep(20 * time.Minute)
			want := "notice 24h0m0s, warning 48h0m0s, ok>held 72h0m0s"
			if diff := cmp.Diff(want, log.since(began, 5*time.Second)); diff != "" {
				t.Errorf("told of (-want +got):\n%s", diff)
			}
			if h := r.hold(t, "acme"); h == nil || h.Kind != webhook.HoldDisabled {
				t.Errorf("hold is %+v", h)
			}
			if at := log.all()[1].DisableAt.Sub(began); at < 72*time.Hour || at > 72*time.Hour+5*time.Second {
				t.Errorf("the warning says %v, want 72 h", at)
			}
		})
	})
	t.Run("one delivery and its retries", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, _, log, pass := start(t, 500)
			began := time.Now()
			r.send(t, webhook.Event{Type: "x"})
			synctest.Wait()
			pass(10*time.Minute, 75*time.Hour, false)
			t.Log(log.since(began, time.Minute))
			if h := r.hold(t, "acme"); h == nil || h.Kind != webhook.HoldDisabled {
				t.Errorf("hold is %+v", h)
			}
		})
	})
	t.Run("a success", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, rc, log, pass := start(t, 500)
			began := time.Now()
			pass(30*time.Minute, 72*time.Hour-time.Minute, true)
			rc.set(302) // as good as any
			r.send(t, webhook.Event{Type: "x"})
			time.Sleep(10 * time.Second)
			rc.set(500)
			pass(30*time.Minute, 120*time.Hour-time.Minute, true)
			want := "notice 24h0m0s, warning 48h0m0s, notice 96h0m0s"
			if diff := cmp.Diff(want, log.since(began, time.Hour)); diff != "" {
				t.Errorf("told of (-want +got):\n%s", diff)
			}
			if h := r.hold(t, "acme"); h != nil {
				t.Errorf("hold is %+v", h)
			}
		})
	})
	t.Run("410", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, rc, log, _ := start(t, 410)
			began := time.Now()
			id := r.send(t, webhook.Event{Type: "x"})
			synctest.Wait()
			if h := r.hold(t, "acme"); h == nil || h.Kind != webhook.HoldGone {
				t.Errorf("hold is %+v", h)
			}
			for range 10 {
				r.send(t, webhook.Event{Type: "x"})
				time.Sleep(time.Minute)
			}
			if n := len(rc.requests()); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
			if diff := cmp.Diff("ok>held 0s", log.since(began, time.Second)); diff != "" {
				t.Errorf("told of (-want +got):\n%s", diff)
			}
			if d := r.delivery(t, id); d.State != webhook.DeadLetter {
				t.Errorf("the delivery is %+v", d)
			}
			rc.set(200)
			if err := r.ResumeEndpoint(t.Context(), "acme"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if n := len(rc.requests()); n != 11 {
				t.Errorf("%d requests after it was resumed, want 11", n)
			}
		})
	})
}

// What was kept goes out at a safe pace: twice as much with each second of success, and half after a failure.
func TestDrainAtASafePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := newSwitchable(200)
		r := &running{store: memstore.New(), rc: &rc.receiver}
		r.start(t, webhook.DispatcherOptions{}, watchedEndpoint(t, "acme", webhook.Graduated()))
		if err := r.PauseEndpoint(t.Context(), "acme", "works"); err != nil {
			t.Fatal(err)
		}
		for range 3000 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(time.Minute)
		if n := len(rc.requests()); n != 0 {
			t.Fatalf("%d requests while paused", n)
		}
		began := time.Now()
		if err := r.ResumeEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5200 * time.Millisecond)
		rc.set(500)
		time.Sleep(time.Second)
		rc.set(200)
		time.Sleep(2 * time.Minute)
		var per [60]int
		for _, g := range rc.requests() {
			if s := int(g.at.Sub(began) / time.Second); s < len(per) {
				per[s]++
			}
		}
		for s, n := range per[:6] {
			if most := 1<<s + max(1, 1<<s/5); n > most || n < 1<<s/2 {
				t.Errorf("second %d: %d attempts, want %d to %d; %v", s, n, 1<<s/2, most, per)
			}
		}
		if per[7] > per[5] {
			t.Errorf("after failures: %d attempts, want fewer than %d; %v", per[7], per[5], per)
		}
		if n := len(rc.requests()); n < 3000 {
			t.Errorf("%d requests, want 3000 and retries", n)
		}
		t.Log(per)
	})
}

// A person's pause stays a person's pause, whatever fails.
func TestHealthLeavesPausesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log healthLog
		rc := &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
			time.Sleep(5 * time.Second)
			return 410, nil, nil
		}}
		r := &running{store: memstore.New(), rc: rc}
		r.start(t, webhook.DispatcherOptions{Trace: log.trace(), Profiles: []webhook.Profile{profile.TradeGecko()}},
			watchedEndpoint(t, "acme", webhook.FailingFor(time.Hour)))
		r.send(t, webhook.Event{Type: "x"})
		time.Sleep(time.Second)
		if err := r.PauseEndpoint(t.Context(), "acme", "works"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Hour)
		if h := r.hold(t, "acme"); h == nil || h.Kind != webhook.HoldPaused || h.Reason != "works" {
			t.Errorf("hold is %+v, want the person's", h)
		}
		if log.count() != 0 {
			t.Errorf("told of %+v", log.all())
		}
	})
}

// Several processes on one store: each step is taken, and told of, once.
func TestHealthHooksAreNotDoubled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log healthLog
		s := &states{Store: memstore.New()}
		rc := newSwitchable(500)
		p := webhook.Graduated()
		p.HoldAfter, p.Warn, p.Notice = 5*time.Hour, time.Hour, time.Hour
		ep := watchedEndpoint(t, "acme", p)
		var all []*running
		for i := range 4 {
			r := &running{store: s.Store, on: s, rc: &rc.receiver}
			r.start(t, webhook.DispatcherOptions{Trace: log.trace(), Owner: fmt.Sprint(i)}, ep)
			all = append(all, r)
		}
		began := time.Now()
		for i := range 400 {
			all[i%4].send(t, webhook.Event{Type: "x"})
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(5*time.Hour + time.Minute)
		rc.set(200)
		if err := all[2].ResumeEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		want := "ok>slowed 1m0s, slowed>probed 10m0s, notice 1h0m0s, notice 2h0m0s, notice 3h0m0s, warning 4h0m0s, probed>held 5h0m0s" +
			", held>slowed 5h1m0s, slowed>ok "
		got := log.since(began, time.Minute)
		if diff := cmp.Diff(want, got[:min(len(got), len(want))]); diff != "" {
			t.Errorf("told of (-want +got):\n%s", diff)
		}
		if n := log.count(); n != 9 {
			t.Errorf("told of %d steps, want 9", n)
		}
		n := s.counts()
		t.Logf("%d puts of %d states, %d stale, in 5 hours", n.puts, n.put, n.stale)
	})
}

// Two processes agree within one poll, exactly: what one hears, the other obeys.
func TestDispatchersAgreeWithinAPoll(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		header http.Header
	}{
		{"gone", 410, nil},
		{"Retry-After", 429, http.Header{"Retry-After": {"60"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const poll = 200 * time.Millisecond
				store, ep := memstore.New(), watchedEndpoint(t, "acme", webhook.HealthPolicy{})
				opts := webhook.DispatcherOptions{Profiles: []webhook.Profile{profile.TradeGecko()}, Poll: poll}
				a := &running{store: store, rc: &receiver{answer: func(*http.Request, int) (int, http.Header, error) { return tt.status, tt.header, nil }}}
				b := &running{store: store, rc: &receiver{}}
				a.start(t, opts, ep)
				time.Sleep(70 * time.Millisecond) // so that their polls do not fall together
				b.start(t, opts, ep)
				time.Sleep(1050 * time.Millisecond)
				began := time.Now()
				a.send(t, webhook.Event{Type: "x"})
				for range 500 {
					b.send(t, webhook.Event{Type: "x"})
					a.send(t, webhook.Event{Type: "x"})
					time.Sleep(2 * time.Millisecond)
				}
				time.Sleep(58 * time.Second)
				if n := len(a.rc.requests()); n > 16 {
					t.Errorf("the one that heard it: %d requests, want those that were under way", n)
				}
				if late := begun(b.rc.requests(), began.Add(poll+time.Millisecond)); late != 0 || len(b.rc.requests()) == 0 {
					t.Errorf("the other: %d of %d requests came more than a poll after", late, len(b.rc.requests()))
				}
			})
		})
	}
}
