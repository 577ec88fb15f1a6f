package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// A process that only looks knows what those that run have found.
func TestHealthIsReadFromTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := newSwitchable(500)
		bad, good := watchedEndpoint(t, "bad", webhook.Graduated()), watchedEndpoint(t, "good", webhook.Graduated())
		bad.Tenant, bad.Schedule = "t", webhook.Exponential(10*time.Second, 10*time.Second, 900)
		bad.URL += "?token=hunter2"
		var log healthLog
		r := &running{store: memstore.New(), rc: &rc.receiver}
		r.start(t, webhook.DispatcherOptions{Trace: log.trace()}, bad, good)
		began := time.Now()
		for range 5 {
			r.send(t, webhook.Event{Type: "x", Tenant: "t"})
		}
		time.Sleep(12 * time.Minute)
		looks, err := webhook.NewDispatcher(r.store, &webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{bad, good}, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		h, err := looks.Health(t.Context(), "bad")
		if err != nil {
			t.Fatal(err)
		}
		if h.Stage != webhook.HealthProbed || h.FailingSince.Sub(began) > time.Second || h.Failures < 15 || h.Reason != "answered 500" ||
			h.Pace != (webhook.Rate{Events: 1, Per: 5 * time.Minute, Burst: 1}) || !h.DisableAt.Equal(h.FailingSince.Add(120*time.Hour)) || h.Hold != nil {
			t.Errorf("health is %+v", h)
		}
		if h, err := looks.Health(t.Context(), "good"); err != nil || h.Stage != webhook.HealthOK || !h.DisableAt.IsZero() {
			t.Errorf("of the other: %+v, %v", h, err)
		}
		list, err := looks.Unhealthy(t.Context())
		if err != nil || len(list) != 1 || list[0].EndpointID != "bad" {
			t.Errorf("unhealthy: %+v, %v", list, err)
		}
		if _, err := looks.Health(t.Context(), "none"); !errors.Is(err, webhook.ErrNotFound) || !strings.Contains(err.Error(), `endpoint "none"`) {
			t.Errorf("of an unknown one: %v", err)
		}
		for _, info := range log.all() {
			if strings.Contains(info.URL, "hunter2") || info.Tenant != "t" {
				t.Errorf("told of %+v", info)
			}
		}
		// And it may resume what others run.
		rc.set(200)
		if err := looks.ResumeEndpoint(t.Context(), "bad"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if got := begun(rc.requests(), time.Now().Add(-20*time.Second)); got < 5 {
			t.Errorf("%d requests in the 20 s after it was resumed, want 5", got)
		}
	})
}

// Whatever is done with an endpoint's hold, no delivery is touched: what waits reads the same before and after.
func TestHeldByHealthLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := webhook.FailingFor(2 * time.Hour)
		rc := newSwitchable(500)
		r := &running{store: memstore.New(), rc: &rc.receiver}
		r.start(t, webhook.DispatcherOptions{}, watchedEndpoint(t, "acme", p))
		var ids []string
		send := func() { ids = append(ids, r.send(t, webhook.Event{Type: "x"})) }
		for range 10 {
			send()
		}
		for r.hold(t, "acme") == nil {
			time.Sleep(time.Minute)
		}
		for range 10 {
			send()
		}
		rows := func() (list []webhook.Delivery) {
			res, err := r.store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now(), EndpointID: "acme", Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			return res.Deliveries
		}
		time.Sleep(time.Minute)
		before := rows()
		for _, d := range before {
			if d.State != webhook.Held {
				t.Errorf("delivery is %+v, want it held", d)
			}
		}
		time.Sleep(3 * time.Hour)
		if diff := cmp.Diff(before, rows()); diff != "" {
			t.Errorf("rows changed while on hold (-before +after):\n%s", diff)
		}
		rc.set(200)
		if err := r.ResumeEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		send()
		time.Sleep(5 * time.Minute)
		for _, id := range ids {
			if d := r.delivery(t, id); d.State != webhook.Delivered {
				t.Errorf("event %s: %+v", id, d)
			}
		}
	})
}

// withoutStates is a store that keeps no states of endpoints.
type withoutStates struct {
	webhook.Store
	webhook.HoldStore
}

// Without a StateStore each process slows down by what it sees itself, and none switches anything off.
func TestHealthWithoutStateStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log healthLog
		rc := newSwitchable(500)
		mem := memstore.New()
		r := &running{store: mem, on: withoutStates{mem, mem}, rc: &rc.receiver}
		ep := watchedEndpoint(t, "acme", webhook.Graduated())
		ep.Health.HoldAfter, ep.Health.Notice = 2*time.Hour, -1
		r.start(t, webhook.DispatcherOptions{Trace: log.trace()}, ep)
		began := time.Now()
		for range 10 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(4 * time.Hour)
		rc.set(200)
		time.Sleep(20 * time.Minute)
		want := "ok>slowed 1m0s, slowed>probed 10m0s, probed>slowed 4h"
		if got := log.since(began, time.Minute); !strings.HasPrefix(got, want) {
			t.Errorf("told of %s, want %s …", got, want)
		}
		if err := r.PauseEndpoint(t.Context(), "acme", "x"); err != nil {
			t.Fatal(err)
		}
		if err := r.ResumeEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		id := r.send(t, webhook.Event{Type: "x"})
		time.Sleep(5 * time.Second)
		if d := r.delivery(t, id); d.State != webhook.Delivered {
			t.Errorf("after it was resumed: %+v", d)
		}
	})
}

// An answer that is lost costs the call of a hook at most, never the state; a store that is away stops nothing.
func TestHealthSurvivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &states{Store: memstore.New(), lose: true}
		rc := newSwitchable(500)
		var log healthLog
		r := &running{store: s.Store, on: s, rc: &rc.receiver}
		r.start(t, webhook.DispatcherOptions{Trace: log.trace()}, watchedEndpoint(t, "acme", webhook.Graduated()))
		for range 5 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(12 * time.Minute)
		if got := r.stage(t, "acme"); got != webhook.HealthProbed || log.count() != 0 {
			t.Errorf("stage is %s, told of %v; want probed, and nothing", got, log.all())
		}
		s.mu.Lock()
		s.lose = false
		s.mu.Unlock()
		rc.set(200)
		time.Sleep(30 * time.Minute)
		if got := r.stage(t, "acme"); got != webhook.HealthOK {
			t.Errorf("stage is %s in the end", got)
		}
	})
}

// A document that nobody can read, as of a later version, counts as none.
func TestUnreadableHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := newSwitchable(500)
		r := &running{store: memstore.New(), rc: &rc.receiver}
		if _, err := r.store.PutStates(t.Context(), &webhook.PutStatesRequest{Now: time.Now(), States: []webhook.NewState{
			{EndpointID: "acme", Doc: []byte(`{"s":7`)}, {EndpointID: "gone", Doc: []byte(`{"s":"probed","f":1}`)},
		}}); err != nil {
			t.Fatal(err)
		}
		r.start(t, webhook.DispatcherOptions{}, watchedEndpoint(t, "acme", webhook.Graduated()))
		for range 5 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(12 * time.Minute)
		if got := r.stage(t, "acme"); got != webhook.HealthProbed {
			t.Errorf("stage is %s, want probed", got)
		}
	})
}

// A hook that panics stops no step.
func TestPanickingHealthHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := &receiver{answer: func(*http.Request, int) (int, http.Header, error) { return 500, nil, nil }}
		r := &running{store: memstore.New(), rc: rc}
		r.start(t, webhook.DispatcherOptions{Trace: &webhook.Trace{
			Health: func(context.Context, webhook.HealthInfo) { panic("hook") },
		}}, watchedEndpoint(t, "acme", webhook.Graduated()))
		for range 5 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(12 * time.Minute)
		if got := r.stage(t, "acme"); got != webhook.HealthProbed {
			t.Errorf("stage is %s, want probed", got)
		}
	})
}
