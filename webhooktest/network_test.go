package webhooktest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/profile"
	. "github.com/signalpost/webhook/webhooktest"
)

// attempts remembers how attempts ended.
type attempts struct {
	mu   sync.Mutex
	done []webhook.Attempt
}

func (a *attempts) trace() *webhook.Trace {
	return &webhook.Trace{AttemptDone: func(_ context.Context, info webhook.AttemptDoneInfo) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.done = append(a.done, info.Attempt)
	}}
}

func (a *attempts) all() []webhook.Attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]webhook.Attempt(nil), a.done...)
}

func send(t testing.TB, d *webhook.Dispatcher, ev webhook.Event) string {
	t.Helper()
	if ev.Type == "" {
		ev.Type = "order_create"
	}
	id, err := d.Send(t.Context(), ev)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// What each way to misbehave looks like to a dispatcher, and that the next try succeeds.
func TestMisbehaviour(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		for _, tc := range []struct {
			step   Step
			status int
			kind   string
			took   time.Duration
		}{
			{OK(), 200, "", 0},
			{Answer(204), 204, "", 0},
			{OK().After(3 * time.Second), 200, "", 3 * time.Second},
			{Fail(500), 500, "", 0},
			{Fail(400).Body("no such thing"), 400, "", 0},
			{Redirect("https://elsewhere.example/"), 302, "", 0},
			{Hang(), 0, webhook.NetErrorTimeout, 30 * time.Second},
			{OK().After(time.Minute), 0, webhook.NetErrorTimeout, 30 * time.Second},
			{Drip(time.Second), 200, webhook.NetErrorTimeout, 30 * time.Second},
			{Reset(), 0, webhook.NetErrorReset, 0},
			{Close(), 0, webhook.NetErrorEOF, 0},
			{Cut(), 200, webhook.NetErrorEOF, 0},
			{Garbage(), 0, webhook.NetErrorProtocol, 0},
			{Refuse(), 0, webhook.NetErrorRefused, 0},
			{Huge(100 << 20), 200, "", 0},
		} {
			t.Run(scheme+"/"+tc.step.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := NewNetwork(t)
					r := n.Receiver(scheme+"://shop.example/hooks", tc.step)
					var seen attempts
					hooks := Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{Trace: seen.trace(), Logger: silent()})
					id := send(t, hooks, webhook.Event{Payload: []byte("{}")})
					time.Sleep(29 * time.Second)
					r.Then(OK())
					time.Sleep(10 * time.Minute)
					all := seen.all()
					if len(all) == 0 {
						t.Fatal("no attempt")
					}
					a := all[0]
					if a.Status != tc.status || a.Error != tc.kind || a.Duration.Round(100*time.Millisecond) != tc.took {
						t.Errorf("attempt: status %d, error %q after %v (%s), want %d, %q, %v", a.Status, a.Error, a.Duration, a.Detail, tc.status, tc.kind, tc.took)
					}
					r.RequireOnce(t, id)
					if delivered := tc.kind == "" && tc.status < 300; delivered != (len(all) == 1) {
						t.Errorf("%d attempts", len(all))
					}
				})
			})
		}
	}
}

func TestScript(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script []Step
		gap    time.Duration // between requests
		want   string
	}{
		{"none", nil, 0, "200 200 200"},
		{"one for ever", []Step{Fail(500)}, time.Hour, "500 500 500"},
		{"a sequence", []Step{Fail(500), Fail(503), OK()}, time.Hour, "500 503 200 200"},
		{"times", []Step{Fail(500).Times(3), Answer(202)}, 0, "500 500 500 202 202"},
		{"times, and nothing after", []Step{Fail(500).Times(2)}, 0, "500 500 200 200"},
		{"for a time", []Step{Fail(503).For(2 * time.Hour), Answer(202)}, time.Hour, "503 503 202 202"},
		{"for a time, and nothing after", []Step{Fail(503).For(90 * time.Minute)}, time.Hour, "503 503 200"},
		{"two times in a row", []Step{Fail(500).For(time.Hour), Fail(503).For(time.Hour), Answer(202)}, 30 * time.Minute, "500 500 503 503 202"},
		{"a time that passes unseen", []Step{OK(), Fail(500).For(time.Minute), Fail(503).For(time.Minute), Answer(202)}, time.Hour, "200 202 202"},
		{"a time in between", []Step{OK(), Fail(500).For(90 * time.Minute), Answer(202)}, time.Hour, "200 500 202"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := NewNetwork(t)
				r := n.Receiver("http://shop.example/hooks", tc.script...)
				var got []string
				for i := range len(strings.Fields(tc.want)) {
					if i > 0 {
						time.Sleep(tc.gap)
					}
					resp, err := n.Client().Post(r.URL(), "", strings.NewReader("x"))
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					got = append(got, fmt.Sprint(resp.StatusCode))
				}
				if s := strings.Join(got, " "); s != tc.want {
					t.Errorf("answered %s, want %s", s, tc.want)
				}
			})
		})
	}
}

func TestRetryAfterAndHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(t)
		shop := n.Receiver("https://shop.example/hooks", Fail(429).RetryAfter(20*time.Minute), OK())
		id := send(t, Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{Logger: silent()}), webhook.Event{})
		shop.WaitFor(t, time.Hour, id)
		got := shop.RequestsOf(id)
		if wait := got[1].At.Sub(got[0].At); len(got) != 2 || wait < 20*time.Minute || wait > 30*time.Minute {
			t.Errorf("%d requests, the second after %v", len(got), wait)
		}
		for _, q := range got {
			if q.Method != "POST" || q.URL != "https://shop.example/hooks" || q.Header.Get("Signature") == "" || q.Header.Get("Webhooktest-Event") != "" {
				t.Errorf("got %+v", q)
			}
		}
	})
}

// Each profile's signatures are checked by the receiver, under its own secret.
func TestReceiversVerify(t *testing.T) {
	for _, p := range profile.All() {
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork(t)
			good, bad := n.Receiver("https://good.example/"), n.Receiver("https://bad.example")
			bad.Verify(t, p, webhook.GenerateSecret())
			hooks := Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{Profiles: []webhook.Profile{p}, Logger: silent()})
			id := send(t, hooks, webhook.Event{Payload: []byte(`{"a":1}`)})
			good.WaitFor(t, time.Minute, id)
			time.Sleep(time.Second)
			if got := good.Requests()[0]; !got.Accepted || got.Err != nil || got.Verification.Scheme != p.Scheme.Name() || got.EventID != id {
				t.Errorf("%s: %+v", p.Name, got)
			}
			if got := bad.Requests()[0]; got.Accepted || got.Status != 401 || !errors.Is(got.Err, webhook.ErrSignatureMismatch) {
				t.Errorf("%s: %+v", p.Name, got)
			}
		})
	}
}

// A key pair of Standard Webhooks through the whole of it.
func TestReceiverWithAPublicKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		private := profile.GenerateStandardKey()
		text, err := profile.StandardPublicKey(private)
		if err != nil {
			t.Fatal(err)
		}
		public, err := webhook.IssuedSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		n := NewNetwork(t)
		shop := n.Receiver("https://shop.example/hooks").Verify(t, profile.StandardWebhooks(), public)
		ep := shop.Endpoint()
		ep.Secrets = []webhook.Secret{private, webhook.GenerateSecret()}
		hooks := Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{
			Profiles: []webhook.Profile{profile.StandardWebhooks()}, Endpoints: []webhook.Endpoint{ep},
		})
		shop.WaitFor(t, time.Minute, send(t, hooks, webhook.Event{}))
		ep.ID, ep.Secrets = "other", []webhook.Secret{public}
		if err := hooks.PutEndpoint(t.Context(), ep); err == nil || !strings.Contains(err.Error(), "can verify but not sign") {
			t.Errorf("an endpoint that signs with a public key: %v", err)
		}
	})
}

// The guard is not bypassed: it judges the address that a name of the network is at.
func TestGuardStaysOn(t *testing.T) {
	for _, tc := range []struct {
		address string
		allow   bool
		want    bool
	}{
		{"", false, true}, {"10.0.0.7", false, false}, {"127.0.0.1", false, false}, {"169.254.169.254", false, false}, {"::1", false, false},
		{"fd00::7", false, false}, {"10.0.0.7", true, true}, {"2606:4700::1", false, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork(t)
			shop := n.Receiver("https://shop.example/hooks")
			if tc.address != "" {
				n.Resolve("shop.example", tc.address)
			}
			var seen attempts
			hooks := Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{AllowPrivate: tc.allow, Trace: seen.trace(), Logger: silent()})
			id := send(t, hooks, webhook.Event{})
			time.Sleep(time.Second)
			if tc.want {
				shop.RequireReceived(t, id)
			} else if shop.RequireNone(t); seen.all()[0].Error != webhook.NetErrorBlocked {
				t.Errorf("%s: %+v", tc.address, seen.all()[0])
			}
		})
	}
}

func TestNoSuchHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(t)
		shop := n.Receiver("https://shop.example/hooks")
		var seen attempts
		elsewhere, port, path := shop.Endpoint(), shop.Endpoint(), shop.Endpoint()
		elsewhere.ID, elsewhere.URL = "elsewhere", "https://nowhere.example/hooks"
		port.ID, port.URL = "port", "https://shop.example:8443/hooks"
		path.ID, path.URL = "path", "https://shop.example/other"
		hooks := Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{
			Trace: seen.trace(), Logger: silent(), Endpoints: []webhook.Endpoint{elsewhere, port, path},
		})
		id := send(t, hooks, webhook.Event{})
		time.Sleep(time.Second)
		shop.RequireOnce(t, id)
		got := map[string]bool{}
		for _, a := range seen.all() {
			got[fmt.Sprint(a.Status, a.Error)] = true
		}
		for _, want := range []string{"0dns", "0refused", "404", "200"} {
			if !got[want] {
				t.Errorf("no attempt ended with %s: %v", want, got)
			}
		}
	})
}

// A user's own receiving handler, behind the middleware, at the other end of the network.
func TestBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(t)
		store := memstore.New()
		secret := webhook.GenerateSecret()
		verifier, err := profile.StandardWebhooks().Verifier(secret)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var handled []string
		handler := webhook.Middleware(verifier, &webhook.ReceiveOptions{Dedupe: store})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			handled = append(handled, webhook.FromContext(r.Context()).ID)
			if len(handled) == 1 {
				w.WriteHeader(500)
			}
		}))
		shop := n.Receiver("https://shop.example/hooks", Handle(handler))
		ep := shop.Endpoint()
		ep.Secrets = []webhook.Secret{secret}
		hooks := Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{
			Profiles: []webhook.Profile{profile.StandardWebhooks()}, Endpoints: []webhook.Endpoint{ep}, Logger: silent(),
		})
		id := send(t, hooks, webhook.Event{Payload: []byte("{}")})
		shop.WaitFor(t, time.Hour, id)
		mu.Lock()
		defer mu.Unlock()
		if fmt.Sprint(handled) != fmt.Sprint([]string{id, id}) {
			t.Errorf("handled %v", handled)
		}
		resp, err := n.Client().Do(SignedRequest(t, profile.StandardWebhooks(), secret, []byte("{}"), ID(id), URL(shop.URL())))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.Header.Get(webhook.ReplayedHeader) != "true" || len(handled) != 2 {
			t.Errorf("a repeat: %d %s, handled %v", resp.StatusCode, body, handled)
		}
	})
}

// Without a bubble, in real time.
func TestRealTime(t *testing.T) {
	n := NewNetwork(t)
	shop := n.Receiver("https://shop.example/hooks", Close(), OK())
	ep := shop.Endpoint()
	ep.Schedule = webhook.Exponential(10*time.Millisecond, 10*time.Millisecond, 3)
	hooks := Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{ep}, Logger: silent(), Poll: 20 * time.Millisecond})
	shop.WaitFor(t, 10*time.Second, send(t, hooks, webhook.Event{}))
}

// The package comment's example, with the default profile.
func TestOutageOfHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(t)
		shop := n.Receiver("https://shop.example/hooks", Fail(503).For(5*time.Hour), OK())
		id := send(t, Dispatcher(t, n, memstore.New(), nil), webhook.Event{})
		time.Sleep(8 * time.Hour)
		shop.RequireOnce(t, id)
		shop.RequireAttempts(t, id, 6)
	})
}

// Days of a dispatcher at work pass quickly enough for a test. What else the machine does is not this package's: the best of some tries counts.
func TestDaysAreShort(t *testing.T) {
	best, most := time.Hour, 5*time.Second // 0.3 s where nothing else runs
	if raceDetector {
		most *= 10
	}
	for try := 0; try < 6 && best > most; try++ {
		began := time.Now()
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork(t)
			shop := n.Receiver("https://shop.example/hooks", Fail(503).For(72*time.Hour), OK())
			patient := profile.StandardWebhooks()
			patient.Schedule.Jitter = 0
			hooks := Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{Profiles: []webhook.Profile{patient}, Logger: silent()})
			id := send(t, hooks, webhook.Event{})
			time.Sleep(90 * time.Hour)
			shop.RequireOnce(t, id)
			if wait := shop.Requests()[1].At.Sub(shop.Requests()[0].At).Round(100 * time.Millisecond); wait != 5*time.Second {
				t.Errorf("the first retry came after %v, want 5s: a slow Poll must not delay it", wait)
			}
		})
		best = min(best, time.Since(began))
	}
	if best > most {
		t.Errorf("90 hours took %v, want at most %v", best, most)
	}
}

// A dispatcher of a test keeps its times: what it was told of is not late for its slow Poll.
func TestTimesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(t)
		shop := n.Receiver("https://shop.example/hooks", Fail(500).Times(2), OK())
		ep := shop.Endpoint()
		ep.Schedule = webhook.Schedule{Kind: "list", List: []time.Duration{1300 * time.Millisecond, 2 * time.Second}}
		hooks := Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{ep}, Logger: silent()})
		time.Sleep(12345 * time.Millisecond) // between two polls
		began := time.Now()
		ids := []string{
			send(t, hooks, webhook.Event{OrderingKey: "k"}), send(t, hooks, webhook.Event{OrderingKey: "k"}),
			send(t, hooks, webhook.Event{SendAt: began.Add(4700 * time.Millisecond)}), send(t, hooks, webhook.Event{OrderingKey: "k"}),
		}
		time.Sleep(time.Minute)
		shop.RequireOnce(t, ids...)
		shop.RequireOrder(t, ids[0], ids[1], ids[3])
		var at []time.Duration
		for _, q := range shop.Requests() {
			at = append(at, q.At.Sub(began).Round(50*time.Millisecond))
		}
		want := []time.Duration{0, 1300 * time.Millisecond, 3300 * time.Millisecond, 3300 * time.Millisecond, 3300 * time.Millisecond, 4700 * time.Millisecond}
		if fmt.Sprint(at) != fmt.Sprint(want) {
			t.Errorf("requests after %v, want %v", at, want)
		}
	})
}

// An endpoint of one's own for a receiver is the only one; several at one URL are all verified.
func TestOwnEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(t)
		shop := n.Receiver("https://shop.example/hooks")
		a, b := shop.Endpoint(), shop.Endpoint()
		a.ID, a.Tenant, a.Secrets = "a", "one", []webhook.Secret{webhook.GenerateSecret()}
		b.ID, b.Tenant, b.Secrets = "b", "two", []webhook.Secret{webhook.GenerateSecret()}
		hooks := Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{a, b}})
		one, two := send(t, hooks, webhook.Event{Tenant: "one"}), send(t, hooks, webhook.Event{Tenant: "two"})
		none := send(t, hooks, webhook.Event{})
		time.Sleep(time.Minute)
		shop.RequireOnce(t, one, two)
		shop.RequireNone(t, none)
		if got := shop.RequestsOf(two)[0]; got.Verification.Secret != 1 {
			t.Errorf("verified under secret %d", got.Verification.Secret)
		}
	})
}
