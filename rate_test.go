package webhook_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// peak is the most that any window of time has of at, which is in order, beyond what a steady rate gives in it: what the burst of a
// bucket has to hold.
func peak(at []time.Time, perSecond float64) float64 {
	most, least := 0.0, math.Inf(1)
	for i, t := range at {
		steady := perSecond * t.Sub(at[0]).Seconds()
		least = min(least, float64(i)-steady)
		most = max(most, float64(i+1)-steady-least)
	}
	return most
}

func TestPeak(t *testing.T) {
	epoch := time.Unix(0, 0)
	for _, tc := range []struct {
		ms   []int
		want float64
	}{
		{[]int{0}, 1},
		{[]int{0, 0, 0}, 3},
		{[]int{0, 100, 200, 300}, 1},
		{[]int{0, 100, 200, 200, 200, 300, 1000}, 3},
		{[]int{0, 50, 100, 150}, 2.5},
	} {
		var at []time.Time
		for _, ms := range tc.ms {
			at = append(at, epoch.Add(time.Duration(ms)*time.Millisecond))
		}
		if got := peak(at, 10); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("peak of %v is %v, want %v", tc.ms, got, tc.want)
		}
	}
}

// begunAt is when attempts for endpoints whose host begins with a prefix began.
func begunAt(rc *receiver, host string) (at []time.Time) {
	for _, g := range rc.requests() {
		if strings.Contains(g.url, "//"+host) {
			at = append(at, g.at)
		}
	}
	return at
}

// In no window of time do more attempts begin than the rate's burst and what it gives in that time, and the stated error: nothing
// where senders are free and attempts quick, else what is claimed ahead, and what waits for a sender. One dispatcher or
// four, they share the rate, and a backlog uses it up.
func TestRateErrorIsBounded(t *testing.T) {
	const inFlight = 16
	rates := []webhook.Rate{
		{Events: 20, Burst: 5}, {Events: 3}, {Events: 30, Burst: 1}, {Events: 100, Burst: 10}, {Events: 1, Per: 10 * time.Second},
		webhook.PerSecond(50), {Events: 36_000, Per: time.Minute, Burst: 100},
	}
	for _, tc := range []struct {
		name  string
		took  func(n int) time.Duration
		busy  bool // other endpoints use all senders
		ahead bool // attempts are too slow for the rate
	}{
		{"quick", func(int) time.Duration { return time.Millisecond }, false, false},
		{"slow", func(int) time.Duration { return 700 * time.Millisecond }, false, true},
		{"slow at times", func(n int) time.Duration { return time.Duration(1+n/50%2*900) * time.Millisecond }, false, true},
		{"busy senders", func(int) time.Duration { return 10 * time.Millisecond }, true, true},
	} {
		for _, dispatchers := range []int{1, 4} {
			for i, rate := range rates {
				if i%3 > 0 && tc.name != "quick" {
					continue
				}
				name := fmt.Sprintf("%s/%d dispatchers/%d each %v burst %d", tc.name, dispatchers, rate.Events, rate.Per, rate.Burst)
				t.Run(name, func(t *testing.T) {
					perSecond, burst := float64(rate.Events), float64(rate.Burst)
					if rate.Per > 0 {
						perSecond /= rate.Per.Seconds()
					}
					if rate.Burst == 0 {
						burst = float64(rate.Events)
					}
					may := burst + 1e-6
					if tc.ahead {
						may += float64(dispatchers) * math.Floor(perSecond/50)
					}
					if tc.busy {
						may += float64(dispatchers * inFlight)
					}
					at, took := limitedRun(t, rate, inFlight, dispatchers, tc.took, tc.busy)
					if got := peak(at, perSecond); got > may {
						t.Errorf("a window has %.2f attempts more than the rate, want at most %.2f", got, may)
					}
					if all := burst + perSecond*took.Seconds(); !tc.ahead && float64(len(at)+1) < 0.95*all {
						t.Errorf("%d attempts in %v, want at least 95 %% of %.0f", len(at), took, all)
					}
				})
			}
		}
	}
}

// limitedRun sends more to a limited endpoint than it may get, and returns when attempts began.
func limitedRun(t *testing.T, rate webhook.Rate, inFlight, dispatchers int, takes func(n int) time.Duration, busy bool) (at []time.Time, took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		took = 8 * time.Second
		if rate.Per > time.Second {
			took = 2 * time.Minute
		}
		perSecond := float64(rate.Events)
		if rate.Per > 0 {
			perSecond /= rate.Per.Seconds()
		}
		if perSecond > 100 {
			took = 3 * time.Second
		}
		backlog := int(1.2*(perSecond*took.Seconds()+float64(max(rate.Burst, int(perSecond))))) + 50
		var n atomic.Int64
		store, rc := memstore.New(), &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
			if strings.HasPrefix(r.URL.Host, "limited") {
				time.Sleep(takes(int(n.Add(1))))
			} else {
				time.Sleep(10 * time.Millisecond)
			}
			return 200, nil, nil
		}}
		limited := endpoint(t, "limited", "l")
		limited.Rate, limited.MaxInFlight = rate, inFlight
		eps := []webhook.Endpoint{limited, endpoint(t, "one", "o"), endpoint(t, "two", "o"), endpoint(t, "three", "o")}
		other := sender(t, store, eps...)
		send := func(kind string, n int) {
			for range n {
				if _, err := other.Send(t.Context(), webhook.Event{Type: kind}); err != nil {
					t.Fatal(err)
				}
			}
		}
		send("l", backlog)
		opts := webhook.DispatcherOptions{}
		if busy {
			opts.Senders = 4
			send("o", int(took.Seconds()*400*float64(dispatchers)/3*1.2))
		}
		for range dispatchers {
			(&running{store: store, rc: rc}).start(t, opts, eps...)
		}
		time.Sleep(took)
		at = begunAt(rc, "limited")
	})
	return at, took
}

// A limited endpoint is claimed for on few occasions, each time for several, whatever its rate; and many are claimed for together.
func TestLimitedEndpointsAreClaimedTogether(t *testing.T) {
	for _, tc := range []struct {
		endpoints int
		rate      webhook.Rate
		most      int64 // claims a second
	}{
		{1, webhook.PerSecond(500), 105},
		{1, webhook.PerSecond(5), 8},
		{200, webhook.PerSecond(20), 320},
		{200, webhook.PerSecond(100), 450}, // the in-flight cap makes it ask for fewer
	} {
		t.Run(fmt.Sprintf("%d of %d a second", tc.endpoints, tc.rate.Events), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var claims atomic.Int64
				r := &running{store: memstore.New(), rc: &receiver{answer: takes(time.Millisecond)}}
				r.on = &faulty{Store: r.store, claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
					claims.Add(1)
					time.Sleep(200 * time.Microsecond)
					return r.store.Claim(ctx, req)
				}}
				var eps []webhook.Endpoint
				for i := range tc.endpoints {
					ep := endpoint(t, fmt.Sprintf("e%03d", i))
					ep.Rate = tc.rate
					eps = append(eps, ep)
				}
				other := sender(t, r.store, eps...)
				const seconds = 3
				for range tc.rate.Events * (seconds + 3) {
					if _, err := other.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
						t.Fatal(err)
					}
				}
				r.start(t, webhook.DispatcherOptions{}, eps...)
				time.Sleep(2 * time.Second) // the bursts are spent
				before, sent := claims.Load(), len(r.rc.requests())
				time.Sleep(seconds * time.Second)
				n, sent := (claims.Load()-before)/seconds, len(r.rc.requests())-sent
				t.Logf("%d claims a second for %d attempts a second", n, sent/seconds)
				if n > tc.most {
					t.Errorf("%d claims a second, want at most %d", n, tc.most)
				}
				if want := tc.endpoints * tc.rate.Events * seconds; sent < want*95/100 || sent > want*102/100 {
					t.Errorf("%d attempts in %ds, want %d", sent, seconds, want)
				}
			})
		})
	}
}

// A rate that is changed to a looser one applies at the next poll, not when the old one would have allowed the next attempt.
func TestLooserRateAppliesSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{}}
		r.start(t, webhook.DispatcherOptions{})
		ep := endpoint(t, "acme")
		ep.Rate = webhook.Rate{Events: 1, Per: time.Hour}
		if err := r.PutEndpoint(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(time.Minute)
		if n := len(r.rc.requests()); n != 1 {
			t.Fatalf("%d attempts at one an hour, want 1", n)
		}
		ep.Rate = webhook.PerSecond(20)
		if err := r.PutEndpoint(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if n := len(r.rc.requests()); n != 20 {
			t.Errorf("%d attempts 3s after the rate became 20 a second, want 20", n)
		}
	})
}
