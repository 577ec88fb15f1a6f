package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// outcomes is a receiver that answers 200, or 400 to what has "bad" in it.
func outcomes() *receiver {
	return &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
		if r.Header.Get("Bad") != "" {
			return http.StatusBadRequest, nil, nil
		}
		return http.StatusOK, nil, nil
	}}
}

// list are the event IDs of the deliveries that there are.
func (r *running) list(t *testing.T, q webhook.DeliveryQuery) (ids []string) {
	t.Helper()
	q.OldestFirst = true
	for {
		page, err := r.Deliveries(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Deliveries {
			ids = append(ids, d.EventID)
		}
		if q.Page = page.Next; page.Next == "" {
			slices.Sort(ids)
			return ids
		}
	}
}

// Each state is kept for its own time, what waits for good, and events go with their last delivery.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: outcomes()}
		acme, away := endpoint(t, "acme", "order"), endpoint(t, "away", "order", "away")
		acme.Schedule, away.Schedule = webhook.NoRetry(), webhook.NoRetry()
		r.start(t, webhook.DispatcherOptions{Retention: webhook.Retention{
			Delivered: time.Hour, Canceled: 3 * time.Hour, Unmatched: 2 * time.Hour, EventIDs: time.Minute,
		}}, acme, away)
		if err := r.PauseEndpoint(t.Context(), "away", ""); err != nil {
			t.Fatal(err)
		}
		bad := http.Header{"Bad": {"yes"}}
		for _, ev := range []webhook.Event{
			{ID: "both", Type: "order"}, {ID: "dead", Type: "order", Header: bad}, {ID: "waits", Type: "away"},
			{ID: "canceled", Type: "away"}, {ID: "nothing", Type: "refund"},
		} {
			r.send(t, ev)
		}
		if _, err := r.Cancel(t.Context(), "canceled", ""); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			after      time.Duration
			deliveries []string
			unmatched  int
		}{
			{50 * time.Minute, []string{"both", "both", "canceled", "dead", "dead", "waits"}, 1},
			{70 * time.Minute, []string{"both", "canceled", "dead", "dead", "waits"}, 1},
			{130 * time.Minute, []string{"both", "canceled", "dead", "dead", "waits"}, 0},
			{190 * time.Minute, []string{"both", "dead", "dead", "waits"}, 0},
			{10 * time.Hour, []string{"both", "dead", "dead", "waits"}, 0},
		} {
			time.Sleep(tt.after - time.Since(bubbleStart()))
			if diff := cmp.Diff(tt.deliveries, r.list(t, webhook.DeliveryQuery{})); diff != "" {
				t.Errorf("after %v: %s", tt.after, diff)
			}
			page, err := r.Events(t.Context(), webhook.EventQuery{Unmatched: true})
			if err != nil || len(page.Events) != tt.unmatched {
				t.Errorf("after %v: %d unmatched events, %v; want %d", tt.after, len(page.Events), err, tt.unmatched)
			}
		}
		if err := r.ResumeEndpoint(t.Context(), "away"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if got := len(r.rc.requests()); got != 2+3 {
			t.Errorf("%d requests, want two at first and three of what waited", got)
		}
		time.Sleep(2 * time.Hour)
		if diff := cmp.Diff([]string{"dead", "dead"}, r.list(t, webhook.DeliveryQuery{})); diff != "" {
			t.Error(diff)
		}
	})
}

// bubbleStart is when the time of a synctest bubble begins.
func bubbleStart() time.Time {
	return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
}

// Without a Retention nothing goes.
func TestNoRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme", "order"))
		r.send(t, webhook.Event{ID: "one", Type: "order", Payload: []byte("x")})
		r.send(t, webhook.Event{ID: "two", Type: "none"})
		time.Sleep(10 * time.Hour)
		if got := r.list(t, webhook.DeliveryQuery{}); len(got) != 1 {
			t.Errorf("left: %v", got)
		}
		if rec, err := r.store.GetEvent(t.Context(), "one"); err != nil || string(rec.Event.Payload) != "x" {
			t.Errorf("%+v, %v", rec, err)
		}
	})
}

// Replays that have ended go when their time has come; one that is paused does not.
func TestRetentionOfReplays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{Retention: webhook.Retention{Replays: time.Hour}}, endpoint(t, "acme"))
		begin := func() string {
			t.Helper()
			rep, err := r.Replay(t.Context(), webhook.Filter{Endpoint: "acme"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return rep.ID
		}
		done, paused := begin(), begin()
		if _, err := r.PauseReplay(t.Context(), paused, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Minute)
		if rep, err := r.GetReplay(t.Context(), done); err != nil || rep.State != webhook.ReplayDone {
			t.Fatalf("%+v, %v", rep, err)
		}
		time.Sleep(13 * time.Minute)
		if _, err := r.GetReplay(t.Context(), done); !errors.Is(err, webhook.ErrNotFound) {
			t.Errorf("done an hour ago: %v, want it to be forgotten", err)
		}
		if _, err := r.GetReplay(t.Context(), paused); err != nil {
			t.Errorf("paused: %v", err)
		}
		if _, err := r.Prune(t.Context(), webhook.Retention{Replays: -1}); !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("a negative time: %v", err)
		}
	})
}

// Payloads go when all is delivered: soon as a rule, within a day when a delivery took long, never while one is a dead letter.
func TestPayloadAfterDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: outcomes()}
		acme, slow := endpoint(t, "acme", "order", "late"), endpoint(t, "slow", "late")
		acme.Schedule = webhook.NoRetry()
		r.start(t, webhook.DispatcherOptions{Retention: webhook.Retention{PayloadAfterDelivery: true}}, acme, slow)
		if err := r.PauseEndpoint(t.Context(), "slow", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		r.send(t, webhook.Event{ID: "order", Type: "order", Payload: []byte("x"), Header: http.Header{"To": {"jo"}}})
		r.send(t, webhook.Event{ID: "late", Type: "late", Payload: []byte("x")})
		r.send(t, webhook.Event{ID: "dead", Type: "order", Payload: []byte("x"), Header: http.Header{"Bad": {"yes"}}})
		want := func(when string, erased ...string) {
			t.Helper()
			for _, id := range []string{"order", "late", "dead"} {
				rec, err := r.store.GetEvent(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				gone := !rec.ErasedAt.IsZero()
				if gone != slices.Contains(erased, id) || gone != (len(rec.Event.Payload) == 0) || gone && rec.Event.Header != nil {
					t.Errorf("%s: %s is %+v", when, id, rec)
				}
			}
		}
		time.Sleep(5 * time.Minute)
		want("after 5 minutes", "order")
		if _, err := r.ReplayDelivery(t.Context(), r.delivery(t, "order").ID); !errors.Is(err, webhook.ErrPayloadGone) {
			t.Errorf("replay of what has no payload: %v", err)
		}
		time.Sleep(time.Hour)
		if err := r.ResumeEndpoint(t.Context(), "slow"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Hour)
		want("after a day", "order", "late")
		if n := len(r.rc.requests()); n != 4 {
			t.Errorf("%d requests", n)
		}
	})
}

// batches counts what is asked of a store while it is pruned.
type batches struct {
	*memstore.Store
	mu    sync.Mutex
	most  int
	calls int
}

func (b *batches) Prune(ctx context.Context, req *webhook.PruneRequest) (*webhook.PruneResult, error) {
	res, err := b.Store.Prune(ctx, req)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.most = max(b.most, res.Deliveries)
	}
	b.calls++
	return res, err
}

// Several dispatchers on a store forget all of a large number, in small batches.
func TestRetentionInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{Store: memstore.New()}
		r := &running{store: b.Store, on: b, rc: outcomes()}
		opts := webhook.DispatcherOptions{Retention: webhook.Retention{Delivered: time.Hour}}
		r.start(t, opts, endpoint(t, "acme"))
		other := &running{store: b.Store, on: b, rc: r.rc}
		other.start(t, opts, endpoint(t, "acme"))
		for range 4 {
			events := make([]webhook.Event, 1000)
			for i := range events {
				events[i].Type = "order"
			}
			if _, err := r.SendBatch(t.Context(), events); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Minute)
		if got := len(r.list(t, webhook.DeliveryQuery{Limit: 1000})); got != 4000 {
			t.Fatalf("%d deliveries before their time", got)
		}
		time.Sleep(time.Hour)
		if got := len(r.list(t, webhook.DeliveryQuery{})); got != 0 || b.most > 500 {
			t.Errorf("%d deliveries left; the largest batch was %d", got, b.most)
		}
	})
}

func TestPruneByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme", "order"))
		for range 3 {
			r.send(t, webhook.Event{Type: "order"})
		}
		r.send(t, webhook.Event{ID: "nothing", Type: "none"})
		time.Sleep(time.Hour)
		got, err := r.Prune(t.Context(), webhook.Retention{Delivered: time.Minute, Unmatched: time.Minute, EventIDs: time.Minute})
		if want := (webhook.Pruned{Deliveries: 3, Events: 4, EventIDs: 4}); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
		r.send(t, webhook.Event{ID: "nothing", Type: "order"}) // its ID is known no more
		if _, err := r.Prune(t.Context(), webhook.Retention{Expired: -1}); !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("negative: %v", err)
		}
		if _, err := webhook.NewDispatcher(r.store, &webhook.DispatcherOptions{Retention: webhook.Retention{DeadLetters: -1}}); !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("negative: %v", err)
		}
	})
}

// A tenant's events go with all that is told of them; those of others stay.
func TestEraseTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: outcomes()}
		acme, other, paused := endpoint(t, "acme", "order"), endpoint(t, "other"), endpoint(t, "paused", "wait")
		acme.Tenant, other.Tenant, paused.Tenant = "acme", "other", "acme"
		r.start(t, webhook.DispatcherOptions{}, acme, other, paused)
		if err := r.PauseEndpoint(t.Context(), "paused", ""); err != nil {
			t.Fatal(err)
		}
		r.send(t, webhook.Event{ID: "a", Type: "order", Tenant: "acme", Payload: []byte("jo")})
		r.send(t, webhook.Event{ID: "b", Type: "order", Tenant: "other"})
		r.send(t, webhook.Event{ID: "w", Type: "wait", Tenant: "acme"})
		r.send(t, webhook.Event{ID: "k", Type: "wait", Tenant: "acme", OrderingKey: "k"})
		time.Sleep(time.Minute)
		got, err := r.EraseTenant(t.Context(), "acme", nil)
		if !errors.Is(err, webhook.ErrStillWaiting) || got != (webhook.Erased{Waiting: 2}) || !strings.Contains(err.Error(), "of 2 events") {
			t.Fatalf("with two that wait: %+v, %v", got, err)
		}
		if got := r.list(t, webhook.DeliveryQuery{}); len(got) != 4 {
			t.Fatalf("left after a refusal: %v", got)
		}
		got, err = r.EraseTenant(t.Context(), "acme", &webhook.EraseOptions{CancelWaiting: true})
		if want := (webhook.Erased{Events: 2, Deliveries: 2, Canceled: 2, Kept: 1}); err != nil || got != want {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		if diff := cmp.Diff([]string{"b", "k"}, r.list(t, webhook.DeliveryQuery{})); diff != "" {
			t.Error(diff)
		}
		if err := r.ResumeEndpoint(t.Context(), "paused"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // its turn comes
		got, err = r.EraseTenant(t.Context(), "acme", nil)
		if want := (webhook.Erased{Events: 1, Deliveries: 1}); err != nil || got != want {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		if n := len(r.rc.requests()); n != 2 {
			t.Errorf("%d requests, want those of a and b", n)
		}
		if _, err := r.EraseTenant(t.Context(), "a\x00", nil); !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("a malformed name: %v", err)
		}
	})
}

// walks notes from where deliveries are pruned.
type walks struct {
	*memstore.Store
	mu    sync.Mutex
	whole int // from the start
	parts int
}

func (w *walks) Prune(ctx context.Context, req *webhook.PruneRequest) (*webhook.PruneResult, error) {
	w.mu.Lock()
	switch {
	case req.Ended == (webhook.EndedBefore{}) && req.PayloadsBefore.IsZero():
	case req.After == "":
		w.whole++
	default:
		w.parts++
	}
	w.mu.Unlock()
	return w.Store.Prune(ctx, req)
}

// What is kept beyond its time is not gone through every minute.
func TestRetentionWalksLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &walks{Store: memstore.New()}
		r := &running{store: w.Store, on: w, rc: outcomes()}
		acme := endpoint(t, "acme")
		acme.Schedule = webhook.NoRetry()
		r.start(t, webhook.DispatcherOptions{Retention: webhook.Retention{Delivered: time.Hour, PayloadAfterDelivery: true}}, acme)
		for range 3 * 60 {
			r.send(t, webhook.Event{Type: "order", Payload: []byte("x"), Header: http.Header{"Bad": {"yes"}}})
			r.send(t, webhook.Event{Type: "order", Payload: []byte("x")})
			time.Sleep(time.Minute)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.whole > 5 || w.parts < 300 {
			t.Errorf("%d walks from the start, want 4 (3 for records, 1 for payloads); %d others, want two a minute", w.whole, w.parts)
		}
		if n := len(r.list(t, webhook.DeliveryQuery{Filter: webhook.Filter{State: webhook.Delivered}, Limit: 1000})); n < 60 || n > 66 {
			t.Errorf("%d delivered ones are kept, want those of about an hour", n)
		}
	})
}
