package webhook_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/webhooktest"
)

// receiver is an in-memory receiver: it answers by script and remembers what it got.
type receiver struct {
	mu     sync.Mutex
	answer func(r *http.Request, n int) (status int, header http.Header, err error) // n counts from 1
	got    []received
}

type received struct {
	at     time.Time
	url    string
	header http.Header
	body   string
}

func (rc *receiver) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	rc.mu.Lock()
	rc.got = append(rc.got, received{time.Now(), r.URL.String(), r.Header.Clone(), string(body)})
	n := len(rc.got)
	rc.mu.Unlock()
	status, header := http.StatusOK, http.Header(nil)
	if rc.answer != nil {
		if status, header, err = rc.answer(r, n); err != nil {
			return nil, err
		}
	}
	return &http.Response{
		StatusCode: status, Header: header, Body: http.NoBody, Request: r,
		ProtoMajor: 1, ProtoMinor: 1, Proto: "HTTP/1.1",
	}, nil
}

func (rc *receiver) requests() []received {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return append([]received(nil), rc.got...)
}

func secret(t testing.TB) webhook.Secret {
	t.Helper()
	s, err := webhook.ParseSecret("0123456789abcdef0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func endpoint(t testing.TB, id string, types ...string) webhook.Endpoint {
	return webhook.Endpoint{ID: id, URL: "https://" + id + ".example/hooks", Secrets: []webhook.Secret{secret(t)}, Types: types, Health: webhook.NoHealth()}
}

// running is a dispatcher whose Run ends with the test.
type running struct {
	*webhook.Dispatcher
	store *memstore.Store
	on    webhook.Store // what the dispatcher works on; nil: store
	rc    *receiver
	stop  func() error // ends Run and returns its error
}

func run(t *testing.T, opts webhook.DispatcherOptions, eps ...webhook.Endpoint) *running {
	t.Helper()
	r := &running{store: memstore.New(), rc: &receiver{}}
	r.start(t, opts, eps...)
	return r
}

func (r *running) start(t *testing.T, opts webhook.DispatcherOptions, eps ...webhook.Endpoint) {
	t.Helper()
	if opts.Transport == nil {
		opts.Transport = r.rc
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.Endpoints = append(opts.Endpoints, eps...)
	if r.on == nil {
		r.on = r.store
	}
	d, err := webhook.NewDispatcher(r.on, &opts)
	if err != nil {
		t.Fatal(err)
	}
	r.Dispatcher = d
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	var once sync.Once
	var runErr error
	r.stop = func() error {
		once.Do(func() {
			cancel()
			runErr = <-ended
		})
		return runErr
	}
	t.Cleanup(func() { r.stop() })
}

func (r *running) send(t *testing.T, ev webhook.Event) string {
	t.Helper()
	id, err := r.Send(t.Context(), ev)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// delivery returns the only delivery of an event.
func (r *running) delivery(t *testing.T, eventID string) webhook.Delivery {
	t.Helper()
	res, err := r.store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now(), EventID: eventID})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Deliveries) != 1 {
		t.Fatalf("event %s has %d deliveries, want 1", eventID, len(res.Deliveries))
	}
	return res.Deliveries[0]
}

func TestSendIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := webhooktest.NewNetwork(t)
		acme := net.Receiver("https://acme.example/hooks")
		r := &running{store: memstore.New()}
		r.Dispatcher = webhooktest.Dispatcher(t, net, r.store, nil)
		id := r.send(t, webhook.Event{Type: "order_create", Payload: []byte(`{"n":1}`)})
		time.Sleep(time.Second)
		acme.RequireOnce(t, id)
		if got := acme.Requests()[0]; string(got.Body) != `{"n":1}` || got.Method != http.MethodPost || got.Verification.Scheme != "gett" {
			t.Errorf("received %+v", got)
		}
		if d := r.delivery(t, id); d.State != webhook.Delivered || d.Attempts != 1 {
			t.Errorf("delivery is %+v", d)
		}
	})
}

func TestRetriesFollowTheScheduleToTheDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := webhooktest.NewNetwork(t)
		acme := net.Receiver("https://acme.example/hooks", webhooktest.Fail(503))
		ep := acme.Endpoint()
		ep.Health = webhook.NoHealth() // the schedule alone
		dead := make(chan webhook.DeadLetterInfo, 10)
		r := &running{store: memstore.New()}
		r.Dispatcher = webhooktest.Dispatcher(t, net, r.store, &webhook.DispatcherOptions{
			Endpoints: []webhook.Endpoint{ep}, Logger: quiet(),
			Trace: &webhook.Trace{DeadLetter: func(_ context.Context, info webhook.DeadLetterInfo) { dead <- info }},
		})
		began := time.Now()
		id := r.send(t, webhook.Event{Type: "order_create"})
		time.Sleep(8 * time.Hour)
		var at []time.Duration
		for _, q := range acme.RequestsOf(id) {
			at = append(at, q.At.Sub(began).Round(time.Second))
		}
		want := []time.Duration{0, 30 * time.Second, 150 * time.Second, 750 * time.Second, 4350 * time.Second, 25950 * time.Second}
		if len(at) != len(want) {
			t.Fatalf("attempts at %v, want %v", at, want)
		}
		for i := range want {
			if d := at[i] - want[i]; d < 0 || d > 2*time.Second {
				t.Errorf("attempt %d after %v, want %v", i+1, at[i], want[i])
			}
		}
		d := r.delivery(t, id)
		if d.State != webhook.DeadLetter || d.Attempts != 6 || d.Reason != "gave up after 6 attempts: answered 503" {
			t.Errorf("delivery is %+v", d)
		}
		if len(dead) != 1 || (<-dead).Event.ID != id {
			t.Error("the DeadLetter hook was not told of it once")
		}
	})
}

func TestSendingAnIDAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := webhooktest.NewNetwork(t)
		acme := net.Receiver("https://acme.example/hooks")
		hooks := webhooktest.Dispatcher(t, net, memstore.New(), nil)
		ev := webhook.Event{ID: "evt_1", Type: "order_create", Payload: []byte("a")}
		for range 2 {
			if _, err := hooks.Send(t.Context(), ev); err != nil {
				t.Fatal(err)
			}
		}
		ev.Payload = []byte("b")
		if _, err := hooks.Send(t.Context(), ev); !errors.Is(err, webhook.ErrEventConflict) {
			t.Errorf("other content: error %v, want ErrEventConflict", err)
		}
		time.Sleep(time.Minute)
		acme.RequireAttempts(t, "evt_1", 1)
	})
}
