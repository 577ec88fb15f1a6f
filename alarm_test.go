package webhook_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// heard collects alarms.
type heard struct {
	mu   sync.Mutex
	list []webhook.AlarmInfo
}

func (h *heard) trace() *webhook.Trace {
	return &webhook.Trace{Alarm: func(_ context.Context, info webhook.AlarmInfo) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.list = append(h.list, info)
	}}
}

// of returns what came about one endpoint, and forgets nothing.
func (h *heard) of(kind webhook.AlarmKind, id string) (list []webhook.AlarmInfo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, info := range h.list {
		if info.Kind == kind && info.EndpointID == id {
			list = append(list, info)
		}
	}
	return list
}

// all returns all alarms.
func (h *heard) all() []webhook.AlarmInfo {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

// limited is an endpoint that gets hardly anything.
func limited(t testing.TB, id string) webhook.Endpoint {
	ep := endpoint(t, id, id)
	ep.Rate = webhook.Rate{Events: 1, Per: 6 * time.Hour}
	return ep
}

// The alarm is raised when the bound is passed, told again each hour, and over when nothing is old any more.
func TestAlarmOldestDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		r := run(t, webhook.DispatcherOptions{Trace: h.trace(), Owner: "me"}, limited(t, "acme"), endpoint(t, "fine", "fine"))
		r.send(t, webhook.Event{Type: "acme"})
		sent := time.Now()
		id := r.send(t, webhook.Event{Type: "acme"})
		r.send(t, webhook.Event{Type: "acme", SendAt: sent.Add(30 * 24 * time.Hour)})
		r.send(t, webhook.Event{Type: "fine"})
		time.Sleep(14 * time.Minute)
		if got := h.of(webhook.AlarmOldestDue, "acme"); len(got) != 0 {
			t.Errorf("told before the bound was passed: %+v", got)
		}
		time.Sleep(3*time.Hour + 5*time.Minute)
		for _, of := range []string{"acme", ""} {
			got := h.of(webhook.AlarmOldestDue, of)
			if len(got) != 4 {
				t.Fatalf("of %q: told %d times in 3 h 19 min, want 4: %+v", of, len(got), got)
			}
			first := got[0]
			if late := first.Age - 15*time.Minute; late < 0 || late > 16*time.Second || first.Cleared || first.Owner != "me" {
				t.Errorf("of %q: first %+v", of, first)
			}
			if again := got[3].Age - 3*time.Hour - first.Age; again < 0 || again > time.Minute || !got[3].Since.Equal(first.Since) {
				t.Errorf("of %q: last %+v", of, got[3])
			}
		}
		if b, err := r.Backlog(t.Context(), nil); err != nil || b.OldestDue.Round(time.Minute) != 199*time.Minute || len(b.Endpoints) != 1 {
			t.Errorf("Backlog: %+v, %v", b, err)
		}
		if _, err := r.Cancel(t.Context(), id, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		for _, of := range []string{"acme", ""} {
			if got := h.of(webhook.AlarmOldestDue, of); len(got) != 5 || !got[4].Cleared {
				t.Errorf("of %q: %+v, want it to be over", of, got)
			}
		}
		if got := h.of(webhook.AlarmOldestDue, "fine"); len(got) != 0 {
			t.Errorf("of an endpoint that is well: %+v", got)
		}
	})
}

// What is on hold raises no alarm, nor at once when the hold ends.
func TestAlarmIsSilentWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		r := run(t, webhook.DispatcherOptions{Trace: h.trace()}, limited(t, "acme"))
		r.send(t, webhook.Event{Type: "acme"})
		time.Sleep(time.Second)
		if err := r.PauseEndpoint(t.Context(), "acme", ""); err != nil {
			t.Fatal(err)
		}
		r.send(t, webhook.Event{Type: "acme"})
		time.Sleep(3 * time.Hour)
		if b, err := r.Backlog(t.Context(), nil); err != nil || b.OldestDue != 0 || len(b.Endpoints) != 1 {
			t.Errorf("Backlog: %+v, %v", b, err)
		}
		if err := r.ResumeEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(14 * time.Minute)
		if len(h.all()) != 0 {
			t.Errorf("told %+v", h.all())
		}
		time.Sleep(2 * time.Minute)
		if got := h.of(webhook.AlarmOldestDue, "acme"); len(got) != 1 {
			t.Errorf("told %+v, want it once, 15 min after the hold's end", got)
		}
	})
}

func TestAlarmBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		r := run(t, webhook.DispatcherOptions{Trace: h.trace(), Alarms: webhook.Alarms{Backlog: 100, OldestDue: -1}}, endpoint(t, "acme"))
		if err := r.PauseEndpoint(t.Context(), "acme", ""); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for range 100 {
			ids = append(ids, r.send(t, webhook.Event{Type: "x"}))
		}
		time.Sleep(time.Minute)
		if len(h.all()) != 0 {
			t.Errorf("told at the bound: %+v", h.all())
		}
		ids = append(ids, r.send(t, webhook.Event{Type: "x"}))
		time.Sleep(time.Minute)
		cancel := func(n int) {
			for range n {
				if _, err := r.Cancel(t.Context(), ids[0], ""); err != nil {
					t.Fatal(err)
				}
				ids = ids[1:]
			}
			time.Sleep(time.Minute)
		}
		cancel(10) // within the bound, but not well below
		if diff := cmp.Diff([]webhook.AlarmInfo{{Kind: webhook.AlarmBacklog, EndpointID: "acme", Waiting: 101}}, h.all(),
			cmpopts.IgnoreFields(webhook.AlarmInfo{}, "Since", "Owner")); diff != "" {
			t.Error(diff)
		}
		cancel(50)
		if len(h.all()) != 2 || !h.all()[1].Cleared || h.all()[1].Waiting != 41 {
			t.Errorf("told %+v, want the end", h.all())
		}
	})
}

func TestAlarmBlockedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		r := &running{store: memstore.New(), rc: answering(503)}
		ep := endpoint(t, "acme")
		ep.Schedule = webhook.NoRetry()
		r.start(t, webhook.DispatcherOptions{Trace: h.trace()}, ep)
		for range 2 {
			r.send(t, webhook.Event{Type: "x", OrderingKey: "k"})
		}
		time.Sleep(4*time.Hour + 30*time.Minute)
		got := h.of(webhook.AlarmBlockedKey, "acme")
		if len(got) != 5 || got[0].Waiting != 1 {
			t.Errorf("told %+v, want hourly", got)
		}
		if got := h.of(webhook.AlarmOldestDue, "acme"); len(got) != 0 {
			t.Errorf("what waits behind a dead letter is not late: %+v", got)
		}
		if released, err := r.ReleaseKey(t.Context(), "acme", "k"); !released || err != nil {
			t.Fatal(released, err)
		}
		time.Sleep(time.Minute)
		// The next one has ended as a dead letter too: the key is blocked again.
		if got := h.of(webhook.AlarmBlockedKey, "acme"); len(got) != 5 {
			t.Errorf("told %+v", got[5:])
		}
		if released, err := r.ReleaseKey(t.Context(), "acme", "k"); !released || err != nil {
			t.Fatal(released, err)
		}
		time.Sleep(time.Minute)
		if got := h.of(webhook.AlarmBlockedKey, "acme"); len(got) != 6 || !got[5].Cleared {
			t.Errorf("told %+v, want the end", got[5:])
		}
	})
}

// A walk over many endpoints finds each, in parts, and of a hook that panics nothing is lost but its call.
func TestAlarmsOfManyEndpoints(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("without LifeStore %v", plain), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 600
				store := memstore.New()
				r := &running{store: store, rc: &receiver{}}
				if plain {
					r.on = plainStore{store}
				}
				told := make(map[string]int)
				var eps []webhook.Endpoint
				for i := range n {
					ep := limited(t, fmt.Sprintf("ep%03d", i))
					ep.Types = nil
					eps = append(eps, ep)
				}
				r.start(t, webhook.DispatcherOptions{Poll: time.Minute, Trace: &webhook.Trace{Alarm: func(_ context.Context, info webhook.AlarmInfo) {
					told[info.EndpointID]++
					panic("a fault of the hook")
				}}}, eps...)
				for range 2 {
					r.send(t, webhook.Event{Type: "x"})
				}
				time.Sleep(20 * time.Minute)
				r.stop()
				if len(told) != n+1 {
					t.Errorf("told of %d, want each of %d and all together", len(told), n)
				}
				for id, times := range told {
					if times != 1 {
						t.Errorf("%q: told %d times", id, times)
					}
				}
			})
		})
	}
}

// Without a hook the store is not asked.
func TestNoAlarmNoQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: memstore.New()}
		r := &running{store: store.Store, on: store, rc: &receiver{}}
		r.start(t, webhook.DispatcherOptions{Alarms: webhook.Alarms{Backlog: 1}}, limited(t, "acme"))
		r.send(t, webhook.Event{Type: "acme"})
		r.send(t, webhook.Event{Type: "acme"})
		time.Sleep(time.Hour)
		if n := store.counts.Load(); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestBacklogIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var eps []webhook.Endpoint
		for i := range 300 {
			ep := limited(t, fmt.Sprintf("ep%03d", i))
			ep.Types = nil
			eps = append(eps, ep)
		}
		r := run(t, webhook.DispatcherOptions{Poll: time.Minute}, eps...)
		for range 6 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(time.Minute)
		for _, tc := range []struct {
			name string
			opts *webhook.BacklogOptions
			want webhook.Backlog
			eps  int
		}{
			{"ages", nil, webhook.Backlog{OldestDue: time.Minute}, 300},
			{"counted", &webhook.BacklogOptions{Count: 100}, webhook.Backlog{OldestDue: time.Minute, Waiting: 1500}, 300},
			{"counted in part", &webhook.BacklogOptions{Count: 3}, webhook.Backlog{OldestDue: time.Minute, Waiting: 900, AtLeast: true}, 300},
			{"some", &webhook.BacklogOptions{Count: 9, Endpoints: []string{"ep007", "ep003", "nobody", "ep007"}},
				webhook.Backlog{OldestDue: time.Minute, Waiting: 10}, 2},
			{"none", &webhook.BacklogOptions{Endpoints: []string{}}, webhook.Backlog{}, 0},
		} {
			got, err := r.Backlog(t.Context(), tc.opts)
			if err != nil {
				t.Fatal(err)
			}
			got.OldestDue = got.OldestDue.Round(time.Second)
			if diff := cmp.Diff(&tc.want, got, cmpopts.IgnoreFields(webhook.Backlog{}, "Endpoints")); diff != "" || len(got.Endpoints) != tc.eps {
				t.Errorf("%s: %d endpoints, want %d; %s", tc.name, len(got.Endpoints), tc.eps, diff)
			}
		}
		if _, err := r.Backlog(t.Context(), &webhook.BacklogOptions{Count: -1}); err == nil {
			t.Error("a negative Count is no error")
		}
	})
}
