package webhook_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/webhooktest"
)

func TestFanOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tenant := endpoint(t, "tenant")
		tenant.Tenant = "t1"
		r := run(t, webhook.DispatcherOptions{},
			endpoint(t, "all"), endpoint(t, "star", "*"), endpoint(t, "exact", "order_create", "order_create"),
			endpoint(t, "prefix", "order_*"), endpoint(t, "dotted", "order.*"), endpoint(t, "both", "order_create", "order_*"),
			endpoint(t, "other", "invoice.paid"), tenant)
		for _, tc := range []struct {
			ev   webhook.Event
			want []string
		}{
			{webhook.Event{Type: "order_create"}, []string{"all", "both", "exact", "prefix", "star"}},
			{webhook.Event{Type: "order_update"}, []string{"all", "both", "prefix", "star"}},
			{webhook.Event{Type: "order.created.eu"}, []string{"all", "dotted", "star"}},
			{webhook.Event{Type: "order"}, []string{"all", "star"}},
			{webhook.Event{Type: "order_create", Tenant: "t1"}, []string{"tenant"}},
			{webhook.Event{Type: "order_create", Tenant: "t2"}, nil},
		} {
			id := r.send(t, tc.ev)
			res, err := r.store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now(), EventID: id})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range res.Deliveries {
				got = append(got, d.EndpointID)
			}
			slices.Sort(got)
			if !slices.Equal(got, tc.want) {
				t.Errorf("%s of tenant %q went to %v, want %v", tc.ev.Type, tc.ev.Tenant, got, tc.want)
			}
			rec, err := r.store.GetEvent(t.Context(), id)
			if err != nil || rec.Deliveries != len(tc.want) {
				t.Errorf("%s is recorded with %+v, %v; want %d deliveries", tc.ev.Type, rec, err, len(tc.want))
			}
		}
	})
}

// A new address and a new secret apply to retries that wait already.
func TestChangesApplyToWaitingRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := webhooktest.NewNetwork(t)
		before, after := net.Receiver("https://acme.example/hooks", webhooktest.Fail(500)), net.Receiver("https://moved.example/hooks")
		old, rotated := before.Endpoint(), after.Endpoint()
		rotated.ID = old.ID
		before.Verify(t, webhook.DefaultProfile())
		after.Verify(t, webhook.DefaultProfile())
		store := memstore.New()
		hooks, err := webhook.NewDispatcher(store, net.Options(&webhook.DispatcherOptions{Logger: quiet()}))
		if err != nil {
			t.Fatal(err)
		}
		go hooks.Run(t.Context())
		if err := hooks.PutEndpoint(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		id, err := hooks.Send(t.Context(), webhook.Event{Type: "x", Payload: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		// The change is made by another process: this one sees it within a second.
		if err := store.PutEndpoint(t.Context(), rotated); err != nil {
			t.Fatal(err)
		}
		after.WaitFor(t, time.Minute, id)
		before.RequireAttempts(t, id, 1)
		if got := before.Requests()[0]; got.Status != 500 {
			t.Errorf("the first attempt was not signed with the first secret: %v", got)
		}
	})
}

func TestDeletedEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{answer: func(*http.Request, int) (int, http.Header, error) { return 500, nil, nil }}}
		r.start(t, webhook.DispatcherOptions{})
		if err := r.PutEndpoint(t.Context(), endpoint(t, "acme")); err != nil {
			t.Fatal(err)
		}
		id := r.send(t, webhook.Event{Type: "x"})
		time.Sleep(10 * time.Second)
		if err := r.DeleteEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		if err := r.DeleteEndpoint(t.Context(), "acme"); !errors.Is(err, webhook.ErrNotFound) {
			t.Errorf("deleting again: %v, want ErrNotFound", err)
		}
		time.Sleep(time.Hour)
		if d := r.delivery(t, id); d.State != webhook.Canceled || d.Reason == "" || len(r.rc.requests()) != 1 {
			t.Errorf("%d attempts, delivery %+v; want 1 and canceled with a reason", len(r.rc.requests()), d)
		}
	})
}

func TestEndpointsAreCheckedAtTheDoor(t *testing.T) {
	d, err := webhook.NewDispatcher(memstore.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, field string
		change      func(*webhook.Endpoint)
		cause       error
	}{
		{"no id", "ID", func(e *webhook.Endpoint) { e.ID = "" }, nil},
		{"no url", "URL", func(e *webhook.Endpoint) { e.URL = "" }, nil},
		{"relative url", "URL", func(e *webhook.Endpoint) { e.URL = "/hooks" }, nil},
		{"ftp", "URL", func(e *webhook.Endpoint) { e.URL = "ftp://acme.example/" }, nil},
		{"user info", "URL", func(e *webhook.Endpoint) { e.URL = "https://me:hush@acme.example/" }, nil},
		{"private", "URL", func(e *webhook.Endpoint) { e.URL = "https://10.0.0.7/hooks" }, webhook.ErrBlockedAddress},
		{"metadata", "URL", func(e *webhook.Endpoint) { e.URL = "http://169.254.169.254/latest" }, webhook.ErrBlockedAddress},
		{"decimal loopback", "URL", func(e *webhook.Endpoint) { e.URL = "http://2130706433/" }, webhook.ErrBlockedAddress},
		{"localhost", "URL", func(e *webhook.Endpoint) { e.URL = "http://localhost:8080/" }, webhook.ErrBlockedAddress},
		{"star in the middle", "Types", func(e *webhook.Endpoint) { e.Types = []string{"a*b"} }, nil},
		{"empty type", "Types", func(e *webhook.Endpoint) { e.Types = []string{""} }, nil},
		{"unknown profile", "Profile", func(e *webhook.Endpoint) { e.Profile = "nobody" }, webhook.ErrUnknownProfile},
		{"no secret", "Secrets", func(e *webhook.Endpoint) { e.Secrets = nil }, nil},
		{"empty secret", "Secrets", func(e *webhook.Endpoint) { e.Secrets = []webhook.Secret{{}} }, webhook.ErrEmptySecret},
		{"negative limit", "MaxInFlight", func(e *webhook.Endpoint) { e.MaxInFlight = -1 }, nil},
		{"negative timeout", "Timeout", func(e *webhook.Endpoint) { e.Timeout = -1 }, nil},
		{"bad rate", "Rate", func(e *webhook.Endpoint) { e.Rate = webhook.Rate{Per: time.Second} }, nil},
		{"bad schedule", "Schedule", func(e *webhook.Endpoint) { e.Schedule = webhook.Schedule{Kind: "never"} }, nil},
		{"bad success rule", "Success", func(e *webhook.Endpoint) { e.Success = webhook.SuccessRule{From: 300, To: 200} }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ep := endpoint(t, "acme")
			tc.change(&ep)
			err := d.PutEndpoint(t.Context(), ep)
			var fe *webhook.FieldError
			if !errors.As(err, &fe) || fe.Field != tc.field || !errors.Is(err, webhook.ErrInvalid) || tc.cause != nil && !errors.Is(err, tc.cause) {
				t.Errorf("error %v, want a FieldError for %s wrapping %v", err, tc.field, tc.cause)
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
	if err := d.PutEndpoint(t.Context(), endpoint(t, "acme")); err != nil {
		t.Errorf("a good endpoint is refused: %v", err)
	}
}

func TestPauseAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"), endpoint(t, "other"))
		synctest.Wait()
		if err := r.PauseEndpoint(t.Context(), "acme", "moving house"); err != nil {
			t.Fatal(err)
		}
		id := r.send(t, webhook.Event{Type: "x"})
		time.Sleep(time.Hour)
		res, err := r.store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now(), EventID: id, EndpointID: "acme"})
		if err != nil {
			t.Fatal(err)
		}
		if d := res.Deliveries[0]; d.State != webhook.Held || d.Reason != "moving house" || len(r.rc.requests()) != 1 {
			t.Errorf("paused: %d requests, delivery %+v; want 1 (to the other) and held with the reason", len(r.rc.requests()), d)
		}
		if err := r.ResumeEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := len(r.rc.requests()); n != 2 {
			t.Errorf("resumed: %d requests, want 2", n)
		}
	})
}

// Where the profile says so, 410 ends the delivery and holds the endpoint.
func TestGoneDisables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := webhook.DefaultProfile()
		p.Name, p.GoneDisables = "strict", true
		r := &running{store: memstore.New(), rc: &receiver{answer: func(*http.Request, int) (int, http.Header, error) { return 410, nil, nil }}}
		r.start(t, webhook.DispatcherOptions{Profiles: []webhook.Profile{p}}, endpoint(t, "acme"))
		first := r.send(t, webhook.Event{Type: "x"})
		time.Sleep(time.Second)
		second := r.send(t, webhook.Event{Type: "x"})
		time.Sleep(10 * time.Minute)
		if d := r.delivery(t, first); d.State != webhook.DeadLetter || !strings.Contains(d.Reason, "410") {
			t.Errorf("the delivery that got 410 is %+v", d)
		}
		if d := r.delivery(t, second); d.State != webhook.Held {
			t.Errorf("the next delivery is %+v, want held", d)
		}
		if n := len(r.rc.requests()); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	for _, tc := range []struct {
		name, value string
		want        time.Duration
	}{
		{"longer than the schedule", "120", 2 * time.Minute},
		{"shorter than the schedule", "1", 30 * time.Second},
		{"beyond the bound", "99999999", 10 * time.Minute},
		{"overflow", "99999999999999999999999", 10 * time.Minute},
		{"a date", "Sat, 01 Jan 2000 00:05:00 GMT", 5 * time.Minute},
		{"a past date", "Sat, 01 Jan 1999 00:05:00 GMT", 30 * time.Second},
		{"junk", "soon", 30 * time.Second},
		{"negative", "-5", 30 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rc := &receiver{answer: func(_ *http.Request, n int) (int, http.Header, error) {
					if n == 1 {
						return 429, http.Header{"Retry-After": {tc.value}}, nil
					}
					return 200, nil, nil
				}}
				r := &running{store: memstore.New(), rc: rc}
				r.start(t, webhook.DispatcherOptions{MaxRetryAfter: 10 * time.Minute}, endpoint(t, "acme"))
				r.send(t, webhook.Event{Type: "x"})
				time.Sleep(15 * time.Minute)
				got := rc.requests()
				if len(got) != 2 {
					t.Fatalf("%d requests, want 2", len(got))
				}
				if d := got[1].at.Sub(got[0].at); d < tc.want || d > tc.want+time.Second {
					t.Errorf("retried after %v, want %v", d, tc.want)
				}
			})
		})
	}
}
