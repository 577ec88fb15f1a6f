package webhook_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// states counts all deliveries in the store by state.
func (r *running) states(t *testing.T) map[webhook.State]int {
	t.Helper()
	n := map[webhook.State]int{}
	req := &webhook.ListDeliveriesRequest{Now: time.Now(), Limit: 1000}
	for {
		res, err := r.store.ListDeliveries(context.Background(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range res.Deliveries {
			n[d.State]++
		}
		if req.After = res.Next; req.After == "" {
			return n
		}
	}
}

// A busy stop cuts nothing off that ends within the grace time, gives back what was not begun, and records all outcomes.
func TestDrainLetsAttemptsFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cut atomic.Int64
		rc := &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
			select {
			case <-time.After(3 * time.Second):
				return 200, nil, nil
			case <-r.Context().Done():
				cut.Add(1)
				return 0, nil, r.Context().Err()
			}
		}}
		r := &running{store: memstore.New(), rc: rc}
		r.start(t, webhook.DispatcherOptions{Grace: 10 * time.Second}, endpoint(t, "acme"))
		for range 100 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(time.Second)
		began := time.Now()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("the drain took %v, want the 2s that the attempts under way still needed", took)
		}
		got := r.states(t)
		if cut.Load() != 0 || got[webhook.Delivered] != 16 || got[webhook.Queued] != 84 {
			t.Errorf("%d attempts cut off, states %v; want 0 cut off, 16 delivered and 84 queued", cut.Load(), got)
		}
	})
}

// A hung stop ends within the grace time and a second, and gives everything back.
func TestDrainOfHungAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) { return hang(r) }}}
		r.start(t, webhook.DispatcherOptions{Grace: 5 * time.Second}, endpoint(t, "acme"))
		for range 50 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(time.Second)
		began := time.Now()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("the drain took %v, want 5s to 6s", took)
		}
		if got := r.states(t); got[webhook.Queued] != 50 {
			t.Errorf("states %v, want all 50 queued", got)
		}
		for _, g := range r.rc.requests() {
			if !strings.HasPrefix(g.url, "https://acme") {
				t.Errorf("sent to %s", g.url)
			}
		}
	})
}

// stuckStore answers no Complete until its context ends.
type stuckStore struct{ *memstore.Store }

func (s stuckStore) Complete(ctx context.Context, _ *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A store that hangs does not keep Run from ending, and Run says what is missing.
func TestDrainWithAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := webhook.NewDispatcher(stuckStore{memstore.New()}, &webhook.DispatcherOptions{
			Endpoints: []webhook.Endpoint{endpoint(t, "acme")}, Grace: 2 * time.Second, Transport: &receiver{},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		if _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		began := time.Now()
		cancel()
		err = <-ended
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the drain took %v, want at most grace and a second", took)
		}
		if err == nil || !strings.Contains(err.Error(), "1 outcomes not recorded") {
			t.Errorf("Run returned %v, want the one outcome that is not recorded", err)
		}
	})
}

func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		synctest.Wait()
		if err := r.Run(t.Context()); err == nil {
			t.Error("a second Run returned nil")
		}
		r.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		id := r.send(t, webhook.Event{Type: "x"})
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run after Run: %v", err)
		}
		if d := r.delivery(t, id); d.State != webhook.Delivered {
			t.Errorf("the second Run left the delivery %s", d.State)
		}
	})
}
