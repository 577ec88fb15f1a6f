package memstore_test

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// putStates puts states at t0 and returns the answer.
func putStates(t testing.TB, s *memstore.Store, states ...webhook.NewState) *webhook.PutStatesResult {
	t.Helper()
	res, err := s.PutStates(t.Context(), &webhook.PutStatesRequest{Now: t0, States: states})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func stateChanges(t testing.TB, s *memstore.Store, since int64) *webhook.StateChanges {
	t.Helper()
	res, err := s.StateChanges(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// sameValue fails the test unless got is what is wanted.
func sameValue(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestStatesAreComparedAndSet(t *testing.T) {
	s := memstore.New()
	sameValue(t, "nothing yet", stateChanges(t, s, 0), &webhook.StateChanges{})
	first := putStates(t, s, webhook.NewState{EndpointID: "b", Doc: []byte("one")}, webhook.NewState{EndpointID: "a", NotBefore: t0.Add(time.Hour + 1)})
	sameValue(t, "first", first, &webhook.PutStatesResult{States: []webhook.OutcomeStatus{webhook.Applied, webhook.Applied}, Version: 1})
	sameValue(t, "all", stateChanges(t, s, 0), &webhook.StateChanges{Version: 1, States: []webhook.EndpointState{
		{EndpointID: "a", Version: 1, NotBefore: t0.Add(time.Hour)}, {EndpointID: "b", Version: 1, Doc: []byte("one")}}})

	second := putStates(t, s, webhook.NewState{EndpointID: "a", Version: 0, Doc: []byte("lost")},
		webhook.NewState{EndpointID: "b", Version: 1, Doc: []byte("two")}, webhook.NewState{EndpointID: "c", Version: 1, Doc: []byte("lost")})
	sameValue(t, "second", second, &webhook.PutStatesResult{States: []webhook.OutcomeStatus{webhook.Stale, webhook.Applied, webhook.Stale}, Version: 2})
	sameValue(t, "since the first", stateChanges(t, s, 1), &webhook.StateChanges{Version: 2, States: []webhook.EndpointState{
		{EndpointID: "b", Version: 2, Doc: []byte("two")}}})
	sameValue(t, "since the second", stateChanges(t, s, 2), &webhook.StateChanges{Version: 2})
	sameValue(t, "states since a version that never was", len(stateChanges(t, s, 99).States), 2)

	sameValue(t, "stale alone", putStates(t, s, webhook.NewState{EndpointID: "b", Version: 1}), &webhook.PutStatesResult{States: []webhook.OutcomeStatus{webhook.Stale}})
	sameValue(t, "version after that", stateChanges(t, s, 2).Version, int64(2))
	putStates(t, s, webhook.NewState{EndpointID: "b", Version: 2, Doc: []byte{}})
	sameValue(t, "emptied", stateChanges(t, s, 2).States, []webhook.EndpointState{{EndpointID: "b", Version: 3}})
}

func TestHoldsArePartOfTheState(t *testing.T) {
	s, ctx := memstore.New(), t.Context()
	hold := func(reason string) *webhook.HoldStatus {
		return &webhook.HoldStatus{EndpointID: "a", Kind: webhook.HoldPaused, Reason: reason, Until: t0.Add(time.Hour)}
	}
	steps := []struct {
		name string
		do   func() error
		want []webhook.EndpointState // that changed by it
	}{
		{"Unhold of nothing", func() error { return s.Unhold(ctx, "a") }, nil},
		{"Hold", func() error {
			return s.Hold(ctx, &webhook.HoldRequest{EndpointID: "a", Kind: webhook.HoldPaused, Reason: "by hand", Until: t0.Add(time.Hour)})
		}, []webhook.EndpointState{{EndpointID: "a", Version: 1, Hold: hold("by hand")}}},
		{"PutStates leaves the hold", func() error {
			putStates(t, s, webhook.NewState{EndpointID: "a", Version: 1, Doc: []byte("x")})
			return nil
		}, []webhook.EndpointState{{EndpointID: "a", Version: 2, Doc: []byte("x"), Hold: hold("by hand")}}},
		{"Unhold", func() error { return s.Unhold(ctx, "a") }, []webhook.EndpointState{{EndpointID: "a", Version: 3, Doc: []byte("x")}}},
		{"Unhold again", func() error { return s.Unhold(ctx, "a") }, nil},
		{"PutStates with a hold", func() error {
			putStates(t, s, webhook.NewState{EndpointID: "a", Version: 3, Hold: &webhook.HoldRequest{EndpointID: "not this one",
				Kind: webhook.HoldPaused, Reason: "in passing", Until: t0.Add(time.Hour)}})
			return nil
		}, []webhook.EndpointState{{EndpointID: "a", Version: 4, Hold: hold("in passing")}}},
		{"stale Unhold", func() error {
			putStates(t, s, webhook.NewState{EndpointID: "a", Version: 3, Unhold: true})
			return nil
		}, nil},
	}
	var since int64
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		res := stateChanges(t, s, since)
		since = res.Version
		sameValue(t, step.name, res.States, step.want)
	}
	holds, err := s.ListHolds(ctx, t0)
	if err != nil {
		t.Fatal(err)
	}
	sameValue(t, "holds", holds, []webhook.HoldStatus{*hold("in passing")})
	enqueue(t, s, "e", "", "a")
	sameValue(t, "claimed on hold", len(claim(t, s, t0, "a", 1).Deliveries), 0)
	putStates(t, s, webhook.NewState{EndpointID: "a", Version: 4, Unhold: true})
	sameValue(t, "claimed after the hold", len(claim(t, s, t0, "a", 1).Deliveries), 1)
}

func TestNotBefore(t *testing.T) {
	s := memstore.New()
	enqueue(t, s, "e1", "", "a", "b")
	enqueue(t, s, "e2", "", "a")
	leased := claim(t, s, t0, "a", 1).Deliveries
	putStates(t, s, webhook.NewState{EndpointID: "a", NotBefore: t0.Add(time.Minute)})
	complete(t, s, t0, webhook.RetryScheduled, leased...) // what is leased runs on
	for _, lane := range []webhook.Class{webhook.Fresh, webhook.Retry} {
		req := &webhook.ClaimRequest{Now: t0.Add(time.Minute - time.Microsecond), Owner: "test", Limit: 9, Lanes: []webhook.LaneClaim{
			{LaneID: webhook.LaneID{EndpointID: "a", Class: lane}, Max: 9, Lease: time.Minute}}}
		res, err := s.Claim(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Deliveries) != 0 || !res.Lanes[0].RateUntil.Equal(t0.Add(time.Minute)) {
			t.Errorf("class %d: got %d deliveries and RateUntil %v before NotBefore", lane, len(res.Deliveries), res.Lanes[0].RateUntil)
		}
		req.Now = t0.Add(time.Minute)
		if res, err = s.Claim(t.Context(), req); err != nil || len(res.Deliveries) != 1 || !res.Lanes[0].RateUntil.IsZero() {
			t.Errorf("class %d: got %+v, %v at NotBefore", lane, res, err)
		}
	}
	sameValue(t, "of another endpoint", len(claim(t, s, t0, "b", 1).Deliveries), 1)
}

func TestPutStatesKeepsRate(t *testing.T) {
	s := memstore.New()
	enqueue(t, s, "e1", "", "a")
	enqueue(t, s, "e2", "", "a")
	req := &webhook.ClaimRequest{Now: t0, Owner: "test", Limit: 9, Lanes: []webhook.LaneClaim{
		{LaneID: webhook.LaneID{EndpointID: "a"}, Max: 9, Lease: time.Minute, Rate: webhook.PerSecond(1)}}}
	for i, want := range []int{1, 0} {
		res, err := s.Claim(t.Context(), req)
		if err != nil || len(res.Deliveries) != want {
			t.Errorf("claim %d: got %d deliveries, %v, want %d", i, len(res.Deliveries), err, want)
		}
		putStates(t, s, webhook.NewState{EndpointID: "a", Version: int64(i), Doc: []byte("x")})
	}
}

func TestStatesAreNotShared(t *testing.T) {
	s, doc := memstore.New(), []byte("doc")
	putStates(t, s, webhook.NewState{EndpointID: "a", Doc: doc})
	doc[0] = 'X'
	got := stateChanges(t, s, 0).States[0].Doc
	sameValue(t, "after a change by who put it", string(got), "doc")
	got[0] = 'Y'
	sameValue(t, "after a change by who read it", string(stateChanges(t, s, 0).States[0].Doc), "doc")
}

func TestPutStatesRefuses(t *testing.T) {
	s := memstore.New()
	for name, states := range map[string][]webhook.NewState{
		"no endpoint":     {{Doc: []byte("x")}},
		"twice":           {{EndpointID: "a"}, {EndpointID: "a"}},
		"a large doc":     {{EndpointID: "a"}, {EndpointID: "b", Doc: make([]byte, webhook.MaxStateDoc+1)}},
		"Hold and Unhold": {{EndpointID: "a", Hold: &webhook.HoldRequest{}, Unhold: true}},
	} {
		_, err := s.PutStates(t.Context(), &webhook.PutStatesRequest{Now: t0, States: states})
		if !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	sameValue(t, "nothing stored", stateChanges(t, s, 0), &webhook.StateChanges{})
	putStates(t, s, webhook.NewState{EndpointID: "a", Doc: bytes.Repeat([]byte("x"), webhook.MaxStateDoc)})
}

// Of many that put a state they have all read, one wins each round, and a cache that asks with its last version misses nothing.
func TestOneStateWins(t *testing.T) {
	const rounds, putters = 50, 8
	s := memstore.New()
	var since int64
	for range rounds {
		var version int64
		if all := stateChanges(t, s, 0).States; len(all) > 0 {
			version = all[0].Version
		}
		var won atomic.Int32
		var wg sync.WaitGroup
		for i := range putters {
			wg.Go(func() {
				res, err := s.PutStates(t.Context(), &webhook.PutStatesRequest{Now: t0, States: []webhook.NewState{
					{EndpointID: "a", Version: version, Doc: []byte{byte(i)}}}})
				if err == nil && res.States[0] == webhook.Applied {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		sameValue(t, "winners", won.Load(), int32(1))
		changes := stateChanges(t, s, since)
		sameValue(t, "changes seen", len(changes.States), 1)
		since = changes.Version
	}
}
