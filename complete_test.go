package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

var errAway = errors.New("store is away")

// A send that is being committed when Run is told to end has promised its delivery to a sender. The drain waits for it and
// gives the delivery back, rather than leave it leased to nobody.
func TestHandOverDuringStopIsGivenBack(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			r := &running{store: memstore.New(), rc: &receiver{}}
			r.on = &faulty{Store: r.store, enqueue: func(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
				defer time.Sleep(time.Second)
				return r.store.Enqueue(ctx, req)
			}}
			r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
			synctest.Wait()
			var sends sync.WaitGroup
			sends.Go(func() { r.send(t, webhook.Event{Type: "x"}) })
			time.Sleep(500 * time.Millisecond)
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if got := r.states(t); got[webhook.Queued] != 1 {
				t.Errorf("after Run: %v, want the delivery queued", got)
			}
			sends.Wait()
		})
	}
}

// What one Run could not record takes no room from the next.
func TestRunAfterRunThatCouldNotRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		var away atomic.Bool
		on := &faulty{Store: store, complete: func(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
			if away.Load() {
				return nil, errAway
			}
			return store.Complete(ctx, req)
		}}
		ep := endpoint(t, "acme")
		ep.MaxInFlight = 256
		d, err := webhook.NewDispatcher(on, &webhook.DispatcherOptions{
			Endpoints: []webhook.Endpoint{ep}, Grace: time.Second, Transport: &receiver{}, Logger: quiet(),
		})
		if err != nil {
			t.Fatal(err)
		}
		away.Store(true)
		for i := range 6 { // more than 1,024 outcomes together
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			for range 300 {
				if _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Run(ctx); err == nil {
				t.Errorf("Run %d recorded what it could not", i)
			}
			cancel()
		}
		away.Store(false)
		r := &running{store: store}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		synctest.Wait()
		id, err := d.Send(t.Context(), webhook.Event{Type: "x"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := r.delivery(t, id); got.State != webhook.Delivered {
			t.Errorf("a second after it was sent, a delivery of the next Run is %s", got.State)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// While the store is away outcomes wait for it, whole, and even beyond their leases: nobody else can have taken them over.
func TestOutcomesSurviveAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		store := memstore.New()
		r := &running{store: store, rc: &receiver{answer: func(*http.Request, int) (int, http.Header, error) { return 0, nil, errors.New("no such luck") }}}
		r.on = &faulty{Store: store,
			complete: func(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
				if away.Load() {
					return nil, errAway
				}
				return store.Complete(ctx, req)
			},
			claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
				if away.Load() {
					return nil, errAway
				}
				return store.Claim(ctx, req)
			},
		}
		ep := endpoint(t, "acme")
		ep.Schedule = webhook.Delays(24 * time.Hour)
		r.start(t, webhook.DispatcherOptions{}, ep)
		synctest.Wait()
		away.Store(true)
		for range 10 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(2 * time.Minute)
		away.Store(false)
		time.Sleep(10 * time.Second)
		if n := len(r.rc.requests()); n != 10 {
			t.Errorf("%d attempts for 10 deliveries: outcomes were dropped in the outage", n)
		}
		res, err := store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range res.Deliveries {
			attempts, err := store.ListAttempts(t.Context(), d.ID)
			if err != nil || len(attempts) != 1 || attempts[0].Detail != "no such luck" {
				t.Errorf("attempts %+v, %v; want one with its detail", attempts, err)
			}
		}
	})
}

// An outcome that the store cannot take keeps no other, and is recorded without what the receiver sent.
func TestPoisonedOutcomeFailsAlone(t *testing.T) {
	for _, tc := range []struct {
		name   string
		others int
	}{{"among others", 50}, {"alone", 0}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memstore.New()
				r := &running{store: store, rc: &receiver{answer: func(r *http.Request, n int) (int, http.Header, error) {
					time.Sleep(10 * time.Millisecond)
					if r.Header.Get("Poison") != "" {
						return 0, nil, errors.New("poison")
					}
					return 200, nil, nil
				}}}
				r.on = &faulty{Store: store, complete: func(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
					for _, o := range req.Outcomes {
						if o.Attempt != nil && o.Attempt.Detail == "poison" {
							return nil, errPoison
						}
					}
					return store.Complete(ctx, req)
				}}
				ep := endpoint(t, "acme")
				ep.MaxInFlight, ep.Schedule = 100, webhook.Delays(24*time.Hour)
				r.start(t, webhook.DispatcherOptions{}, ep)
				synctest.Wait()
				poisoned := r.send(t, webhook.Event{Type: "x", Header: http.Header{"Poison": {"1"}}})
				for range tc.others {
					r.send(t, webhook.Event{Type: "x"})
				}
				time.Sleep(5 * time.Second)
				if got := r.states(t); got[webhook.Delivered] != tc.others {
					t.Errorf("states %v, want %d delivered", got, tc.others)
				}
				time.Sleep(25 * time.Second)
				if d := r.delivery(t, poisoned); d.State != webhook.RetryScheduled || d.Attempts != 1 {
					t.Errorf("the poisoned one is %+v, want its retry scheduled", d)
				}
			})
		})
	}
}

// Payloads are not kept in memory while their outcomes wait to be recorded.
func TestWaitingOutcomesHoldNoPayloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		r := &running{store: store, rc: &receiver{}}
		r.on = &faulty{Store: store,
			complete: func(context.Context, *webhook.CompleteRequest) (*webhook.CompleteResult, error) { return nil, errAway },
			// The store keeps no payload either, so that only the dispatcher's own is measured.
			enqueue: func(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
				small := *req
				small.Events = append([]webhook.NewEvent(nil), req.Events...)
				for i := range small.Events {
					small.Events[i].Event.Payload = nil
				}
				return store.Enqueue(ctx, &small)
			},
		}
		r.start(t, webhook.DispatcherOptions{Grace: time.Second}, endpoint(t, "acme"))
		synctest.Wait()
		payload := bytes.Repeat([]byte("x"), 1<<20)
		for range 100 {
			r.send(t, webhook.Event{Type: "x", Payload: payload})
			synctest.Wait() // the attempt is over, its outcome waits
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if m.HeapAlloc > 50<<20+bodies(r.rc) {
			t.Errorf("100 outcomes of 1 MiB payloads keep %d MiB", m.HeapAlloc>>20)
		}
		r.stop()
	})
}
