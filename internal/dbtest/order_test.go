package dbtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// TestOrderedKeyIsNotPolled sends 20 events of one ordering key to a dispatcher that looks for work of others every 10 s. Each must go as
// soon as the one before it has ended, not at the next look.
func TestOrderedKeyIsNotPolled(t *testing.T) {
	const events, most = 20, 5 * time.Second
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		store, _ := v.handle(t, v.database(t))
		migrate(t, store)
		for _, tells := range []bool{true, false} {
			t.Run(fmt.Sprintf("tells=%t", tells), func(t *testing.T) {
				recv := newReceiver(t, 0, nil)
				cfg := childConfig{Name: "one", URL: recv.URL, Endpoints: 1, Timeout: 20 * time.Second}
				opts := cfg.options()
				opts.Poll = 10 * time.Second
				var on webhook.Store = store
				if !tells {
					on = silentStore{store}
				}
				d, err := webhook.NewDispatcher(on, opts)
				if err != nil {
					t.Fatal(err)
				}
				for i := range events {
					sendOrdered(t, d, childEvent(fmt.Sprint("poll", tells), i), "key")
				}
				began := time.Now()
				startRun(t, d)
				waitFor(t, 3*opts.Poll, "the events of the key", func() bool { return recv.total() == events })
				took := time.Since(began)
				t.Logf("%s: %d events of one key in %v", v.name, events, took.Round(time.Millisecond))
				if took > most {
					t.Errorf("%d events of one key took %v, want less than %v", events, took, most)
				}
			})
		}
	})
}

// silentStore does not tell which lanes a completion woke, which a store may leave out.
type silentStore struct{ webhook.Store }

func (s silentStore) Complete(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
	res, err := s.Store.Complete(ctx, req)
	if res != nil {
		res.Woken = nil
	}
	return res, err
}

// sendOrdered sends an event of an ordering key.
func sendOrdered(t testing.TB, d *webhook.Dispatcher, id, key string) {
	t.Helper()
	ev := webhook.Event{ID: id, Type: "order_create", Payload: []byte(childPayload(id)), OrderingKey: key}
	if _, err := d.Send(t.Context(), ev); err != nil {
		t.Fatal(err)
	}
}

// startRun runs a dispatcher until the test ends, or until the function that it returns is called.
func startRun(t testing.TB, d *webhook.Dispatcher) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}
