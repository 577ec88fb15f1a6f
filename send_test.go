package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

func TestSendRefusesMalformedEvents(t *testing.T) {
	d, err := webhook.NewDispatcher(memstore.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, field string
		ev          webhook.Event
	}{
		{"no type", "Type", webhook.Event{}},
		{"type with a space", "Type", webhook.Event{Type: "order create"}},
		{"type with a star", "Type", webhook.Event{Type: "order.*"}},
		{"long type", "Type", webhook.Event{Type: strings.Repeat("x", 129)}},
		{"id with a dot", "ID", webhook.Event{ID: "a.b", Type: "x"}},
		{"id with NUL", "ID", webhook.Event{ID: "a\x00b", Type: "x"}},
		{"id beyond ASCII", "ID", webhook.Event{ID: "é", Type: "x"}},
		{"tenant not UTF-8", "Tenant", webhook.Event{Type: "x", Tenant: "\xff"}},
		{"tenant with a newline", "Tenant", webhook.Event{Type: "x", Tenant: "a\nb"}},
		{"long ordering key", "OrderingKey", webhook.Event{Type: "x", OrderingKey: strings.Repeat("k", 256)}},
		{"large payload", "Payload", webhook.Event{Type: "x", Payload: make([]byte, 1<<20+1)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := d.Send(t.Context(), tc.ev)
			var fe *webhook.FieldError
			if !errors.As(err, &fe) || fe.Field != tc.field || !errors.Is(err, webhook.ErrInvalid) {
				t.Errorf("error %v, want a FieldError for %s", err, tc.field)
			}
		})
	}
}

// slowStore takes a while to enqueue, counts, and refuses poison.
type slowStore struct {
	*memstore.Store
	delay time.Duration
	calls atomic.Int64
}

var errPoison = errors.New("cannot store this")

func (s *slowStore) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	s.calls.Add(1)
	time.Sleep(s.delay)
	for _, e := range req.Events {
		if string(e.Event.Payload) == "poison" {
			return nil, errPoison
		}
	}
	return s.Store.Enqueue(ctx, req)
}

func sender(t *testing.T, store webhook.Store, eps ...webhook.Endpoint) *webhook.Dispatcher {
	t.Helper()
	d, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{Endpoints: eps})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Concurrent sends share commits; a lone one waits for nobody.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{Store: memstore.New(), delay: 10 * time.Millisecond}
		d := sender(t, store, endpoint(t, "acme"))
		began := time.Now()
		if _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 10*time.Millisecond {
			t.Errorf("a lone send took %v, want one commit of 10ms", took)
		}
		store.calls.Store(0)
		var wg sync.WaitGroup
		for range 300 {
			wg.Go(func() {
				if _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := store.calls.Load(); n > 3 {
			t.Errorf("300 sends at once took %d commits, want at most 3", n)
		}
	})
}

// Callers that send again as soon as they are answered share each commit: they do not take turns, half of them in each.
func TestGroupCommitOfThoseThatSendAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const senders, each = 16, 50
		store := &slowStore{Store: memstore.New(), delay: 10 * time.Millisecond}
		d := sender(t, store, endpoint(t, "acme"))
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				for range each {
					if _, err := d.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		// Taking turns they need twice as many as each of them sends.
		if n := store.calls.Load(); n > each*3/2 {
			t.Errorf("%d senders of %d events each took %d commits, want about %[2]d", senders, each, n)
		}
	})
}

// One poisoned event fails alone.
func TestPoisonedEventFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{Store: memstore.New(), delay: time.Millisecond}
		d := sender(t, store, endpoint(t, "acme"))
		var wg sync.WaitGroup
		var failed, stored atomic.Int64
		for i := range 100 {
			wg.Go(func() {
				payload := []byte("fine")
				if i == 37 {
					payload = []byte("poison")
				}
				id, err := d.Send(t.Context(), webhook.Event{Type: "x", Payload: payload})
				switch {
				case err == nil:
					if _, err := store.GetEvent(t.Context(), id); err == nil {
						stored.Add(1)
					}
				case i == 37 && errors.Is(err, errPoison):
					failed.Add(1)
				default:
					t.Errorf("send %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if failed.Load() != 1 || stored.Load() != 99 {
			t.Errorf("%d failed and %d stored, want 1 and 99", failed.Load(), stored.Load())
		}
	})
}

// A caller that gives up is told whether its event may be stored; its neighbours do not notice.
func TestCancelledSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{Store: memstore.New(), delay: time.Second}
		d := sender(t, store, endpoint(t, "acme"))
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		type answer struct {
			id  string
			err error
		}
		answers := make([]answer, 3)
		var wg sync.WaitGroup
		send := func(i int, ctx context.Context) {
			wg.Go(func() {
				id, err := d.Send(ctx, webhook.Event{Type: "x", Payload: []byte(fmt.Sprint(i))})
				answers[i] = answer{id, err}
			})
			synctest.Wait()
		}
		send(0, ctx) // is being committed when its context ends
		send(1, ctx) // waits for the next commit then
		send(2, t.Context())
		wg.Wait()
		if !errors.Is(answers[0].err, webhook.ErrOutcomeUnknown) || !errors.Is(answers[0].err, context.DeadlineExceeded) || answers[0].id == "" {
			t.Errorf("cancelled while committing: %+v, want ErrOutcomeUnknown and the ID", answers[0])
		}
		if err := answers[1].err; !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, webhook.ErrOutcomeUnknown) {
			t.Errorf("cancelled before committing: %v, want a plain DeadlineExceeded", err)
		}
		if answers[2].err != nil {
			t.Errorf("the neighbour failed: %v", answers[2].err)
		}
		time.Sleep(time.Minute)
		if _, err := store.GetEvent(t.Context(), answers[1].id); !errors.Is(err, webhook.ErrNotFound) {
			t.Errorf("the withdrawn event is stored: %v", err)
		}
		// The unknown one can be sent again with its ID.
		if _, err := d.Send(t.Context(), webhook.Event{ID: answers[0].id, Type: "x", Payload: []byte("0")}); err != nil {
			t.Errorf("sending again: %v", err)
		}
	})
}

// From the commit of a SendTx to receipt it takes at most one poll, and next to nothing after Wake. A store stands for the
// transaction here: to the running dispatcher, its rows appear just as suddenly.
func TestSendTxIsFoundByPollOrWake(t *testing.T) {
	for _, tc := range []struct {
		name string
		wake bool
		most time.Duration
	}{
		{"poll", false, 200 * time.Millisecond},
		{"wake", true, 5 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
				time.Sleep(50 * time.Millisecond)
				began := time.Now()
				if _, err := r.SendTx(t.Context(), r.store, webhook.Event{Type: "x"}); err != nil {
					t.Fatal(err)
				}
				if tc.wake {
					r.Wake()
				}
				time.Sleep(time.Second)
				got := r.rc.requests()
				if len(got) != 1 || got[0].at.Sub(began) > tc.most {
					t.Errorf("received %d, after %v; want 1 within %v", len(got), got[0].at.Sub(began), tc.most)
				}
			})
		})
	}
}

// What another process sends is found by the poll, or at once by Wake.
func TestOtherProcessesSendsAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		other := sender(t, r.store, endpoint(t, "acme"))
		for i, wake := range []bool{false, true} {
			time.Sleep(50 * time.Millisecond)
			began := time.Now()
			if _, err := other.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
				t.Fatal(err)
			}
			most := 200 * time.Millisecond
			if wake {
				r.Wake()
				most = time.Millisecond
			}
			time.Sleep(most)
			synctest.Wait()
			if n := len(r.rc.requests()); n != i+1 {
				t.Errorf("wake %v: %d received %v after the send, want %d", wake, n, time.Since(began), i+1)
			}
		}
	})
}
