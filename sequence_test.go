package webhook_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
)

func TestSequenceHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := endpoint(t, "acme")
		ep.SequenceHeader = "webhook-sequence"
		r := run(t, webhook.DispatcherOptions{}, ep)
		for _, key := range []string{"k", "k", "", "k"} {
			id := r.send(t, webhook.Event{Type: "a", OrderingKey: key})
			time.Sleep(time.Second) // virtual
			if got := r.delivery(t, id).State; got != webhook.Delivered {
				t.Fatalf("key %q: %s, want delivered", key, got)
			}
		}
		var got [][]string
		for _, req := range r.rc.requests() {
			got = append(got, req.header["Webhook-Sequence"])
		}
		if diff := cmp.Diff([][]string{{"1"}, {"2"}, nil, {"3"}}, got); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
	})
}
