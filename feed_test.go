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

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// Lanes that look due but yield nothing, as when others hold their rows, do not keep the rest waiting for their turn.
func TestBarrenLanesDelayNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{}}
		r.on = &faulty{Store: r.store, lanes: func(ctx context.Context, req *webhook.LanesRequest) (*webhook.LanesResult, error) {
			var n int
			fmt.Sscanf(req.After.EndpointID, "a%d", &n) // where the last page ended
			res := &webhook.LanesResult{}
			for ; n < 2_000 && len(res.Lanes) < req.Limit; n++ {
				res.Next = webhook.LaneID{EndpointID: fmt.Sprintf("a%04d", n+1)}
				res.Lanes = append(res.Lanes, webhook.Lane{LaneID: res.Next, Earliest: time.Now().Add(-time.Minute)})
			}
			if len(res.Lanes) > 0 {
				return res, nil
			}
			return r.store.Lanes(ctx, req)
		}}
		other := sender(t, r.store, endpoint(t, "z"))
		for range 5 {
			if _, err := other.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		r.start(t, webhook.DispatcherOptions{}, endpoint(t, "z"))
		time.Sleep(10 * time.Second)
		got := r.rc.requests()
		if len(got) != 5 || got[4].at.Sub(began) > time.Second {
			t.Fatalf("%d of 5 delivered in the end, want all within a second", len(got))
		}
	})
}

// A store that says there is more, but gives nothing, is not asked without pause.
func TestNoBusyLoop(t *testing.T) {
	due := func(id string) []webhook.Lane {
		return []webhook.Lane{{LaneID: webhook.LaneID{EndpointID: id}, Earliest: time.Now().Add(-time.Minute)}}
	}
	for _, tc := range []struct {
		name   string
		status func(now time.Time) webhook.LaneStatus
		err    error
	}{
		{"more and nothing", func(time.Time) webhook.LaneStatus { return webhook.LaneStatus{More: true} }, nil},
		{"held", func(time.Time) webhook.LaneStatus { return webhook.LaneStatus{Held: true, More: true} }, nil},
		{"held until the past", func(now time.Time) webhook.LaneStatus {
			return webhook.LaneStatus{Held: true, HeldUntil: now.Add(-time.Hour)}
		}, nil},
		{"limited until the past", func(now time.Time) webhook.LaneStatus {
			return webhook.LaneStatus{RateUntil: now.Add(-time.Hour)}
		}, nil},
		{"error", nil, errAway},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var claims atomic.Int64
				r := &running{store: memstore.New(), rc: &receiver{}}
				r.on = &faulty{Store: r.store,
					lanes: func(context.Context, *webhook.LanesRequest) (*webhook.LanesResult, error) {
						return &webhook.LanesResult{Lanes: due("acme")}, nil
					},
					claim: func(_ context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
						claims.Add(1)
						time.Sleep(100 * time.Microsecond) // else a busy loop stops the clock
						if tc.err != nil {
							return nil, tc.err
						}
						res := &webhook.ClaimResult{}
						for range req.Lanes {
							res.Lanes = append(res.Lanes, tc.status(req.Now))
						}
						return res, nil
					},
				}
				r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
				time.Sleep(10 * time.Second)
				if n := claims.Load(); n > 1_100 {
					t.Errorf("%d claims in 10s", n)
				}
			})
		})
	}
}

// A lane that no claim can read, as for a damaged row, keeps no other.
func TestPoisonedLaneKeepsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{}}
		r.on = &faulty{Store: r.store, claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
			for _, l := range req.Lanes {
				if l.EndpointID == "e07" {
					return nil, errPoison
				}
			}
			return r.store.Claim(ctx, req)
		}}
		var eps []webhook.Endpoint
		for i := range 20 {
			eps = append(eps, endpoint(t, fmt.Sprintf("e%02d", i)))
		}
		other := sender(t, r.store, eps...)
		r.start(t, webhook.DispatcherOptions{}, eps...)
		began := time.Now()
		for range 50 {
			if _, err := other.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		last := time.Duration(0)
		for _, g := range r.rc.requests() {
			last = max(last, g.at.Sub(began))
		}
		if n := len(r.rc.requests()); n != 19*50 || last > 3*time.Second {
			t.Errorf("%d delivered, the last after %v; want the %d of the other lanes within 3s", n, last, 19*50)
		}
	})
}

// A claim is shared among the endpoints that are due: one that got it all would keep the senders of the others idle meanwhile.
func TestAClaimIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const endpoints = 8
		r := &running{store: memstore.New(), rc: lasting(time.Second)}
		var claim, most atomic.Int64 // the first large claim, and of one endpoint in it
		r.on = &faulty{Store: r.store, claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
			if req.Limit >= 256 && claim.CompareAndSwap(0, int64(req.Limit)) {
				for _, l := range req.Lanes {
					most.Store(max(most.Load(), int64(l.Max)))
				}
			}
			return r.store.Claim(ctx, req)
		}}
		var eps []webhook.Endpoint
		for i := range endpoints {
			ep := endpoint(t, fmt.Sprint("e", i))
			ep.MaxInFlight = 1000
			eps = append(eps, ep)
		}
		before := sender(t, r.store, eps...)
		for range 1000 {
			if _, err := before.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		r.start(t, webhook.DispatcherOptions{MaxInFlight: 4000}, eps...)
		time.Sleep(time.Minute)
		if n, m := claim.Load(), most.Load(); n == 0 || m > n/endpoints+n/64 {
			t.Errorf("a claim is of %d, of which one endpoint gets %d, want an eighth", n, m)
		}
	})
}

// The backlogs of held endpoints, and of limited ones before their time, are not asked for.
func TestHeldAndLimitedLanesAreNotNamed(t *testing.T) {
	for _, kind := range []string{"held", "limited"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var named atomic.Int64
				r := &running{store: memstore.New(), rc: &receiver{}}
				r.on = &faulty{Store: r.store, claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
					named.Add(int64(len(req.Lanes)))
					return r.store.Claim(ctx, req)
				}}
				ep := endpoint(t, "acme")
				if kind == "limited" {
					ep.Rate = webhook.Rate{Events: 1, Per: time.Minute}
				}
				r.start(t, webhook.DispatcherOptions{}, ep)
				synctest.Wait()
				if kind == "held" {
					if err := r.PauseEndpoint(t.Context(), "acme", "a test"); err != nil {
						t.Fatal(err)
					}
				}
				for range 100 { // they are hints too
					r.send(t, webhook.Event{Type: "x"})
					time.Sleep(500 * time.Millisecond)
				}
				if n := named.Load(); n > 10 {
					t.Errorf("the lane was named in %d claims in 50s", n)
				}
			})
		})
	}
}

// What a SendTx wrote is found within a few ms of Wake, even when other work has made the feed look for it before its commit.
func TestWakeFindsWhatWasLookedForTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{}}
		limited := endpoint(t, "limited", "other")
		limited.Rate = webhook.PerSecond(1000) // never handed over in memory
		r.start(t, webhook.DispatcherOptions{Poll: 10 * time.Second}, endpoint(t, "acme", "x"), limited)
		synctest.Wait()
		tx, other := &openTx{}, &openTx{}
		if _, err := r.SendTx(t.Context(), tx, webhook.Event{Type: "x"}); err != nil {
			t.Fatal(err)
		}
		r.send(t, webhook.Event{Type: "other"}) // makes the feed take up its hints
		synctest.Wait()
		if _, err := r.SendTx(t.Context(), other, webhook.Event{Type: "other"}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.Enqueue(t.Context(), tx.req); err != nil { // the commit
			t.Fatal(err)
		}
		began := time.Now()
		r.Wake()
		time.Sleep(5 * time.Second)
		for _, g := range r.rc.requests() {
			if strings.Contains(g.url, "acme") {
				if took := g.at.Sub(began); took > 10*time.Millisecond {
					t.Errorf("found %v after Wake", took)
				}
				return
			}
		}
		t.Error("not found within 5s of Wake")
	})
}

// What is hinted before the first walk has ended, and is not there yet, is asked for all the same.
func TestHintBeforeTheFirstWalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var walks atomic.Int64
		r := &running{store: memstore.New(), rc: &receiver{}}
		r.on = &faulty{Store: r.store, lanes: func(ctx context.Context, req *webhook.LanesRequest) (*webhook.LanesResult, error) {
			if walks.Add(1) == 1 {
				return nil, errAway
			}
			return r.store.Lanes(ctx, req)
		}}
		r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		synctest.Wait()
		tx := &openTx{}
		if _, err := r.SendTx(t.Context(), tx, webhook.Event{Type: "x"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := r.store.Enqueue(t.Context(), tx.req); err != nil { // the commit
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := len(r.rc.requests()); n != 1 {
			t.Errorf("sent %d times, want once", n)
		}
	})
}

// openTx is a transaction whose writes nobody sees yet.
type openTx struct{ req *webhook.EnqueueRequest }

func (tx *openTx) Enqueue(_ context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	tx.req = req
	return &webhook.EnqueueResult{Events: make([]webhook.EnqueueStatus, len(req.Events))}, nil
}

// Retries get at least one place in eight where a rate lets only one delivery go at a time.
func TestRetriesOfALimitedEndpointDoNotStarve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		epoch := time.Now()
		rc := &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
			if r.Header.Get("Kind") == "retry" && time.Since(epoch) < 30*time.Second {
				return 503, nil, nil
			}
			return 200, nil, nil
		}}
		r := &running{store: memstore.New(), rc: rc}
		ep := endpoint(t, "acme")
		ep.Rate, ep.Schedule = webhook.Rate{Events: 2, Per: time.Second, Burst: 1}, webhook.Delays(time.Minute, time.Minute)
		r.start(t, webhook.DispatcherOptions{}, ep)
		for range 20 {
			r.send(t, webhook.Event{Type: "x", Header: http.Header{"Kind": {"retry"}}})
		}
		time.Sleep(20 * time.Second) // all have failed once, and are due again from 60s on
		for range 1_000 {
			r.send(t, webhook.Event{Type: "x", Header: http.Header{"Kind": {"fresh"}}})
		}
		time.Sleep(70 * time.Second)
		retries, all := 0, 0
		for _, g := range rc.requests() {
			if at := g.at.Sub(epoch); at > 70*time.Second && at < 86*time.Second {
				all++
				if g.header.Get("Kind") == "retry" {
					retries++
				}
			}
		}
		if all < 30 || retries < all/8 {
			t.Errorf("of %d attempts %d were retries, want 30 attempts and 1 in 8", all, retries)
		}
	})
}

// Retries get at least one place in eight while sends are handed over in memory as fast as places come free.
func TestHandOverDoesNotStarveRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		epoch := time.Now()
		rc := &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
			if time.Since(epoch) < 10*time.Second {
				return 503, nil, nil
			}
			time.Sleep(400 * time.Millisecond) // too long for deliveries to be fetched ahead
			return 200, nil, nil
		}}
		r := &running{store: memstore.New(), rc: rc}
		r.on = &faulty{Store: r.store, claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
			time.Sleep(50 * time.Millisecond) // a slow database, and so a feed that is always in the middle of a claim
			return r.store.Claim(ctx, req)
		}}
		ep := endpoint(t, "acme")
		ep.Types, ep.MaxInFlight, ep.Schedule = []string{"x"}, 1, webhook.Delays(20*time.Second, time.Hour)
		other := endpoint(t, "other", "o")
		other.Rate = webhook.PerSecond(100)
		r.start(t, webhook.DispatcherOptions{}, ep, other)
		synctest.Wait()
		for range 100 {
			r.send(t, webhook.Event{Type: "x", Header: http.Header{"Kind": {"retry"}}})
		}
		time.Sleep(15 * time.Second)
		for time.Since(epoch) < 60*time.Second {
			r.send(t, webhook.Event{Type: "x", Header: http.Header{"Kind": {"fresh"}}})
			r.send(t, webhook.Event{Type: "o"})
			time.Sleep(2 * time.Millisecond)
		}
		retries, all := 0, 0
		for _, g := range rc.requests() {
			if at := g.at.Sub(epoch); strings.Contains(g.url, "acme") && at > 30*time.Second && at < 60*time.Second {
				all++
				if g.header.Get("Kind") == "retry" {
					retries++
				}
			}
		}
		if all < 60 || retries < all/8-1 {
			t.Errorf("of %d attempts %d were retries", all, retries)
		}
	})
}

// Whatever a store answers, nothing panics, and what it answers well again is used.
func TestStoreThatAnswersGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var garbage atomic.Bool
		store := memstore.New()
		r := &running{store: store, rc: &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
			time.Sleep(2 * time.Minute)
			return 200, nil, nil
		}}}
		r.on = &faulty{Store: store,
			lanes: func(ctx context.Context, req *webhook.LanesRequest) (*webhook.LanesResult, error) {
				if garbage.Load() {
					return nil, nil
				}
				return store.Lanes(ctx, req)
			},
			claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
				if garbage.Load() {
					return &webhook.ClaimResult{Lanes: make([]webhook.LaneStatus, 1000)}, nil
				}
				return store.Claim(ctx, req)
			},
			extend: func(ctx context.Context, req *webhook.ExtendRequest) (*webhook.ExtendResult, error) {
				if garbage.Load() {
					return &webhook.ExtendResult{}, nil
				}
				return store.Extend(ctx, req)
			},
			enqueue: func(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
				if garbage.Load() {
					return nil, nil
				}
				return store.Enqueue(ctx, req)
			},
			complete: func(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
				if garbage.Load() {
					return &webhook.CompleteResult{}, nil
				}
				return store.Complete(ctx, req)
			},
			changes: func(ctx context.Context, since int64) (*webhook.EndpointChanges, error) {
				if garbage.Load() {
					return nil, nil
				}
				return store.EndpointChanges(ctx, since)
			},
		}
		ep := endpoint(t, "acme")
		ep.Timeout = 3 * time.Minute
		r.start(t, webhook.DispatcherOptions{}, ep)
		synctest.Wait()
		id := r.send(t, webhook.Event{Type: "x"})
		garbage.Store(true)
		if _, err := r.Send(t.Context(), webhook.Event{Type: "x"}); err == nil {
			t.Error("Send believes an empty answer")
		}
		if _, err := r.SendTx(t.Context(), r.on, webhook.Event{Type: "x"}); err == nil {
			t.Error("SendTx believes an empty answer")
		}
		if _, err := r.SendTx(t.Context(), emptyTx{}, webhook.Event{Type: "x"}); err == nil {
			t.Error("SendTx believes an answer without events")
		}
		time.Sleep(3 * time.Minute)
		garbage.Store(false)
		time.Sleep(time.Minute)
		if d := r.delivery(t, id); d.State != webhook.Delivered {
			t.Errorf("delivery is %+v", d)
		}
	})
}

type emptyTx struct{}

func (emptyTx) Enqueue(context.Context, *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	return &webhook.EnqueueResult{}, nil
}

// A store that fails at every call, one method at a time or all, ends nothing: when it is back, everything goes on.
func TestStoreThatFailsAtEachCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		store := memstore.New()
		check := func() error {
			if away.Load() {
				return errAway
			}
			return nil
		}
		r := &running{store: store, rc: &receiver{}}
		r.on = &faulty{Store: store,
			now: func(ctx context.Context) (time.Time, error) { return time.Now(), check() },
			enqueue: func(ctx context.Context, q *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
				return orElse(check, store.Enqueue, ctx, q)
			},
			lanes: func(ctx context.Context, q *webhook.LanesRequest) (*webhook.LanesResult, error) {
				return orElse(check, store.Lanes, ctx, q)
			},
			claim: func(ctx context.Context, q *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
				return orElse(check, store.Claim, ctx, q)
			},
			complete: func(ctx context.Context, q *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
				return orElse(check, store.Complete, ctx, q)
			},
			changes: func(ctx context.Context, q int64) (*webhook.EndpointChanges, error) {
				return orElse(check, store.EndpointChanges, ctx, q)
			},
			holds: func(ctx context.Context, q time.Time) ([]webhook.HoldStatus, error) {
				return orElse(check, store.ListHolds, ctx, q)
			},
		}
		away.Store(true)
		r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		time.Sleep(5 * time.Second)
		for i := range 3 {
			away.Store(false)
			time.Sleep(2 * time.Second)
			r.send(t, webhook.Event{Type: "x"})
			away.Store(true)
			if _, err := r.Send(t.Context(), webhook.Event{Type: "x"}); !errors.Is(err, errAway) || errors.Is(err, webhook.ErrOutcomeUnknown) {
				t.Errorf("round %d: Send returned %v, want the store's error", i, err)
			}
			time.Sleep(40 * time.Second)
		}
		away.Store(false)
		time.Sleep(5 * time.Second)
		if got := r.states(t); got[webhook.Delivered] != 3 || len(r.rc.requests()) != 3 {
			t.Errorf("%d requests, states %v; want 3 delivered by 3 requests", len(r.rc.requests()), got)
		}
	})
}

func orElse[Q, A any](check func() error, call func(context.Context, Q) (A, error), ctx context.Context, q Q) (a A, err error) {
	if err = check(); err != nil {
		return a, err
	}
	return call(ctx, q)
}
