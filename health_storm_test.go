package webhook_test

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// Many endpoints that fail at once, as when a host that they share is away, and answer again minutes later. What that asks of
// the store is bounded by the number of processes, and for each endpoint. WEBHOOK_SCALE=full does it with 10,000 endpoints.
func TestHealthOfManyIsBounded(t *testing.T) {
	const dispatchers, poll = 3, time.Second
	endpoints := 100
	if os.Getenv("WEBHOOK_SCALE") == "full" {
		endpoints = 10_000
	}
	synctest.Test(t, func(t *testing.T) {
		s := &states{Store: memstore.New()}
		var eps []webhook.Endpoint
		for i := range endpoints {
			p := webhook.Graduated()
			p.ProbeAfter, p.ProbeEvery = 2*time.Minute, time.Minute
			ep := watchedEndpoint(t, fmt.Sprintf("ep%05d", i), p)
			ep.Schedule = webhook.Exponential(30*time.Second, 30*time.Second, 900)
			eps = append(eps, ep)
		}
		var mu sync.Mutex
		status := 503
		rc := &receiver{}
		rc.answer = func(*http.Request, int) (int, http.Header, error) {
			time.Sleep(20 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			return status, nil, nil
		}
		var log healthLog
		var all []*running
		for range dispatchers {
			r := &running{store: s.Store, on: s, rc: rc}
			r.start(t, webhook.DispatcherOptions{Trace: log.trace(), Poll: poll, Senders: 1024}, eps...)
			all = append(all, r)
			time.Sleep(337 * time.Millisecond)
		}
		began := time.Now()
		for i := range 6 {
			all[i%dispatchers].send(t, webhook.Event{Type: "x"}) // to each endpoint
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(4 * time.Minute)
		outage := time.Since(began)
		report := func(what string) {
			s := s.counts()
			t.Logf("%s, %d endpoints, %d dispatchers, %v: %d requests; %d puts of %d states (%.1f an endpoint), %d stale; %d lookups, %d changes read; told %d times",
				what, endpoints, dispatchers, time.Since(began).Round(time.Second), len(rc.requests()), s.puts, s.put,
				float64(s.put)/float64(endpoints), s.stale, s.read, s.changes, log.count())
		}
		report("outage")
		polls := int(outage/poll) * dispatchers
		n := s.counts()
		if n.puts > 4*polls || n.put > 12*endpoints || n.stale > n.put/4 || n.read > polls+n.puts+dispatchers*(2*int(outage/time.Second)+10) {
			t.Errorf("more than the bound")
		}
		if n := log.count(); n != 2*endpoints {
			t.Errorf("told %d times, want that each was slowed and probed", n)
		}
		mu.Lock()
		status = 200
		mu.Unlock()
		time.Sleep(7 * time.Minute)
		report("and recovery")
		sick, err := all[0].Unhealthy(t.Context())
		if err != nil || len(sick) != 0 {
			t.Errorf("%d are not well, %v", len(sick), err)
		}
		if n := s.counts(); n.put > 25*endpoints || n.stale > n.put/4 {
			t.Errorf("more than the bound")
		}
	})
}
