package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// answering is a receiver that always answers so.
func answering(status int) *receiver {
	return &receiver{answer: func(*http.Request, int) (int, http.Header, error) { return status, nil, nil }}
}

// lasting is a receiver that answers after so long.
func lasting(d time.Duration) *receiver {
	return &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
		time.Sleep(d)
		return 200, nil, nil
	}}
}

// bodiesOf lists the bodies received, in order.
func bodiesOf(rc *receiver) (list []string) {
	for _, r := range rc.requests() {
		list = append(list, r.body)
	}
	return list
}

func (r *running) get(t *testing.T, id string) webhook.Delivery {
	t.Helper()
	return r.delivery(t, id)
}

// A scheduled event goes at its time: never before, and also when the lane is otherwise idle or busy, on a dispatcher that could
// hand over at once.
func TestScheduledSend(t *testing.T) {
	for _, tc := range []struct {
		name  string
		ahead time.Duration
		want  time.Duration
	}{
		{"soon", 70 * time.Millisecond, 70 * time.Millisecond},
		{"in an hour", time.Hour, time.Hour},
		{"a nanosecond ahead", 1, 0},
		{"past", -time.Hour, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, webhook.DispatcherOptions{Poll: time.Hour}, endpoint(t, "acme"))
				time.Sleep(time.Second) // all senders wait
				began := time.Now()
				id := r.send(t, webhook.Event{Type: "x", Payload: []byte("later"), SendAt: began.Add(tc.ahead)})
				r.send(t, webhook.Event{Type: "x", Payload: []byte("now")})
				if tc.want > time.Minute {
					year := began.Add(364 * 24 * time.Hour)
					far := r.get(t, r.send(t, webhook.Event{Type: "x", SendAt: year})).DueAt.Sub(year)
					if far < 0 || far > time.Millisecond {
						t.Errorf("what is scheduled for in 364 days is due %v after that", far)
					}
					if d := r.get(t, id); d.State != webhook.Queued || d.DueAt.Before(began.Add(tc.ahead)) {
						t.Errorf("waits as %+v", d)
					}
				}
				time.Sleep(max(tc.ahead, 0) + time.Minute)
				at := make(map[string]time.Duration)
				for _, g := range r.rc.requests() {
					at[g.body] = g.at.Sub(began)
				}
				if late := at["later"] - tc.want; len(at) != 2 || late < 0 || late > 5*time.Millisecond {
					t.Errorf("received %v, want it after %v", at, tc.want)
				}
				if at["now"] > 5*time.Millisecond {
					t.Errorf("the one sent at once came after %v", at["now"])
				}
			})
		})
	}
}

func TestScheduleIsChecked(t *testing.T) {
	d := sender(t, memstore.New(), endpoint(t, "acme"))
	for field, ev := range map[string]webhook.Event{
		"SendAt": {Type: "x", SendAt: time.Now().Add(366 * 24 * time.Hour)},
		"TTL":    {Type: "x", TTL: -1},
	} {
		_, err := d.Send(t.Context(), ev)
		if fe, ok := errors.AsType[*webhook.FieldError](err); !ok || fe.Field != field {
			t.Errorf("error %v, want a FieldError for %s", err, field)
		}
	}
	for _, at := range []time.Time{time.Unix(0, 0), {}, time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC)} {
		if _, err := d.Send(t.Context(), webhook.Event{Type: "x", SendAt: at, TTL: 1<<63 - 1}); err != nil {
			t.Errorf("SendAt %v: %v", at, err)
		}
	}
}

// The store's clock decides; how wrong the wall clocks of senders are does not matter.
func TestScheduledSendWithASkewedClock(t *testing.T) {
	for _, skew := range []time.Duration{-3 * time.Hour, 3 * time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memstore.New()
				r := &running{store: store, rc: &receiver{}, on: &faulty{
					Store: store,
					now:   func(context.Context) (time.Time, error) { return time.Now().Add(skew), nil },
					claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
						res, err := store.Claim(ctx, req)
						if err == nil {
							res.Now = res.Now.Add(skew)
						}
						return res, err
					},
				}}
				r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
				began := time.Now()
				r.send(t, webhook.Event{Type: "x", SendAt: began.Add(time.Minute)})
				r.send(t, webhook.Event{Type: "x", SendAt: began.Add(10 * time.Minute), TTL: time.Second})
				time.Sleep(15 * time.Minute)
				got := r.rc.requests()
				if len(got) != 2 {
					t.Fatalf("received %d, want 2", len(got))
				}
				for i, want := range []time.Duration{time.Minute, 10 * time.Minute} {
					if late := got[i].at.Sub(began) - want; late < 0 || late > 5*time.Millisecond {
						t.Errorf("sent %v after its time", late)
					}
				}
			})
		})
	}
}

// With an ordering key, the later ones wait for a scheduled one.
func TestScheduledSendKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		r.send(t, webhook.Event{Type: "x", Payload: []byte("1"), OrderingKey: "k", SendAt: time.Now().Add(time.Minute)})
		r.send(t, webhook.Event{Type: "x", Payload: []byte("2"), OrderingKey: "k"})
		r.send(t, webhook.Event{Type: "x", Payload: []byte("0"), OrderingKey: "other"})
		time.Sleep(2 * time.Minute)
		if diff := cmp.Diff([]string{"0", "1", "2"}, bodiesOf(r.rc)); diff != "" {
			t.Error(diff)
		}
	})
}

// cancelCase is a delivery somewhere on its way.
type cancelCase struct {
	name   string
	ev     webhook.Event
	rc     *receiver
	wait   time.Duration // before it is canceled
	paused bool
	state  webhook.State // then
	sent   int           // requests in all
}

func TestCancel(t *testing.T) {
	for _, tc := range []cancelCase{
		{name: "scheduled", ev: webhook.Event{SendAt: time.Now().AddDate(100, 0, 0)}, rc: &receiver{}, wait: time.Second, state: webhook.Queued},
		{name: "retrying", rc: answering(503), wait: time.Second, state: webhook.RetryScheduled, sent: 1},
		{name: "under way", rc: lasting(5 * time.Second), wait: time.Second, state: webhook.Delivering, sent: 1},
		{name: "under way, ordered", ev: webhook.Event{OrderingKey: "k"}, rc: lasting(5 * time.Second), wait: time.Second, state: webhook.Delivering, sent: 1},
		{name: "held", rc: &receiver{}, paused: true, state: webhook.Held},
		{name: "held, ordered", ev: webhook.Event{OrderingKey: "k"}, rc: &receiver{}, paused: true, state: webhook.Held},
	} {
		t.Run(tc.name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testCancel(t, tc) }) })
	}
}

func testCancel(t *testing.T, tc cancelCase) {
	r := &running{store: memstore.New(), rc: tc.rc}
	var stale atomic.Int64
	r.start(t, webhook.DispatcherOptions{Trace: &webhook.Trace{
		StaleLease: func(_ context.Context, info webhook.StaleLeaseInfo) { stale.Add(1) },
	}}, endpoint(t, "acme"))
	if tc.paused {
		if err := r.PauseEndpoint(t.Context(), "acme", "holidays"); err != nil {
			t.Fatal(err)
		}
	}
	if tc.ev.Type = "x"; !tc.ev.SendAt.IsZero() {
		tc.ev.SendAt = time.Now().Add(time.Hour)
	}
	id := r.send(t, tc.ev)
	time.Sleep(tc.wait)
	synctest.Wait()
	if d := r.get(t, id); d.State != tc.state {
		t.Fatalf("is %s, want %s", d.State, tc.state)
	}
	n, err := r.Cancel(t.Context(), id, "the order was withdrawn")
	if n != 1 || err != nil {
		t.Errorf("Cancel: %d, %v, want 1", n, err)
	}
	d := r.get(t, id)
	if d.State != webhook.Canceled || d.Reason != "the order was withdrawn" || d.FinishedAt.IsZero() {
		t.Errorf("reads as %+v", d)
	}
	if n, err := r.Cancel(t.Context(), id, ""); n != 0 || err != nil {
		t.Errorf("again: %d, %v, want 0", n, err)
	}
	next := webhook.Event{Type: "x", OrderingKey: tc.ev.OrderingKey}
	after := r.send(t, next) // the key goes on
	if err := r.ResumeEndpoint(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour)
	if again := r.get(t, id); !cmp.Equal(d, again, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Attempts" }, cmp.Ignore())) {
		t.Errorf("became %+v", again)
	}
	if d := r.get(t, after); d.Attempts == 0 {
		t.Errorf("the next one is %+v", d)
	}
	if tc.rc.answer != nil && tc.sent == 1 && tc.state == webhook.RetryScheduled {
		return // the receiver never accepts; its requests are those of the next one
	}
	if got := len(tc.rc.requests()); got != tc.sent+1 {
		t.Errorf("%d requests, want %d and the next one's", got, tc.sent)
	}
	if tc.state == webhook.Delivering {
		as, err := r.store.ListAttempts(t.Context(), d.ID)
		if err != nil || len(as) != 1 || !as[0].Late || stale.Load() != 1 {
			t.Errorf("attempts %+v, %v, want a late one; %d stale leases, want 1", as, err, stale.Load())
		}
	}
}

// What this process has claimed already, and waits in memory for a sender, is not begun after Cancel.
func TestCancelOfWhatWaitsInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		var claimed atomic.Int64
		r := &running{store: store, rc: lasting(20 * time.Millisecond), on: &faulty{Store: store,
			claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
				res, err := store.Claim(ctx, req)
				if err == nil {
					claimed.Add(int64(len(res.Deliveries)))
				}
				return res, err
			}}}
		ep := endpoint(t, "acme")
		ep.MaxInFlight = 1
		r.start(t, webhook.DispatcherOptions{}, ep)
		ids, err := r.SendBatch(t.Context(), numbered(0, 100, webhook.Event{Type: "x"}))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		before := len(r.rc.requests())
		if n := int(claimed.Load()) - before; n < 3 {
			t.Fatalf("%d wait in memory, want some", n)
		}
		for _, id := range ids {
			if _, err := r.Cancel(t.Context(), id, ""); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Hour)
		if got := len(r.rc.requests()); got != before {
			t.Errorf("%d requests began after Cancel", got-before)
		}
	})
}

// Of an ordering key any may be canceled; the others go in their order, one at a time.
func TestCancelInTheMiddleOfAKey(t *testing.T) {
	for victim, want := range map[int][]string{0: {"0", "1", "2", "3"}, 1: {"0", "2", "3"}, 2: {"0", "1", "3"}, 3: {"0", "1", "2"}} {
		t.Run(fmt.Sprint(victim), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var open, most atomic.Int64
				r := &running{store: memstore.New()}
				r.rc = &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
					most.Store(max(most.Load(), open.Add(1)))
					time.Sleep(time.Second)
					open.Add(-1)
					return 200, nil, nil
				}}
				r.start(t, webhook.DispatcherOptions{Trace: &webhook.Trace{Expired: func(_ context.Context, info webhook.ExpiredInfo) {
					t.Errorf("told that %s has expired", info.Delivery.ID)
				}}}, endpoint(t, "acme"))
				other := sender(t, r.store, endpoint(t, "acme")) // cancels, as another process would
				var ids []string
				for i := range 4 {
					ids = append(ids, r.send(t, webhook.Event{Type: "x", OrderingKey: "k", Payload: fmt.Append(nil, i)}))
				}
				time.Sleep(500 * time.Millisecond) // the first is under way
				if n, err := other.Cancel(t.Context(), ids[victim], ""); n != 1 || err != nil {
					t.Fatalf("Cancel: %d, %v", n, err)
				}
				time.Sleep(time.Hour)
				if diff := cmp.Diff(want, bodiesOf(r.rc)); diff != "" || most.Load() != 1 {
					t.Errorf("%d at once; received %s", most.Load(), diff)
				}
				for i, id := range ids {
					state := webhook.Delivered
					if i == victim {
						state = webhook.Canceled
					}
					if d := r.get(t, id); d.State != state {
						t.Errorf("%d is %s, want %s", i, d.State, state)
					}
				}
			})
		})
	}
}

func TestCancelOfSeveralAndNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var eps []webhook.Endpoint
		for i := range 700 {
			eps = append(eps, endpoint(t, fmt.Sprintf("ep%04d", i), "x"))
		}
		r := run(t, webhook.DispatcherOptions{}, eps...)
		id := r.send(t, webhook.Event{Type: "x", SendAt: time.Now().Add(2 * time.Second)})
		n, err := r.Cancel(t.Context(), id, "")
		if n != 700 || err != nil {
			t.Errorf("Cancel: %d, %v, want 700", n, err)
		}
		if n, err := r.Cancel(t.Context(), "nobody", ""); n != 0 || !errors.Is(err, webhook.ErrNotFound) ||
			!strings.HasPrefix(err.Error(), `webhook: cancel: event "nobody": `) {
			t.Errorf("unknown: %d, %v", n, err)
		}
		if n, err := r.Cancel(t.Context(), r.send(t, webhook.Event{Type: "y"}), ""); n != 0 || err != nil {
			t.Errorf("an event without deliveries: %d, %v", n, err)
		}
		for _, bad := range []struct{ id, reason, field string }{{"", "", "eventID"}, {"a b", "", "eventID"}, {"a", "\xff", "reason"}, {"a", "\x00", "reason"}, {"a", strings.Repeat("x", 513), "reason"}} {
			_, err := r.Cancel(t.Context(), bad.id, bad.reason)
			if fe, ok := errors.AsType[*webhook.FieldError](err); !ok || fe.Field != bad.field {
				t.Errorf("%q, %q: %v", bad.id, bad.reason, err)
			}
		}
		one := r.send(t, webhook.Event{Type: "x", SendAt: time.Now().Add(2 * time.Second)})
		res, err := r.store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{EventID: one, EndpointID: "ep0007"})
		if err != nil || len(res.Deliveries) != 1 {
			t.Fatal(res, err)
		}
		if ended, err := r.CancelDelivery(t.Context(), res.Deliveries[0].ID, ""); !ended || err != nil {
			t.Errorf("CancelDelivery: %v, %v", ended, err)
		}
		if ended, err := r.CancelDelivery(t.Context(), res.Deliveries[0].ID, ""); ended || err != nil {
			t.Errorf("again: %v, %v", ended, err)
		}
		if _, err := r.CancelDelivery(t.Context(), "nobody", ""); !errors.Is(err, webhook.ErrNotFound) {
			t.Errorf("unknown delivery: %v", err)
		}
		time.Sleep(5 * time.Second)
		if got := len(r.rc.requests()); got != 699 {
			t.Errorf("%d requests, want 699", got)
		}
	})
}

// plainStore is a store that has nothing but what it must.
type plainStore struct{ webhook.Store }

// Without LifeStore what needs it fails at the door, and what does not works.
func TestStoreWithoutLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		ep := endpoint(t, "acme")
		bounded := ep
		bounded.MaxBacklog = 10
		for field, opts := range map[string]webhook.DispatcherOptions{
			"MaxBacklog": {Endpoints: []webhook.Endpoint{bounded}}, "Alarms": {Alarms: webhook.Alarms{Backlog: 5}},
		} {
			_, err := webhook.NewDispatcher(plainStore{store}, &opts)
			if fe, ok := errors.AsType[*webhook.FieldError](err); !ok || fe.Field != field || !strings.Contains(fe.Reason, "LifeStore") {
				t.Errorf("NewDispatcher: %v, want a FieldError for %s", err, field)
			}
		}
		var alarms []webhook.AlarmInfo
		r := &running{store: store, on: plainStore{store}, rc: answering(503)}
		limited := endpoint(t, "limited", "limited")
		limited.Rate = webhook.Rate{Events: 1, Per: time.Hour}
		ep.Types = []string{"x"}
		r.start(t, webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{ep, limited},
			Tenants: func(tenant string) webhook.TenantPolicy {
				return webhook.TenantPolicy{MaxBacklog: len(tenant)}
			},
			Trace: &webhook.Trace{Alarm: func(_ context.Context, info webhook.AlarmInfo) { alarms = append(alarms, info) }},
		}, webhook.Endpoint{ID: "bounded", Tenant: "tenant", URL: "https://b.example", Secrets: ep.Secrets})
		if _, err := r.Cancel(t.Context(), "evt_1", ""); err == nil || !strings.Contains(err.Error(), "LifeStore") {
			t.Errorf("Cancel: %v", err)
		}
		if _, err := r.Backlog(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "LifeStore") {
			t.Errorf("Backlog: %v", err)
		}
		if _, err := r.Send(t.Context(), webhook.Event{Type: "x", Tenant: "tenant"}); err == nil || !strings.Contains(err.Error(), "LifeStore") {
			t.Errorf("Send of a tenant with a bound: %v", err)
		}
		id := r.send(t, webhook.Event{Type: "x", TTL: time.Minute})
		r.send(t, webhook.Event{Type: "limited"})
		r.send(t, webhook.Event{Type: "limited"})
		time.Sleep(30 * time.Minute)
		if d := r.get(t, id); d.State != webhook.Expired || d.Reason != "its time ran out after 2 attempts: answered 503" {
			t.Errorf("with a TTL: %+v", d)
		}
		r.stop()
		if len(alarms) != 2 || alarms[0].EndpointID != "limited" || alarms[1].EndpointID != "" || alarms[0].Kind != webhook.AlarmOldestDue {
			t.Errorf("alarms %+v, want those of one and of all", alarms)
		}
	})
}

// expiryCase is where the time of a delivery runs out.
type expiryCase struct {
	name   string
	ev     webhook.Event
	status int
	sendAt time.Duration
	pause  bool // the endpoint, before the event is sent
	block  bool // its key, by a dead letter
	rate   webhook.Rate
	first  int           // other events sent before
	at     time.Duration // about when it is to end, after Send
	late   time.Duration // it may be so much later
	reason string
	tries  int
}

func TestExpiry(t *testing.T) {
	const sweep = 5 * time.Second
	for _, tc := range []expiryCase{
		{name: "while it waits for its rate", ev: webhook.Event{TTL: time.Minute}, status: 200, rate: webhook.Rate{Events: 1, Per: time.Hour}, first: 1,
			at: time.Minute, late: sweep, reason: "its time ran out while it waited"},
		{name: "instead of a retry", ev: webhook.Event{TTL: time.Hour}, status: 503,
			at: 750 * time.Second, late: 3 * time.Second, tries: 4, reason: "its time ran out after 4 attempts: answered 503"},
		{name: "while held", ev: webhook.Event{TTL: time.Minute}, status: 200, pause: true, at: time.Minute, late: sweep, reason: "its time ran out while it waited"},
		{name: "while held, with a key", ev: webhook.Event{TTL: time.Minute, OrderingKey: "k"}, status: 200, pause: true,
			at: time.Minute, late: sweep, reason: "its time ran out while it waited"},
		{name: "behind a blocked key", ev: webhook.Event{TTL: time.Hour, OrderingKey: "k"}, status: 410, block: true,
			at: time.Hour, late: sweep, reason: "its time ran out while it waited"},
		{name: "scheduled", ev: webhook.Event{TTL: time.Minute}, sendAt: time.Hour, status: 200, pause: true,
			at: time.Hour + time.Minute, late: sweep, reason: "its time ran out while it waited"},
	} {
		t.Run(tc.name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testExpiry(t, tc) }) })
	}
}

func testExpiry(t *testing.T, tc expiryCase) {
	var mu sync.Mutex
	var told []webhook.ExpiredInfo
	r := &running{store: memstore.New(), rc: answering(tc.status)}
	ep := endpoint(t, "acme")
	ep.Rate = tc.rate
	if tc.block {
		ep.Schedule = webhook.NoRetry()
	}
	r.start(t, webhook.DispatcherOptions{Trace: &webhook.Trace{Expired: func(_ context.Context, info webhook.ExpiredInfo) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, info)
	}}}, ep)
	if tc.pause {
		if err := r.PauseEndpoint(t.Context(), "acme", ""); err != nil {
			t.Fatal(err)
		}
	}
	for range tc.first {
		r.send(t, webhook.Event{Type: "x"})
	}
	if tc.block {
		r.send(t, webhook.Event{Type: "x", OrderingKey: "k"})
	}
	time.Sleep(time.Second)
	began, before := time.Now(), len(r.rc.requests())
	if tc.ev.Type = "x"; tc.sendAt > 0 {
		tc.ev.SendAt = began.Add(tc.sendAt)
	}
	id := r.send(t, tc.ev)
	if want := began.Add(tc.sendAt + tc.ev.TTL); r.get(t, id).ExpiresAt.Sub(want).Abs() > time.Millisecond {
		t.Errorf("expires at %v, want %v", r.get(t, id).ExpiresAt, want)
	}
	time.Sleep(tc.at + 5*time.Minute)
	d := r.get(t, id)
	if late := d.FinishedAt.Sub(began) - tc.at; d.State != webhook.Expired || d.Reason != tc.reason || late < -time.Millisecond || late > tc.late {
		t.Errorf("ended %v after its time as %+v", late, d)
	}
	if got := len(r.rc.requests()) - before; got != tc.tries {
		t.Errorf("%d attempts, want %d", got, tc.tries)
	}
	as, err := r.store.ListAttempts(t.Context(), d.ID)
	if err != nil || len(as) != tc.tries || tc.tries > 0 && !as[tc.tries-1].NextAt.IsZero() {
		t.Errorf("attempts %+v, %v: the last must have no next", as, err)
	}
	r.stop()
	if len(told) != 1 || told[0].Delivery.ID != d.ID || told[0].Reason != tc.reason {
		t.Errorf("Trace.Expired got %+v, want it once", told)
	}
}

// What has expired by the time that its turn comes is not sent.
func TestExpiryBeforeTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: lasting(900 * time.Millisecond)}
		ep := endpoint(t, "acme")
		ep.MaxInFlight = 1
		r.start(t, webhook.DispatcherOptions{}, ep)
		r.send(t, webhook.Event{Type: "x"})
		time.Sleep(10 * time.Millisecond)
		id := r.send(t, webhook.Event{Type: "x", TTL: 500 * time.Millisecond})
		fine := r.send(t, webhook.Event{Type: "x", TTL: time.Second})
		time.Sleep(3 * time.Second)
		if d := r.get(t, id); d.State != webhook.Expired || d.Reason != "its time ran out before it was sent" || d.Attempts != 0 {
			t.Errorf("is %+v", d)
		}
		if d := r.get(t, fine); d.State != webhook.Delivered {
			t.Errorf("the one with time left is %+v", d)
		}
		if got := len(r.rc.requests()); got != 2 {
			t.Errorf("%d attempts, want 2", got)
		}
	})
}

// A key goes on after one of it has expired, in order; while the endpoint is held nothing is sent.
func TestExpiredLeavesItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		if err := r.PauseEndpoint(t.Context(), "acme", ""); err != nil {
			t.Fatal(err)
		}
		for i, ttl := range []time.Duration{time.Minute, 0, time.Minute, time.Minute, 0} {
			r.send(t, webhook.Event{Type: "x", OrderingKey: "k", Payload: fmt.Append(nil, i), TTL: ttl})
		}
		time.Sleep(time.Hour)
		if got := bodiesOf(r.rc); got != nil {
			t.Errorf("sent while held: %q", got)
		}
		if err := r.ResumeEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if diff := cmp.Diff([]string{"1", "4"}, bodiesOf(r.rc)); diff != "" {
			t.Error(diff)
		}
		if b, err := r.Backlog(t.Context(), &webhook.BacklogOptions{Count: 10}); err != nil || len(b.Endpoints) != 0 {
			t.Errorf("left: %+v, %v", b, err)
		}
	})
}

// Many that expire at once end soon, and each is told of once, by whichever of two dispatchers.
func TestManyExpireAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told sync.Map
		trace := &webhook.Trace{Expired: func(_ context.Context, info webhook.ExpiredInfo) {
			if _, twice := told.LoadOrStore(info.Delivery.ID, true); twice {
				t.Errorf("%s was told of twice", info.Delivery.ID)
			}
		}}
		r := run(t, webhook.DispatcherOptions{Trace: trace}, endpoint(t, "acme"))
		other := &running{store: r.store, rc: &receiver{}}
		other.start(t, webhook.DispatcherOptions{Trace: trace}, endpoint(t, "acme"))
		if err := r.PauseEndpoint(t.Context(), "acme", ""); err != nil {
			t.Fatal(err)
		}
		other.ResumeEndpoint(t.Context(), "nobody") // it knows of the pause from here on
		var batch []webhook.Event
		for range 1000 {
			batch = append(batch, webhook.Event{Type: "x", TTL: time.Minute})
		}
		for range 3 {
			if _, err := r.SendBatch(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute + 6*time.Second)
		n := 0
		told.Range(func(any, any) bool { n++; return true })
		if n != 3000 {
			t.Errorf("%d were told of, want 3000", n)
		}
	})
}
