package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
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

// sequences are the numbers that went, with the body of each: "2 k-2".
func (rc *receiver) sequences() (got []string) {
	for _, req := range rc.requests() {
		got = append(got, strings.TrimSpace(strings.Join(req.header["Webhook-Sequence"], "+")+" "+req.body))
	}
	return got
}

// TestSequenceHeaderOnRetries: each attempt of a delivery has the same number, and a key has its own numbers at each endpoint.
func TestSequenceHeaderOnRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		acme, other := endpoint(t, "acme", "a"), endpoint(t, "other", "b")
		acme.SequenceHeader, other.SequenceHeader = "Webhook-Sequence", "Webhook-Sequence"
		r := &running{store: memstore.New(), rc: &receiver{answer: func(_ *http.Request, n int) (int, http.Header, error) {
			if n < 4 {
				return http.StatusServiceUnavailable, nil, nil
			}
			return http.StatusOK, nil, nil
		}}}
		r.start(t, webhook.DispatcherOptions{}, acme, other)
		for i, typ := range []string{"a", "a", "b", "a"} {
			r.send(t, webhook.Event{Type: typ, OrderingKey: "k", Payload: fmt.Append(nil, i)})
			if i > 0 {
				time.Sleep(time.Hour) // virtual; in the first one, until the first delivery has been retried
			}
		}
		want := []string{"1 0", "1 0", "1 0", "1 0", "2 1", "1 2", "3 3"}
		if diff := cmp.Diff(want, r.rc.sequences()); diff != "" {
			t.Errorf("went (-want +got):\n%s", diff)
		}
	})
}

// TestSequenceHeaderIsTheLibrarys: neither an event nor a hook can set it, ordered or not.
func TestSequenceHeaderIsTheLibrarys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := endpoint(t, "acme")
		ep.SequenceHeader = "Webhook-Sequence"
		r := run(t, webhook.DispatcherOptions{Trace: &webhook.Trace{
			AttemptStart: func(ctx context.Context, info webhook.AttemptStartInfo) context.Context {
				info.Header.Set("webhook-sequence", "66")
				info.Header.Set("Webhook_Sequence", "67") // servers may take it for the same
				return ctx
			},
		}}, ep)
		for _, key := range []string{"k", ""} {
			r.send(t, webhook.Event{Type: "a", OrderingKey: key, Payload: []byte("x"), Header: http.Header{"webhook-sequence": {"99"}, "webhook_sequence": {"98"}}})
			time.Sleep(time.Second)
		}
		if diff := cmp.Diff([]string{"1 x", "x"}, r.rc.sequences()); diff != "" {
			t.Errorf("went (-want +got):\n%s", diff)
		}
		for _, req := range r.rc.requests() {
			if got := req.header["Webhook_sequence"]; got != nil {
				t.Errorf("sent %v under a name that servers may take for the same", got)
			}
		}
	})
}

// TestSequenceHeaderIsThereWhenSigning: a scheme that signs headers signs it.
func TestSequenceHeaderIsThereWhenSigning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		profile := webhook.DefaultProfile()
		profile.Scheme = signsSequence{profile.Scheme}
		ep := endpoint(t, "acme")
		ep.SequenceHeader = "Webhook-Sequence"
		r := run(t, webhook.DispatcherOptions{Profiles: []webhook.Profile{profile}}, ep)
		r.send(t, webhook.Event{Type: "a", OrderingKey: "k"})
		time.Sleep(time.Second)
		if got := r.rc.requests(); len(got) != 1 || got[0].header.Get("Signed-Sequence") != "1" {
			t.Errorf("received %+v, want the signature to have seen sequence 1", got)
		}
	})
}

// signsSequence stands for a scheme of a user that signs the sequence.
type signsSequence struct{ webhook.Scheme }

func (s signsSequence) Sign(m *webhook.Message, secrets []webhook.Secret, now time.Time) error {
	m.Header.Set("Signed-Sequence", m.Header.Get("Webhook-Sequence"))
	return s.Scheme.Sign(m, secrets, now)
}

// TestSequenceHeaderShowsGaps: what ended without being delivered keeps its number, so that the receiver sees that one is missing.
func TestSequenceHeaderShowsGaps(t *testing.T) {
	for _, end := range []webhook.State{webhook.Expired, webhook.Canceled, webhook.DeadLetter} {
		t.Run(string(end), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ep := endpoint(t, "acme")
				ep.SequenceHeader, ep.Order = "Webhook-Sequence", webhook.SkipDeadLetter
				r := run(t, webhook.DispatcherOptions{}, ep)
				r.sendKey(t, "k-1")
				time.Sleep(time.Second)
				if err := r.PauseEndpoint(t.Context(), "acme", "test"); err != nil {
					t.Fatal(err)
				}
				r.sendKey(t, "k-2")
				r.sendKey(t, "k-3")
				r.endElsewhere(t, end)
				if err := r.ResumeEndpoint(t.Context(), "acme"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if got := r.delivery(t, "k-2").State; got != end {
					t.Errorf("k-2 is %s, want %s", got, end)
				}
				if diff := cmp.Diff([]string{"1 k-1", "3 k-3"}, r.rc.sequences()); diff != "" {
					t.Errorf("went (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// endElsewhere ends the next delivery of an endpoint on hold, as another process may that has not heard of the hold.
func (r *running) endElsewhere(t *testing.T, end webhook.State) {
	t.Helper()
	if err := r.store.Unhold(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	claimed, err := r.store.Claim(t.Context(), &webhook.ClaimRequest{Now: time.Now(), Owner: "other", Limit: 1, Lanes: []webhook.LaneClaim{
		{LaneID: webhook.LaneID{EndpointID: "acme"}, Max: 1, Lease: time.Minute},
	}})
	if err != nil || len(claimed.Deliveries) != 1 {
		t.Fatalf("claimed %+v, %v; want one", claimed, err)
	}
	c := claimed.Deliveries[0]
	_, err = r.store.Complete(t.Context(), &webhook.CompleteRequest{Now: time.Now(), Outcomes: []webhook.Outcome{{
		EndpointID: "acme", DeliveryID: c.Delivery.ID, Token: c.Token, Next: end, BehindDeadLetter: webhook.SkipDeadLetter,
	}}})
	if err != nil {
		t.Fatal(err)
	}
}
