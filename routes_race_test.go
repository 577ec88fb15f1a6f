package webhook_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// slowChanges answers what was true 300 ms ago.
func slowChanges(store *memstore.Store) *faulty {
	return &faulty{Store: store, changes: func(ctx context.Context, since int64) (*webhook.EndpointChanges, error) {
		res, err := store.EndpointChanges(ctx, since)
		time.Sleep(300 * time.Millisecond)
		return res, err
	}}
}

// refreshing starts r and waits until it is in the middle of reading endpoints again.
func refreshing(t *testing.T, r *running) {
	t.Helper()
	r.on = slowChanges(r.store)
	r.start(t, webhook.DispatcherOptions{})
	time.Sleep(900 * time.Millisecond)
	synctest.Wait()
}

// A change applies at once in its own process, even when the endpoints are just being read and that misses it.
func TestOwnChangeAppliesDespiteARefreshUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{}}
		refreshing(t, r)
		if err := r.PutEndpoint(t.Context(), endpoint(t, "acme")); err != nil {
			t.Fatal(err)
		}
		id := r.send(t, webhook.Event{Type: "x"})
		rec, err := r.store.GetEvent(t.Context(), id)
		if err != nil || rec.Deliveries != 1 {
			t.Errorf("an event sent right after PutEndpoint is %+v, %v; want one delivery", rec, err)
		}
	})
}

// A delivery to an endpoint that another process has just made is not canceled because a refresh under way misses it.
func TestNewEndpointIsNotTakenForDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{}}
		other := sender(t, r.store)
		refreshing(t, r)
		if err := other.PutEndpoint(t.Context(), endpoint(t, "acme")); err != nil {
			t.Fatal(err)
		}
		id, err := other.Send(t.Context(), webhook.Event{Type: "x"})
		if err != nil {
			t.Fatal(err)
		}
		r.Wake()
		time.Sleep(5 * time.Second)
		if d := r.delivery(t, id); d.State != webhook.Delivered {
			t.Errorf("delivery is %+v, want delivered", d)
		}
	})
}

// An endpoint in code that this process was not given, as in a rolling deploy, may be known to another: its deliveries are kept
// for that, an hour long.
func TestEndpointOfOtherCodeIsNotTakenForDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{})
		newer := sender(t, r.store, endpoint(t, "acme"))
		id, err := newer.Send(t.Context(), webhook.Event{Type: "x"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if d := r.delivery(t, id); d.State.Final() || d.Reason == "" {
			t.Fatalf("after 10 minutes the delivery is %+v, want it kept, with a reason", d)
		}
		r.stop()
		second := &running{store: r.store, rc: &receiver{}}
		second.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		time.Sleep(2 * time.Minute)
		if d := r.delivery(t, id); d.State != webhook.Delivered {
			t.Errorf("with a process that knows its endpoint, the delivery is %+v", d)
		}
		second.stop()

		if id, err = newer.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
			t.Fatal(err)
		}
		(&running{store: r.store, rc: &receiver{}}).start(t, webhook.DispatcherOptions{})
		time.Sleep(2 * time.Hour)
		if d := r.delivery(t, id); d.State != webhook.Canceled {
			t.Errorf("that nobody knows the endpoint for two hours leaves the delivery %+v, want canceled", d)
		}
	})
}

// Attempts go on by what was known while endpoints cannot be read, and do not queue up to find that out.
func TestUnreadableEndpointsDoNotHoldUpAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		r := &running{store: memstore.New(), rc: &receiver{}}
		r.on = &faulty{Store: r.store, changes: func(ctx context.Context, since int64) (*webhook.EndpointChanges, error) {
			if away.Load() {
				time.Sleep(3 * time.Second)
				return nil, errAway
			}
			return r.store.EndpointChanges(ctx, since)
		}}
		ep := endpoint(t, "acme")
		ep.MaxInFlight = 100
		r.start(t, webhook.DispatcherOptions{}, ep)
		other := sender(t, r.store, ep) // Send itself needs to read endpoints
		synctest.Wait()
		away.Store(true)
		time.Sleep(3 * time.Second)
		for range 100 {
			if _, err := other.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if n := len(r.rc.requests()); n != 100 {
			t.Errorf("%d of 100 attempts in 10s", n)
		}
	})
}

// A store that was restored from a backup has a smaller version: what it does not list is gone.
func TestRestoredStoreForgetsEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var restored atomic.Bool
		store := memstore.New()
		on := &faulty{Store: store, changes: func(_ context.Context, since int64) (*webhook.EndpointChanges, error) {
			switch {
			case restored.Load() && since != 2:
				return &webhook.EndpointChanges{Version: 2, Put: []webhook.Endpoint{endpoint(t, "old")}}, nil
			case since < 5 && !restored.Load():
				return &webhook.EndpointChanges{Version: 5, Put: []webhook.Endpoint{endpoint(t, "old"), endpoint(t, "new")}}, nil
			}
			return &webhook.EndpointChanges{Version: since}, nil
		}}
		d := sender(t, on)
		for _, want := range [][]string{{"new", "old"}, {"old"}} {
			id, err := d.Send(t.Context(), webhook.Event{Type: "x"})
			if err != nil {
				t.Fatal(err)
			}
			res, err := store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now(), EventID: id})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, del := range res.Deliveries {
				got = append(got, del.EndpointID)
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("sent to %v, want %v", got, want)
			}
			restored.Store(true)
			time.Sleep(2 * time.Second)
		}
	})
}

// pinned is a transaction that reads endpoints itself, as sqlstore's does.
type pinned struct {
	*memstore.Store
	mu    sync.Mutex
	since []int64
}

func (p *pinned) EndpointChanges(ctx context.Context, since int64) (*webhook.EndpointChanges, error) {
	p.mu.Lock()
	p.since = append(p.since, since)
	p.mu.Unlock()
	return p.Store.EndpointChanges(ctx, since)
}

// A process that only ever calls SendTx does not read all endpoints again each time.
func TestSendTxRemembersEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		if err := store.PutEndpoint(t.Context(), endpoint(t, "acme")); err != nil {
			t.Fatal(err)
		}
		d, tx := sender(t, store), &pinned{Store: store}
		for range 5 {
			if _, err := d.SendTx(t.Context(), tx, webhook.Event{Type: "x"}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
		}
		for i, since := range tx.since {
			if i > 0 && since == 0 {
				t.Fatalf("endpoints were read since versions %v, want from 0 only once", tx.since)
			}
		}
	})
}

// A store that implements nothing but webhook.Store delivers to endpoints in code.
func TestStoreWithoutEndpointsAndHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		r := &running{store: store, on: struct{ webhook.Store }{store}, rc: &receiver{answer: func(_ *http.Request, n int) (int, http.Header, error) {
			return map[bool]int{true: 500, false: 200}[n == 1], nil, nil
		}}}
		r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		id := r.send(t, webhook.Event{Type: "x"})
		time.Sleep(time.Minute)
		if d := r.delivery(t, id); d.State != webhook.Delivered || d.Attempts != 2 {
			t.Errorf("delivery is %+v", d)
		}
		for name, err := range map[string]error{
			"PutEndpoint": r.PutEndpoint(t.Context(), endpoint(t, "b")), "DeleteEndpoint": r.DeleteEndpoint(t.Context(), "b"),
			"PauseEndpoint": r.PauseEndpoint(t.Context(), "b", ""), "ResumeEndpoint": r.ResumeEndpoint(t.Context(), "b"),
		} {
			if err == nil {
				t.Errorf("%s returned nil", name)
			}
		}
	})
}
