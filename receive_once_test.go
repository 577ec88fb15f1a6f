package webhook_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
)

// onceMemory is a OnceStore in memory.
type onceMemory struct {
	mu     sync.Mutex
	done   map[string]webhook.StoredResponse
	runs   int
	last   webhook.OnceRequest
	handle func(ctx context.Context) error
	commit error // after which it is done all the same
	busy   bool  // another process has the key
}

func (o *onceMemory) Now(context.Context) (time.Time, error) { return time.Now(), nil }

func (o *onceMemory) Once(ctx context.Context, req *webhook.OnceRequest) (*webhook.OnceResult, error) {
	o.mu.Lock()
	resp, done := o.done[req.Scope+" "+req.Key.ID]
	o.last = *req
	o.mu.Unlock()
	res := &webhook.OnceResult{}
	switch {
	case done:
		res.Status, res.Response, res.DoneAt = webhook.KeyDone, &resp, req.Now
		return res, nil
	case o.busy:
		res.Status = webhook.KeyRunning
		return res, nil
	}
	o.mu.Lock()
	o.runs++
	o.mu.Unlock()
	if o.handle != nil {
		if res.Failed = o.handle(ctx); res.Failed != nil {
			return res, nil
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done == nil {
		o.done = make(map[string]webhook.StoredResponse)
	}
	o.done[req.Scope+" "+req.Key.ID] = req.Response
	return res, o.commit
}

type onceTest struct {
	t    *testing.T
	h    http.Handler
	sign *webhook.Signer
}

func newOnceTest(t *testing.T, store webhook.OnceStore, response webhook.StoredResponse, opts *webhook.ReceiveOptions) *onceTest {
	t.Helper()
	secret := mustSecret(t, "a secret of once and for all, long enough")
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := webhook.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	var o webhook.ReceiveOptions
	if opts != nil {
		o = *opts
	}
	o.Logger = slog.New(slog.DiscardHandler)
	return &onceTest{t, webhook.ReceiveOnce(verifier, store, response, &o), signer}
}

func (x *onceTest) post(body string) *httptest.ResponseRecorder {
	x.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	if err := x.sign.Sign(r.Header, []byte(body)); err != nil {
		x.t.Fatal(err)
	}
	w := httptest.NewRecorder()
	x.h.ServeHTTP(w, r)
	return w
}

func (x *onceTest) want(w *httptest.ResponseRecorder, status int, replayed bool) {
	x.t.Helper()
	if got := w.Header().Get(webhook.ReplayedHeader) == "true"; w.Code != status || got != replayed {
		x.t.Errorf("answered %d, replayed: %t; want %d, %t", w.Code, got, status, replayed)
	}
	if retry := w.Header().Get("Retry-After"); (status == 409 || status == 503) && retry == "" {
		x.t.Errorf("a %d without Retry-After", status)
	}
}

// What a store says of a transaction becomes an answer that the sender does the right thing with.
func TestReceiveOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &onceMemory{}
		var repeats webhook.RepeatCounter
		x := newOnceTest(t, store, webhook.StoredResponse{Status: 202, Body: []byte("ok")}, &webhook.ReceiveOptions{Scope: "gett 1", Repeats: &repeats})
		store.handle = func(context.Context) error { return errors.New("no such order") }
		x.want(x.post(order("1")), 500, false)
		store.handle = func(context.Context) error { return webhook.RetryAfter(1500*time.Millisecond, errors.New("later")) }
		w := x.post(order("1"))
		if x.want(w, 503, false); w.Header().Get("Retry-After") != "2" {
			t.Errorf("Retry-After is %q, want 2: rounded up", w.Header().Get("Retry-After"))
		}
		store.handle = func(context.Context) error { panic("a bug") }
		x.want(x.post(order("1")), 500, false)
		store.handle = func(ctx context.Context) error {
			if end, ok := ctx.Deadline(); !ok || time.Until(end) != 30*time.Second {
				t.Errorf("the handler has until %v", end)
			}
			if ev := webhook.FromContext(ctx); ev.Type != "order_create" || ev.Tenant != "gett 1" || !strings.HasPrefix(string(ev.Payload), `{"type":"order_create"`) {
				t.Errorf("it gets %+v", ev)
			}
			return nil
		}
		x.want(x.post(order("1")), 202, false)
		if w := x.post(order("1")); w.Body.String() != "ok" {
			t.Errorf("a repeat is answered %q", w.Body)
		} else {
			x.want(w, 202, true)
		}
		if store.runs != 4 || repeats.Read().Answered != 1 || store.last.Keep != 72*time.Hour || store.last.Event.Type != "order_create" {
			t.Errorf("%d runs, repeats %+v, asked %+v", store.runs, repeats.Read(), store.last)
		}
		store.commit = webhook.ErrOutcomeUnknown // and it was committed
		x.want(x.post(order("2")), 503, false)
		x.want(x.post(order("2")), 202, true)
		store.busy = true
		x.want(x.post(order("3")), 409, false)
		if got := repeats.Read(); got.Running != 1 || got.Answered != 2 {
			t.Errorf("repeats: %+v", got)
		}
	})
}

// Twins within a process wait for each other in memory, so that they need no connection, and not for longer than Wait.
func TestReceiveOnceTwins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, took := &onceMemory{}, time.Second
		store.handle = func(context.Context) error { time.Sleep(took); return nil }
		x := newOnceTest(t, store, webhook.StoredResponse{}, nil)
		for _, test := range []struct {
			body   string
			took   time.Duration
			status int // of the twins
		}{{order("1"), time.Second, 200}, {order("2"), 10 * time.Second, 409}} {
			var all sync.WaitGroup
			took, store.runs = test.took, 0
			answers := make([]*httptest.ResponseRecorder, 20)
			began := time.Now()
			all.Go(func() { x.want(x.post(test.body), 200, false) })
			synctest.Wait()
			for i := range answers {
				all.Go(func() { answers[i] = x.post(test.body) })
			}
			all.Go(func() { x.want(x.post(update("other", test.body[len(test.body)-4:])), 200, false) }) // another key waits for nobody
			all.Wait()
			for _, w := range answers {
				x.want(w, test.status, test.status == 200)
			}
			if store.runs != 2 || time.Since(began) > test.took+time.Second {
				t.Errorf("%d runs in %v", store.runs, time.Since(began))
			}
		}
	})
}

// What is wrong is told, and no request passes.
func TestReceiveOnceOptions(t *testing.T) {
	store := &onceMemory{}
	for field, h := range map[string]*onceTest{
		"handler":        newOnceTest(t, nil, webhook.StoredResponse{}, nil),
		"Response":       newOnceTest(t, store, webhook.StoredResponse{Status: 404}, nil),
		"Dedupe":         newOnceTest(t, store, webhook.StoredResponse{}, &webhook.ReceiveOptions{Dedupe: &faulty{}}),
		"HandlerTimeout": newOnceTest(t, store, webhook.StoredResponse{}, &webhook.ReceiveOptions{HandlerTimeout: -1}),
		"Keep":           newOnceTest(t, store, webhook.StoredResponse{}, &webhook.ReceiveOptions{Keep: -1}),
	} {
		if w := h.post(order("1")); w.Code != 500 || store.runs != 0 {
			t.Errorf("%s: answered %d, %d runs", field, w.Code, store.runs)
		}
	}
	w := httptest.NewRecorder()
	webhook.ReceiveOnce(nil, store, webhook.StoredResponse{}, &webhook.ReceiveOptions{Logger: slog.New(slog.DiscardHandler)}).
		ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != 500 {
		t.Errorf("without a verifier: %d", w.Code)
	}
	// Long handlers need no longer hold, and what concerns answers is ignored.
	x := newOnceTest(t, store, webhook.StoredResponse{}, &webhook.ReceiveOptions{HandlerTimeout: time.Hour, MaxStoredBody: 1 << 30, Hold: -1})
	x.want(x.post(order("1")), 200, false)
}
