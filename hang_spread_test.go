package webhook_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// Attempts that hang begin at one moment, and after they have reached their limit no longer.
func TestHangingAttemptsComeApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const endpoints, each, limit = 10, 16, 4 * time.Second
		r := &running{store: memstore.New(), rc: &receiver{answer: func(req *http.Request, _ int) (int, http.Header, error) {
			<-req.Context().Done()
			return 0, nil, req.Context().Err()
		}}}
		var eps []webhook.Endpoint
		for i := range endpoints {
			ep := endpoint(t, fmt.Sprint("e", i))
			ep.Timeout, ep.MaxInFlight = limit, each
			eps = append(eps, ep)
		}
		r.start(t, webhook.DispatcherOptions{}, eps...)
		for range 4 * each {
			r.send(t, webhook.Event{Type: "x"})
		}
		began := time.Now()
		time.Sleep(3 * limit)
		moments := map[time.Duration]int{} // attempts begun after the first limit, in steps of 20 ms
		most, later := 0, 0
		for _, g := range r.rc.requests() {
			if at := g.at.Sub(began); at >= limit {
				later++
				moments[at/(20*time.Millisecond)]++
				most = max(most, moments[at/(20*time.Millisecond)])
			}
		}
		if later < endpoints*each || most > endpoints*each/4 {
			t.Errorf("of %d attempts that began after the first had reached their limit, %d began within 20 ms", later, most)
		}
	})
}
