package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// ordered is an endpoint without retries, whose receiver refuses events with the body "bad".
func ordered(t *testing.T, policy webhook.OrderPolicy) (webhook.Endpoint, *running) {
	t.Helper()
	ep := endpoint(t, "acme")
	ep.Order, ep.Schedule = policy, webhook.NoRetry()
	refuse := func(r *http.Request, _ int) (int, http.Header, error) {
		if r.Header.Get("Bad") != "" {
			return http.StatusBadRequest, nil, nil
		}
		return http.StatusOK, nil, nil
	}
	return ep, &running{store: memstore.New(), rc: &receiver{answer: refuse}}
}

// sendKey sends an event whose ID begins with its ordering key; one that contains "bad" will be refused.
func (r *running) sendKey(t *testing.T, id string) {
	t.Helper()
	key, _, _ := strings.Cut(id, "-")
	ev := webhook.Event{ID: id, Type: "a", OrderingKey: strings.TrimPrefix(key, "none"), Payload: []byte(id), Header: http.Header{}}
	if strings.Contains(id, "bad") {
		ev.Header.Set("Bad", "yes")
	}
	r.send(t, ev)
}

// bodies are those of the requests so far, in order.
func (rc *receiver) bodies() (got []string) {
	for _, req := range rc.requests() {
		got = append(got, req.body)
	}
	return got
}

func TestBehindADeadLetter(t *testing.T) {
	tests := []struct {
		name   string
		policy webhook.OrderPolicy
		state  webhook.State // of what waits behind the dead letter; "": nothing does
		reason string
	}{
		{"block", webhook.BlockBehindDeadLetter, webhook.Queued, ""},
		{"skip", webhook.SkipDeadLetter, "", ""},
		{"hold", webhook.HoldKey, webhook.Held, "ordering key is on hold behind dead letter "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ep, r := ordered(t, tt.policy)
				r.start(t, webhook.DispatcherOptions{}, ep)
				for _, id := range []string{"k-1", "k-2bad", "k-3", "k-4", "other-1", "none-1", "other-2", "none-2"} {
					r.sendKey(t, id)
				}
				time.Sleep(10 * time.Minute) // virtual
				went := r.rc.bodies()
				if r.delivery(t, "k-2bad").State != webhook.DeadLetter {
					t.Fatalf("the refused one is %+v", r.delivery(t, "k-2bad"))
				}
				keys := r.blocked(t)
				if tt.state == "" {
					if !slices.Equal(ofKey(went, "k"), []string{"k-1", "k-2bad", "k-3", "k-4"}) || len(keys) > 0 {
						t.Errorf("of the key went %q, blocked are %+v; want all, and none", ofKey(went, "k"), keys)
					}
					return
				}
				for _, id := range []string{"k-3", "k-4"} {
					d := r.delivery(t, id)
					if d.State != tt.state || !strings.HasPrefix(d.Reason, tt.reason) {
						t.Errorf("%s is %s (%q), want %s (%q)", id, d.State, d.Reason, tt.state, tt.reason)
					}
				}
				if !slices.Equal(ofKey(went, "k"), []string{"k-1", "k-2bad"}) {
					t.Errorf("of the key went %q, want k-1 and k-2bad", ofKey(went, "k"))
				}
				if !slices.Equal(ofKey(went, "other"), []string{"other-1", "other-2"}) || len(ofKey(went, "none")) != 2 {
					t.Errorf("%q went; want all of the other key and without one", went)
				}
				dead := r.delivery(t, "k-2bad")
				want := []webhook.BlockedKey{{
					EndpointID: "acme", OrderingKey: "k", DeliveryID: dead.ID, Held: tt.policy == webhook.HoldKey, Since: dead.FinishedAt,
				}}
				if diff := cmp.Diff(want, keys); diff != "" {
					t.Errorf("blocked keys (-want +got):\n%s", diff)
				}
				r.letGo(t)
			})
		})
	}
}

// letGo shows that neither a pause nor another key's release lets a key go, that its own release does so at once, and that what comes later
// goes as ever.
func (r *running) letGo(t *testing.T) {
	t.Helper()
	before := len(r.rc.bodies())
	if err := r.PauseEndpoint(t.Context(), "acme", "test"); err != nil {
		t.Fatal(err)
	}
	if err := r.ResumeEndpoint(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	r.release(t, "other", false)
	time.Sleep(10 * time.Minute)
	if got := r.rc.bodies()[before:]; len(got) > 0 {
		t.Errorf("%q went before the key was released", got)
	}
	released := time.Now()
	r.release(t, "k", true)
	synctest.Wait()
	time.Sleep(time.Second)
	after := r.rc.requests()[before:]
	if len(after) != 2 || after[0].body != "k-3" || after[1].body != "k-4" {
		t.Fatalf("after the release %d went, want k-3 and k-4", len(after))
	}
	if late := after[1].at.Sub(released); late > 50*time.Millisecond {
		t.Errorf("the last went %v after the release", late)
	}
	r.release(t, "k", false)
	r.sendKey(t, "k-5")
	time.Sleep(time.Second)
	if d := r.delivery(t, "k-5"); d.State != webhook.Delivered || d.Sequence != 5 {
		t.Errorf("the next of the key: %+v", d)
	}
	if keys := r.blocked(t); len(keys) > 0 {
		t.Errorf("still blocked: %+v", keys)
	}
}

func (r *running) release(t *testing.T, key string, want bool) {
	t.Helper()
	switch released, err := r.ReleaseKey(t.Context(), "acme", key); {
	case err != nil:
		t.Fatal(err)
	case released != want:
		t.Errorf("release of %q: %t, want %t", key, released, want)
	}
}

func (r *running) blocked(t *testing.T) []webhook.BlockedKey {
	t.Helper()
	keys, err := r.BlockedKeys(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func ofKey(bodies []string, key string) (got []string) {
	for _, b := range bodies {
		if strings.HasPrefix(b, key+"-") {
			got = append(got, b)
		}
	}
	return got
}

// TestBlockedAgain: behind a released dead letter the next one may be a dead letter too.
func TestBlockedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep, r := ordered(t, webhook.BlockBehindDeadLetter)
		r.start(t, webhook.DispatcherOptions{}, ep)
		for _, id := range []string{"k-1bad", "k-2bad", "k-3"} {
			r.sendKey(t, id)
		}
		for _, want := range []string{"k-1bad", "k-2bad"} {
			time.Sleep(time.Minute)
			keys := r.blocked(t)
			if len(keys) != 1 || keys[0].DeliveryID != r.delivery(t, want).ID {
				t.Fatalf("blocked keys %+v, want one behind %s", keys, want)
			}
			r.release(t, "k", true)
		}
		time.Sleep(time.Minute)
		if diff := cmp.Diff([]string{"k-1bad", "k-2bad", "k-3"}, r.rc.bodies()); diff != "" {
			t.Errorf("went (-want +got):\n%s", diff)
		}
	})
}

// TestOrderWaitsForRetries: a retry keeps its place before what was sent later, however long.
func TestOrderWaitsForRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := time.Now().Add(11 * time.Minute)
		r := &running{store: memstore.New(), rc: &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
			if r.Header.Get("Bad") != "" && time.Now().Before(failing) {
				return http.StatusServiceUnavailable, nil, nil
			}
			return http.StatusOK, nil, nil
		}}}
		r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		for _, id := range []string{"k-1bad", "k-2", "other-1", "none-1", "k-3"} {
			r.sendKey(t, id)
		}
		time.Sleep(2 * time.Hour)
		got := ofKey(r.rc.bodies(), "k")
		if want := []string{"k-1bad", "k-2", "k-3"}; !slices.Equal(slices.Compact(got), want) || len(got) < 5 {
			t.Errorf("of the key went %q, want k-1bad several times, k-2, k-3", got)
		}
		for _, req := range r.rc.requests() {
			if !strings.HasPrefix(req.body, "k-") && req.at.After(failing.Add(-10*time.Minute)) {
				t.Errorf("%s waited for another key's retries", req.body)
			}
		}
	})
}

// TestOrderedEndsWakeExactly counts the claims of ordered deliveries with nothing behind them: one each, where the store tells
// whom it woke. One that tells of nobody must not make them slow, and may cost a second.
func TestOrderedEndsWakeExactly(t *testing.T) {
	for _, tells := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var claims atomic.Int64
			on := &faulty{Store: memstore.New()}
			on.claim = func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
				claims.Add(1)
				return on.Store.Claim(ctx, req)
			}
			on.complete = func(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
				res, err := on.Store.Complete(ctx, req)
				if !tells && res != nil {
					res.Woken = nil
				}
				return res, err
			}
			r := &running{on: on, rc: &receiver{answer: takesTime}}
			r.start(t, webhook.DispatcherOptions{Poll: time.Hour}, endpoint(t, "acme"))
			time.Sleep(time.Second)
			for _, id := range []string{"k-1", "k-2", "k-3"} {
				r.sendKey(t, id)
			}
			time.Sleep(time.Second)
			if got := r.rc.bodies(); len(got) != 3 {
				t.Fatalf("tells=%t: %q went, want all", tells, got)
			}
			claims.Store(0)
			const more = 10
			for i := range more {
				r.sendKey(t, string(rune('a'+i))+"-1")
				time.Sleep(time.Second)
			}
			r.stop() // orders the counts before the reads below
			if most := map[bool]int64{true: more, false: 2 * more}[tells]; claims.Load() > most || len(r.rc.bodies()) != 3+more {
				t.Errorf("tells=%t: %d claims for %d single deliveries, want at most %d; %d went", tells, claims.Load(), more, most, len(r.rc.bodies()))
			}
		})
	}
}

// takesTime is a receiver during whose work the next of a key is sent.
func takesTime(*http.Request, int) (int, http.Header, error) {
	time.Sleep(100 * time.Millisecond)
	return http.StatusOK, nil, nil
}

// TestWokenIsSought: what an end lets go lies, by its due time, before what has been looked at already.
func TestWokenIsSought(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := &faulty{Store: memstore.New()}
		var from []time.Time
		on.claim = func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
			for _, l := range req.Lanes {
				from = append(from, l.From)
			}
			res, err := on.Store.Claim(ctx, req)
			if res != nil {
				for i := range res.Lanes {
					res.Lanes[i].NextFrom = req.Now // as a store that has parked all that is due
				}
			}
			return res, err
		}
		r := &running{on: on, store: on.Store, rc: &receiver{answer: takesTime}}
		r.start(t, webhook.DispatcherOptions{Poll: time.Hour}, endpoint(t, "acme"))
		time.Sleep(time.Second)
		for _, id := range []string{"k-1", "k-2", "k-3"} {
			r.sendKey(t, id)
		}
		sent := r.delivery(t, "k-3").CreatedAt
		time.Sleep(time.Second)
		r.stop()
		if got := r.rc.bodies(); len(got) != 3 {
			t.Errorf("%q went, want all three", got)
		}
		if last := from[len(from)-1]; last.After(sent) {
			t.Errorf("the last claim asks for what is due from %v on, but the delivery was due at %v", last, sent)
		}
	})
}

func TestBlockedKeysNeedALifeStore(t *testing.T) {
	d, err := webhook.NewDispatcher(onlyStore{memstore.New()}, &webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{endpoint(t, "acme")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.BlockedKeys(t.Context(), "acme"); err == nil || errors.Is(err, webhook.ErrInvalid) {
		t.Errorf("error %v, want one that says that the store cannot tell", err)
	}
}

// onlyStore has nothing but what every store has.
type onlyStore struct{ webhook.Store }

// TestBlockedKeysReadsAllPages: more keys than one page has.
func TestBlockedKeysReadsAllPages(t *testing.T) {
	on := pagedStore{Store: memstore.New(), total: 2500}
	d, err := webhook.NewDispatcher(on, nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := d.BlockedKeys(t.Context(), "acme")
	if err != nil || len(keys) != on.total {
		t.Errorf("%d keys, %v; want %d", len(keys), err, on.total)
	}
}

// pagedStore has total blocked keys.
type pagedStore struct {
	*memstore.Store
	total int
}

func (s pagedStore) BlockedKeys(_ context.Context, req *webhook.BlockedKeysRequest) (*webhook.BlockedKeysResult, error) {
	from, _ := strconv.Atoi(req.After)
	res := &webhook.BlockedKeysResult{}
	for i := from; i < s.total && i < from+req.Limit; i++ {
		res.Keys = append(res.Keys, webhook.BlockedKey{EndpointID: req.EndpointID, OrderingKey: strconv.Itoa(i)})
	}
	if next := from + len(res.Keys); next < s.total {
		res.Next = strconv.Itoa(next)
	}
	return res, nil
}
