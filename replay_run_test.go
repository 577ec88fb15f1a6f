package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/ids"
	"github.com/signalpost/webhook/memstore"
)

// Whatever the pace, it holds over any number of processes.
func TestReplayPace(t *testing.T) {
	for _, tt := range []struct {
		rate  webhook.Rate
		n     int
		least time.Duration // for all but the last step
		most  time.Duration
	}{
		{webhook.Rate{}, 100, 9 * time.Second, 11 * time.Second},
		{webhook.PerSecond(1000), 5000, 4 * time.Second, 6 * time.Second},
		{webhook.Rate{Events: 6, Per: time.Minute}, 10, 90 * time.Second, 101 * time.Second},
	} {
		t.Run(fmt.Sprint(tt.rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, rc := replaying(t, tt.n, endpoint(t, "acme"))
				for range 3 {
					next := &running{store: r.store}
					next.start(t, webhook.DispatcherOptions{Transport: rc}, onceOnly(endpoint(t, "acme")))
				}
				time.Sleep(time.Minute)
				before, began := len(rc.requests()), time.Now()
				rp, err := r.Replay(t.Context(), webhook.Filter{}, &webhook.ReplayOptions{Rate: tt.rate})
				if err != nil {
					t.Fatal(err)
				}
				if done := r.done(t, rp.ID); done.Redelivered != tt.n {
					t.Fatalf("%+v", done)
				}
				time.Sleep(time.Minute)
				sent := rc.requests()[before:]
				if len(sent) != tt.n {
					t.Fatalf("%d requests, want %d", len(sent), tt.n)
				}
				if last := sent[len(sent)-1].at.Sub(began); last < tt.least || last > tt.most {
					t.Errorf("the last after %v, want %v to %v", last, tt.least, tt.most)
				}
			})
		})
	}
}

// dying is a store whose steps of replays fail from some point on, as when the process dies before or after the commit, or its
// answer is lost.
type dying struct {
	*memstore.Store
	steps  atomic.Int64
	after  int64 // steps that succeed
	commit bool  // the one that fails was committed
	dead   atomic.Bool
}

func (s *dying) Redeliver(ctx context.Context, req *webhook.RedeliverRequest) (*webhook.RedeliverResult, error) {
	if req.Step == nil {
		return s.Store.Redeliver(ctx, req)
	}
	if s.dead.Load() {
		return nil, errors.New("dead")
	}
	if s.steps.Add(1) <= s.after {
		return s.Store.Redeliver(ctx, req)
	}
	s.dead.Store(true)
	if s.commit {
		if _, err := s.Store.Redeliver(ctx, req); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("connection lost")
}

func (s *dying) ClaimReplay(ctx context.Context, req *webhook.ClaimReplayRequest) (*webhook.ClaimReplayResult, error) {
	if s.dead.Load() {
		return nil, errors.New("dead")
	}
	return s.Store.ClaimReplay(ctx, req)
}

// When a process dies in the middle of a step, another goes on within the lease, and nothing is made twice or left out.
func TestReplayTakeover(t *testing.T) {
	for _, commit := range []bool{false, true} {
		for _, reroute := range []bool{false, true} {
			t.Run(fmt.Sprintf("commit %v reroute %v", commit, reroute), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					rc := newOutage()
					rc.down.Store(true)
					store := memstore.New()
					first := &running{store: store, on: &dying{Store: store, after: 3, commit: commit}}
					first.start(t, webhook.DispatcherOptions{Transport: rc}, onceOnly(endpoint(t, "acme")))
					for i := range 40 {
						first.send(t, webhook.Event{ID: fmt.Sprint("evt_", i), Type: "order_create", Payload: fmt.Append(nil, i)})
					}
					time.Sleep(time.Minute)
					rc.down.Store(false)
					before := len(rc.requests())
					rp, err := first.Replay(t.Context(), webhook.Filter{State: webhook.DeadLetter}, &webhook.ReplayOptions{Reroute: reroute})
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Second)
					second := &running{store: store}
					second.start(t, webhook.DispatcherOptions{Transport: rc}, onceOnly(endpoint(t, "acme")))
					began := time.Now()
					for i := 0; ; i++ {
						if got, err := second.GetReplay(t.Context(), rp.ID); err != nil || got.Redelivered > 20 {
							break
						}
						if i > 160 {
							t.Fatalf("not taken over after %v", time.Since(began))
						}
						time.Sleep(100 * time.Millisecond)
					}
					if done := second.done(t, rp.ID); done.Matched != 40 || done.Redelivered != 40 {
						t.Errorf("%+v", done)
					}
					time.Sleep(time.Minute)
					got := map[string]int{}
					for _, req := range rc.requests()[before:] {
						got[req.body]++
					}
					if len(got) != 40 || len(rc.requests())-before != 40 {
						t.Errorf("%d events in %d requests, want 40 in 40", len(got), len(rc.requests())-before)
					}
				})
			})
		}
	}
}

// It is sent to the endpoint as it is today: its URL and secret, and to none of another tenant, or that is gone.
func TestReplayUsesTodaysEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{})
		for _, id := range []string{"moved", "taken", "gone"} {
			if err := r.PutEndpoint(t.Context(), endpoint(t, id)); err != nil {
				t.Fatal(err)
			}
		}
		id := r.send(t, webhook.Event{Type: "order_create"})
		time.Sleep(time.Minute)
		moved, taken := endpoint(t, "moved", "nothing"), endpoint(t, "taken")
		moved.URL, moved.Secrets = "https://new.example/", []webhook.Secret{webhook.GenerateSecret()}
		taken.Tenant = "other"
		for _, ep := range []webhook.Endpoint{moved, taken} {
			if err := r.PutEndpoint(t.Context(), ep); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.DeleteEndpoint(t.Context(), "gone"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		before := len(r.rc.requests())
		rp, err := r.Replay(t.Context(), webhook.Filter{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if done := r.done(t, rp.ID); done.Matched != 3 || done.Redelivered != 1 || done.PassedOver != 2 {
			t.Errorf("%+v", done)
		}
		time.Sleep(time.Minute)
		got := r.rc.requests()[before:]
		if len(got) != 1 || got[0].url != "https://new.example/" {
			t.Fatalf("%v", got)
		}
		v, err := webhook.NewVerifier(moved.Secrets[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(got[0].header, []byte(got[0].body)); err != nil {
			t.Errorf("it is not signed with the new secret: %v", err)
		}
		list, err := r.store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now(), EventID: id})
		if err != nil {
			t.Fatal(err)
		}
		for _, del := range list.Deliveries {
			if del.EndpointID != "moved" {
				if _, err := r.ReplayDelivery(t.Context(), del.ID); !errors.Is(err, webhook.ErrNotFound) {
					t.Errorf("of %s: %v", del.EndpointID, err)
				}
			}
		}
	})
}

// A 410 to a replay ends its delivery, and does not switch the endpoint off.
func TestReplayedGoneDoesNotDisable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Bool
		rc := &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
			if gone.Load() {
				return 410, nil, nil
			}
			return 200, nil, nil
		}}
		p := webhook.DefaultProfile()
		p.GoneDisables = true
		r := run(t, webhook.DispatcherOptions{Transport: rc, Profiles: []webhook.Profile{p}}, endpoint(t, "acme"))
		id := r.send(t, webhook.Event{Type: "order_create"})
		time.Sleep(time.Minute)
		gone.Store(true)
		if _, err := r.ReplayDelivery(t.Context(), r.delivery(t, id).ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if diff := cmp.Diff(map[string]int{"delivered": 1, "dead_letter replayed": 1}, r.endpointStates(t, "acme")); diff != "" {
			t.Error(diff)
		}
		gone.Store(false)
		r.send(t, webhook.Event{Type: "order_create"})
		time.Sleep(time.Minute)
		if got := r.endpointStates(t, "acme")["delivered"]; got != 2 {
			t.Errorf("%d delivered; the endpoint is off", got)
		}
	})
}

// A replay fills half of a backlog and waits; what is sent meanwhile has the other half.
func TestReplayWaitsForRoom(t *testing.T) {
	for name, full := range map[string]webhook.FullPolicy{"refuse": webhook.RefuseWhenFull, "expire": webhook.ExpireOldest} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := replaying(t, 30, endpoint(t, "acme"))
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				ep := onceOnly(endpoint(t, "acme"))
				ep.MaxBacklog, ep.WhenFull = 20, full
				next := &running{store: r.store, rc: &receiver{}}
				next.start(t, webhook.DispatcherOptions{}, ep)
				if err := next.PauseEndpoint(t.Context(), "acme", ""); err != nil {
					t.Fatal(err)
				}
				rp, err := next.Replay(t.Context(), webhook.Filter{}, &webhook.ReplayOptions{Rate: webhook.PerSecond(100)})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				got, err := next.GetReplay(t.Context(), rp.ID)
				if err != nil || got.State != webhook.ReplayRunning || got.Redelivered != 10 || !strings.Contains(got.Reason, `endpoint "acme"`) {
					t.Fatalf("%+v, %v", got, err)
				}
				for range 10 {
					next.send(t, webhook.Event{Type: "order_create"})
				}
				time.Sleep(time.Minute)
				if diff := cmp.Diff(map[string]int{"dead_letter": 30, "held": 10, "held replayed": 10}, next.endpointStates(t, "acme")); diff != "" {
					t.Error(diff)
				}
				if err := next.ResumeEndpoint(t.Context(), "acme"); err != nil {
					t.Fatal(err)
				}
				if done := next.done(t, rp.ID); done.Redelivered != 30 || done.Reason != "" {
					t.Errorf("%+v", done)
				}
			})
		})
	}
}

func TestReplayIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		rc := newOutage()
		rc.down.Store(true)
		r := run(t, webhook.DispatcherOptions{Transport: rc, Trace: &webhook.Trace{Replay: func(_ context.Context, info webhook.ReplayInfo) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprint(info.Replay.State, " ", info.Replay.Redelivered))
		}}}, onceOnly(endpoint(t, "acme")))
		for range 20 {
			r.send(t, webhook.Event{Type: "order_create"})
		}
		time.Sleep(time.Minute)
		rc.down.Store(false)
		rp, err := r.Replay(t.Context(), webhook.Filter{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := r.PauseReplay(t.Context(), rp.ID, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ResumeReplay(t.Context(), rp.ID); err != nil {
			t.Fatal(err)
		}
		r.done(t, rp.ID)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if diff := cmp.Diff([]string{"running 0", "paused 5", "running 5", "done 20"}, told); diff != "" {
			t.Error(diff)
		}
	})
}

// withoutReplays is a store that cannot replay.
type withoutReplays struct{ webhook.Store }

func TestReplayNeedsAStore(t *testing.T) {
	d, err := webhook.NewDispatcher(withoutReplays{memstore.New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for what, call := range map[string]func() error{
		"Replay":         func() error { _, err := d.Replay(ctx, webhook.Filter{}, nil); return err },
		"ReplayDelivery": func() error { _, err := d.ReplayDelivery(ctx, "dlv_1"); return err },
		"GetReplay":      func() error { _, err := d.GetReplay(ctx, "rpl_1"); return err },
		"ListReplays":    func() error { _, err := d.ListReplays(ctx, nil); return err },
		"PauseReplay":    func() error { _, err := d.PauseReplay(ctx, "rpl_1", ""); return err },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "ReplayStore") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What is passed over does not count against the pace: the gaps in a long past are filled at once. No step makes more than its share, however many
// endpoints an event goes to.
func TestReplayFillsGapsAtItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "has"))
		events := make([]webhook.Event, 1000)
		for i := range events {
			events[i] = webhook.Event{ID: fmt.Sprintf("evt_%04d", i), Type: "order_create"}
			if i >= 990 {
				events[i].Type = "refund"
			}
		}
		if _, err := r.SendBatch(t.Context(), events); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		for i := range 4 {
			if err := r.PutEndpoint(t.Context(), endpoint(t, fmt.Sprint("new", i), "refund")); err != nil {
				t.Fatal(err)
			}
		}
		began, before := time.Now(), len(r.rc.requests())
		rp, err := r.Replay(t.Context(), webhook.Filter{}, &webhook.ReplayOptions{Reroute: true})
		if err != nil {
			t.Fatal(err)
		}
		done := r.done(t, rp.ID)
		if done.Matched != 1000 || done.Redelivered != 40 || done.PassedOver != 1000 {
			t.Errorf("%+v", done)
		}
		if took := time.Since(began); took < 3*time.Second || took > 6*time.Second {
			t.Errorf("took %v for 40 at 10 a second", took)
		}
		time.Sleep(time.Minute)
		got := r.rc.requests()[before:]
		if len(got) != 40 {
			t.Fatalf("%d requests", len(got))
		}
		for i := 5; i < len(got); i++ {
			if d := got[i].at.Sub(got[i-5].at); d < 300*time.Millisecond {
				t.Errorf("requests %d to %d within %v", i-5, i, d)
			}
		}
	})
}

// Deliveries whose IDs were made by a clock that was wrong by most of a day are found all the same: the store's time counts.
func TestReplayFindsWhatWrongClocksMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		now := time.Now()
		for i, wrong := range []time.Duration{-23 * time.Hour, 0, 23 * time.Hour} {
			id := ids.At("dlv_", now.Add(wrong))
			ev := webhook.NewEvent{Event: webhook.Event{ID: fmt.Sprint("evt_", i), Type: "order_create"}, Deliveries: []webhook.NewDelivery{{ID: id, EndpointID: "acme"}}}
			if _, err := r.store.Enqueue(t.Context(), &webhook.EnqueueRequest{Now: now, Events: []webhook.NewEvent{ev}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		filter := webhook.Filter{Since: now, Until: now.Add(time.Second)}
		if dry, err := r.Replay(t.Context(), filter, &webhook.ReplayOptions{DryRun: true}); err != nil || dry.Matched != 3 {
			t.Errorf("%+v, %v", dry, err)
		}
	})
}

// A dry run over many pages counts as the replay does, though it makes nothing that it could meet.
func TestReplayDryRunCountsEventsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := newOutage()
		rc.down.Store(true)
		r := run(t, webhook.DispatcherOptions{Transport: rc}, onceOnly(endpoint(t, "a")), onceOnly(endpoint(t, "b")), onceOnly(endpoint(t, "c")))
		events := make([]webhook.Event, 500)
		for i := range events {
			events[i].Type = "order_create"
		}
		if _, err := r.SendBatch(t.Context(), events); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		dry, err := r.Replay(t.Context(), webhook.Filter{State: webhook.DeadLetter}, &webhook.ReplayOptions{DryRun: true, Reroute: true})
		if err != nil || dry.Matched != 1500 || dry.Redelivered != 1500 || dry.PassedOver != 3000 {
			t.Errorf("%+v, %v", dry, err)
		}
	})
}
