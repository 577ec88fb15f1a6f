package webhooktest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/profile"
	. "github.com/signalpost/webhook/webhooktest"
)

// fakeTB is a test that may fail without failing the test that it is in.
type fakeTB struct {
	testing.TB
	text string
}

func (f *fakeTB) Helper() {}

func (f *fakeTB) Fatal(args ...any) {
	f.text = args[0].(string)
	runtime.Goexit()
}

func (f *fakeTB) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

// failure is how an assertion fails; "" when it does not.
func failure(t testing.TB, assert func(t testing.TB)) string {
	f := &fakeTB{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		assert(f)
	}()
	<-done
	return f.text
}

func TestAssertions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(t)
		shop := n.Receiver("https://shop.example/hooks", Fail(503), Fail(500), Hang(), OK())
		quiet := n.Receiver("https://quiet.example/hooks")
		ep := shop.Endpoint()
		ep.Schedule = webhook.Exponential(time.Minute, time.Minute, 3)
		ep.Schedule.Jitter = 0
		other := quiet.Endpoint()
		other.Types = []string{"nothing"}
		hooks := Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{ep, other}, Logger: silent()})
		first := send(t, hooks, webhook.Event{ID: "evt_1"})
		time.Sleep(30 * time.Second)

		for _, tc := range []struct {
			name   string
			assert func(t testing.TB)
			want   string // beginning of each line
		}{
			{"received too early", func(t testing.TB) { shop.RequireReceived(t, first) }, `webhooktest: https://shop.example/hooks: event evt_1 came 1 time and was not accepted; the last: evt_1 answered 503
	1 request came:
	+0s evt_1 answered 503`},
			{"never came", func(t testing.TB) { quiet.RequireReceived(t, "evt_1", "evt_2") }, `webhooktest: https://quiet.example/hooks: event evt_1 never came
	event evt_2 never came
	no request came`},
			{"once", func(t testing.TB) { quiet.RequireOnce(t, "evt_1") }, `webhooktest: https://quiet.example/hooks: event evt_1 never came
	no request came`},
			{"attempts", func(t testing.TB) { shop.RequireAttempts(t, "evt_1", 2) }, `webhooktest: https://shop.example/hooks: event evt_1 was tried 1 times, want 2
	1 request came:
	+0s evt_1 answered 503`},
			{"none", func(t testing.TB) { shop.RequireNone(t) }, `webhooktest: https://shop.example/hooks: 1 request came, want none
	1 request came:
	+0s evt_1 answered 503`},
			{"none of it", func(t testing.TB) { shop.RequireNone(t, "evt_1", "evt_2") }, `webhooktest: https://shop.example/hooks: 1 request of evt_1, evt_2 came, want none
	1 request came:
	+0s evt_1 answered 503`},
			{"waiting in vain", func(t testing.TB) { quiet.WaitFor(t, time.Second, "evt_1") }, `webhooktest: https://quiet.example/hooks: waited 1s
	event evt_1 never came
	no request came`},
			{"no ID", func(t testing.TB) { shop.RequireReceived(t, "") }, `webhooktest: no event is named, or one with an empty ID: was the error of Send looked at?`},
			{"nothing named", func(t testing.TB) { shop.RequireOrder(t) }, `webhooktest: no event is named, or one with an empty ID: was the error of Send looked at?`},
			{"waiting for nothing", func(t testing.TB) { shop.WaitFor(t, time.Hour) }, `webhooktest: WaitFor names no event`},
			{"fine", func(t testing.TB) { shop.RequireAttempts(t, "evt_1", 1) }, ``},
			{"none indeed", func(t testing.TB) { quiet.RequireNone(t); shop.RequireNone(t, "evt_2") }, ``},
		} {
			if diff := cmp.Diff(tc.want, failure(t, tc.assert)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.name, diff)
			}
		}

		shop.WaitFor(t, time.Hour, first)
		second := send(t, hooks, webhook.Event{ID: "evt_2"})
		shop.WaitFor(t, time.Hour, second)
		shop.RequireOnce(t, first, second)
		shop.RequireOrder(t, first, second)
		shop.RequireReceived(t, second, first)
		text := failure(t, func(t testing.TB) { shop.RequireOrder(t, second, first) })
		if !strings.Contains(text, "event evt_1 was accepted before event evt_2, want after it") || !strings.Contains(text, "evt_1 not answered (hang)") {
			t.Error(text)
		}
	})
}

// What is accepted twice is told, and a long list is cut.
func TestOnceIsNotTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(t)
		secret := webhook.GenerateSecret()
		shop := n.Receiver("https://shop.example/hooks").Verify(t, profile.StandardWebhooks(), secret)
		post := func(changes ...Change) {
			resp, err := n.Client().Do(SignedRequest(t, profile.StandardWebhooks(), secret, []byte("{}"), append(changes, URL(shop.URL()))...))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		post(ID("evt_1"))
		shop.RequireOnce(t, "evt_1")
		post(ID("evt_1"))
		if text := failure(t, func(t testing.TB) { shop.RequireOnce(t, "evt_1") }); !strings.Contains(text, "event evt_1 was accepted 2 times, want once") {
			t.Error(text)
		}
		post(ID("evt_2"), Tampered())
		text := failure(t, func(t testing.TB) { shop.RequireReceived(t, "evt_2") })
		if !strings.Contains(text, `an unnamed event ("{|") refused with 401: webhook: verify: signature does not match under the secret`) {
			t.Error(text)
		}
		for range 30 {
			post(ID("evt_3"))
		}
		text = failure(t, func(t testing.TB) { shop.RequireReceived(t, "evt_4") })
		if lines := strings.Count(text, "\n"); lines != 22 || !strings.Contains(text, "… 13 more") || !strings.Contains(text, "33 requests came:") {
			t.Errorf("%d lines: %s", lines, text)
		}
	})
}

func TestSignedRequest(t *testing.T) {
	body := []byte(`{"id":"evt_test","type":"order_create"}`)
	for _, p := range profile.All() {
		synctest.Test(t, func(t *testing.T) {
			secret, old := webhook.GenerateSecret(), webhook.GenerateSecret()
			v, err := p.Verifier(secret)
			if err != nil {
				t.Fatal(err)
			}
			verify := func(changes ...Change) error {
				r := SignedRequest(t, p, secret, body, changes...)
				sent, err := io.ReadAll(r.Body)
				if err != nil || int64(len(sent)) != r.ContentLength {
					t.Errorf("%d bytes, %v", len(sent), err)
				}
				_, err = v.Verify(r.Header, sent)
				return err
			}
			for name, tc := range map[string]struct {
				change Change
				want   error
			}{
				"usual":    {ID("evt_9"), nil},
				"tampered": {Tampered(), webhook.ErrSignatureMismatch},
				"forged":   {Forged(), webhook.ErrSignatureMismatch},
				"unsigned": {Unsigned(), webhook.ErrHeaderMissing},
				"header":   {Header("X-Other", "a"), nil},
			} {
				if err := verify(tc.change); !errors.Is(err, tc.want) {
					t.Errorf("%s, %s: %v, want %v", p.Name, name, err, tc.want)
				}
			}
			if p.Tolerance > 0 {
				for want, change := range map[error]Change{webhook.ErrTimestampTooOld: Stale(), webhook.ErrTimestampTooNew: Ahead(), nil: At(time.Now().Add(-p.Tolerance))} {
					if err := verify(change); !errors.Is(err, want) {
						t.Errorf("%s: %v, want %v", p.Name, err, want)
					}
				}
			} else if text := failure(t, func(t testing.TB) { SignedRequest(t, p, secret, body, Stale()) }); !strings.Contains(text, "has no freshness rule") {
				t.Errorf("%s: stale: %q", p.Name, text)
			}
			if err := verify(Forged(), Also(secret)); p.Name == "gethook" && err != nil {
				t.Errorf("%s with both secrets: %v", p.Name, err)
			}
			if _, err := p.Verifier(secret, old); err != nil {
				t.Error(err)
			}
		})
	}
	if text := failure(t, func(t testing.TB) { SignedRequest(t, profile.Gett(), webhook.Secret{}, body) }); !strings.Contains(text, "secrets[0]: is empty") {
		t.Errorf("without a secret: %q", text)
	}
	if text := failure(t, func(t testing.TB) { SignedRequest(t, profile.Gett(), webhook.GenerateSecret(), nil, Tampered()) }); !strings.Contains(text, "no body to tamper with") {
		t.Errorf("tampered nothing: %q", text)
	}
	if text := failure(t, func(t testing.TB) { SignedRequest(t, profile.Gett(), webhook.GenerateSecret(), nil, URL("hooks")) }); !strings.Contains(text, "not an absolute URL") {
		t.Errorf("a path: %q", text)
	}
}

func TestMisuse(t *testing.T) {
	n := NewNetwork(t)
	n.Receiver("https://shop.example/hooks")
	for name, tc := range map[string]struct {
		misuse func(t testing.TB)
		want   string
	}{
		"no URL": {func(t testing.TB) { NewNetwork(t).Receiver("shop.example/hooks") }, "is not an absolute http or https URL"},
		"the same twice": {func(t testing.TB) {
			m := NewNetwork(t)
			m.Receiver("http://a.example")
			m.Receiver("http://a.example/")
		}, "there is a receiver at http://a.example/ already"},
		"http and https": {func(t testing.TB) {
			m := NewNetwork(t)
			m.Receiver("http://a.example:1")
			m.Receiver("https://a.example:1/b")
		}, "speaks both http and https"},
		"no status":  {func(t testing.TB) { NewNetwork(t).Receiver("http://a.example", OK(), Answer(0)) }, "answers 0, want a status"},
		"no address": {func(t testing.TB) { NewNetwork(t).Resolve("a.example", "localhost") }, `"localhost" is not an IP address`},
		"no secret": {func(t testing.TB) {
			NewNetwork(t).Receiver("http://a.example").Verify(t, profile.Gett(), webhook.Secret{})
		}, "is empty"},
		"wrong options": {func(t testing.TB) { Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{Senders: -1}) }, "Senders is -1"},
		"other transport": {func(t testing.TB) {
			Dispatcher(t, n, memstore.New(), &webhook.DispatcherOptions{Transport: http.DefaultTransport})
		}, "Transport: excludes"},
	} {
		if text := failure(t, tc.misuse); !strings.Contains(strings.ReplaceAll(text, "Senders: is", "Senders is"), tc.want) {
			t.Errorf("%s: %q, want %q", name, text, tc.want)
		}
	}
}
