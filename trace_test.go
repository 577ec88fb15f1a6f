package webhook_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

type traceKey struct{}

func TestTraceTellsOfEachStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var steps []string
		note := func(s string) {
			mu.Lock()
			defer mu.Unlock()
			steps = append(steps, s)
		}
		rc := &receiver{answer: func(*http.Request, int) (int, http.Header, error) { return 500, nil, nil }}
		r := &running{store: memstore.New(), rc: rc}
		ep := endpoint(t, "acme")
		ep.Schedule = webhook.Delays(time.Minute)
		r.start(t, webhook.DispatcherOptions{Trace: &webhook.Trace{
			AttemptStart: func(ctx context.Context, info webhook.AttemptStartInfo) context.Context {
				note("start")
				info.Header.Set("Traceparent", "00-1-2-01")
				return context.WithValue(ctx, traceKey{}, info.Number)
			},
			AttemptDone: func(ctx context.Context, info webhook.AttemptDoneInfo) {
				if ctx.Value(traceKey{}) != info.Attempt.Number {
					t.Errorf("AttemptDone has not the context that AttemptStart returned")
				}
				note("done " + string(info.Next))
			},
			Claim: func(_ context.Context, info webhook.ClaimInfo) {
				if info.Deliveries > 0 {
					note("claim")
				}
			},
			DeadLetter: func(_ context.Context, info webhook.DeadLetterInfo) { note("dead " + info.Reason) },
		}}, ep)
		synctest.Wait() // Run has free senders: the first attempt needs no claim
		r.send(t, webhook.Event{Type: "x"})
		time.Sleep(5 * time.Minute)
		r.stop() // orders the hooks' writes before the reads below
		want := "start, done retry_scheduled, claim, start, done dead_letter, dead gave up after 2 attempts: answered 500"
		if got := strings.Join(steps, ", "); got != want {
			t.Errorf("steps\n%s\nwant\n%s", got, want)
		}
		for _, g := range rc.requests() {
			if g.header.Get("Traceparent") == "" {
				t.Error("the header that AttemptStart added was not sent")
			}
		}
	})
}

// A hook that panics is logged and stops nothing.
func TestPanickingHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := run(t, webhook.DispatcherOptions{
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Trace: &webhook.Trace{
				AttemptStart: func(context.Context, webhook.AttemptStartInfo) context.Context { panic("start") },
				AttemptDone:  func(context.Context, webhook.AttemptDoneInfo) { panic("done") },
			},
		}, endpoint(t, "acme"))
		id := r.send(t, webhook.Event{Type: "x"})
		time.Sleep(time.Minute)
		if d := r.delivery(t, id); d.State != webhook.Delivered {
			t.Errorf("delivery is %+v", d)
		}
		r.stop()
		if got := log.String(); !strings.Contains(got, "hook=AttemptStart") || !strings.Contains(got, "hook=AttemptDone") {
			t.Errorf("the log does not tell of both panics:\n%s", got)
		}
	})
}

// An outcome that comes after another process has taken the delivery over changes nothing, is recorded as late, and is told of.
func TestLateOutcomeIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stale []webhook.StaleLeaseInfo
		rc := &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
			time.Sleep(10 * time.Second)
			return 200, nil, nil
		}}
		r := &running{store: memstore.New(), rc: rc}
		r.start(t, webhook.DispatcherOptions{Trace: &webhook.Trace{
			StaleLease: func(_ context.Context, info webhook.StaleLeaseInfo) { stale = append(stale, info) },
		}}, endpoint(t, "acme"))
		id := r.send(t, webhook.Event{Type: "x"})
		time.Sleep(time.Second)
		// Another process, whose clock of the store is an hour ahead, takes it over and fails.
		ahead := time.Now().Add(time.Hour)
		res, err := r.store.Claim(t.Context(), &webhook.ClaimRequest{
			Now: ahead, Owner: "other", Limit: 1,
			Lanes: []webhook.LaneClaim{{LaneID: webhook.LaneID{EndpointID: "acme"}, Max: 1, Lease: time.Minute}},
		})
		if err != nil || len(res.Deliveries) != 1 {
			t.Fatalf("taking over: %+v, %v", res, err)
		}
		time.Sleep(time.Minute)
		if d := r.delivery(t, id); d.State != webhook.Delivering || d.Attempts != 0 {
			t.Errorf("delivery is %+v, want it with the other process", d)
		}
		attempts, err := r.store.ListAttempts(t.Context(), r.delivery(t, id).ID)
		if err != nil || len(attempts) != 1 || !attempts[0].Late || attempts[0].Status != 200 {
			t.Errorf("attempts %+v, %v; want one, late", attempts, err)
		}
		r.stop() // orders the hook's writes before the reads below
		if len(stale) != 1 || stale[0].Attempt == nil {
			t.Errorf("StaleLease hook got %+v", stale)
		}
	})
}

// An attempt that may take long keeps its lease by extending it.
func TestLongAttemptKeepsItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
			time.Sleep(9 * time.Minute)
			return 200, nil, nil
		}}
		r := &running{store: memstore.New(), rc: rc}
		ep := endpoint(t, "acme")
		ep.Timeout = 10 * time.Minute
		r.start(t, webhook.DispatcherOptions{}, ep)
		second := &running{store: r.store, rc: rc}
		second.start(t, webhook.DispatcherOptions{}, ep)
		id := r.send(t, webhook.Event{Type: "x"})
		time.Sleep(12 * time.Minute)
		if d := r.delivery(t, id); d.State != webhook.Delivered || len(rc.requests()) != 1 {
			t.Errorf("%d requests, delivery %+v; want 1 and delivered", len(rc.requests()), d)
		}
	})
}
