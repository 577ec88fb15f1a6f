package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

func failedDial(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError("connect", err)}
}

// Two hours of our own faults costs a delivery nothing but time, even one without a single retry, and its endpoint no health; each try is
// recorded.
func TestOwnFaultsCountForNothing(t *testing.T) {
	for name, fault := range map[string]error{
		"out of sockets":    failedDial("dial", syscall.EMFILE),
		"out of memory":     failedDial("dial", syscall.ENOBUFS),
		"out of ports":      failedDial("dial", syscall.EADDRNOTAVAIL),
		"proxy away":        &net.OpError{Op: "proxyconnect", Net: "tcp", Err: failedDial("dial", syscall.ECONNREFUSED)},
		"proxy out of room": &net.OpError{Op: "socks connect", Net: "tcp", Err: errors.New("unknown error general SOCKS server failure")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				r := &running{store: memstore.New(), rc: &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
					if time.Since(began) < 2*time.Hour {
						return 0, nil, fault
					}
					return 200, nil, nil
				}}}
				ep := watchedEndpoint(t, "acme", webhook.Graduated())
				ep.Schedule, ep.MaxInFlight = webhook.NoRetry(), 1
				r.start(t, webhook.DispatcherOptions{}, ep)
				id := r.send(t, webhook.Event{Type: "a"})
				time.Sleep(time.Hour)
				if h, err := r.Health(t.Context(), "acme"); err != nil || h.Stage != webhook.HealthOK || !h.FailingSince.IsZero() || !h.LastFailure.IsZero() || h.Failures != 0 {
					t.Errorf("the endpoint's health is %+v, %v", h, err)
				}
				del := r.delivery(t, id)
				if del.State != webhook.Queued || del.Attempts != 0 || !strings.HasPrefix(del.Reason, "ours: ") || !strings.HasSuffix(del.Reason, "; not counted") {
					t.Errorf("while it lasts: %+v", del)
				}
				var pauses []time.Duration
				for i, got := range r.rc.requests()[1:] {
					pauses = append(pauses, got.at.Sub(r.rc.requests()[i].at).Round(time.Second))
				}
				want := []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 300 * time.Second, 300 * time.Second}
				if diff := cmp.Diff(want, pauses[:len(want)]); diff != "" {
					t.Errorf("pauses (-want +got):\n%s", diff)
				}
				time.Sleep(70 * time.Minute)
				if del = r.delivery(t, id); del.State != webhook.Delivered || del.Attempts != 1 {
					t.Errorf("afterwards: %+v", del)
				}
				attempts, err := r.store.ListAttempts(t.Context(), del.ID)
				if err != nil || len(attempts) != len(r.rc.requests()) || attempts[0].Error == "" || attempts[0].NextAt.IsZero() {
					t.Errorf("%d attempts recorded of %d: %v", len(attempts), len(r.rc.requests()), err)
				}
			})
		})
	}
}

// What is the receiver's fault, or could be, counts.
func TestForeignFaultsCount(t *testing.T) {
	for name, fault := range map[string]error{
		"no such name":                    &net.DNSError{Err: "no such host", IsNotFound: true},
		"refused":                         failedDial("dial", syscall.ECONNREFUSED),
		"unreachable":                     failedDial("dial", syscall.EHOSTUNREACH),
		"reset":                           failedDial("read", syscall.ECONNRESET),
		"prohibited by the network, IPv6": &net.OpError{Op: "dial", Addr: &net.TCPAddr{IP: net.ParseIP("2606:4700::1")}, Err: os.NewSyscallError("connect", syscall.EACCES)},
		"no IPv6 here":                    &net.OpError{Op: "dial", Addr: &net.TCPAddr{IP: net.ParseIP("2606:4700::1")}, Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)},
		"behind the proxy":                &net.OpError{Op: "socks connect", Err: errors.New("unknown error host unreachable")},
		"blocked":                         fmt.Errorf("x: %w", webhook.ErrBlockedAddress),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &running{store: memstore.New(), rc: &receiver{answer: func(*http.Request, int) (int, http.Header, error) { return 0, nil, fault }}}
				ep := endpoint(t, "acme")
				ep.Schedule = webhook.Delays(time.Minute)
				r.start(t, webhook.DispatcherOptions{}, ep)
				id := r.send(t, webhook.Event{Type: "a"})
				time.Sleep(time.Hour)
				if del := r.delivery(t, id); del.State != webhook.DeadLetter || del.Attempts != 2 {
					t.Errorf("got %+v", del)
				}
			})
		})
	}
}

// A fault of ours keeps an endpoint's backlog from being tried in vain, and recorded for it, one by one; attempts that fail together
// count once, and other endpoints go on.
func TestOwnFaultsTryOneEndpointSparsely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
			if strings.HasPrefix(r.URL.Host, "acme") {
				time.Sleep(10 * time.Millisecond)
				return 0, nil, failedDial("dial", syscall.EMFILE)
			}
			return 200, nil, nil
		}}}
		acme, other := endpoint(t, "acme", "a"), endpoint(t, "other", "b")
		acme.MaxInFlight = 8
		r.start(t, webhook.DispatcherOptions{}, acme, other)
		for range 500 {
			r.send(t, webhook.Event{Type: "a"})
		}
		for range 100 {
			r.send(t, webhook.Event{Type: "b"})
		}
		time.Sleep(36 * time.Second) // tries at 0, 5, 15 and 35 s
		if n := attempted(r.rc, "acme"); n < 4 || n > 4*8 {
			t.Errorf("%d attempts in 4 tries of at most 8 at once", n)
		}
		if n := attempted(r.rc, "other"); n != 100 {
			t.Errorf("%d of 100 delivered to the other endpoint", n)
		}
	})
}

func attempted(rc *receiver, host string) (n int) {
	for _, got := range rc.requests() {
		if strings.Contains(got.url, "//"+host) {
			n++
		}
	}
	return n
}

// A database that is away for an hour while an answer comes costs one repeat at most, and counts once.
func TestStoreAwayCountsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{}}
		var away atomic.Bool
		f := awayStore(r.store, &away)
		r.on = f
		r.rc.answer = func(_ *http.Request, n int) (int, http.Header, error) {
			if n > 1 {
				return 200, nil, nil
			}
			away.Store(true)
			return 503, nil, nil
		}
		ep := endpoint(t, "acme")
		ep.Schedule = webhook.Delays(time.Minute)
		r.start(t, webhook.DispatcherOptions{}, ep)
		id := r.send(t, webhook.Event{Type: "a"})
		time.Sleep(time.Hour)
		if n := len(r.rc.requests()); n != 1 {
			t.Errorf("%d requests while the store is away", n)
		}
		away.Store(false)
		time.Sleep(10 * time.Minute)
		if del := r.delivery(t, id); del.State != webhook.Delivered || del.Attempts > 2 || len(r.rc.requests()) > 3 { // the repeat may be recorded first
			t.Errorf("got %+v after %d requests", del, len(r.rc.requests()))
		}
	})
}

// awayStore is a store that answers nothing while away.
func awayStore(store *memstore.Store, away *atomic.Bool) *faulty {
	errAway := errors.New("connection refused")
	return &faulty{
		Store: store,
		lanes: func(ctx context.Context, req *webhook.LanesRequest) (*webhook.LanesResult, error) {
			if away.Load() {
				return nil, errAway
			}
			return store.Lanes(ctx, req)
		},
		claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
			if away.Load() {
				return nil, errAway
			}
			return store.Claim(ctx, req)
		},
		complete: func(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
			if away.Load() {
				return nil, errAway
			}
			return store.Complete(ctx, req)
		},
		changes: func(ctx context.Context, since int64) (*webhook.EndpointChanges, error) {
			if away.Load() {
				return nil, errAway
			}
			return store.EndpointChanges(ctx, since)
		},
	}
}
