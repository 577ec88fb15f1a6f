package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// challenged is a receiver that answers verifications as answer says, and everything else with 200.
type challenged struct {
	mu     sync.Mutex
	answer func(challenge string) (int, string)
	asked  []time.Time
	got    []string // paths of other requests
}

func (c *challenged) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var ev struct{ Type, ID, Challenge string }
	_ = json.Unmarshal(body, &ev)
	c.mu.Lock()
	defer c.mu.Unlock()
	status, text := 200, ""
	if ev.Type == "webhook.verification" {
		c.asked = append(c.asked, time.Now())
		if r.Header.Get("Signature") == "" || ev.ID == "" {
			return nil, errors.New("unsigned, or without ID")
		}
		status, text = c.answer(ev.Challenge)
	} else {
		c.got = append(c.got, r.URL.Path)
	}
	return &http.Response{
		StatusCode: status, Body: io.NopCloser(bytes.NewReader([]byte(text))), ContentLength: int64(len(text)), Request: r,
	}, nil
}

func (c *challenged) counts() (asked []time.Time, got []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.asked), slices.Clone(c.got)
}

func verified(t *testing.T, id string, mode webhook.VerifyMode) webhook.Endpoint {
	ep := endpoint(t, id)
	ep.Verify = mode
	return ep
}

func TestVerifyBeforeFirstDelivery(t *testing.T) {
	echo := func(c string) (int, string) { return 200, c }
	for _, tc := range []struct {
		name   string
		mode   webhook.VerifyMode
		answer func(challenge string) (int, string)
		ok     bool
		reason string
	}{
		{"ping", webhook.VerifyPing, func(string) (int, string) { return 204, "" }, true, ""},
		{"ping refused", webhook.VerifyPing, func(string) (int, string) { return 404, "" }, false, "answered 404"},
		{"text", webhook.VerifyChallenge, echo, true, ""},
		{"text and a line", webhook.VerifyChallenge, func(c string) (int, string) { return 200, c + "\r\n" }, true, ""},
		{"JSON", webhook.VerifyChallenge, func(c string) (int, string) { return 200, `{"ok":true,"challenge":"` + c + `"}` }, true, ""},
		{"wrong status", webhook.VerifyChallenge, func(c string) (int, string) { return 500, c }, false, "answered 500"},
		{"nothing", webhook.VerifyChallenge, func(string) (int, string) { return 200, "" }, false, "without the challenge"},
		{"something else", webhook.VerifyChallenge, func(c string) (int, string) { return 200, c[1:] }, false, "without the challenge"},
		{"the request", webhook.VerifyChallenge, func(c string) (int, string) { return 200, `"challenge":"` + c }, false, "without the challenge"},
		{"other JSON", webhook.VerifyChallenge, func(c string) (int, string) { return 200, `{"challenge":["` + c + `"]}` }, false, "without the challenge"},
	} {
		for _, inCode := range []bool{false, true} {
			t.Run(tc.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var told []webhook.HealthInfo
					rc := &challenged{answer: tc.answer}
					r := &running{store: memstore.New()}
					opts := webhook.DispatcherOptions{Transport: rc, Trace: &webhook.Trace{Health: func(_ context.Context, i webhook.HealthInfo) { told = append(told, i) }}}
					ep := verified(t, "acme", tc.mode)
					ep.URL += "?k=hunter2"
					if inCode {
						r.start(t, opts, ep)
					} else {
						r.start(t, opts)
						put(t, r.Dispatcher, ep)
					}
					id := r.send(t, webhook.Event{Type: "a"})
					if _, got := rc.counts(); len(got) != 0 {
						t.Error("sent before it was verified")
					}
					time.Sleep(9 * time.Second)
					asked, got := rc.counts()
					if len(asked) != 1 {
						t.Errorf("asked %d times", len(asked))
					}
					del := r.delivery(t, id)
					r.stop()
					if tc.ok {
						if len(got) != 1 || del.State != webhook.Delivered {
							t.Errorf("%d sent, the delivery is %+v", len(got), del)
						}
						if len(told) != 1 || told[0].Kind != webhook.HealthVerified || told[0].URL != "https://acme.example/hooks?k=…" {
							t.Errorf("told %+v", told)
						}
						return
					}
					if len(got) != 0 || del.State != webhook.Held || len(told) != 0 {
						t.Errorf("%d sent, the delivery is %+v, told %+v", len(got), del, told)
					}
					holds, err := r.store.ListHolds(t.Context(), time.Now())
					if err != nil || len(holds) != 1 || holds[0].Kind != webhook.HoldUnverified || !strings.Contains(holds[0].Reason, tc.reason) {
						t.Errorf("holds %+v, %v", holds, err)
					}
				})
			})
		}
	}
}

// One that does not verify is asked at 0 s, 10 s, 70 s, 11 min 10 s, then hourly for three days; then never again by itself.
func TestVerificationGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []webhook.HealthInfo
		rc := &challenged{answer: func(string) (int, string) { return 404, "" }}
		r := &running{store: memstore.New()}
		r.start(t, webhook.DispatcherOptions{Transport: rc, Poll: 500 * time.Millisecond, Trace: &webhook.Trace{Health: func(_ context.Context, i webhook.HealthInfo) { told = append(told, i) }}})
		put(t, r.Dispatcher, verified(t, "acme", webhook.VerifyPing))
		began := time.Now()
		id := r.send(t, webhook.Event{Type: "a"})
		time.Sleep(2*time.Hour + 15*time.Minute)
		asked, _ := rc.counts()
		var at []time.Duration
		for _, a := range asked {
			at = append(at, a.Sub(began).Round(10*time.Second))
		}
		want := []time.Duration{0, 10 * time.Second, 70 * time.Second, 670 * time.Second, 4270 * time.Second, 7870 * time.Second}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		skipTries(t, r.store, 6, 73)
		time.Sleep(5 * time.Hour)
		if asked, _ := rc.counts(); len(asked) != 8 {
			t.Errorf("asked %d times, want 8 that stand for 75", len(asked))
		}
		// A person may ask; the answer then is what counts.
		if err := r.VerifyEndpoint(t.Context(), "acme"); !errors.Is(err, webhook.ErrUnverified) || !strings.HasSuffix(err.Error(), "answered 404") {
			t.Errorf("got %v", err)
		}
		rc.mu.Lock()
		rc.answer = func(string) (int, string) { return 200, "" }
		rc.mu.Unlock()
		if err := r.VerifyEndpoint(t.Context(), "acme"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if del := r.delivery(t, id); del.State != webhook.Delivered {
			t.Errorf("the delivery is %+v", del)
		}
		r.stop()
		if len(told) != 2 || told[0].Kind != webhook.HealthUnverified || told[1].Kind != webhook.HealthVerified {
			t.Errorf("told %+v", told)
		}
	})
}

// skipTries changes the number of tries that an endpoint's document has.
func skipTries(t *testing.T, store *memstore.Store, from, to int) {
	t.Helper()
	res, err := store.StateChanges(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	s := res.States[0]
	doc := strings.Replace(string(s.Doc), fmt.Sprintf(`"vt":%d`, from), fmt.Sprintf(`"vt":%d`, to), 1)
	if doc == string(s.Doc) {
		t.Fatalf("%s has not %d tries", doc, from)
	}
	put := webhook.NewState{EndpointID: s.EndpointID, Version: s.Version, Doc: []byte(doc), NotBefore: s.NotBefore}
	if _, err := store.PutStates(t.Context(), &webhook.PutStatesRequest{Now: time.Now(), States: []webhook.NewState{put}}); err != nil {
		t.Fatal(err)
	}
}

// Another URL is another endpoint: nothing goes to it before it has answered. The same URL put again is verified already, and a process that
// starts anew knows.
func TestVerificationIsOfTheURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := &challenged{answer: func(string) (int, string) { return 200, "" }}
		r := &running{store: memstore.New()}
		r.start(t, webhook.DispatcherOptions{Transport: rc})
		ep := verified(t, "acme", webhook.VerifyPing)
		put(t, r.Dispatcher, ep)
		time.Sleep(2 * time.Second)
		ep.MaxInFlight = 3
		put(t, r.Dispatcher, ep)
		r.send(t, webhook.Event{Type: "a"})
		time.Sleep(time.Second)
		if asked, got := rc.counts(); len(asked) != 1 || len(got) != 1 {
			t.Errorf("asked %d times, %d sent; want 1 and 1", len(asked), len(got))
		}
		rc.mu.Lock()
		rc.answer = func(string) (int, string) { return 500, "" }
		rc.mu.Unlock()
		ep.URL = "https://acme.example/other"
		put(t, r.Dispatcher, ep)
		r.send(t, webhook.Event{Type: "a"})
		time.Sleep(30 * time.Second)
		if _, got := rc.counts(); len(got) != 1 {
			t.Errorf("sent to the new URL: %v", got)
		}
		r.stop()
		rc.mu.Lock()
		rc.answer = func(string) (int, string) { return 200, "" }
		rc.mu.Unlock()
		r.start(t, webhook.DispatcherOptions{Transport: rc})
		time.Sleep(2 * time.Minute)
		asked, got := rc.counts()
		if len(got) != 2 || got[1] != "/other" {
			t.Errorf("sent to %v", got)
		}
		r.stop()
		r.start(t, webhook.DispatcherOptions{Transport: rc})
		r.send(t, webhook.Event{Type: "a"})
		time.Sleep(time.Minute)
		if again, got := rc.counts(); len(again) != len(asked) || len(got) != 3 {
			t.Errorf("a process that starts anew asked %d times more; %d sent", len(again)-len(asked), len(got))
		}
		// Without Verify nothing stands in the way any more.
		rc.mu.Lock()
		rc.answer = func(string) (int, string) { return 500, "" }
		rc.mu.Unlock()
		ep.URL = "https://acme.example/third"
		put(t, r.Dispatcher, ep)
		r.send(t, webhook.Event{Type: "a"})
		time.Sleep(5 * time.Second)
		ep.Verify = ""
		put(t, r.Dispatcher, ep)
		time.Sleep(5 * time.Second)
		if _, got := rc.counts(); len(got) != 4 {
			t.Errorf("%d sent, want 4", len(got))
		}
	})
}

// One success is enough for all processes, and they do not multiply the tries. A person's pause outlasts the verification.
func TestVerifiedOnceByManyProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		refuse := true
		rc := &challenged{answer: func(string) (int, string) {
			if refuse {
				return 500, ""
			}
			return 200, ""
		}}
		var mu sync.Mutex
		var told []webhook.HealthInfo
		var all []*running
		for range 4 {
			r := &running{store: store}
			r.start(t, webhook.DispatcherOptions{Transport: rc, Trace: &webhook.Trace{Health: func(_ context.Context, i webhook.HealthInfo) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, i)
			}}})
			all = append(all, r)
		}
		put(t, all[0].Dispatcher, verified(t, "acme", webhook.VerifyPing))
		time.Sleep(30 * time.Second)
		if asked, _ := rc.counts(); len(asked) != 2 {
			t.Errorf("asked %d times in 30 s by 4 processes, want 2", len(asked))
		}
		rc.mu.Lock()
		refuse = false
		rc.mu.Unlock()
		for _, r := range all {
			r.send(t, webhook.Event{Type: "a"})
		}
		if err := all[2].PauseEndpoint(t.Context(), "acme", "holidays"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		asked, got := rc.counts()
		if len(asked) != 3 || len(got) != 0 {
			t.Errorf("asked %d times, %d sent while paused", len(asked), len(got))
		}
		if err := all[1].ResumeEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if _, got := rc.counts(); len(got) != 4 || len(told) != 1 {
			t.Errorf("%d of 4 sent, told %+v", len(got), told)
		}
	})
}

// What health keeps in the same document stays.
func TestVerificationKeepsTheRestOfTheDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := &challenged{answer: func(string) (int, string) { return 200, "" }}
		store := memstore.New()
		before := time.Now().Add(time.Hour)
		if _, err := store.PutStates(t.Context(), &webhook.PutStatesRequest{Now: time.Now(), States: []webhook.NewState{
			{EndpointID: "acme", Doc: []byte(`{"future":{"x":1},"ls":7}`), NotBefore: before},
		}}); err != nil {
			t.Fatal(err)
		}
		d, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{Transport: rc, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		put(t, d, verified(t, "acme", webhook.VerifyPing))
		if err := d.VerifyEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		res, err := store.StateChanges(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		s := res.States[0]
		if !strings.Contains(string(s.Doc), `"future":{"x":1}`) || !strings.Contains(string(s.Doc), `"ls":7`) || !s.NotBefore.Equal(before) || s.Hold != nil {
			t.Errorf("got %s %+v", s.Doc, s)
		}
	})
}
