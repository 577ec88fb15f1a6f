package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

func TestTestEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, rc := memstore.New(), &receiver{}
		ep := endpoint(t, "acme", "only.this")
		ep.Header = http.Header{"X-Own": {"1"}}
		d, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{Transport: rc, Logger: quiet(), Endpoints: []webhook.Endpoint{ep}}) // no Run
		if err != nil {
			t.Fatal(err)
		}
		res, err := d.SendTest(t.Context(), "acme", nil)
		if err != nil || !res.Delivered || res.Status != 200 || res.Number != 1 || res.StartedAt.IsZero() {
			t.Fatalf("got %+v, %v", res, err)
		}
		got := rc.requests()[0]
		var body struct{ Type, ID, Timestamp string }
		if err := json.Unmarshal([]byte(got.body), &body); err != nil || body.Type != "webhook.test" || body.ID != res.EventID || body.Timestamp == "" {
			t.Errorf("body %s, %v", got.body, err)
		}
		v, err := webhook.NewVerifier(secret(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(got.header, []byte(got.body)); err != nil || got.header.Get("X-Own") != "1" {
			t.Errorf("%v, header %v", err, got.header)
		}
		own, err := d.SendTest(t.Context(), "acme", &webhook.SendTestOptions{Event: &webhook.Event{ID: "evt_9", Type: "any", Payload: []byte("p")}})
		if err != nil || own.EventID != "evt_9" || rc.requests()[1].body != "p" {
			t.Errorf("own event: %+v, %v", own, err)
		}
		// Nothing of it is stored.
		for _, id := range []string{res.EventID, "evt_9"} {
			if _, err := store.GetEvent(t.Context(), id); !errors.Is(err, webhook.ErrNotFound) {
				t.Errorf("event %s: %v", id, err)
			}
		}
	})
}

// Failures are results; what cannot be tried is an error.
func TestTestEventFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inside := endpoint(t, "inside")
		inside.URL = "https://10.0.0.7/"
		inside.AllowPrivate = true
		r := &running{store: memstore.New(), rc: &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
			if strings.HasPrefix(r.URL.Host, "hang") {
				return hang(r)
			}
			return 500, nil, nil
		}}}
		r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"), endpoint(t, "hang"))
		if res, err := r.SendTest(t.Context(), "acme", nil); err != nil || res.Delivered || res.Status != 500 {
			t.Errorf("500: %+v, %v", res, err)
		}
		began := time.Now()
		if res, err := r.SendTest(t.Context(), "hang", nil); err != nil || res.Error != webhook.NetErrorTimeout || time.Since(began) != 30*time.Second {
			t.Errorf("hangs: %+v, %v after %v", res, err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.SendTest(ctx, "hang", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's deadline: %v", err)
		}
		if _, err := r.SendTest(t.Context(), "nobody", nil); !errors.Is(err, webhook.ErrNotFound) {
			t.Errorf("unknown: %v", err)
		}
		_, err := r.SendTest(t.Context(), "acme", &webhook.SendTestOptions{Event: &webhook.Event{}})
		if !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("no type: %v", err)
		}
	})
}

// The guard holds for tests too, and a paused endpoint can be tested while its deliveries wait.
func TestTestEventKeepsTheRules(t *testing.T) {
	d, err := webhook.NewDispatcher(memstore.New(), &webhook.DispatcherOptions{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	ep := endpoint(t, "name")
	ep.URL = "http://localhost:1/"
	ep.AllowPrivate = true
	if err := d.PutEndpoint(t.Context(), ep); err != nil {
		t.Fatal(err)
	}
	if res, err := d.SendTest(t.Context(), "name", nil); err != nil || res.Error != webhook.NetErrorRefused {
		t.Errorf("allowed: %+v, %v", res, err)
	}

	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		if err := r.PauseEndpoint(t.Context(), "acme", "holidays"); err != nil {
			t.Fatal(err)
		}
		id := r.send(t, webhook.Event{Type: "a"})
		time.Sleep(time.Minute)
		if res, err := r.SendTest(t.Context(), "acme", nil); err != nil || !res.Delivered {
			t.Errorf("paused: %+v, %v", res, err)
		}
		time.Sleep(time.Minute)
		if n := len(r.rc.requests()); n != 1 || r.delivery(t, id).State != webhook.Held {
			t.Errorf("%d requests, the delivery is %s: a test ended a person's pause", n, r.delivery(t, id).State)
		}
	})
}

// Four at once; a fifth waits.
func TestTestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{Transport: hanging{}}, endpoint(t, "acme"))
		began := time.Now()
		ended := make(chan time.Duration, 5)
		for range 5 {
			go func() {
				_, _ = r.SendTest(context.Background(), "acme", nil)
				ended <- time.Since(began)
			}()
		}
		var last time.Duration
		for range 5 {
			last = <-ended
		}
		if last != time.Minute {
			t.Errorf("the fifth ended after %v, want 1m0s: 30 s after the others", last)
		}
	})
}
