package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// outage is a receiver that answers 500 while it is down.
type outage struct {
	receiver
	down atomic.Bool
}

func newOutage() *outage {
	o := &outage{}
	o.answer = func(*http.Request, int) (int, http.Header, error) {
		if o.down.Load() {
			return 500, nil, nil
		}
		return 200, nil, nil
	}
	return o
}

// onceOnly makes the first failure of an endpoint's deliveries the last.
func onceOnly(ep webhook.Endpoint) webhook.Endpoint {
	ep.Schedule = webhook.NoRetry()
	return ep
}

// replaying is a dispatcher whose endpoints gave up on n events each.
func replaying(t *testing.T, n int, eps ...webhook.Endpoint) (*running, *outage) {
	t.Helper()
	rc := newOutage()
	rc.down.Store(true)
	for i := range eps {
		eps[i] = onceOnly(eps[i])
	}
	r := run(t, webhook.DispatcherOptions{Transport: rc}, eps...)
	for i := range n {
		r.send(t, webhook.Event{ID: fmt.Sprintf("evt_%03d", i), Type: "order_create", Payload: fmt.Appendf(nil, "%d", i)})
	}
	time.Sleep(time.Minute)
	rc.down.Store(false)
	return r, rc
}

// done waits until a replay has ended.
func (r *running) done(t *testing.T, id string) webhook.Replay {
	t.Helper()
	for range 10000 {
		got, err := r.GetReplay(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if got.State.Final() {
			return got
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the replay does not end")
	return webhook.Replay{}
}

// states counts the deliveries to an endpoint by state and by whether a replay has made them.
func (r *running) endpointStates(t *testing.T, endpointID string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	res, err := r.store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now(), EndpointID: endpointID, Limit: 100000})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range res.Deliveries {
		name := string(d.State)
		if d.Replay != "" {
			name += " replayed"
		}
		counts[name]++
	}
	return counts
}

func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, rc := replaying(t, 30, endpoint(t, "acme"), endpoint(t, "other"))
		before := len(rc.requests())
		filter := webhook.Filter{Endpoint: "acme", State: webhook.DeadLetter, Since: time.Now().Add(-time.Hour)}
		dry, err := r.Replay(t.Context(), filter, &webhook.ReplayOptions{DryRun: true})
		if err != nil || dry.ID != "" || dry.Matched != 30 || dry.Redelivered != 30 || dry.PassedOver != 0 {
			t.Fatalf("dry run: %+v, %v", dry, err)
		}
		synctest.Wait()
		if list, err := r.ListReplays(t.Context(), nil); err != nil || len(list.Replays) != 0 || len(rc.requests()) != before {
			t.Fatalf("the dry run left %+v, %v", list, err)
		}
		began := time.Now()
		rp, err := r.Replay(t.Context(), filter, nil)
		if err != nil || rp.ID == "" || rp.State != webhook.ReplayRunning {
			t.Fatalf("%+v, %v", rp, err)
		}
		done := r.done(t, rp.ID)
		if done.State != webhook.ReplayDone || done.Matched != 30 || done.Redelivered != 30 || done.PassedOver != 0 || done.FinishedAt.IsZero() {
			t.Fatalf("%+v", done)
		}
		time.Sleep(time.Minute)
		if diff := cmp.Diff(map[string]int{"dead_letter": 30, "delivered replayed": 30}, r.endpointStates(t, "acme")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]int{"dead_letter": 30}, r.endpointStates(t, "other")); diff != "" {
			t.Error(diff)
		}
		v, err := webhook.NewVerifier(secret(t))
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]string{}
		for i, got := range rc.requests()[before:] {
			if _, err := v.Verify(got.header, []byte(got.body)); err != nil {
				t.Errorf("request %d does not verify: %v", i, err)
			}
			if at := got.at.Sub(began); at > 4*time.Second || at < time.Duration(i/5)*400*time.Millisecond {
				t.Errorf("request %d after %v", i, at)
			}
			ids[got.body] = got.url
		}
		if len(ids) != 30 {
			t.Errorf("%d different events arrived", len(ids))
		}
		// What was delivered since is no dead letter any more.
		if again, err := r.Replay(t.Context(), filter, &webhook.ReplayOptions{DryRun: true}); err != nil || again.Matched != 0 {
			t.Errorf("a second time: %+v, %v", again, err)
		}
	})
}

// The new delivery tells what it repeats, has no ordering key, and the old one is as it was.
func TestReplayDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := newOutage()
		rc.down.Store(true)
		r := run(t, webhook.DispatcherOptions{Transport: rc}, onceOnly(endpoint(t, "acme")))
		id := r.send(t, webhook.Event{Type: "order_create", OrderingKey: "o1", Payload: []byte("p")})
		r.send(t, webhook.Event{Type: "order_update", OrderingKey: "o1", Payload: []byte("q")})
		time.Sleep(time.Minute)
		rc.down.Store(false)
		old := r.delivery(t, id)
		if old.State != webhook.DeadLetter {
			t.Fatalf("%+v", old)
		}
		for i := range 2 { // a second time by hand is not swallowed
			del, err := r.ReplayDelivery(t.Context(), old.ID)
			if err != nil || del.ReplayOf != old.ID || del.Replay != webhook.ManualReplay || del.EventID != id || del.ID == old.ID || del.OrderingKey != "" {
				t.Fatalf("%+v, %v", del, err)
			}
			synctest.Wait()
			if got := rc.requests(); len(got) != i+2 || got[i+1].body != "p" {
				t.Fatalf("got %v", got)
			}
		}
		time.Sleep(time.Minute)
		if diff := cmp.Diff(map[string]int{"dead_letter": 1, "delivered replayed": 2, "queued": 1}, r.endpointStates(t, "acme")); diff != "" {
			t.Errorf("the key goes on by itself: %s", diff)
		}
		if ok, err := r.ReleaseKey(t.Context(), "acme", "o1"); err != nil || !ok {
			t.Fatal(ok, err)
		}
		time.Sleep(time.Minute)
		if got := rc.requests(); len(got) != 4 || got[3].body != "q" {
			t.Errorf("got %v", got)
		}
		for _, bad := range []string{"dlv_unknown", old.ID + "x", old.ID[:5]} {
			if _, err := r.ReplayDelivery(t.Context(), bad); !errors.Is(err, webhook.ErrNotFound) {
				t.Errorf("%s: %v", bad, err)
			}
		}
		if _, err := r.ReplayDelivery(t.Context(), ""); !errors.Is(err, webhook.ErrInvalid) {
			t.Error(err)
		}
	})
}

// Events that matched nothing go to who subscribes by now.
func TestReplayUnmatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme", "refund"))
		for i := range 5 {
			r.send(t, webhook.Event{ID: fmt.Sprint("evt_", i), Type: "order_create", Tenant: "t1"})
			r.send(t, webhook.Event{ID: fmt.Sprint("evt_t", i), Type: "order_create", Tenant: "t2"})
		}
		r.send(t, webhook.Event{ID: "evt_r", Type: "refund"})
		time.Sleep(time.Minute)
		ep, quiet := endpoint(t, "new", "order_*"), endpoint(t, "quiet", "other")
		ep.Tenant, quiet.Tenant = "t1", "t1"
		for _, e := range []webhook.Endpoint{ep, quiet} {
			if err := r.PutEndpoint(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range []int{5, 0} { // once is enough
			rp, err := r.Replay(t.Context(), webhook.Filter{State: webhook.Unmatched}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if done := r.done(t, rp.ID); done.Matched != want+5 || done.Redelivered != want {
				t.Errorf("%d: %+v", i, done)
			}
			time.Sleep(time.Minute)
		}
		if diff := cmp.Diff(map[string]int{"delivered replayed": 5}, r.endpointStates(t, "new")); diff != "" {
			t.Error(diff)
		}
		if got := len(r.rc.requests()); got != 6 {
			t.Errorf("%d requests", got)
		}
	})
}

// Rerouted, events go to today's endpoints that lack them, each once.
func TestReplayReroute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "has"))
		if err := r.PutEndpoint(t.Context(), endpoint(t, "old")); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			r.send(t, webhook.Event{ID: fmt.Sprint("evt_", i), Type: "order_create"})
		}
		time.Sleep(time.Minute)
		if err := r.PutEndpoint(t.Context(), endpoint(t, "new", "order_*")); err != nil {
			t.Fatal(err)
		}
		if err := r.PutEndpoint(t.Context(), endpoint(t, "new2", "order_*")); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			to                    string
			matched, made, passed int
		}{
			{"new", 20, 20, 0},
			{"new", 20, 0, 20},
			{"", 20, 20, 60},
			{"nobody", 20, 0, 0},
		} {
			opts := webhook.ReplayOptions{Reroute: true, To: tt.to}
			for _, opts.DryRun = range []bool{true, false} {
				rp, err := r.Replay(t.Context(), webhook.Filter{}, &opts)
				if err != nil {
					t.Fatal(err)
				}
				if !opts.DryRun {
					rp = r.done(t, rp.ID)
				}
				if rp.Matched != tt.matched || rp.Redelivered != tt.made || rp.PassedOver != tt.passed {
					t.Errorf("to %q, dry run %v: %+v", tt.to, opts.DryRun, rp)
				}
			}
			time.Sleep(time.Minute)
		}
		for id, want := range map[string]map[string]int{
			"new": {"delivered replayed": 20}, "new2": {"delivered replayed": 20}, "has": {"delivered": 20}, "old": {"delivered": 20},
		} {
			if diff := cmp.Diff(want, r.endpointStates(t, id)); diff != "" {
				t.Errorf("%s: %s", id, diff)
			}
		}
	})
}

// Several failed deliveries of an event, rerouted, make one delivery an endpoint, also when that fails at once.
func TestReplayRerouteFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, rc := replaying(t, 10, endpoint(t, "a"), endpoint(t, "b"))
		rc.down.Store(true)
		opts := &webhook.ReplayOptions{Reroute: true, Rate: webhook.PerSecond(2), DryRun: true}
		dry, err := r.Replay(t.Context(), webhook.Filter{State: webhook.DeadLetter}, opts)
		if err != nil || dry.Matched != 20 || dry.Redelivered != 20 || dry.PassedOver != 20 {
			t.Errorf("dry run: %+v, %v", dry, err)
		}
		opts.DryRun = false
		rp, err := r.Replay(t.Context(), webhook.Filter{State: webhook.DeadLetter}, opts)
		if err != nil {
			t.Fatal(err)
		}
		if done := r.done(t, rp.ID); done.Matched > 20 || done.Redelivered != 20 {
			t.Errorf("%+v", done)
		}
	})
}

func TestReplayPauseResumeCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, rc := replaying(t, 100, endpoint(t, "acme"))
		before := len(rc.requests())
		sent := func() int {
			synctest.Wait()
			return len(rc.requests()) - before
		}
		rp, err := r.Replay(t.Context(), webhook.Filter{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*time.Second + 100*time.Millisecond)
		paused, err := r.PauseReplay(t.Context(), rp.ID, "receiver asked")
		if err != nil || paused.State != webhook.ReplayPaused || paused.Reason != "receiver asked" || paused.Redelivered < 15 || paused.Redelivered > 30 {
			t.Fatalf("%+v, %v", paused, err)
		}
		time.Sleep(time.Hour)
		if got := sent(); got != paused.Redelivered {
			t.Errorf("%d sent, %d made until the pause", got, paused.Redelivered)
		}
		if got, err := r.ResumeReplay(t.Context(), rp.ID); err != nil || got.State != webhook.ReplayRunning || got.Reason != "" {
			t.Fatalf("%+v, %v", got, err)
		}
		time.Sleep(2 * time.Second)
		if got := sent() - paused.Redelivered; got < 15 || got > 30 {
			t.Errorf("%d sent in 2 s after it was resumed", got)
		}
		end, err := r.CancelReplay(t.Context(), rp.ID, "")
		if err != nil || end.State != webhook.ReplayCanceled || end.FinishedAt.IsZero() {
			t.Fatalf("%+v, %v", end, err)
		}
		time.Sleep(time.Hour)
		if got := sent(); got != end.Redelivered || got >= 100 {
			t.Errorf("%d sent, %d made until the end", got, end.Redelivered)
		}
		for what, change := range map[string]func(context.Context, string) (webhook.Replay, error){
			"resume": r.ResumeReplay,
			"pause":  func(ctx context.Context, id string) (webhook.Replay, error) { return r.PauseReplay(ctx, id, "") },
		} {
			if got, err := change(t.Context(), rp.ID); err != nil || got.State != webhook.ReplayCanceled {
				t.Errorf("%s after the end: %+v, %v", what, got, err)
			}
			if _, err := change(t.Context(), "rpl_none"); !errors.Is(err, webhook.ErrNotFound) {
				t.Errorf("%s of none: %v", what, err)
			}
		}
	})
}

// A replay goes on where it was when another process takes it over, and nothing is sent twice.
func TestReplayAcrossRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, rc := replaying(t, 50, endpoint(t, "acme"))
		before := len(rc.requests())
		rp, err := r.Replay(t.Context(), webhook.Filter{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		got, err := r.GetReplay(t.Context(), rp.ID)
		if err != nil || got.Redelivered < 10 || got.Redelivered > 40 {
			t.Fatalf("%+v, %v", got, err)
		}
		time.Sleep(time.Hour)
		next := &running{store: r.store}
		next.start(t, webhook.DispatcherOptions{Transport: rc}, onceOnly(endpoint(t, "acme")))
		if done := next.done(t, rp.ID); done.Redelivered != 50 {
			t.Errorf("%+v", done)
		}
		time.Sleep(time.Minute)
		if got := len(rc.requests()) - before; got != 50 {
			t.Errorf("%d requests, want 50", got)
		}
	})
}

// What a replay sends counts neither against the health of its endpoint nor for it.
func TestReplayIsNotCountedInHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := newOutage()
		ep := endpoint(t, "acme")
		ep.Schedule = webhook.Delays(time.Second, time.Second)
		ep.Health = webhook.HealthPolicy{}
		r := run(t, webhook.DispatcherOptions{Transport: rc}, ep)
		for i := range 20 {
			r.send(t, webhook.Event{ID: fmt.Sprint("evt_", i), Type: "order_create"})
		}
		time.Sleep(time.Minute)
		before, err := r.Health(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		rc.down.Store(true)
		rp, err := r.Replay(t.Context(), webhook.Filter{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.done(t, rp.ID)
		time.Sleep(time.Minute)
		if got := r.endpointStates(t, "acme")["dead_letter replayed"]; got != 20 {
			t.Fatalf("%d were replayed in vain", got)
		}
		after, err := r.Health(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("health: %s", diff)
		}
	})
}

func TestReplayRefuses(t *testing.T) {
	d, err := webhook.NewDispatcher(memstore.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for field, tt := range map[string]struct {
		filter webhook.Filter
		opts   webhook.ReplayOptions
	}{
		"Filter.State":    {filter: webhook.Filter{State: webhook.Queued}},
		"Filter.Endpoint": {filter: webhook.Filter{State: webhook.Unmatched, Endpoint: "a"}},
		"Filter.Type":     {filter: webhook.Filter{Type: "a\nb"}},
		"Filter.Tenant":   {filter: webhook.Filter{Tenant: new(strings.Repeat("x", 256))}},
		"Filter.Until":    {filter: webhook.Filter{Since: now, Until: now}},
		"To":              {opts: webhook.ReplayOptions{To: "a"}},
		"Rate":            {opts: webhook.ReplayOptions{Rate: webhook.Rate{Events: -1}}},
	} {
		_, err := d.Replay(t.Context(), tt.filter, &tt.opts)
		if fe, ok := errors.AsType[*webhook.FieldError](err); !ok || fe.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
