package webhook_test

import (
	"context"
	"errors"
	"fmt"
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

// A dispatcher and two inboxes on one store keep to their own, whoever asks first.
func TestInboxAndDispatcherKeepApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		claims := map[string]int{}
		trace := func(who string) *webhook.Trace {
			return &webhook.Trace{
				Claim: func(_ context.Context, info webhook.ClaimInfo) { claims[who]++ },
				Alarm: func(_ context.Context, info webhook.AlarmInfo) {
					if info.EndpointID != "" && (who == "sends") != (info.EndpointID == "acme") {
						t.Errorf("%s is told of %s", who, info.EndpointID)
					}
				},
			}
		}
		a := newInboxTest(t, store, &webhook.InboxOptions{Name: "a", Receive: webhook.ReceiveOptions{Trace: trace("a")}})
		b := newInboxTest(t, store, &webhook.InboxOptions{Name: "b", Receive: webhook.ReceiveOptions{Trace: trace("b")}})
		a.post(order("1"), 200, false)
		b.post(order("1"), 200, false) // another inbox, another event
		var sent []string
		d, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{
			Trace: trace("sends"), Alarms: webhook.Alarms{OldestDue: time.Minute},
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				sent = append(sent, r.URL.Host)
				return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
			}),
			Endpoints: []webhook.Endpoint{{ID: "acme", URL: "https://acme.example", Secrets: []webhook.Secret{mustSecret(t, "whatever it is, it is long")}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if claims["sends"] != 0 || len(sent) != 0 {
			t.Errorf("the dispatcher made %d claims and sent to %q; what waits is the inboxes'", claims["sends"], sent)
		}
		if got, err := d.Backlog(t.Context(), nil); err != nil || len(got.Endpoints) != 0 || got.OldestDue != 0 {
			t.Errorf("its backlog is %+v, %v", got, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := d.Send(t.Context(), webhook.Event{Type: "order_create", Payload: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		if got, err := b.Backlog(t.Context(), 10); err != nil || got.Waiting != 1 || got.OldestDue < time.Hour {
			t.Errorf("b's backlog is %+v, %v", got, err)
		}
		a.start()
		time.Sleep(time.Hour)
		synctest.Wait()
		if a, b := a.bodies(), b.bodies(); len(a) != 1 || len(b) != 0 {
			t.Errorf("a ran %q, b %q, and only a runs", a, b)
		}
		if claims["a"] != 1 {
			t.Errorf("a made %d claims, want 1: nothing else is its own", claims["a"])
		}
		a.stop()
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Nothing is sent to an inbox: an endpoint with such an ID is refused, and where it came past that, it is not there.
func TestInboxIDsAreReserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		in := newInboxTest(t, store, nil)
		d, err := webhook.NewDispatcher(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		ep := webhook.Endpoint{ID: in.EndpointID(), URL: "https://acme.example", Secrets: []webhook.Secret{mustSecret(t, "whatever it is, it is long")}}
		fe, ok := errors.AsType[*webhook.FieldError](d.PutEndpoint(t.Context(), ep))
		if !ok || fe.Field != "ID" {
			t.Errorf("PutEndpoint: %v", fe)
		}
		if _, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{ep}}); !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("in code: %v", err)
		}
		if err := store.PutEndpoint(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if _, err := d.Send(t.Context(), webhook.Event{Type: "order_create", Payload: []byte("forged")}); err != nil {
			t.Fatal(err)
		}
		if got := in.deliveries(); len(got) != 0 {
			t.Errorf("what was sent is in the inbox: %+v", got)
		}
	})
}

// A run that takes longer than its lease, or than its time limit, is not begun by another process as long as it lasts.
func TestInboxRunsAreNotDoubled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		opts := &webhook.InboxOptions{Timeout: time.Minute, LeaseMargin: 2 * time.Second, Schedule: webhook.NoRetry()}
		a, b := newInboxTest(t, store, opts), newInboxTest(t, store, opts)
		a.then = func(context.Context, webhook.Event) error { time.Sleep(10 * time.Minute); return nil } // it does not heed its context
		b.then = a.then
		a.start()
		b.start()
		a.post(order("1"), 200, false)
		time.Sleep(time.Hour)
		if got := len(a.ran()) + len(b.ran()); got != 1 {
			t.Errorf("it ran %d times", got)
		}
		if diff := cmp.Diff([]webhook.State{"delivered"}, a.states()); diff != "" {
			t.Error(diff)
		}
		a.stop()
		b.stop()
	})
}

// A run whose lease was lost, as in a process that was stopped for long, is told so, and what it comes to counts for nothing.
func TestInboxLosesItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memstore.New()}
		opts := &webhook.InboxOptions{Timeout: time.Hour, LeaseMargin: 2 * time.Second, MaxInFlight: 1}
		a, b := newInboxTest(t, store, opts), newInboxTest(t, store, opts)
		var down atomic.Bool // for a's extensions
		down.Store(true)
		store.extend = func(ctx context.Context, req *webhook.ExtendRequest) (*webhook.ExtendResult, error) {
			if down.Load() {
				return nil, errors.New("the store is away")
			}
			return store.Store.Extend(ctx, req)
		}
		var lost error
		var after time.Duration
		a.then = func(ctx context.Context, ev webhook.Event) error {
			if len(a.ran()) > 1 {
				return nil
			}
			began := time.Now()
			time.Sleep(90 * time.Second) // as if the machine stood still
			down.Store(false)
			<-ctx.Done()
			lost, after = context.Cause(ctx), time.Since(began)
			return errors.New("too late")
		}
		a.start()
		a.post(order("1"), 200, false)
		synctest.Wait()
		b.start()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(a.ran()) != 1 || len(b.ran()) != 1 || lost == nil || after > 2*time.Minute {
			t.Errorf("a ran %v, b %v; a was told %v after %v", a.ran(), b.ran(), lost, after)
		}
		if del := a.deliveries()[0]; del.State != webhook.Delivered || del.Attempts != 1 {
			t.Errorf("%+v", del)
		}
		a.stop()
		b.stop()
	})
}

// At the end of Run handlers may finish; those that do not are cut off, given back and not counted.
func TestInboxDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInboxTest(t, memstore.New(), &webhook.InboxOptions{Grace: 10 * time.Second, Timeout: time.Hour})
		in.then = func(ctx context.Context, ev webhook.Event) error {
			if string(ev.Payload) == order("quick") {
				time.Sleep(5 * time.Second)
				return ctx.Err()
			}
			<-ctx.Done()
			return ctx.Err()
		}
		in.start()
		in.post(order("quick"), 200, false)
		in.post(order("slow"), 200, false)
		time.Sleep(time.Second)
		began := time.Now()
		in.stop()
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("the drain took %v, want the grace time of 10 s", took)
		}
		for _, del := range in.deliveries() {
			if quick := del.State == webhook.Delivered && del.Attempts == 1; !quick && (del.State != webhook.Queued || del.Attempts != 0) {
				t.Errorf("%+v", del)
			}
		}
		in.then = nil
		in.start()
		time.Sleep(time.Second)
		if runs := in.ran(); len(runs) != 3 || runs[2].Attempts != 0 {
			t.Errorf("runs: %+v", runs)
		}
		in.stop()
	})
}

// An inbox on hold takes requests in and processes none; it has its cap, its bound and its way to cancel.
func TestInboxOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInboxTest(t, memstore.New(), &webhook.InboxOptions{MaxInFlight: 2, MaxBacklog: 4})
		in.start()
		time.Sleep(time.Second)
		if err := in.Pause(t.Context(), "the shop moves"); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"1", "2", "3", "4"} {
			in.post(order(id), 200, false)
		}
		in.post(order("5"), 503, false)
		time.Sleep(time.Hour)
		if diff := cmp.Diff(slices.Repeat([]webhook.State{webhook.Held}, 4), in.states()); diff != "" || len(in.ran()) != 0 {
			t.Errorf("%s; ran %v", diff, in.ran())
		}
		if ended, err := in.Cancel(t.Context(), in.deliveries()[0].ID, "a test"); !ended || err != nil {
			t.Errorf("canceled: %t, %v", ended, err)
		}
		var most, now atomic.Int64
		in.then = func(context.Context, webhook.Event) error {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(100 * time.Millisecond)
			now.Add(-1)
			return nil
		}
		if err := in.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(150 * time.Millisecond)
		if most.Load() != 2 || now.Load() == 0 {
			t.Errorf("%d at once, %d after 150 ms; want 2, and at once what was kept", most.Load(), now.Load())
		}
		time.Sleep(time.Second)
		if diff := cmp.Diff([]webhook.State{"canceled", "delivered", "delivered", "delivered"}, in.states()); diff != "" {
			t.Error(diff)
		}
		in.post(order("5"), 200, false)
		in.stop()
	})
}

// An inbox ends what is its own alone, and what it has received is explained as such.
func TestInboxKeepsToItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		in := newInboxTest(t, store, nil)
		other := newInboxTest(t, store, &webhook.InboxOptions{Name: "other"})
		in.post(order("1"), 200, false)
		d, err := webhook.NewDispatcher(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		story := func() string {
			x, err := d.Explain(t.Context(), in.deliveries()[0].EventID)
			if err != nil {
				t.Fatal(err)
			}
			return x.String()
		}
		for _, id := range []string{in.deliveries()[0].ID, "no such delivery", ""} {
			if _, err := other.Cancel(t.Context(), id, ""); err == nil {
				t.Errorf("another inbox cancels %q", id)
			}
		}
		if s := story(); !strings.Contains(s, "as soon as the running inbox has room for it") || strings.Contains(s, "subscribe") {
			t.Error(s)
		}
		in.start()
		time.Sleep(time.Second)
		if s := story(); !strings.Contains(s, "run 1 of the handler succeeded") || strings.Contains(s, "answer") {
			t.Error(s)
		}
		in.stop()
	})
}

// Hooks and counters tell of an inbox's runs and repeats.
func TestInboxTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		var told []string
		var mu sync.Mutex
		tell := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, what)
		}
		var repeats webhook.RepeatCounter
		trace := &webhook.Trace{
			AttemptStart: func(ctx context.Context, info webhook.AttemptStartInfo) context.Context {
				tell("start " + info.Delivery.EndpointID)
				return context.WithValue(ctx, key{}, "span")
			},
			AttemptDone: func(ctx context.Context, info webhook.AttemptDoneInfo) {
				tell("done " + string(info.Next) + " " + info.Attempt.Error)
			},
			DeadLetter: func(_ context.Context, info webhook.DeadLetterInfo) {
				tell("dead letter " + string(info.Event.Payload))
			},
			SuppressedRepeat: func(_ context.Context, info webhook.SuppressedRepeatInfo) {
				tell("repeat " + info.Scope + " " + info.Key)
			},
		}
		in := newInboxTest(t, memstore.New(), &webhook.InboxOptions{
			Schedule: webhook.Delays(time.Minute), Receive: webhook.ReceiveOptions{Trace: trace, Repeats: &repeats},
		})
		in.then = func(ctx context.Context, ev webhook.Event) error {
			if ctx.Value(key{}) != "span" {
				t.Error("the handler's context is not that of AttemptStart")
			}
			return errors.New("no")
		}
		in.start()
		in.post(order("1"), 200, false)
		in.post(order("1"), 200, true)
		time.Sleep(time.Hour)
		in.stop()
		want := []string{"start inbox:gett", "done retry_scheduled handler", "start inbox:gett", "done dead_letter handler", "dead letter " + order("1")}
		got := slices.DeleteFunc(told, func(s string) bool { return s == "repeat gett order_create:1" })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if got := repeats.Read(); got.Answered != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// A client that hangs up in the middle changes nothing.
func TestInboxClientGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInboxTest(t, memstore.New(), nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		in.ServeHTTP(httptest.NewRecorder(), in.request(order("1")).WithContext(ctx))
		if got := in.deliveries(); len(got) != 1 {
			t.Errorf("stored %v", got)
		}
	})
}

// An inbox does not walk past the endpoints on its store, nor past other inboxes, to find its own two lanes.
func TestInboxReadsItsLanesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memstore.New()}
		var events []webhook.NewEvent
		for i := range 500 {
			id := fmt.Sprintf("%c-%d", "aiz"[i%3], i)
			events = append(events, webhook.NewEvent{Event: webhook.Event{ID: id, Type: "t"}, Deliveries: []webhook.NewDelivery{{ID: id, EndpointID: id}}})
		}
		if _, err := store.Enqueue(t.Context(), &webhook.EnqueueRequest{Now: time.Now(), Events: events}); err != nil {
			t.Fatal(err)
		}
		var all []*inboxTest
		for _, name := range []string{"a", "!", "gett", "gett!", "gets~", "gets~~x", "getu", "gett2", "~"} {
			in := newInboxTest(t, store, &webhook.InboxOptions{Name: name, Poll: time.Second})
			in.post(order("1"), 200, false)
			all = append(all, in)
		}
		var calls, lanes atomic.Int64
		store.lanes = func(ctx context.Context, req *webhook.LanesRequest) (*webhook.LanesResult, error) {
			res, err := store.Store.Lanes(ctx, req)
			calls.Add(1)
			lanes.Add(int64(len(res.Lanes)))
			return res, err
		}
		for _, in := range all {
			in.start()
		}
		time.Sleep(10500 * time.Millisecond)
		for _, in := range all {
			if got := in.bodies(); len(got) != 1 {
				t.Errorf("%s ran %q", in.EndpointID(), got)
			}
			in.stop()
		}
		if most := int64(12 * len(all)); calls.Load() > most || lanes.Load() > 8*most {
			t.Errorf("%d inboxes made %d calls in 10 polls and read %d lanes", len(all), calls.Load(), lanes.Load())
		}
	})
}
