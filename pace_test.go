package webhook_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// One answer with Retry-After stops the whole lane but what is under way, also deliveries sent later, and no other endpoint.
func TestRetryAfterHoldsTheLane(t *testing.T) {
	for _, status := range []int{429, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var once sync.Once
				rc := &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
					time.Sleep(100 * time.Millisecond)
					code, h := 200, http.Header(nil)
					if r.URL.Host == "acme.example" {
						once.Do(func() { code, h = status, http.Header{"Retry-After": {"60"}} })
					}
					return code, h, nil
				}}
				r := &running{store: memstore.New(), rc: rc}
				r.start(t, webhook.DispatcherOptions{}, watchedEndpoint(t, "acme", webhook.Graduated()), watchedEndpoint(t, "other", webhook.Graduated()))
				synctest.Wait()
				began := time.Now()
				for range 400 {
					r.send(t, webhook.Event{Type: "x"})
					time.Sleep(time.Millisecond)
				}
				time.Sleep(59 * time.Second)
				count := map[string]int{}
				for _, g := range rc.requests() {
					if g.at.After(began.Add(100 * time.Millisecond)) {
						count[g.url[8:12]]++
					}
				}
				if count["acme"] > 1 || count["othe"] < 350 {
					t.Errorf("after the answer: %v requests, want none to acme", count)
				}
				if h, err := r.Health(t.Context(), "acme"); err != nil || h.NotBefore.Sub(began).Round(time.Second) != 60*time.Second || h.Stage != webhook.HealthOK {
					t.Errorf("health is %+v, %v", h, err)
				}
				time.Sleep(time.Minute)
				if n := len(rc.requests()); n != 801 {
					t.Errorf("%d requests in the end, want 801", n)
				}
			})
		})
	}
}

// throttling is a receiver that answers 429 to what is more than so many a second, with a burst of a quarter of a second.
type throttling struct {
	mu    sync.Mutex
	limit float64
	level float64
	last  time.Time
	good  []time.Time
	bad   []time.Time
}

func (l *throttling) answer(*http.Request, int) (int, http.Header, error) {
	l.mu.Lock()
	now := time.Now()
	l.level = max(l.level-now.Sub(l.last).Seconds()*l.limit, 0)
	l.last = now
	ok := l.level < max(l.limit/4, 1)
	if ok {
		l.level++
		l.good = append(l.good, now)
	} else {
		l.bad = append(l.bad, now)
	}
	l.mu.Unlock()
	time.Sleep(10 * time.Millisecond)
	if !ok {
		return 429, nil, nil
	}
	return 200, nil, nil
}

// between counts what was accepted and refused.
func (l *throttling) between(from, to time.Time) (good, bad float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.good {
		if !at.Before(from) && at.Before(to) {
			good++
		}
	}
	for _, at := range l.bad {
		if !at.Before(from) && at.Before(to) {
			bad++
		}
	}
	return good, bad
}

// A receiver that takes 20 a second gets about that from two processes together, and soon all when it takes all.
func TestSlowDownAndRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &throttling{limit: 20}
		store := memstore.New()
		ep := watchedEndpoint(t, "acme", webhook.Graduated())
		ep.Schedule = webhook.Exponential(10*time.Second, 10*time.Second, 900)
		var all []*running
		for range 2 {
			r := &running{store: store, rc: &receiver{answer: l.answer}}
			r.start(t, webhook.DispatcherOptions{}, ep)
			all = append(all, r)
		}
		synctest.Wait()
		began := time.Now()
		for i := range 12_000 { // 100 a second
			all[i%2].send(t, webhook.Event{Type: "x"})
			time.Sleep(10 * time.Millisecond)
		}
		good, bad := l.between(began.Add(30*time.Second), began.Add(120*time.Second))
		good, bad = good/90, bad/90
		t.Logf("limit 20/s: %.1f/s accepted, %.1f/s refused", good, bad)
		if good < 10 || good+bad > 25 {
			t.Errorf("%.1f/s accepted, %.1f/s refused; want 10 to 25 together", good, bad)
		}
		l.mu.Lock()
		l.limit = 1e6
		l.mu.Unlock()
		lifted := time.Now()
		time.Sleep(30 * time.Second)
		n, _ := l.between(lifted.Add(29*time.Second), lifted.Add(30*time.Second))
		if all[0].stage(t, "acme") != webhook.HealthOK {
			t.Errorf("30 s after the limit was lifted: %s, %.0f in the last second", all[0].stage(t, "acme"), n)
		}
	})
}

// However many attempts under way come back throttled, and in however many processes, the pace is lowered once for them.
func TestSlowDownIsOnceAnEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		rc := &receiver{answer: func(_ *http.Request, n int) (int, http.Header, error) {
			if n <= 1200 {
				time.Sleep(20 * time.Millisecond)
				return 200, nil, nil
			}
			time.Sleep(time.Duration(n%40) * 100 * time.Millisecond) // what was begun at once ends over 4 s
			return 503, nil, nil
		}}
		ep := watchedEndpoint(t, "acme", webhook.Graduated())
		ep.MaxInFlight = 100
		var all []*running
		for range 2 {
			r := &running{store: store, rc: rc}
			r.start(t, webhook.DispatcherOptions{}, ep)
			all = append(all, r)
		}
		synctest.Wait()
		for i := range 1200 {
			all[i%2].send(t, webhook.Event{Type: "x"})
			time.Sleep(10 * time.Millisecond)
		}
		for i := range 200 {
			all[i%2].send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(time.Second)
		h, err := all[0].Health(t.Context(), "acme")
		if err != nil || h.Stage != webhook.HealthSlowed {
			t.Fatalf("health is %+v, %v", h, err)
		}
		first := h.Pace
		time.Sleep(2500 * time.Millisecond)
		h, _ = all[1].Health(t.Context(), "acme")
		if ratio := float64(h.Pace.Per) / float64(first.Per); ratio > 4.1 {
			t.Errorf("pace went from %v to %v within 2.5 s, want it halved twice at most", first, h.Pace)
		}
	})
}

// With NoHealth nothing but its own schedule decides on a delivery.
func TestNoHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log healthLog
		s := &states{Store: memstore.New()}
		rc := &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
			return 503, http.Header{"Retry-After": {"60"}}, nil
		}}
		r := &running{store: s.Store, on: s, rc: rc}
		r.start(t, webhook.DispatcherOptions{Trace: log.trace()}, endpoint(t, "acme"))
		for range 100 {
			r.send(t, webhook.Event{Type: "x"})
			time.Sleep(10 * time.Millisecond)
		}
		if n, puts := len(rc.requests()), s.counts().puts; n != 100 || puts != 0 || log.count() != 0 {
			t.Errorf("%d requests, %d puts, told of %d; want 100, 0 and nothing", n, puts, log.count())
		}
	})
}
