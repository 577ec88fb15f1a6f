package webhook_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// A delivery whose event cannot be read waits, with the reason, as another process may be able to, and then ends as a dead letter; the others
// of its endpoint flow.
func TestUnreadableEventKeepsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		broken := errors.New("header: no JSON")
		r := &running{store: store, rc: &receiver{}}
		r.on = &faulty{Store: store, claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
			res, err := store.Claim(ctx, req)
			for i := 0; err == nil && i < len(res.Deliveries); i++ {
				if c := &res.Deliveries[i]; c.Event.Type == "bad" {
					c.Event, c.Unreadable = webhook.Event{ID: c.Event.ID}, broken
				}
			}
			return res, err
		}}
		other := sender(t, store, endpoint(t, "acme"))
		send := func(name string) string {
			t.Helper()
			id, err := other.Send(t.Context(), webhook.Event{Type: name})
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		bad := send("bad")
		good := send("good")
		r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		time.Sleep(10 * time.Second)
		if d := r.delivery(t, good); d.State != webhook.Delivered {
			t.Errorf("the other one is %s (%s)", d.State, d.Reason)
		}
		if d := r.delivery(t, bad); d.State.Final() || !strings.Contains(d.Reason, broken.Error()) {
			t.Errorf("it is %s (%s), want it to wait with the reason", d.State, d.Reason)
		}
		time.Sleep(2 * time.Hour)
		if d := r.delivery(t, bad); d.State != webhook.DeadLetter || !strings.Contains(d.Reason, broken.Error()) {
			t.Errorf("it is %s (%s), want a dead letter with the reason", d.State, d.Reason)
		}
		if n := len(r.rc.requests()); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}
