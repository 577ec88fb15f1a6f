package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// inboxTest is an inbox with what its handler was called for.
type inboxTest struct {
	*webhook.Inbox
	t     *testing.T
	store webhook.Store
	sign  *webhook.Signer

	mu   sync.Mutex
	runs []inboxRun
	then func(ctx context.Context, ev webhook.Event) error // nil: success
	end  context.CancelFunc
	done chan error
}

type inboxRun struct {
	Body     string
	Attempts int
	At       time.Time
}

func newInboxTest(t *testing.T, store webhook.Store, opts *webhook.InboxOptions) *inboxTest {
	t.Helper()
	it := &inboxTest{t: t, store: store}
	secret := mustSecret(t, "an inbox's secret, long enough for all")
	verifier, err := webhook.NewVerifier(secret)
	if err == nil {
		it.sign, err = webhook.NewSigner(secret)
	}
	if err != nil {
		t.Fatal(err)
	}
	var o webhook.InboxOptions
	if opts != nil {
		o = *opts
	}
	if o.Receive.Logger == nil {
		o.Receive.Logger = slog.New(slog.DiscardHandler)
	}
	it.Inbox = webhook.NewInbox(store, verifier, it.handle, &o)
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return it
}

func mustSecret(t *testing.T, text string) webhook.Secret {
	t.Helper()
	s, err := webhook.IssuedSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (it *inboxTest) handle(ctx context.Context, ev webhook.Event) error {
	del, ok := webhook.DeliveryFromContext(ctx)
	if !ok {
		it.t.Error("the handler's context has no delivery")
	}
	it.mu.Lock()
	it.runs = append(it.runs, inboxRun{string(ev.Payload), del.Attempts, time.Now()})
	then := it.then
	it.mu.Unlock()
	if then == nil {
		return nil
	}
	return then(ctx, ev)
}

func (it *inboxTest) ran() []inboxRun {
	it.mu.Lock()
	defer it.mu.Unlock()
	return slices.Clone(it.runs)
}

// bodies are those of the runs, in their order.
func (it *inboxTest) bodies() (list []string) {
	for _, r := range it.ran() {
		list = append(list, r.Body)
	}
	return list
}

// start runs it until the test's end, or stop.
func (it *inboxTest) start() {
	ctx, cancel := context.WithCancel(context.Background())
	it.end, it.done = cancel, make(chan error, 1)
	go func() { it.done <- it.Run(ctx) }()
}

func (it *inboxTest) stop() {
	it.t.Helper()
	it.end()
	if err := <-it.done; err != nil {
		it.t.Error(err)
	}
}

func (it *inboxTest) request(body string) *http.Request {
	it.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/hooks", strings.NewReader(body))
	if err := it.sign.Sign(r.Header, []byte(body)); err != nil {
		it.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r
}

// post sends a body and wants an answer.
func (it *inboxTest) post(body string, status int, replayed bool) {
	it.t.Helper()
	w := httptest.NewRecorder()
	it.ServeHTTP(w, it.request(body))
	if got := w.Header().Get(webhook.ReplayedHeader) == "true"; w.Code != status || got != replayed {
		it.t.Errorf("%s: answered %d, replayed: %t; want %d, %t", body, w.Code, got, status, replayed)
	}
}

func (it *inboxTest) deliveries() []webhook.Delivery {
	it.t.Helper()
	res, err := it.store.(webhook.QueryStore).ListDeliveries(it.t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now(), EndpointID: it.EndpointID()})
	if err != nil {
		it.t.Fatal(err)
	}
	return res.Deliveries
}

// states are those of all that was received, in the order in which it was.
func (it *inboxTest) states() (list []webhook.State) {
	it.t.Helper()
	for _, d := range it.deliveries() {
		list = append(list, d.State)
	}
	return list
}

func order(id string) string {
	return fmt.Sprintf(`{"type":"order_create","data":{"orderId":%q}}`, id)
}

func update(id, status string) string {
	return fmt.Sprintf(`{"type":"order_update","data":{"orderId":%q,"status":%q}}`, id, status)
}

// What is received is answered when it is stored, once, and processed when an inbox runs: here a second one on the same store.
func TestInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		takes := newInboxTest(t, store, nil)
		takes.post(order("1"), 200, false)
		takes.post(order("1"), 200, true)
		time.Sleep(time.Millisecond)
		takes.post(order("2"), 200, false)
		time.Sleep(time.Hour)
		if got := takes.ran(); len(got) != 0 {
			t.Errorf("it ran %v, and was not told to", got)
		}
		works := newInboxTest(t, store, nil)
		works.start()
		time.Sleep(time.Second)
		if diff := cmp.Diff([]string{order("1"), order("2")}, slices.Sorted(slices.Values(works.bodies()))); diff != "" {
			t.Error(diff)
		}
		takes.post(order("1"), 200, true)
		works.post(order("3"), 200, false)
		synctest.Wait()
		if got := works.bodies(); len(got) != 3 || got[2] != order("3") {
			t.Errorf("ran %q; what this process receives is to be processed at once", got)
		}
		time.Sleep(20 * time.Millisecond)
		if diff := cmp.Diff([]webhook.State{"delivered", "delivered", "delivered"}, works.states()); diff != "" {
			t.Error(diff)
		}
		works.stop()
	})
}

// The handler gets what was sent, and of the headers those that it asks for.
func TestInboxHandlerGets(t *testing.T) {
	for _, handed := range []bool{true, false} {
		t.Run(fmt.Sprintf("handed over: %t", handed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := newInboxTest(t, memstore.New(), &webhook.InboxOptions{
					Name: "shop", Header: []string{"x-shop", "X-Absent"}, OrderingKey: func(ev webhook.Event) string { return ev.Type + ev.Header.Get("X-Shop") },
					Receive: webhook.ReceiveOptions{Scope: "tenant 1"},
				})
				var got, fromContext webhook.Event
				var scope string
				var key webhook.Key
				var del webhook.Delivery
				in.then = func(ctx context.Context, ev webhook.Event) (err error) {
					got, fromContext = ev, webhook.FromContext(ctx)
					scope, key, err = webhook.KeyFromContext(ctx)
					del, _ = webhook.DeliveryFromContext(ctx)
					if _, ok := webhook.VerificationFromContext(ctx); ok {
						t.Error("there is a verification, and nothing was verified here")
					}
					return err
				}
				if handed {
					in.start()
					time.Sleep(time.Second)
				}
				body := "{\"type\":\"order_create\",\n \"data\":{\"orderId\":\"7\"}, \"n\":1.0}"
				r := in.request(body)
				r.Header["X-Shop"] = []string{"a", "b\xff"}
				r.Header.Set("Authorization", "Bearer canary")
				in.ServeHTTP(httptest.NewRecorder(), r)
				if !handed {
					in.start()
				}
				time.Sleep(time.Second)
				in.stop()
				want := webhook.Event{
					Type: "order_create", Payload: []byte(body), Tenant: "tenant 1", OrderingKey: "order_createa",
					Header: http.Header{"X-Shop": {"a", "b\uFFFD"}},
				}
				if diff := cmp.Diff([]webhook.Event{want, want}, []webhook.Event{got, fromContext}); diff != "" {
					t.Error(diff)
				}
				if scope != "tenant 1" || key.ID != "order_create:7" {
					t.Errorf("key %q %q", scope, key.ID)
				}
				if del.EndpointID != "inbox:shop" || del.Sequence != 1 || del.Attempts != 0 || del.State != webhook.Delivering {
					t.Errorf("delivery %+v", del)
				}
			})
		})
	}
}

// The profile's description of an event is kept for the handler, and orders events if that is wanted.
func TestInboxDescription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, orders := range []bool{false, true} {
			opts := &webhook.InboxOptions{}
			if orders {
				opts.OrderingKey = func(ev webhook.Event) string { return ev.OrderingKey }
			}
			in := newInboxTest(t, memstore.New(), opts)
			in.then = func(ctx context.Context, ev webhook.Event) error {
				del, _ := webhook.DeliveryFromContext(ctx)
				desc, ok := webhook.DescriptionFromContext(ctx)
				if !ok || desc.Type != "order_update" || desc.OrderingKey == "" || desc.OrderingKey != ev.OrderingKey || (del.OrderingKey == desc.OrderingKey) != orders {
					t.Errorf("orders: %t: described as %+v, the event has %q, its delivery %q", orders, desc, ev.OrderingKey, del.OrderingKey)
				}
				return nil
			}
			in.post(update("7", "confirmed"), 200, false)
			in.start()
			time.Sleep(time.Second)
			in.stop()
			if len(in.ran()) != 1 {
				t.Errorf("ran %q", in.bodies())
			}
		}
	})
}

// A failed run is repeated by the schedule, or as the handler says, and ends as a dead letter.
func TestInboxRetries(t *testing.T) {
	failure := errors.New("the shop's database is away")
	tests := []struct {
		name   string
		errs   []error // of the runs in turn; then nil
		waits  []time.Duration
		state  webhook.State
		reason string
		kinds  []string
	}{
		{"by the schedule", []error{failure, failure}, []time.Duration{time.Minute, time.Hour}, webhook.Delivered, "", []string{"handler", "handler", ""}},
		{
			"too often", []error{failure, failure, failure}, []time.Duration{time.Minute, time.Hour}, webhook.DeadLetter,
			"gave up after 3 runs: handler: the shop's database is away", []string{"handler", "handler", "handler"},
		},
		{
			"no retry", []error{fmt.Errorf("order: %w", webhook.ErrNoRetry)}, nil, webhook.DeadLetter,
			"the handler wants no retry: handler: order: not to be tried again", []string{"handler"},
		},
		{
			"as it says", []error{webhook.RetryAfter(5*time.Second, failure), webhook.RetryAfter(3*time.Hour, nil)},
			[]time.Duration{5 * time.Second, 3 * time.Hour}, webhook.Delivered, "", []string{"handler", "handler", ""},
		},
		{"late", []error{context.DeadlineExceeded}, []time.Duration{time.Minute + 10*time.Second}, webhook.Delivered, "", []string{"timeout", ""}},
		{"panic", []error{errPanic}, []time.Duration{time.Minute}, webhook.Delivered, "", []string{"panic", ""}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memstore.New()
				in := newInboxTest(t, store, &webhook.InboxOptions{
					Schedule: webhook.Delays(time.Minute, time.Hour), Timeout: 10 * time.Second, Poll: time.Second,
				})
				in.then = func(ctx context.Context, ev webhook.Event) error {
					n := len(in.ran())
					if n > len(test.errs) {
						return nil
					}
					err := test.errs[n-1]
					if errors.Is(err, errPanic) {
						panic("canary")
					}
					if errors.Is(err, context.DeadlineExceeded) {
						<-ctx.Done()
						return ctx.Err()
					}
					return err
				}
				in.start()
				in.post(order("1"), 200, false)
				time.Sleep(4 * time.Hour)
				runs := in.ran()
				if len(runs) != len(test.waits)+1 {
					t.Fatalf("%d runs, want %d", len(runs), len(test.waits)+1)
				}
				for i, wait := range test.waits {
					if got := runs[i+1].At.Sub(runs[i].At); got < wait-time.Second || got > wait+time.Second || runs[i+1].Attempts != i+1 {
						t.Errorf("run %d came after %v with %d attempts before, want %v, %d", i+2, got, runs[i+1].Attempts, wait, i+1)
					}
				}
				del := in.deliveries()[0]
				if del.State != test.state || del.Reason != test.reason {
					t.Errorf("it is %s: %q, want %s: %q", del.State, del.Reason, test.state, test.reason)
				}
				attempts, err := store.ListAttempts(t.Context(), del.ID)
				if err != nil {
					t.Fatal(err)
				}
				var kinds []string
				for _, a := range attempts {
					kinds = append(kinds, a.Error)
					if strings.Contains(a.Detail, "canary") {
						t.Errorf("the record has what a panic said: %q", a.Detail)
					}
				}
				if diff := cmp.Diff(test.kinds, kinds); diff != "" {
					t.Error(diff)
				}
				in.stop()
			})
		})
	}
}

var errPanic = errors.New("panic")

// Events of a key go in the order in which they came, one at a time, through retries; a dead letter blocks the key until it is released.
func TestInboxOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInboxTest(t, memstore.New(), &webhook.InboxOptions{
			Schedule: webhook.Delays(time.Minute), OrderingKey: func(ev webhook.Event) string {
				return string(ev.Payload[len(`{"type":"order_update","data":{"orderId":"`)])
			},
		})
		var failing = true
		in.then = func(_ context.Context, ev webhook.Event) error {
			time.Sleep(time.Second)
			if failing && string(ev.Payload) == update("a", "1") {
				return errors.New("no")
			}
			return nil
		}
		in.start()
		for _, status := range []string{"1", "2"} {
			in.post(update("a", status), 200, false)
			in.post(update("b", status), 200, false)
		}
		time.Sleep(time.Hour)
		if diff := cmp.Diff([]string{update("a", "1"), update("b", "1"), update("b", "2"), update("a", "1")}, in.bodies()); diff != "" {
			t.Error(diff)
		}
		blocked, err := in.BlockedKeys(t.Context())
		if err != nil || len(blocked) != 1 || blocked[0].OrderingKey != "a" {
			t.Errorf("blocked: %+v, %v", blocked, err)
		}
		if ok, err := in.ReleaseKey(t.Context(), "a"); !ok || err != nil {
			t.Errorf("released: %t, %v", ok, err)
		}
		time.Sleep(10 * time.Second)
		if got := in.bodies(); len(got) != 5 || got[4] != update("a", "2") {
			t.Errorf("after the release: %q", got)
		}
		in.stop()
	})
}

// What an inbox refuses, and what it says when the store is out.
func TestInboxAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("the store is away")
		store := &faulty{Store: memstore.New()}
		var fails, hangs atomic.Bool
		store.enqueue = func(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
			if hangs.Load() {
				<-ctx.Done()
			}
			if fails.Load() {
				return nil, down
			}
			return store.Store.Enqueue(ctx, req)
		}
		var refused webhook.RefusedRequests
		response := webhook.StoredResponse{Status: 202, Header: map[string][]string{"X-Answer": {"1"}}, Body: []byte("taken")}
		in := newInboxTest(t, store, &webhook.InboxOptions{Response: response, Receive: webhook.ReceiveOptions{Refused: &refused}})
		response.Body[0] = 'X' // it is the caller's
		in.post(order("1"), 202, false)
		w := httptest.NewRecorder()
		in.ServeHTTP(w, in.request(order("1")))
		if w.Code != 202 || w.Body.String() != "taken" || w.Header().Get("X-Answer") != "1" || w.Header().Get(webhook.ReplayedHeader) != "true" {
			t.Errorf("a repeat is answered %d %q %v", w.Code, w.Body, w.Header())
		}
		r := in.request(order("2"))
		r.Body = io.NopCloser(strings.NewReader(order("3")))
		w = httptest.NewRecorder()
		in.ServeHTTP(w, r)
		if w.Code != 401 {
			t.Errorf("a forged one is answered %d", w.Code)
		}
		if kept, _ := refused.Read(); len(kept) != 1 || string(kept[0].Body) != order("3") || kept[0].Status != 401 {
			t.Errorf("kept of what was refused: %+v", kept)
		}
		for _, hang := range []bool{false, true} {
			fails.Store(true)
			hangs.Store(hang)
			began, w := time.Now(), httptest.NewRecorder()
			in.ServeHTTP(w, in.request(order("4")))
			if w.Code != 503 || w.Header().Get("Retry-After") == "" || time.Since(began) > 6*time.Second {
				t.Errorf("hangs: %t: with the store away the answer is %d, Retry-After %q, after %v", hang, w.Code, w.Header().Get("Retry-After"), time.Since(began))
			}
		}
		time.Sleep(time.Minute)
		fails.Store(false)
		hangs.Store(false)
		in.post(order("4"), 202, false)
		if got := in.states(); len(got) != 2 {
			t.Errorf("stored: %v, want two", got)
		}
	})
}

// A key that remembers the latest content alone lets an older one come again.
func TestInboxLatestKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memstore.New()}
		in := newInboxTest(t, store, &webhook.InboxOptions{Receive: webhook.ReceiveOptions{Key: webhook.GettLatestKey}})
		in.start()
		time.Sleep(time.Second)
		want := []string{}
		for _, status := range []string{"confirmed", "manual_review", "confirmed"} {
			store.enqueue = func(context.Context, *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
				return nil, errors.New("the store is away")
			}
			in.post(update("1", status), 503, false)
			store.enqueue = nil
			in.post(update("1", status), 200, false) // what was not stored does not hold the key
			in.post(update("1", status), 200, true)
			time.Sleep(time.Second)
			want = append(want, update("1", status))
		}
		in.post(order("1"), 200, false)
		in.post(order("1"), 200, true)
		time.Sleep(time.Second)
		if diff := cmp.Diff(append(want, order("1")), in.bodies()); diff != "" {
			t.Error(diff)
		}
		in.stop()
	})
}

// What is wrong with an inbox is told, and no request passes.
func TestInboxOptions(t *testing.T) {
	store, handle := memstore.New(), func(context.Context, webhook.Event) error { return nil }
	verifier, err := webhook.NewVerifier(mustSecret(t, "an inbox's secret, long enough for all"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		field string
		in    *webhook.Inbox
	}{
		{"store", webhook.NewInbox(nil, verifier, handle, nil)},
		{"verifier", webhook.NewInbox(store, nil, handle, nil)},
		{"handle", webhook.NewInbox(store, verifier, nil, nil)},
		{"Name", webhook.NewInbox(store, verifier, handle, &webhook.InboxOptions{Name: "a b"})},
		{"Name", webhook.NewInbox(store, verifier, handle, &webhook.InboxOptions{Name: strings.Repeat("a", 123)})},
		{"Receive.Dedupe", webhook.NewInbox(store, verifier, handle, &webhook.InboxOptions{Receive: webhook.ReceiveOptions{Dedupe: store}})},
		{"MaxBody", webhook.NewInbox(store, verifier, handle, &webhook.InboxOptions{Receive: webhook.ReceiveOptions{MaxBody: -1}})},
		{"Response.Status", webhook.NewInbox(store, verifier, handle, &webhook.InboxOptions{Response: webhook.StoredResponse{Status: 500}})},
		{"Header", webhook.NewInbox(store, verifier, handle, &webhook.InboxOptions{Header: []string{"cookie"}})},
		{"Timeout", webhook.NewInbox(store, verifier, handle, &webhook.InboxOptions{Timeout: -1})},
		{"MaxInFlight", webhook.NewInbox(store, verifier, handle, &webhook.InboxOptions{MaxInFlight: -1})},
		{"MaxBacklog", webhook.NewInbox(store, verifier, handle, &webhook.InboxOptions{MaxBacklog: -1})},
		{"Schedule.Jitter", webhook.NewInbox(store, verifier, handle, &webhook.InboxOptions{Schedule: webhook.NoRetry().WithJitter(2)})},
		{"Poll", webhook.NewInbox(store, verifier, handle, &webhook.InboxOptions{Poll: -1})},
	}
	for _, test := range tests {
		fe, ok := errors.AsType[*webhook.FieldError](test.in.Err())
		if !ok || fe.Field != test.field {
			t.Errorf("%s: the error is %v", test.field, test.in.Err())
			continue
		}
		if err := test.in.Run(t.Context()); !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("%s: Run: %v", test.field, err)
		}
		w := httptest.NewRecorder()
		test.in.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
		if w.Code != 500 {
			t.Errorf("%s: a request is answered %d", test.field, w.Code)
		}
		if err := test.in.Resume(t.Context()); !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("%s: Resume: %v", test.field, err)
		}
	}
	if err := webhook.NewInbox(store, verifier, handle, &webhook.InboxOptions{Name: strings.Repeat("a", 122)}).Err(); err != nil {
		t.Error(err)
	}
}
