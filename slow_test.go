package webhook_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// However many endpoints begin to hang at once, with backlogs and after they were quick, the others wait little longer
// than it takes to tell: a second.
func TestEndpointsThatBeginToHangDelayNoOther(t *testing.T) {
	for _, tc := range []struct {
		hung int
		from time.Duration // when the promise holds
	}{
		{2, 0}, {20, 0}, {45, 0},
		{150, 31 * time.Second}, // more than there are places for: when the first have timed out
	} {
		hung := tc.hung
		t.Run(fmt.Sprint(hung), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hangs atomic.Bool
				rc := &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
					if hangs.Load() && strings.HasPrefix(r.URL.Host, "hung") {
						return hang(r)
					}
					time.Sleep(time.Millisecond)
					return 200, nil, nil
				}}
				eps := []webhook.Endpoint{endpoint(t, "healthy", "ok")}
				for i := range hung {
					eps = append(eps, endpoint(t, fmt.Sprintf("hung%d", i), "h"))
				}
				r := &running{store: memstore.New(), rc: rc}
				other := sender(t, r.store, eps...) // what it sends has to be claimed
				r.start(t, webhook.DispatcherOptions{}, eps...)
				synctest.Wait()
				for range 20 {
					r.send(t, webhook.Event{Type: "h"}) // they are known to be quick
				}
				time.Sleep(time.Second)
				hangs.Store(true)
				for range 40_000/hung + 20 {
					if _, err := other.Send(t.Context(), webhook.Event{Type: "h"}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(tc.from)
				sent, most := 0, time.Duration(0)
				for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); sent++ {
					began, before := time.Now(), delivered(rc, "healthy")
					if _, err := other.Send(t.Context(), webhook.Event{Type: "ok"}); err != nil {
						t.Fatal(err)
					}
					for delivered(rc, "healthy") == before && time.Since(began) < time.Minute {
						time.Sleep(50 * time.Millisecond)
					}
					most = max(most, time.Since(began))
				}
				// An attempt is known to be slow after 1 s; two waves of them may come in a row, and a look every 50 ms.
				if most > 3*time.Second {
					t.Errorf("of %d deliveries to the healthy endpoint one waited %v, want at most 3s", sent, most)
				}
			})
		})
	}
}

func delivered(rc *receiver, host string) (n int) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	for i := len(rc.got) - 1; i >= 0; i-- {
		if strings.Contains(rc.got[i].url, "//"+host) {
			n++
		}
	}
	return n
}

// Senders bounds attempts under way; those that last over a second are bounded at three times as many.
func TestSendersBoundsAttempts(t *testing.T) {
	for _, tc := range []struct {
		name     string
		took     time.Duration
		min, max int64
	}{{"quick", 900 * time.Millisecond, 4, 4}, {"slow", 20 * time.Second, 12, 16}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var now, most atomic.Int64
				r := &running{store: memstore.New(), rc: &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
					n := now.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					time.Sleep(tc.took)
					now.Add(-1)
					return 200, nil, nil
				}}}
				r.start(t, webhook.DispatcherOptions{Senders: 4, Grace: time.Minute}, endpoint(t, "a"), endpoint(t, "b"), endpoint(t, "c"))
				for range 40 {
					r.send(t, webhook.Event{Type: "x"})
				}
				time.Sleep(10 * time.Minute)
				if n := len(r.rc.requests()); n != 120 || most.Load() < tc.min || most.Load() > tc.max {
					t.Errorf("%d attempts, at most %d at once; want 120, and %d to %d", n, most.Load(), tc.min, tc.max)
				}
			})
		})
	}
}

// Claims ask for no more than may wait in memory, whatever the payloads weigh.
func TestClaimsAreBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		var most int
		r := &running{store: store, rc: &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) { return hang(r) }}}
		r.on = &faulty{Store: store, claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
			res, err := store.Claim(ctx, req)
			n := 0
			for i := range res.Deliveries {
				n += len(res.Deliveries[i].Event.Payload)
			}
			most = max(most, n)
			return res, err
		}}
		var eps []webhook.Endpoint
		for i := range 32 {
			eps = append(eps, endpoint(t, fmt.Sprintf("e%02d", i)))
		}
		other := sender(t, store, eps...)
		payload := bytes.Repeat([]byte("x"), 1<<20)
		for range 8 {
			if _, err := other.Send(t.Context(), webhook.Event{Type: "x", Payload: payload}); err != nil {
				t.Fatal(err)
			}
		}
		r.rc = nil
		r.start(t, webhook.DispatcherOptions{Grace: time.Second, Transport: hanging{}}, eps...)
		time.Sleep(time.Second)
		r.stop()
		if most == 0 || most > 65<<20 {
			t.Errorf("a claim brought %d MiB, want at most 64", most>>20)
		}
	})
}

// hanging never answers, and keeps nothing.
type hanging struct{}

func (hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}
