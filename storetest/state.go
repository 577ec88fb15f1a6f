package storetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

func stateCases() []Case {
	const stale = "one whose endpoint's state has not the Version given any more is Stale, and nothing of it is stored"
	const held = "Hold gives a state a new Version too, and so does Unhold when it ends a hold"
	const changes = "StateChanges returns every state that changed after version since (0: all there are), in ascending order of EndpointID"
	const needs = needStore | needHold | needState
	return []Case{
		{"State/PutGet", changes + " … NewState replaces Doc and NotBefore of a state", needState, statePutGet},
		{"State/Replaced", "NewState replaces Doc and NotBefore of a state … grows with each change, over all endpoints … empty: none … zero: no bound", needState, stateReplaced},
		{"State/LargestDoc", "MaxStateDoc is how many bytes EndpointState.Doc may have", needState, stateLargestDoc},
		{"State/DocIsBytes", "the dispatchers' own, at most MaxStateDoc bytes; nil: none", needState, stateDocIsBytes},
		{"State/FirstVersionZero", "as last read; 0: it has none yet", needState, stateFirstVersion},
		{"State/FirstAfterRate", "as last read; 0: it has none yet", needStore | needState, stateFirstAfterRate},
		{"State/StaleVersion", stale, needState, stateStale},
		{"State/EachByItself", "PutStates changes states, each by itself and all in one transaction … Applied or Stale, in request order", needState, stateEach},
		{"State/OneVersion", "What is applied by one request gets one Version … of those applied; 0: none was", needState, stateOneVersion},
		{"State/HoldMovesVersion", held, needHold | needState, stateHoldMoves},
		{"State/UnholdMovesVersion", held, needHold | needState, stateUnholdMoves},
		{"State/KeepsHold", "put on hold as well; its EndpointID and Now do not count. nil: the hold stays as it is", needHold | needState, stateKeepsHold},
		{"State/HoldOver", "nil: none. One whose Until has passed may still be here", needHold | needState, stateHoldOver},
		{"State/PutWithHold", "put on hold as well; its EndpointID and Now do not count", needs, statePutWithHold},
		{"State/PutWithUnhold", "end the hold as well, if there is one; not together with Hold", needs, statePutWithUnhold},
		{"State/StaleHolds", stale, needs, stateStaleHolds},
		{"State/ChangesSince", changes, needState, stateChangesSince},
		{"State/ChangesBeyond", "A version beyond the latest is answered like 0", needState, stateChangesBeyond},
		{"State/CacheMissesNothing", "a change that commits later has a greater one, so that a cache that asks with its last version misses nothing", needHold | needState, stateCache},
		{"State/OneWins", stale, needState, stateOneWins},
		{"State/KeepsRate", "It changes nothing of an endpoint's rate", needStore | needState, stateKeepsRate},
		{"State/Retention", "a store neither keeps nor changes what a request points to after the call returns … what it returns is the caller's", needState, stateRetention},
		{"State/Cancelled", "A cancelled context ends the call … an error means that nothing of the request was done", needState, stateCancelled},
	}
}

func (e *env) states() webhook.StateStore { return e.h.Store.(webhook.StateStore) }

// stateHandle is one of the two handles in turn.
func (e *env) stateHandle(i int) webhook.StateStore {
	if i%2 == 0 {
		return e.states()
	}
	return e.h.Second.(webhook.StateStore)
}

func (e *env) putStates(s webhook.StateStore, states ...webhook.NewState) *webhook.PutStatesResult {
	res, err := s.PutStates(e.ctx, &webhook.PutStatesRequest{Now: at(0), States: states})
	e.ok("PutStates", err)
	if len(res.States) != len(states) {
		e.failf("PutStates: %d statuses for %d states", len(res.States), len(states))
	}
	return res
}

// putState puts a state, which must be applied, and returns its version.
func (e *env) putState(in webhook.NewState) int64 {
	res := e.putStates(e.states(), in)
	e.same("status of "+in.EndpointID, res.States[0], webhook.Applied)
	return res.Version
}

// staleState puts a state, which must be stale.
func (e *env) staleState(why string, in webhook.NewState) {
	res := e.putStates(e.states(), in)
	e.same("status: "+why, res.States[0], webhook.Stale)
	e.same("Version with nothing applied", res.Version, int64(0))
}

// stateChanges reads changes by the other handle, and checks that they are in order and name no endpoint twice.
func (e *env) stateChanges(since int64) *webhook.StateChanges {
	res, err := e.stateHandle(1).StateChanges(e.ctx, since)
	e.ok("StateChanges", err)
	for i, st := range res.States {
		if i > 0 && st.EndpointID <= res.States[i-1].EndpointID {
			e.failf("StateChanges: %q after %q", st.EndpointID, res.States[i-1].EndpointID)
		}
		if st.Version > res.Version || since <= res.Version && st.Version <= since {
			e.failf("StateChanges since %d up to %d: version %d of %q", since, res.Version, st.Version, st.EndpointID)
		}
	}
	return res
}

// state is the state of an endpoint; it has Version 0 where there is none.
func (e *env) state(endpoint string) webhook.EndpointState {
	for _, st := range e.stateChanges(0).States {
		if st.EndpointID == endpoint {
			return st
		}
	}
	return webhook.EndpointState{EndpointID: endpoint}
}

// wantState compares a state, but for its version.
func (e *env) wantState(got, want webhook.EndpointState) {
	what := fmt.Sprintf("state of %q: ", want.EndpointID)
	e.same(what+"EndpointID", got.EndpointID, want.EndpointID)
	if !bytes.Equal(got.Doc, want.Doc) || (got.Doc == nil) != (want.Doc == nil) {
		e.failf("%sDoc is %q (nil: %v), want %q (nil: %v)", what, got.Doc, got.Doc == nil, want.Doc, want.Doc == nil)
	}
	e.sameTime(what+"NotBefore", got.NotBefore, want.NotBefore)
	e.same(what+"on hold", got.Hold != nil, want.Hold != nil)
	if got.Hold != nil {
		e.sameTime(what+"Hold.Until", got.Hold.Until, want.Hold.Until)
		h := *got.Hold
		h.Until = want.Hold.Until // whatever its zone
		e.same(what+"Hold", h, *want.Hold)
	}
}

func statePutGet(e *env) {
	e.same("states of an empty store", len(e.stateChanges(0).States), 0)
	res := e.putStates(e.states(),
		webhook.NewState{EndpointID: "ü", Doc: []byte(`{"s":"slowed"}`), NotBefore: at(time.Hour + 999)},
		webhook.NewState{EndpointID: "B", Doc: []byte("B")}, webhook.NewState{EndpointID: "a-b", NotBefore: at(0)}, webhook.NewState{EndpointID: "a"})
	e.same("statuses", res.States, make([]webhook.OutcomeStatus, 4))
	want := []webhook.EndpointState{{EndpointID: "B", Doc: []byte("B")}, {EndpointID: "a"}, {EndpointID: "a-b", NotBefore: at(0)},
		{EndpointID: "ü", Doc: []byte(`{"s":"slowed"}`), NotBefore: at(time.Hour)}}
	got := e.stateChanges(0)
	e.same("states", len(got.States), len(want))
	for i := range want {
		e.wantState(got.States[i], want[i])
		if v := got.States[i].Version; v <= 0 || v != res.Version {
			e.failf("version of %q is %d, want that of the request, %d", want[i].EndpointID, v, res.Version)
		}
	}
}

func stateReplaced(e *env) {
	v := e.putState(webhook.NewState{EndpointID: "a", Doc: []byte("one"), NotBefore: at(time.Hour)})
	w := e.putState(webhook.NewState{EndpointID: "a", Version: v, Doc: []byte("two"), NotBefore: at(time.Minute)})
	if w <= v {
		e.failf("version %d after %d: it does not grow", w, v)
	}
	e.wantState(e.state("a"), webhook.EndpointState{EndpointID: "a", Doc: []byte("two"), NotBefore: at(time.Minute)})
	e.putState(webhook.NewState{EndpointID: "a", Version: w, Doc: []byte{}})
	e.wantState(e.state("a"), webhook.EndpointState{EndpointID: "a"})
}

func stateLargestDoc(e *env) {
	doc := []byte(strings.Repeat("0123456789abcdef", webhook.MaxStateDoc/16))
	e.putState(webhook.NewState{EndpointID: "a", Doc: doc})
	e.wantState(e.state("a"), webhook.EndpointState{EndpointID: "a", Doc: doc})
	large := webhook.NewState{EndpointID: "c", Doc: append(doc, 'x')}
	_, err := e.states().PutStates(e.ctx, &webhook.PutStatesRequest{Now: at(0), States: []webhook.NewState{{EndpointID: "b"}, large}})
	e.wantErr("PutStates of a larger one", err, webhook.ErrInvalid)
	e.same("states", len(e.stateChanges(0).States), 1)
}

func stateDocIsBytes(e *env) {
	doc := make([]byte, 512)
	for i := range doc {
		doc[i] = byte(i)
	}
	e.putState(webhook.NewState{EndpointID: "a", Doc: doc})
	e.wantState(e.state("a"), webhook.EndpointState{EndpointID: "a", Doc: doc})
}

func stateFirstVersion(e *env) {
	e.staleState("there is no state of that version", webhook.NewState{EndpointID: "a", Version: 7, Doc: []byte("x")})
	e.same("states", len(e.stateChanges(0).States), 0)
	v := e.putState(webhook.NewState{EndpointID: "a"})
	e.staleState("it has a version", webhook.NewState{EndpointID: "a"})
	e.same("version", e.state("a").Version, v)
}

// stateFirstAfterRate puts the first state of an endpoint that the store may know of, because it has a rate.
func stateFirstAfterRate(e *env) {
	e.fill("a", 1)
	e.count(e.s, at(0), 1, limited("a", webhook.Fresh))
	e.same("states", len(e.stateChanges(0).States), 0)
	e.putState(webhook.NewState{EndpointID: "a", Doc: []byte("x")})
	e.wantState(e.state("a"), webhook.EndpointState{EndpointID: "a", Doc: []byte("x")})
}

func stateStale(e *env) {
	v := e.putState(webhook.NewState{EndpointID: "a", Doc: []byte("one")})
	w := e.putState(webhook.NewState{EndpointID: "a", Version: v, Doc: []byte("two")})
	for _, version := range []int64{0, v, w + 1} {
		e.staleState(fmt.Sprintf("version %d is not the last", version), webhook.NewState{EndpointID: "a", Version: version, Doc: []byte("lost"), NotBefore: at(time.Hour)})
	}
	got := e.state("a")
	e.wantState(got, webhook.EndpointState{EndpointID: "a", Doc: []byte("two")})
	e.same("version", got.Version, w)
}

func stateEach(e *env) {
	v := e.putState(webhook.NewState{EndpointID: "b", Doc: []byte("one")})
	res := e.putStates(e.stateHandle(1), webhook.NewState{EndpointID: "c", Version: v, Doc: []byte("lost")},
		webhook.NewState{EndpointID: "b", Version: v, Doc: []byte("two")}, webhook.NewState{EndpointID: "d", Doc: []byte("four")})
	e.same("statuses", res.States, []webhook.OutcomeStatus{webhook.Stale, webhook.Applied, webhook.Applied})
	e.same("states", len(e.stateChanges(0).States), 2)
	e.wantState(e.state("b"), webhook.EndpointState{EndpointID: "b", Doc: []byte("two")})
	e.wantState(e.state("d"), webhook.EndpointState{EndpointID: "d", Doc: []byte("four")})
}

func stateOneVersion(e *env) {
	var in []webhook.NewState
	for i := range 700 { // more than stores put into one statement
		in = append(in, webhook.NewState{EndpointID: fmt.Sprintf("ep%03d", i), Doc: []byte{byte(i)}})
	}
	first := e.putStates(e.states(), in...)
	for i := range in {
		in[i].Version, in[i].Doc = first.Version, []byte{byte(i), 2}
	}
	in[3].Version++
	second := e.putStates(e.states(), in...)
	e.same("Stale", slices.Index(second.States, webhook.Stale), 3)
	got := e.stateChanges(first.Version)
	e.same("version", got.Version, second.Version)
	e.same("states", len(got.States), len(in)-1)
	for _, st := range got.States {
		e.same("version of "+st.EndpointID, st.Version, second.Version)
		e.same("doc of "+st.EndpointID, len(st.Doc), 2)
	}
}

func stateHoldMoves(e *env) {
	v := e.putState(webhook.NewState{EndpointID: "a", Doc: []byte("x"), NotBefore: at(time.Minute)})
	e.hold("a", at(time.Hour))
	e.hold("b", time.Time{}) // has no state yet
	got := e.stateChanges(v)
	e.same("states changed", len(got.States), 2)
	for i, want := range []webhook.EndpointState{{EndpointID: "a", Doc: []byte("x"), NotBefore: at(time.Minute),
		Hold: &webhook.HoldStatus{EndpointID: "a", Kind: "paused", Reason: "because of a test", Until: at(time.Hour)}},
		{EndpointID: "b", Hold: &webhook.HoldStatus{EndpointID: "b", Kind: "paused", Reason: "because of a test"}}} {
		e.wantState(got.States[i], want)
	}
	e.staleState("Hold has changed it", webhook.NewState{EndpointID: "a", Version: v})
	e.staleState("Hold has changed it", webhook.NewState{EndpointID: "b"})
	e.hold("a", at(time.Hour))
	e.same("states changed by the same hold", len(e.stateChanges(got.Version).States), 1)
}

func stateUnholdMoves(e *env) {
	v := e.putState(webhook.NewState{EndpointID: "a", Doc: []byte("x")})
	e.unhold("a")
	e.unhold("b")
	e.same("states changed by Unhold of nothing", len(e.stateChanges(v).States), 0)
	e.hold("a", at(-time.Hour)) // over already
	w := e.state("a").Version
	e.unhold("a")
	got := e.stateChanges(w)
	e.same("states changed", len(got.States), 1)
	e.wantState(got.States[0], webhook.EndpointState{EndpointID: "a", Doc: []byte("x")})
	e.staleState("Unhold has changed it", webhook.NewState{EndpointID: "a", Version: w})
	e.unhold("a")
	e.same("states changed by Unhold of nothing", len(e.stateChanges(got.Version).States), 0)
}

func stateKeepsHold(e *env) {
	e.hold("a", at(time.Hour))
	e.putState(webhook.NewState{EndpointID: "a", Version: e.state("a").Version, Doc: []byte("x")})
	want := webhook.HoldStatus{EndpointID: "a", Kind: "paused", Reason: "because of a test", Until: at(time.Hour)}
	e.wantState(e.state("a"), webhook.EndpointState{EndpointID: "a", Doc: []byte("x"), Hold: &want})
	e.wantHolds(at(0), want)
}

func stateHoldOver(e *env) {
	e.hold("a", at(time.Minute))
	e.wantHolds(at(time.Hour))
	got := e.state("a")
	if got.Hold != nil {
		e.sameTime("Hold.Until", got.Hold.Until, at(time.Minute))
	}
	e.putState(webhook.NewState{EndpointID: "a", Version: got.Version, Doc: []byte("x")})
	e.wantHolds(at(time.Hour))
}

func statePutWithHold(e *env) {
	e.put(at(0), plain("a", "d1"), plain("b", "d2"))
	v := e.putState(webhook.NewState{EndpointID: "a", Doc: []byte("x"), Hold: &webhook.HoldRequest{Now: at(time.Hour), EndpointID: "b",
		Kind: webhook.HoldDisabled, Reason: "nothing but »Fehler«", Until: at(time.Hour + 999)}})
	want := webhook.HoldStatus{EndpointID: "a", Kind: webhook.HoldDisabled, Reason: "nothing but »Fehler«", Until: at(time.Hour)}
	e.wantHolds(at(0), want)
	e.wantState(e.state("a"), webhook.EndpointState{EndpointID: "a", Doc: []byte("x"), Hold: &want})
	e.one("d2", at(0), fresh("a"), fresh("b"))
	e.putState(webhook.NewState{EndpointID: "a", Version: v, Hold: &webhook.HoldRequest{Kind: webhook.HoldGone}})
	e.wantHolds(at(0), webhook.HoldStatus{EndpointID: "a", Kind: webhook.HoldGone})
	e.none("the endpoint is on hold", at(time.Hour), fresh("a"))
}

func statePutWithUnhold(e *env) {
	e.put(at(0), plain("a", "d1"), plain("b", "d2"))
	e.hold("a", time.Time{})
	e.hold("b", time.Time{})
	e.putStates(e.states(), webhook.NewState{EndpointID: "a", Version: e.state("a").Version, Doc: []byte("x"), Unhold: true},
		webhook.NewState{EndpointID: "c", Unhold: true})
	e.wantState(e.state("a"), webhook.EndpointState{EndpointID: "a", Doc: []byte("x")})
	e.wantState(e.state("c"), webhook.EndpointState{EndpointID: "c"})
	e.wantHolds(at(0), webhook.HoldStatus{EndpointID: "b", Kind: "paused", Reason: "because of a test"})
	e.one("d1", at(0), fresh("a"), fresh("b"))
}

func stateStaleHolds(e *env) {
	e.put(at(0), plain("a", "d1"), plain("b", "d2"))
	e.hold("b", time.Time{})
	e.staleState("it has no version", webhook.NewState{EndpointID: "a", Version: 99, Hold: &webhook.HoldRequest{Kind: "disabled"}})
	e.staleState("Hold has changed it", webhook.NewState{EndpointID: "b", Unhold: true})
	e.one("d1", at(0), fresh("a"), fresh("b"))
}

func stateChangesSince(e *env) {
	a := e.putState(webhook.NewState{EndpointID: "a"})
	b := e.putState(webhook.NewState{EndpointID: "b"})
	c := e.putState(webhook.NewState{EndpointID: "c"})
	a2 := e.putState(webhook.NewState{EndpointID: "a", Version: a})
	all := []string{"a", "b", "c"}
	for since, want := range map[int64][]string{0: all, a: all, b: {"a", "c"}, c: {"a"}, a2: nil} {
		var got []string
		res := e.stateChanges(since)
		for _, st := range res.States {
			got = append(got, st.EndpointID)
		}
		e.same(fmt.Sprintf("endpoints changed since %d", since), got, want)
		e.same("version", res.Version, a2)
	}
}

func stateChangesBeyond(e *env) {
	e.same("states of an empty store", len(e.stateChanges(99).States), 0)
	v := e.putState(webhook.NewState{EndpointID: "a"})
	res := e.stateChanges(v + 1)
	e.same("states", len(res.States), 1)
	e.same("version", res.Version, v)
}

// stateCache keeps a cache by its versions while four writers put, hold and unhold, and compares it with the truth afterwards.
func stateCache(e *env) {
	const writers, rounds = 4, 15
	cache, version := map[string]webhook.EndpointState{}, int64(0)
	refresh := func() {
		res := e.stateChanges(version)
		if res.Version < version {
			e.failf("version %d after %d", res.Version, version)
		}
		for _, st := range res.States {
			cache[st.EndpointID] = st
		}
		version = res.Version
	}
	writing := make(chan struct{}, writers)
	e.parallel(writers+1, func(i int) {
		if i < writers {
			defer func() { writing <- struct{}{} }()
			for n := range rounds {
				e.changeState(i, n)
			}
			return
		}
		for done := 0; done < writers; {
			select {
			case <-writing:
				done++
			default:
				refresh()
			}
		}
	})
	refresh()
	for i := range 3 { // now that nobody is in the way
		e.putState(webhook.NewState{EndpointID: fmt.Sprint("last", i), Doc: []byte("x")})
		if refresh(); cache[fmt.Sprint("last", i)].Version != version {
			e.failf("the cache at version %d has missed a state that was put before", version)
		}
	}
	truth := e.stateChanges(0)
	e.same("states", len(cache), len(truth.States))
	for _, st := range truth.States {
		e.same("version in the cache of "+st.EndpointID, cache[st.EndpointID].Version, st.Version)
		e.wantState(cache[st.EndpointID], st)
	}
}

// changeState is the n-th change of the i-th writer: of a state of its own, and of one that all share.
func (e *env) changeState(i, n int) {
	s, own := e.stateHandle(i), fmt.Sprint("own", i)
	res, err := s.StateChanges(e.ctx, 0)
	e.ok("StateChanges", err)
	states := []webhook.NewState{{EndpointID: own, Doc: []byte{byte(n)}}, {EndpointID: "shared", Doc: []byte{byte(i), byte(n)}}}
	for _, st := range res.States {
		for k := range states {
			if states[k].EndpointID == st.EndpointID {
				states[k].Version = st.Version
			}
		}
	}
	for k := range states {
		put, err := s.PutStates(e.ctx, &webhook.PutStatesRequest{Now: at(0), States: states[k : k+1]})
		e.ok("PutStates", err)
		if k == 0 {
			e.same("status of a state that nobody else changes", put.States[0], webhook.Applied)
		}
	}
	switch hs := e.h.Store.(webhook.HoldStore); n % 3 {
	case 1:
		e.ok("Hold", hs.Hold(e.ctx, &webhook.HoldRequest{Now: at(0), EndpointID: own, Kind: "paused"}))
	case 2:
		e.ok("Unhold", hs.Unhold(e.ctx, own))
	}
}

// stateOneWins has eight put a state that they have all read: one wins each round.
func stateOneWins(e *env) {
	var version int64
	for round := range 6 {
		won := make([]int64, 8)
		e.parallel(len(won), func(i int) {
			res, err := e.stateHandle(i).PutStates(e.ctx, &webhook.PutStatesRequest{Now: at(0), States: []webhook.NewState{
				{EndpointID: "a", Version: version, Doc: []byte{byte(i) + 1}}, {EndpointID: fmt.Sprintf("%d-%d", round, i)}}})
			e.ok("PutStates", err)
			e.same("status of a state that nobody else changes", res.States[1], webhook.Applied)
			if res.States[0] == webhook.Applied {
				won[i] = res.Version
			}
		})
		winner := slices.IndexFunc(won, func(v int64) bool { return v > 0 })
		e.same("winners", len(slices.DeleteFunc(slices.Clone(won), func(v int64) bool { return v == 0 })), 1)
		got := e.state("a")
		e.wantState(got, webhook.EndpointState{EndpointID: "a", Doc: []byte{byte(winner) + 1}})
		e.same("version", got.Version, won[winner])
		version = got.Version
	}
}

func stateKeepsRate(e *env) {
	e.fill("a", 9)
	l := limited("a", webhook.Fresh)
	e.count(e.s, at(0), 3, l)
	v := e.putState(webhook.NewState{EndpointID: "a", Doc: []byte("x")})
	e.count(e.s, at(0), 0, l)
	e.putState(webhook.NewState{EndpointID: "a", Version: v})
	e.count(e.s, at(500*time.Millisecond-time.Microsecond), 0, l)
	e.count(e.s, at(500*time.Millisecond), 1, l)
	e.staleState("a claim is no change of the state", webhook.NewState{EndpointID: "a", Version: v})
	e.putState(webhook.NewState{EndpointID: "a", Version: e.state("a").Version})
}

func stateRetention(e *env) {
	in := webhook.NewState{EndpointID: "a", Doc: []byte("doc"), Hold: &webhook.HoldRequest{Kind: "paused", Reason: "reason"}}
	e.putState(in)
	e.same("Doc after the call", string(in.Doc), "doc")
	scribble(in.Doc)
	in.Hold.Reason = "#"
	want := webhook.EndpointState{EndpointID: "a", Doc: []byte("doc"), Hold: &webhook.HoldStatus{EndpointID: "a", Kind: "paused", Reason: "reason"}}
	for range 2 {
		res, err := e.states().StateChanges(e.ctx, 0)
		e.ok("StateChanges", err)
		e.wantState(res.States[0], want)
		scribble(res.States[0].Doc)
		res.States[0].Hold.Reason = "#"
	}
}

func stateCancelled(e *env) {
	ctx := e.cancelled()
	_, err := e.states().PutStates(ctx, &webhook.PutStatesRequest{Now: at(0), States: []webhook.NewState{{EndpointID: "a"}}})
	e.wantErr("PutStates", err, context.Canceled)
	_, err = e.states().StateChanges(ctx, 0)
	e.wantErr("StateChanges", err, context.Canceled)
	e.same("states", len(e.stateChanges(0).States), 0)
}
