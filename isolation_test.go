package webhook_test

import (
	"context"
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

// hang never answers.
func hang(r *http.Request) (int, http.Header, error) {
	<-r.Context().Done()
	return 0, nil, r.Context().Err()
}

// 10,000 waiting for an endpoint that hangs must not delay 1,000 for a healthy one. In virtual time nothing but waiting
// takes time, so the bound is generous at two polls; make bench measures the real thing.
func TestHangingEndpointDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
			if r.URL.Host == "hung.example" {
				return hang(r)
			}
			return 200, nil, nil
		}}
		r := &running{store: memstore.New(), rc: rc}
		r.start(t, webhook.DispatcherOptions{}, endpoint(t, "hung", "h"), endpoint(t, "healthy", "ok"))
		for range 10_000 {
			r.send(t, webhook.Event{Type: "h"})
		}
		began := time.Now()
		for range 1_000 {
			r.send(t, webhook.Event{Type: "ok"})
		}
		time.Sleep(10 * time.Second)
		healthy, last, hung := 0, time.Duration(0), 0
		for _, g := range rc.requests() {
			if strings.Contains(g.url, "healthy") {
				healthy++
				last = max(last, g.at.Sub(began))
			} else {
				hung++
			}
		}
		if healthy != 1_000 || last > 400*time.Millisecond {
			t.Errorf("%d healthy deliveries, the last after %v; want 1000 within 400ms", healthy, last)
		}
		if hung != 16 {
			t.Errorf("%d attempts to the hanging endpoint, want its 16 senders", hung)
		}
	})
}

func TestInFlightCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		rc := &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(50 * time.Millisecond)
			now.Add(-1)
			return 200, nil, nil
		}}
		r := &running{store: memstore.New(), rc: rc}
		ep := endpoint(t, "acme")
		ep.MaxInFlight = 3
		r.start(t, webhook.DispatcherOptions{}, ep)
		for range 100 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(time.Minute)
		if n := len(rc.requests()); n != 100 || most.Load() != 3 {
			t.Errorf("%d delivered, at most %d at once; want 100 and 3", n, most.Load())
		}
	})
}

// A cap that is lowered applies within a second to what begins then, and one that is raised as well.
func TestInFlightCapChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		r := &running{store: memstore.New(), rc: &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(50 * time.Millisecond)
			now.Add(-1)
			return 200, nil, nil
		}}}
		r.start(t, webhook.DispatcherOptions{})
		ep := endpoint(t, "acme")
		ep.MaxInFlight = 10
		put := func() {
			if err := r.PutEndpoint(t.Context(), ep); err != nil {
				t.Fatal(err)
			}
		}
		put()
		for range 2_000 {
			r.send(t, webhook.Event{Type: "x"})
		}
		for _, inFlight := range []int{10, 2, 30} {
			ep.MaxInFlight = inFlight
			put()
			time.Sleep(time.Second)
			most.Store(0)
			time.Sleep(time.Second)
			if most.Load() != int64(inFlight) {
				t.Errorf("at most %d at once with a cap of %d", most.Load(), inFlight)
			}
		}
	})
}

// Fresh deliveries go before retries, but retries get at least one slot in eight.
func TestFreshBeforeRetriesButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		rc := &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
			time.Sleep(100 * time.Millisecond)
			if r.Header.Get("Kind") == "retry" && time.Since(began) < 30*time.Second {
				return 503, nil, nil
			}
			return 200, nil, nil
		}}
		r := &running{store: memstore.New(), rc: rc}
		ep := endpoint(t, "acme")
		ep.MaxInFlight = 1
		ep.Schedule = webhook.Delays(time.Minute, time.Minute)
		r.start(t, webhook.DispatcherOptions{}, ep)
		for range 20 {
			r.send(t, webhook.Event{Type: "x", Header: http.Header{"Kind": {"retry"}}})
		}
		time.Sleep(50 * time.Second) // all 20 have failed once and are due again from 60 s on
		for range 400 {
			r.send(t, webhook.Event{Type: "x", Header: http.Header{"Kind": {"fresh"}}})
		}
		time.Sleep(5 * time.Minute)
		var order []string
		for _, g := range rc.requests()[20:] {
			order = append(order, g.header.Get("Kind"))
		}
		if len(order) != 420 {
			t.Fatalf("%d attempts, want 420", len(order))
		}
		// Once retries are due (after 10 s, about 100 attempts), any 16 attempts in a row while both wait hold 1 to 4 of them.
		for i := 120; i+16 < 250; i++ {
			n := strings.Count(fmt.Sprint(order[i:i+16]), "retry")
			if n < 1 || n > 4 {
				t.Fatalf("attempts %d to %d hold %d retries, want 1 to 4: %v", i, i+16, n, order[i:i+16])
			}
		}
	})
}

// Ten of a hundred endpoints hang: the others do not notice.
func TestManyHangingEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
			if strings.HasPrefix(r.URL.Host, "hung") {
				return hang(r)
			}
			return 200, nil, nil
		}}
		var eps []webhook.Endpoint
		for i := range 100 {
			name := "ok"
			if i%10 == 0 {
				name = "hung"
			}
			eps = append(eps, endpoint(t, fmt.Sprintf("%s%d", name, i)))
		}
		r := &running{store: memstore.New(), rc: rc}
		r.start(t, webhook.DispatcherOptions{}, eps...)
		began := time.Now()
		for range 50 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(5 * time.Second)
		n := 0
		for _, g := range rc.requests() {
			if strings.Contains(g.url, "//ok") {
				n++
				if took := g.at.Sub(began); took > time.Second {
					t.Fatalf("a healthy delivery waited %v", took)
				}
			}
		}
		if n != 50*90 {
			t.Errorf("%d healthy deliveries, want %d", n, 50*90)
		}
	})
}

// Several dispatchers on one store share the work, and nothing is sent twice.
func TestSeveralDispatchersSendOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
			time.Sleep(5 * time.Millisecond)
			return 200, nil, nil
		}}
		store := memstore.New()
		var eps []webhook.Endpoint
		for i := range 5 {
			eps = append(eps, endpoint(t, fmt.Sprintf("e%d", i)))
		}
		first := &running{store: store, rc: rc}
		first.start(t, webhook.DispatcherOptions{}, eps...)
		for range 7 {
			(&running{store: store, rc: rc}).start(t, webhook.DispatcherOptions{}, eps...)
		}
		for i := range 400 {
			first.send(t, webhook.Event{Type: "x", Payload: []byte(fmt.Sprint(i))})
		}
		time.Sleep(2 * time.Minute)
		seen := map[string]int{}
		for _, g := range rc.requests() {
			seen[g.url+g.body]++
		}
		if len(seen) != 2000 || len(rc.requests()) != 2000 {
			t.Errorf("%d requests for %d deliveries, want 2000 for 2000", len(rc.requests()), len(seen))
		}
	})
}

// What a dead process had claimed is taken over when its leases end.
func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, rc := memstore.New(), &receiver{}
		d, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{endpoint(t, "acme")}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
			t.Fatal(err)
		}
		const lease = 45 * time.Second // Gett's 30 s and the default margin
		res, err := store.Claim(context.Background(), &webhook.ClaimRequest{
			Now: time.Now(), Owner: "dead", Limit: 1,
			Lanes: []webhook.LaneClaim{{LaneID: webhook.LaneID{EndpointID: "acme"}, Max: 1, Lease: lease}},
		})
		if err != nil || len(res.Deliveries) != 1 {
			t.Fatalf("claim: %v, %v", res, err)
		}
		began := time.Now()
		(&running{store: store, rc: rc}).start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		time.Sleep(2 * time.Minute)
		got := rc.requests()
		if len(got) != 1 {
			t.Fatalf("sent %d times, want once", len(got))
		}
		if took := got[0].at.Sub(began); took < lease || took > lease+time.Second {
			t.Errorf("taken over after %v, want %v and at most a poll", took, lease)
		}
	})
}
