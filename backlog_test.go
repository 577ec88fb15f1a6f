package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// counting is a store that counts calls, and whose counts take a while.
type counting struct {
	*memstore.Store
	delay    time.Duration
	enqueues atomic.Int64
	counts   atomic.Int64
	fail     atomic.Bool
}

func (c *counting) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	c.enqueues.Add(1)
	return c.Store.Enqueue(ctx, req)
}

func (c *counting) Backlog(ctx context.Context, req *webhook.BacklogRequest) (*webhook.BacklogResult, error) {
	c.counts.Add(1)
	time.Sleep(c.delay)
	if c.fail.Load() {
		return nil, errors.New("cannot count")
	}
	return c.Store.Backlog(ctx, req)
}

// bounded is an endpoint with a bound, which nothing is sent to unless a test resumes it.
func bounded(t testing.TB, id string, n int, full webhook.FullPolicy) webhook.Endpoint {
	ep := endpoint(t, id)
	ep.MaxBacklog, ep.WhenFull = n, full
	return ep
}

// waiting is how many deliveries of an endpoint are not final.
func waiting(t testing.TB, store *memstore.Store, ids ...string) (n int) {
	t.Helper()
	res, err := store.Backlog(t.Context(), &webhook.BacklogRequest{Now: time.Now(), Endpoints: ids, Count: 1e6})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range res.Endpoints {
		n += e.Waiting
	}
	return n
}

// A full backlog refuses, says so, and lets in again once it is drained. What is on hold counts.
func TestBacklogBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, bounded(t, "acme", 100, webhook.RefuseWhenFull), endpoint(t, "other", "other"))
		if err := r.PauseEndpoint(t.Context(), "acme", ""); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if _, err := r.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
				t.Fatalf("send %d: %v", i, err)
			}
		}
		id, err := r.Send(t.Context(), webhook.Event{ID: "evt_1", Type: "other"})
		be, ok := errors.AsType[*webhook.BacklogError](err)
		if !ok || !errors.Is(err, webhook.ErrBacklogFull) || id != "evt_1" {
			t.Fatalf("send 101: %q, %v", id, err)
		}
		if diff := cmp.Diff(&webhook.BacklogError{EndpointID: "acme", Waiting: 100, New: 1, Limit: 100}, be); diff != "" {
			t.Error(diff)
		}
		if want := `webhook: send: endpoint "acme" has 100 deliveries waiting, allowed 100 (Endpoint.MaxBacklog)`; err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if _, err := r.store.GetEvent(t.Context(), "evt_1"); !errors.Is(err, webhook.ErrNotFound) {
			t.Errorf("the refused event, or a part of it, is stored: %v", err)
		}
		if _, err := r.SendBatch(t.Context(), numbered(0, 3, webhook.Event{Type: "x"})); !errors.Is(err, webhook.ErrBacklogFull) ||
			!strings.Contains(err.Error(), "waiting and gets 3 more") {
			t.Errorf("a batch: %v", err)
		}
		if _, err := r.SendTx(t.Context(), r.store, webhook.Event{Type: "x"}); !errors.Is(err, webhook.ErrBacklogFull) {
			t.Errorf("SendTx: %v", err)
		}
		time.Sleep(time.Hour)
		if _, err := r.Send(t.Context(), webhook.Event{Type: "x"}); !errors.Is(err, webhook.ErrBacklogFull) {
			t.Errorf("an hour later: %v", err)
		}
		if err := r.ResumeEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := r.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
			t.Errorf("after it is drained: %v", err)
		}
	})
}

// A batch fits to the last place; a bound that is raised counts at once.
func TestBacklogBoundIsExactInOneProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		d := sender(t, store)
		put := func(bound int) {
			t.Helper()
			if err := d.PutEndpoint(t.Context(), bounded(t, "acme", bound, webhook.RefuseWhenFull)); err != nil {
				t.Fatal(err)
			}
		}
		put(100)
		if _, err := d.SendBatch(t.Context(), numbered(0, 101, webhook.Event{Type: "x"})); !errors.Is(err, webhook.ErrBacklogFull) {
			t.Errorf("101: %v", err)
		}
		if _, err := d.SendBatch(t.Context(), numbered(0, 97, webhook.Event{Type: "x"})); err != nil {
			t.Fatal(err)
		}
		var in, out atomic.Int64
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				switch _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); {
				case err == nil:
					in.Add(1)
				case errors.Is(err, webhook.ErrBacklogFull):
					out.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if in.Load() != 3 || waiting(t, store, "acme") != 100 {
			t.Errorf("%d of 50 were let in, %d wait; want 3 and 100", in.Load(), waiting(t, store, "acme"))
		}
		put(101)
		if _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
			t.Errorf("after the bound was raised: %v", err)
		}
		put(0)
		if _, err := d.SendBatch(t.Context(), numbered(0, 1000, webhook.Event{Type: "x"})); err != nil {
			t.Errorf("without a bound: %v", err)
		}
		put(1000)
		if _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); !errors.Is(err, webhook.ErrBacklogFull) {
			t.Errorf("after a bound below what waits: %v", err)
		}
	})
}

// Room of sends that fail is given back.
func TestBacklogBoundForgetsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{Store: memstore.New(), delay: time.Millisecond}
		d := sender(t, store, bounded(t, "acme", 10, webhook.RefuseWhenFull))
		for range 30 {
			if _, err := d.Send(t.Context(), webhook.Event{Type: "x", Payload: []byte("poison")}); !errors.Is(err, errPoison) {
				t.Fatal(err)
			}
		}
		if _, err := d.SendBatch(t.Context(), numbered(0, 10, webhook.Event{Type: "x"})); err != nil {
			t.Error(err)
		}
	})
}

// However much is sent, counts are few; and a process that only sends counts too.
func TestBacklogBoundCostsNoStatement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: memstore.New(), delay: time.Millisecond}
		d := sender(t, store, bounded(t, "acme", 100_000, webhook.RefuseWhenFull))
		for range 10 {
			for range 1000 {
				if _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
		}
		if n := store.counts.Load(); n > 12 || n < 5 {
			t.Errorf("%d counts in 10 s for 10,000 sends, want one a second", n)
		}
		time.Sleep(time.Hour)
		before := store.counts.Load()
		time.Sleep(time.Hour)
		if n := store.counts.Load() - before; n != 0 {
			t.Errorf("%d counts while nothing was sent", n)
		}
	})
}

// While it is full, refusals do not make it count all the time; a count that takes long is made rarely.
func TestFullBacklogIsCountedSeldom(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, 100 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			store := &counting{Store: memstore.New(), delay: took}
			d := sender(t, store, bounded(t, "acme", 10, webhook.RefuseWhenFull))
			if _, err := d.SendBatch(t.Context(), numbered(0, 10, webhook.Event{Type: "x"})); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			for time.Since(began) < 10*time.Second {
				if _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); !errors.Is(err, webhook.ErrBacklogFull) {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			// A 20th of the time at most, and one a 10 ms.
			if n := time.Duration(store.counts.Load()); (n-1)*took > time.Since(began)/18 || n < 3 {
				t.Errorf("%d counts of %v in %v", n, took, time.Since(began))
			}
		})
	}
}

// A store that cannot count at the moment does not stop sends.
func TestBacklogBoundWithoutCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: memstore.New()}
		store.fail.Store(true)
		d := sender(t, store, bounded(t, "acme", 10, webhook.RefuseWhenFull))
		for range 100 {
			if _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		if n := store.counts.Load(); n > 2 {
			t.Errorf("%d counts were tried within no time", n)
		}
		store.fail.Store(false)
		time.Sleep(2 * time.Second)
		if _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); !errors.Is(err, webhook.ErrBacklogFull) {
			t.Errorf("when it can count again: %v", err)
		}
	})
}

// A tenant's bound is over all of its endpoints; it refuses the whole event.
func TestTenantBacklogBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var eps []webhook.Endpoint
		for i := range 6 {
			ep := endpoint(t, fmt.Sprint("ep", i))
			ep.Tenant = []string{"shop", "bank"}[i/3]
			eps = append(eps, ep)
		}
		store := memstore.New()
		d, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{Endpoints: eps, Tenants: func(tenant string) webhook.TenantPolicy {
			if tenant == "shop" {
				return webhook.TenantPolicy{MaxBacklog: 100}
			}
			return webhook.TenantPolicy{}
		}})
		if err != nil {
			t.Fatal(err)
		}
		sent := 0
		for ; err == nil && sent < 1000; sent++ {
			_, err = d.Send(t.Context(), webhook.Event{Type: "x", Tenant: "shop"})
		}
		be, ok := errors.AsType[*webhook.BacklogError](err)
		if !ok || sent != 34 || *be != (webhook.BacklogError{Tenant: "shop", Waiting: 99, New: 3, Limit: 100}) {
			t.Errorf("send %d: %v, want the 34th to be refused", sent, err)
		}
		if n := waiting(t, store, "ep0", "ep1", "ep2"); n != 99 {
			t.Errorf("%d wait, want 99", n)
		}
		for range 200 {
			if _, err := d.Send(t.Context(), webhook.Event{Type: "x", Tenant: "bank"}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Several processes let in no more than the bound and what the others sent since the last count of each: a quarter of the bound at most, which
// a process counts again after, and less where time passes, as it then counts sooner.
func TestBacklogBoundOvershoot(t *testing.T) {
	const procs, bound = 4, 1000
	for name, tc := range map[string]struct {
		pause time.Duration // after each send
		most  int
	}{
		"at once":             {0, bound + (procs-1)*bound/4},
		"1,000 a second each": {time.Millisecond / procs, bound + (procs-1)*bound/8},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memstore.New()
				var processes [procs]*webhook.Dispatcher
				for i := range processes {
					processes[i] = sender(t, store, bounded(t, "acme", bound, webhook.RefuseWhenFull))
				}
				for range 2000 * procs {
					_, err := processes[rand.IntN(procs)].Send(t.Context(), webhook.Event{Type: "x"})
					if err != nil && !errors.Is(err, webhook.ErrBacklogFull) {
						t.Error(err)
					}
					time.Sleep(tc.pause)
				}
				n := waiting(t, store, "acme")
				if n < bound || n > tc.most {
					t.Errorf("%d wait, want %d to %d", n, bound, tc.most)
				}
				t.Logf("%d wait, allowed %d", n, bound)
			})
		})
	}
}

// The oldest give way: by due time, with a reason, told of; what is being sent does not.
func TestExpireOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int64
		r := &running{store: memstore.New(), rc: lasting(time.Hour)}
		ep := bounded(t, "acme", 100, webhook.ExpireOldest)
		ep.Timeout, ep.MaxInFlight = 2*time.Hour, 7
		r.start(t, webhook.DispatcherOptions{Trace: &webhook.Trace{Expired: func(_ context.Context, info webhook.ExpiredInfo) {
			if info.Reason != "the backlog of its endpoint was over 100" {
				t.Errorf("reason %q", info.Reason)
			}
			told.Add(1)
		}}}, ep)
		time.Sleep(time.Second)
		var ids []string
		for i := range 1000 {
			ids = append(ids, r.send(t, webhook.Event{Type: "x", Payload: fmt.Append(nil, i)}))
		}
		time.Sleep(10 * time.Second)
		if n := waiting(t, r.store, "acme"); n != 100 || told.Load() != 900 {
			t.Errorf("%d wait and %d were told of, want 100 and 900", n, told.Load())
		}
		for i, id := range ids {
			state := webhook.Expired
			switch {
			case i < 7:
				state = webhook.Delivering
			case i >= 907:
				state = webhook.Queued
			}
			if d := r.delivery(t, id); d.State != state {
				t.Fatalf("%d is %s, want %s", i, d.State, state)
			}
		}
	})
}

// While more is sent than may wait, the newest stay.
func TestExpireOldestUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, bounded(t, "acme", 500, webhook.ExpireOldest))
		if err := r.PauseEndpoint(t.Context(), "acme", ""); err != nil {
			t.Fatal(err)
		}
		worst := 0
		for i := range 10_000 {
			r.send(t, webhook.Event{Type: "x", OrderingKey: []string{"", "k"}[i%2]})
			time.Sleep(time.Millisecond)
			if i%100 == 0 {
				worst = max(worst, waiting(t, r.store, "acme"))
			}
		}
		if worst > 500+2000 { // 1,000 a second, looked at every 1 to 1.75 s
			t.Errorf("%d waited, allowed 500 and what came in 2 s", worst)
		}
		time.Sleep(5 * time.Second)
		if n := waiting(t, r.store, "acme"); n != 500 {
			t.Errorf("%d wait at the end, want 500", n)
		}
	})
}

// Of a tenant those of the endpoint with the oldest give way. Several dispatchers do not end many too many.
func TestExpireOldestOfATenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		var eps []webhook.Endpoint
		for _, id := range []string{"dead", "fine", "slow"} {
			eps = append(eps, endpoint(t, id, id))
		}
		opts := webhook.DispatcherOptions{Endpoints: eps, Tenants: func(string) webhook.TenantPolicy {
			return webhook.TenantPolicy{MaxBacklog: 300, WhenFull: webhook.ExpireOldest}
		}}
		first := &running{store: store, rc: &receiver{}}
		first.start(t, opts)
		for _, ep := range eps {
			if err := first.PauseEndpoint(t.Context(), ep.ID, ""); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			other := &running{store: store, rc: &receiver{}}
			other.start(t, opts)
		}
		for _, id := range []string{"dead", "fine", "slow"} {
			if _, err := first.SendBatch(t.Context(), numbered(0, 250, webhook.Event{Type: id})); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		dead, fine, slow := waiting(t, store, "dead"), waiting(t, store, "fine"), waiting(t, store, "slow")
		if n := dead + fine + slow; n > 300 || n < 300-3*300/20 {
			t.Errorf("%d wait, want 300 or a few less", n)
		}
		if dead != 0 || slow != 250 {
			t.Errorf("%d, %d and %d wait, want the oldest to be gone", dead, fine, slow)
		}
	})
}

// What has no bound is not counted, by nobody.
func TestNoBoundNoCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: memstore.New()}
		r := &running{store: store.Store, on: store, rc: &receiver{}}
		r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		for range 100 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(time.Hour)
		if n := store.counts.Load(); n != 0 {
			t.Errorf("%d counts", n)
		}
	})
}

// A policy that is none is no licence for any number: the send says what is wrong with it.
func TestTenantWhenFullOutOfRange(t *testing.T) {
	for _, full := range []webhook.FullPolicy{-1, webhook.ExpireOldest + 1} {
		d, err := webhook.NewDispatcher(memstore.New(), &webhook.DispatcherOptions{
			Endpoints: []webhook.Endpoint{endpoint(t, "acme")},
			Tenants:   func(string) webhook.TenantPolicy { return webhook.TenantPolicy{MaxBacklog: 1, WhenFull: full} },
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Send(t.Context(), webhook.Event{Type: "x"})
		if fe, ok := errors.AsType[*webhook.FieldError](err); !ok || fe.Field != "TenantPolicy.WhenFull" || strings.Count(err.Error(), "send:") != 1 {
			t.Errorf("%d: got %v, want a FieldError", full, err)
		}
	}
}
