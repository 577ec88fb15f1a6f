package webhook_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// panicky is a scheme that panics.
type panicky struct{ webhook.Scheme }

func (panicky) Sign(*webhook.Message, []webhook.Secret, time.Time) error { panic("scheme") }

// A panic in the caller's transport or scheme fails the attempt, not the process.
func TestPanicFailsTheAttemptAlone(t *testing.T) {
	for _, where := range []string{"transport", "scheme"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &running{store: memstore.New(), rc: &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) {
					if r.URL.Host == "bad.example" {
						panic("transport")
					}
					return 200, nil, nil
				}}}
				strange := webhook.DefaultProfile()
				strange.Name = "strange"
				bad := endpoint(t, "bad", "b")
				if where == "scheme" {
					strange.Scheme = panicky{strange.Scheme}
					bad.Profile = "strange"
				}
				bad.MaxInFlight = 2
				r.start(t, webhook.DispatcherOptions{Senders: 2, Profiles: []webhook.Profile{webhook.DefaultProfile(), strange}}, bad, endpoint(t, "good", "g"))
				synctest.Wait()
				var failed []string
				for range 5 {
					failed = append(failed, r.send(t, webhook.Event{Type: "b"}))
				}
				time.Sleep(time.Second)
				fine := r.send(t, webhook.Event{Type: "g"})
				time.Sleep(time.Second)
				if d := r.delivery(t, fine); d.State != webhook.Delivered {
					t.Errorf("the good endpoint's delivery is %+v", d)
				}
				for _, id := range failed {
					if d := r.delivery(t, id); d.State != webhook.RetryScheduled || d.Attempts != 1 {
						t.Errorf("the bad endpoint's delivery is %+v, want a retry scheduled", d)
					}
				}
			})
		})
	}
}

// AttemptDone follows every AttemptStart, also when the end of Run cuts the attempt off.
func TestAttemptDoneFollowsEveryStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started, done, queued atomic.Int64
		r := &running{store: memstore.New(), rc: &receiver{answer: func(r *http.Request, _ int) (int, http.Header, error) { return hang(r) }}}
		r.start(t, webhook.DispatcherOptions{Grace: time.Second, Trace: &webhook.Trace{
			AttemptStart: func(ctx context.Context, _ webhook.AttemptStartInfo) context.Context {
				started.Add(1)
				return ctx
			},
			AttemptDone: func(_ context.Context, info webhook.AttemptDoneInfo) {
				done.Add(1)
				if info.Next == webhook.Queued && info.Attempt.Error == webhook.NetErrorCanceled {
					queued.Add(1)
				}
			},
		}}, endpoint(t, "acme"))
		synctest.Wait()
		for range 5 {
			r.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(time.Second)
		r.stop()
		if started.Load() != 5 || done.Load() != 5 || queued.Load() != 5 {
			t.Errorf("%d started, %d done, %d of them queued again; want 5 each", started.Load(), done.Load(), queued.Load())
		}
		if got := r.states(t); got[webhook.Queued] != 5 {
			t.Errorf("states %v", got)
		}
	})
}

// An answer that was long on its way tells little of the store's clock: it does not move the estimate.
func TestSlowAnswersDoNotMoveTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{}}
		r.on = &faulty{Store: r.store, claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
			res, err := r.store.Claim(ctx, req)
			time.Sleep(5 * time.Second)
			return res, err
		}}
		other := sender(t, r.store, endpoint(t, "acme"))
		r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		id, err := other.Send(t.Context(), webhook.Event{Type: "x"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		attempts, err := r.store.ListAttempts(t.Context(), r.delivery(t, id).ID)
		if err != nil || len(attempts) != 1 {
			t.Fatalf("%+v, %v", attempts, err)
		}
		if off := attempts[0].StartedAt.Sub(r.rc.requests()[0].at).Abs(); off > 100*time.Millisecond {
			t.Errorf("the estimate of the store's clock is off by %v", off)
		}
	})
}

// Every error of Send but a FieldError's comes with the ID to send again.
func TestFailedSendReturnsTheID(t *testing.T) {
	store := &faulty{Store: memstore.New()}
	store.changes = func(context.Context, int64) (*webhook.EndpointChanges, error) { return nil, errAway }
	d := sender(t, store)
	if id, err := d.Send(t.Context(), webhook.Event{Type: "x"}); err == nil || id == "" {
		t.Errorf("Send returned %q, %v", id, err)
	}
	if id, err := d.SendTx(t.Context(), store, webhook.Event{Type: "x"}); err == nil || id == "" {
		t.Errorf("SendTx returned %q, %v", id, err)
	}
}

// Options are copied: what the caller does with its slices afterwards changes nothing.
func TestOptionsAreCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trace := &webhook.Trace{}
		opts := webhook.DispatcherOptions{
			Endpoints: []webhook.Endpoint{endpoint(t, "acme", "x")}, Profiles: []webhook.Profile{webhook.DefaultProfile()}, Trace: trace,
		}
		r := &running{store: memstore.New(), rc: &receiver{answer: func(*http.Request, int) (int, http.Header, error) { return 500, nil, nil }}}
		r.start(t, opts)
		opts.Endpoints[0].Types[0] = "y"
		opts.Profiles[0].Schedule = webhook.NoRetry()
		trace.AttemptStart = func(ctx context.Context, _ webhook.AttemptStartInfo) context.Context {
			t.Error("a hook that was set later is called")
			return ctx
		}
		if err := r.PutEndpoint(t.Context(), endpoint(t, "other", "z")); err != nil { // the table is made anew
			t.Fatal(err)
		}
		first, second := r.send(t, webhook.Event{Type: "x"}), r.send(t, webhook.Event{Type: "z"})
		time.Sleep(time.Second)
		for _, id := range []string{first, second} {
			if d := r.delivery(t, id); d.State != webhook.RetryScheduled {
				t.Errorf("delivery is %+v, want a retry scheduled", d)
			}
		}
	})
}
