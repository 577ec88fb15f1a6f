package webhook_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// noise is what goes on beside a healthy load.
type noise struct {
	endpoints int    // of all
	bad       int    // of those; they get no healthy load
	kind      string // what is wrong with them
	waiting   int    // deliveries for each, before the healthy load begins
	oldest    bool   // by an hour
	during    bool   // it has been healthy until a second after the load began
	senders   int
}

const badHost = "bad"

// Whatever happens to some endpoints, the 99th percentile of the others is at most 1.2 times what it is without. In virtual time
// nothing but waiting takes time, so the ratio is exact; `make noisy` measures on real stores.
func TestHangingEndpointsKeepP99(t *testing.T) {
	quiets := make(map[noise]time.Duration)
	for _, tc := range []struct {
		name string
		n    noise
	}{
		{"one of 10 hangs", noise{10, 1, "hangs", 10_000, false, false, 20}},
		{"10 of 100 hang", noise{100, 10, "hangs", 1_000, false, false, 64}},
		{"one hangs and is the oldest work", noise{10, 1, "hangs", 10_000, true, false, 20}},
		{"10 hang and are the oldest work", noise{100, 10, "hangs", 1_000, true, false, 64}},
		{"one begins to hang", noise{10, 1, "hangs", 10_000, false, true, 64}},
		{"10 of 100 begin to hang", noise{100, 10, "hangs", 1_000, false, true, 256}},
		{"one hangs in another tenant", noise{10, 1, "hangs tenant", 10_000, true, false, 20}},
		{"one takes 900 ms", noise{10, 1, "slow", 10_000, true, false, 64}},
		{"10 of 100 take 900 ms", noise{100, 10, "slow", 1_000, true, false, 256}},
		{"one fails at once", noise{10, 1, "fails", 10_000, true, false, 64}},
		{"10 are limited", noise{100, 10, "limited", 1_000, true, false, 64}},
		{"10 are held", noise{100, 10, "held", 1_000, true, false, 64}},
		{"one hangs and is limited", noise{10, 1, "hangs limited", 10_000, true, false, 20}},
		{"one hangs, and very many wait for it", noise{10, 1, "hangs", veryMany(), true, false, 20}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			without := noise{endpoints: tc.n.endpoints, bad: tc.n.bad, senders: tc.n.senders}
			if quiets[without] == 0 {
				quiets[without] = healthyP99(t, without)
			}
			quiet, noisy := quiets[without], healthyP99(t, tc.n)
			t.Logf("p99 is %v, %v without", noisy, quiet)
			if float64(noisy) > 1.2*float64(quiet) {
				t.Errorf("p99 of the healthy ones is %v, %v without", noisy, quiet)
			}
		})
	}
}

// veryMany is how many `make scale` lets wait, and how many else.
func veryMany() int {
	if os.Getenv("WEBHOOK_SCALE") == "full" {
		return 1_000_000
	}
	return 50_000
}

// healthyP99 sends 200 deliveries a second for 20 s to the healthy endpoints, half of them by this process and half by another.
// It returns the 99th percentile of the time from Send to the receiver's answer.
func healthyP99(t *testing.T, n noise) (p99 time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 1))
		start := time.Now()
		rc := &receiver{answer: func(r *http.Request, i int) (int, http.Header, error) {
			bad := strings.HasPrefix(r.URL.Host, badHost) && (!n.during || time.Since(start) > 6*time.Second)
			switch {
			case bad && strings.HasPrefix(n.kind, "hangs"):
				return hang(r)
			case bad && n.kind == "slow":
				time.Sleep(900 * time.Millisecond)
			case bad && n.kind == "fails":
				return 0, nil, fmt.Errorf("refused")
			default:
				time.Sleep(time.Duration(20+i*7%31) * time.Millisecond)
			}
			return 200, nil, nil
		}}
		store := memstore.New()
		var eps []webhook.Endpoint
		for i := range n.endpoints {
			ep := endpoint(t, fmt.Sprintf("ok%03d", i), fmt.Sprintf("ok%03d", i))
			if i < n.bad {
				ep = endpoint(t, fmt.Sprintf("%s%03d", badHost, i), badHost)
				if strings.Contains(n.kind, "tenant") {
					ep.Tenant = badHost
				}
				if strings.Contains(n.kind, "limited") {
					ep.Rate = webhook.PerSecond(5)
				}
			}
			eps = append(eps, ep)
		}
		other := sender(t, store, eps...)
		fillBad(t, store, eps[:n.bad], n)
		r := &running{store: store, rc: rc}
		r.start(t, webhook.DispatcherOptions{Senders: n.senders}, eps...)
		synctest.Wait()
		if n.kind == "held" {
			for _, ep := range eps[:n.bad] {
				if err := r.PauseEndpoint(t.Context(), ep.ID, "a test"); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(5 * time.Second)
		sent := make(map[string]time.Time)
		for i := range 4_000 {
			by, id := r.Dispatcher, fmt.Sprintf("evt_%d", i)
			if i%2 == 0 {
				by = other
			}
			ok := eps[n.bad+random.IntN(n.endpoints-n.bad)]
			sent[id] = time.Now()
			if _, err := by.Send(t.Context(), webhook.Event{ID: id, Type: ok.ID, Payload: []byte(id)}); err != nil {
				t.Fatal(err)
			}
			r.Wake() // as the other would
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		var waited []time.Duration
		for i, g := range rc.requests() {
			if at, ok := sent[g.body]; ok {
				waited = append(waited, g.at.Sub(at)+time.Duration(20+(i+1)*7%31)*time.Millisecond)
			}
		}
		if len(waited) != len(sent) {
			t.Fatalf("%d of %d healthy deliveries arrived", len(waited), len(sent))
		}
		slices.Sort(waited)
		p99 = waited[len(waited)*99/100]
	})
	return p99
}

// fillBad puts deliveries for the bad endpoints into the store.
func fillBad(t *testing.T, store *memstore.Store, bad []webhook.Endpoint, n noise) {
	t.Helper()
	now := time.Now()
	due := now
	if n.oldest {
		due = now.Add(-time.Hour)
	}
	for i := range n.waiting {
		ev := webhook.NewEvent{Event: webhook.Event{ID: fmt.Sprintf("bad_%d", i), Type: badHost}}
		for _, ep := range bad {
			ev.Deliveries = append(ev.Deliveries, webhook.NewDelivery{ID: fmt.Sprintf("dlv_%s_%d", ep.ID, i), EndpointID: ep.ID, DueAt: due})
		}
		if _, err := store.Enqueue(t.Context(), &webhook.EnqueueRequest{Now: now, Events: []webhook.NewEvent{ev}}); err != nil {
			t.Fatal(err)
		}
	}
}
