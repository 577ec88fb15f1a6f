package webhook_test

import (
	"context"
	"errors"
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

func (r *running) explain(t *testing.T, id string) *webhook.Explanation {
	t.Helper()
	x, err := r.Explain(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// only is the story of an event's only delivery.
func only(t *testing.T, x *webhook.Explanation) webhook.DeliveryStory {
	t.Helper()
	if len(x.Deliveries) != 1 {
		t.Fatalf("%d deliveries:\n%s", len(x.Deliveries), x)
	}
	return x.Deliveries[0]
}

// Whatever keeps a delivery is told, as data and in words.
func TestExplainWaits(t *testing.T) {
	busy := func(*http.Request, int) (int, http.Header, error) { return 503, nil, nil }
	tests := []struct {
		name   string
		answer func(r *http.Request, n int) (int, http.Header, error)
		change func(ep *webhook.Endpoint)
		ev     webhook.Event
		before func(t *testing.T, r *running)
		want   webhook.DeliveryStory // only Wait, Behind and Hold
		until  time.Duration         // from the beginning; 0: not told
		story  []string              // parts of the text
	}{
		{name: "scheduled", ev: webhook.Event{SendAt: time.Date(2000, 1, 1, 5, 0, 0, 0, time.UTC)},
			want: webhook.DeliveryStory{Wait: webhook.WaitTime}, until: 5 * time.Hour,
			story: []string{"acme at https://acme.example/hooks: queued", "its time has not come", "attempt 1 at 2000-01-01 05:00:00 UTC (in 5h0m)"}},
		{name: "retry", answer: busy,
			want: webhook.DeliveryStory{Wait: webhook.WaitTime}, until: 30 * time.Second,
			story: []string{"attempt 1, 0s after it was accepted: answered 503", "next 30s later", "attempt 2 at 2000-01-01 00:00:30 UTC (in 25s)"}},
		{name: "expires", ev: webhook.Event{SendAt: time.Date(2000, 1, 1, 5, 0, 0, 0, time.UTC), TTL: time.Hour},
			want: webhook.DeliveryStory{Wait: webhook.WaitTime}, until: 5 * time.Hour,
			story: []string{"it expires at 2000-01-01 06:00:00 UTC"}},
		{name: "paused", before: func(t *testing.T, r *running) { must(t, r.PauseEndpoint(t.Context(), "acme", "they move house")) },
			want:  webhook.DeliveryStory{Wait: webhook.WaitHold, Hold: webhook.HoldPaused},
			story: []string{": held", "on hold (paused): they move house", "until the endpoint is resumed"}},
		{name: "under way", answer: func(r *http.Request, _ int) (int, http.Header, error) {
			select {
			case <-time.After(20 * time.Second):
			case <-r.Context().Done():
			}
			return 200, nil, nil
		}, want: webhook.DeliveryStory{Wait: webhook.WaitAttempt}, until: 45 * time.Second,
			story: []string{": delivering", "attempt 1 is under way"}},
		{name: "behind another", answer: busy, ev: webhook.Event{OrderingKey: "k"},
			before: func(t *testing.T, r *running) { r.send(t, webhook.Event{ID: "first", Type: "order", OrderingKey: "k"}) },
			want:   webhook.DeliveryStory{Wait: webhook.WaitKey, Behind: "first"},
			story:  []string{`with ordering key "k"`, "it is number 2 of its key, and number 1 is not finished"}},
		{name: "blocked", answer: busy, ev: webhook.Event{OrderingKey: "k"},
			change: func(ep *webhook.Endpoint) { ep.Schedule = webhook.NoRetry() },
			before: func(t *testing.T, r *running) {
				r.send(t, webhook.Event{ID: "first", Type: "order", OrderingKey: "k"})
				time.Sleep(time.Second)
			},
			want:  webhook.DeliveryStory{Wait: webhook.WaitBlocked, Behind: "first"},
			story: []string{"blocks its ordering key", "ReleaseKey"}},
		{name: "retry-after", answer: func(*http.Request, int) (int, http.Header, error) {
			return 503, http.Header{"Retry-After": {"600"}}, nil
		}, change: func(ep *webhook.Endpoint) { ep.Health = webhook.Graduated() },
			before: func(t *testing.T, r *running) {
				r.send(t, webhook.Event{ID: "first", Type: "order"})
				time.Sleep(time.Second)
			},
			want: webhook.DeliveryStory{Wait: webhook.WaitRetryAfter}, until: 10 * time.Minute,
			story: []string{"the endpoint asked for no request earlier"}},
		{name: "unverified", change: func(ep *webhook.Endpoint) { ep.Verify = webhook.VerifyPing }, answer: busy,
			want:  webhook.DeliveryStory{Wait: webhook.WaitVerify},
			story: []string{"has not shown yet that it wants what it gets"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &running{store: memstore.New(), rc: &receiver{answer: tt.answer}}
				ep := endpoint(t, "acme")
				if tt.change != nil {
					tt.change(&ep)
				}
				r.start(t, webhook.DispatcherOptions{}, ep)
				if tt.before != nil {
					tt.before(t, r)
				}
				tt.ev.Type, tt.ev.ID = "order", "this"
				r.send(t, tt.ev)
				time.Sleep(time.Until(bubbleStart().Add(5 * time.Second)))
				x := r.explain(t, "this")
				s := only(t, x)
				if tt.want.Behind != "" {
					tt.want.Behind = r.delivery(t, tt.want.Behind).ID
				}
				got := webhook.DeliveryStory{Wait: s.Wait, Behind: s.Behind, Hold: s.Hold}
				if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(webhook.DeliveryStory{})); diff != "" {
					t.Error(diff)
				}
				switch until := s.Until.Sub(bubbleStart()); {
				case tt.until == 0 && !s.Until.IsZero():
					t.Errorf("until %v", until)
				case tt.until > 0 && (until < tt.until || until > tt.until+2*time.Second):
					t.Errorf("until %v, want %v", until, tt.until)
				}
				for _, part := range tt.story {
					if !strings.Contains(x.String(), part) {
						t.Errorf("the story does not say %q:\n%s", part, x)
					}
				}
			})
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Every end tells its reason, and each attempt what came of it.
func TestExplainEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []int{503, 0, 200}
		r := &running{store: memstore.New(), rc: &receiver{answer: func(req *http.Request, n int) (int, http.Header, error) {
			if strings.HasPrefix(req.URL.Host, "gone") {
				return 400, nil, nil
			}
			if n <= len(answers) && answers[n-1] == 0 {
				return 0, nil, errors.New("connection reset by https://acme.example/hooks?token=hush")
			}
			return answers[min(n, len(answers))-1], nil, nil
		}}}
		gone := endpoint(t, "gone", "refund")
		gone.Schedule = webhook.NoRetry()
		acme := endpoint(t, "acme", "order")
		acme.URL = "https://acme.example/hooks?token=hush"
		r.start(t, webhook.DispatcherOptions{}, acme, gone)
		r.send(t, webhook.Event{ID: "delivered", Type: "order", Payload: []byte("for jo"), Header: http.Header{"To": {"jo"}}})
		time.Sleep(10 * time.Minute)
		r.send(t, webhook.Event{ID: "dead", Type: "refund"})
		r.send(t, webhook.Event{ID: "canceled", Type: "order", SendAt: time.Now().Add(time.Hour)})
		time.Sleep(time.Second)
		if _, err := r.Cancel(t.Context(), "canceled", "the cart was bought"); err != nil {
			t.Fatal(err)
		}
		for id, parts := range map[string][]string{
			"delivered": {"(order) was accepted at 2000-01-01 00:00:00 UTC (10m1s ago)", "to acme at https://acme.example/hooks?token=…: delivered",
				"attempt 1, 0s after it was accepted: answered 503", "attempt 2, 30s after it was accepted: no answer: ", "attempt 3, 2m30s after it was accepted: answered 200",
				"why: attempt 3 was answered 200, 2m30s after it was accepted"},
			"dead":     {"to gone at https://gone.example/hooks: dead_letter", "answered 400", "why: "},
			"canceled": {": canceled", "why: the cart was bought"},
		} {
			x := r.explain(t, id)
			text := x.String()
			for _, part := range parts {
				if !strings.Contains(text, part) {
					t.Errorf("%s: the story does not say %q:\n%s", id, part, text)
				}
			}
			for _, secret := range []string{"hush", "for jo", "0123456789abcdef"} {
				if strings.Contains(text+fmt.Sprintf("%v %+v %s", x, x, x), secret) {
					t.Errorf("%s: the story tells %q:\n%s", id, secret, text)
				}
			}
			if s := only(t, x); s.Wait != "" || s.Next != "" || s.Why == "" {
				t.Errorf("%s: %+v", id, s)
			}
		}
	})
}

func TestExplainOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{}}
		r.start(t, webhook.DispatcherOptions{Retention: webhook.Retention{PayloadAfterDelivery: true}}, endpoint(t, "a", "order"), endpoint(t, "b", "order"))
		r.send(t, webhook.Event{ID: "two", Type: "order", Payload: []byte("x")})
		r.send(t, webhook.Event{ID: "nothing", Type: "refund", Tenant: "acme"})
		time.Sleep(10 * time.Minute)
		if x := r.explain(t, "two"); len(x.Deliveries) != 2 || x.Matched != 2 || x.ErasedAt.IsZero() || !strings.Contains(x.String(), "were erased") {
			t.Errorf("two:\n%s", x)
		}
		if x := r.explain(t, "nothing"); x.Matched != 0 || x.Subscribed != nil || !strings.Contains(x.String(), "it matched no endpoint, so nothing was sent; none subscribes") {
			t.Errorf("nothing:\n%s", x)
		}
		refunds := endpoint(t, "refunds", "refund")
		refunds.Tenant = "acme"
		must(t, r.PutEndpoint(t.Context(), refunds))
		if x := r.explain(t, "nothing"); !strings.Contains(x.String(), "such events go to refunds now") {
			t.Errorf("nothing:\n%s", x)
		}
		if _, err := r.Explain(t.Context(), "unknown"); !errors.Is(err, webhook.ErrNotFound) || err.Error() != `webhook: explain: event "unknown": not found` {
			t.Errorf("unknown: %v", err)
		}
		if _, err := r.Explain(t.Context(), "a b"); !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("malformed: %v", err)
		}
		if _, err := r.Prune(t.Context(), webhook.Retention{Delivered: time.Minute}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Explain(t.Context(), "two"); !errors.Is(err, webhook.ErrNotFound) {
			t.Errorf("forgotten: %v", err)
		}
	})
}

// A deleted endpoint's deliveries say so while they wait to be canceled.
func TestExplainDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		d, err := webhook.NewDispatcher(store, nil)
		must(t, err)
		must(t, d.PutEndpoint(t.Context(), endpoint(t, "acme")))
		id, err := d.Send(t.Context(), webhook.Event{Type: "order"})
		must(t, err)
		x, err := d.Explain(t.Context(), id)
		must(t, err)
		if s := only(t, x); s.Wait != webhook.WaitTurn || !strings.Contains(s.Next, "as soon as a running dispatcher has room") {
			t.Errorf("due:\n%s", x)
		}
		must(t, d.DeleteEndpoint(t.Context(), "acme"))
		time.Sleep(time.Minute)
		x, err = d.Explain(t.Context(), id)
		must(t, err)
		if s := only(t, x); s.Wait != webhook.WaitDeleted {
			t.Errorf("deleted: %s\n%s", s.Wait, x)
		}
	})
}

// bareStore is a store that only delivers.
type bareStore struct{ webhook.Store }

func TestQuestionsToABareStore(t *testing.T) {
	d, err := webhook.NewDispatcher(bareStore{memstore.New()}, nil)
	must(t, err)
	ctx := context.Background()
	_, explain := d.Explain(ctx, "e")
	_, list := d.Deliveries(ctx, webhook.DeliveryQuery{})
	_, events := d.Events(ctx, webhook.EventQuery{})
	_, prune := d.Prune(ctx, webhook.Retention{})
	_, erase := d.EraseTenant(ctx, "acme", nil)
	for what, err := range map[string]error{"Explain": explain, "Deliveries": list, "Events": events, "Prune": prune, "EraseTenant": erase} {
		if err == nil || !strings.Contains(err.Error(), "the store ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
