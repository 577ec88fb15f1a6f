package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// states is a store that counts what is asked of its StateStore.
type states struct {
	*memstore.Store
	mu   sync.Mutex
	lose bool // answers fail
	stateCounts
}

type stateCounts struct {
	puts, put, read int
	stale, changes  int
}

func (s *states) counts() stateCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stateCounts
}

func (s *states) PutStates(ctx context.Context, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
	res, err := s.Store.PutStates(ctx, req)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	s.put += len(req.States)
	if err == nil {
		for _, st := range res.States {
			if st == webhook.Stale {
				s.stale++
			}
		}
	}
	if s.lose {
		return nil, errors.New("connection lost")
	}
	return res, err
}

func (s *states) StateChanges(ctx context.Context, since int64) (*webhook.StateChanges, error) {
	res, err := s.Store.StateChanges(ctx, since)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read++
	if err == nil {
		s.changes += len(res.States)
	}
	return res, err
}

// healthLog remembers what Trace.Health was told.
type healthLog struct {
	mu   sync.Mutex
	told []webhook.HealthInfo
	at   []time.Time
}

func (l *healthLog) trace() *webhook.Trace {
	return &webhook.Trace{Health: func(_ context.Context, info webhook.HealthInfo) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.told, l.at = append(l.told, info), append(l.at, time.Now())
	}}
}

// since lists what was told as "kind from>to after", since began.
func (l *healthLog) since(began time.Time, unit time.Duration) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for i, info := range l.told {
		what := string(info.Kind)
		if info.Kind == webhook.HealthChanged {
			what = fmt.Sprintf("%s>%s", info.From, info.To)
		}
		lines = append(lines, fmt.Sprintf("%s %v", what, l.at[i].Sub(began).Round(unit)))
	}
	return strings.Join(lines, ", ")
}

func (l *healthLog) all() []webhook.HealthInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.told)
}

func (l *healthLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.told)
}

// watchedEndpoint is an endpoint with a health policy, and a schedule that gives up late.
func watchedEndpoint(t testing.TB, id string, p webhook.HealthPolicy) webhook.Endpoint {
	ep := endpoint(t, id)
	ep.Health, ep.Schedule = p, webhook.Exponential(time.Minute, 10*time.Minute, 900)
	return ep
}

// switchable is a receiver that answers what it is set to.
type switchable struct {
	receiver
	mu     sync.Mutex
	status int
	header http.Header
}

func newSwitchable(status int) *switchable {
	s := &switchable{status: status}
	s.answer = func(*http.Request, int) (int, http.Header, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.status, s.header, nil
	}
	return s
}

func (s *switchable) set(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// stage is an endpoint's stage, as the dispatcher tells it.
func (r *running) stage(t *testing.T, id string) webhook.HealthStage {
	t.Helper()
	h, err := r.Health(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return h.Stage
}

// hold is an endpoint's hold in the store, or nil.
func (r *running) hold(t *testing.T, id string) *webhook.HoldStatus {
	t.Helper()
	holds, err := r.store.ListHolds(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range holds {
		if h.EndpointID == id {
			return &h
		}
	}
	return nil
}

// inSpells lets time pass until a time, in which the dispatcher runs for a few seconds each spell only: it is begun anew, knows what the
// store knows, and the test takes less long than it would with millions of polls. f, if given, is called in each.
func (r *running) inSpells(t *testing.T, opts webhook.DispatcherOptions, ep webhook.Endpoint, every time.Duration, until time.Time, f func()) {
	t.Helper()
	for next := time.Now(); next.Before(until); next = next.Add(every) {
		time.Sleep(time.Until(next))
		r.start(t, opts, ep)
		synctest.Wait()
		if f != nil {
			f()
		}
		time.Sleep(3 * time.Second)
		r.stop()
	}
	time.Sleep(time.Until(until))
	r.start(t, opts, ep)
}

// begun is how many requests began at or after at.
func begun(got []received, at time.Time) (n int) {
	for _, g := range got {
		if !g.at.Before(at) {
			n++
		}
	}
	return n
}
