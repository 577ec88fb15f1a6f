package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

// mstate is what a model knows of an endpoint's state, beside its hold.
type mstate struct {
	version   int64 // as last read or put; 0: none
	changed   bool  // since model.seen
	maybe     bool  // or not: by the end of a hold that was over already
	doc       string
	notBefore time.Time
}

// state is the state of an endpoint, made if there is none.
func (m *model) state(endpoint string) *mstate {
	if m.states[endpoint] == nil {
		m.states[endpoint] = &mstate{}
	}
	return m.states[endpoint]
}

// hold puts an endpoint on hold.
func (m *model) hold(endpoint string, until time.Time) {
	m.holds[endpoint] = mhold{until}
	m.state(endpoint).changed = true
}

// unhold ends a hold, if there is one. A store may have forgotten one that is over.
func (m *model) unhold(endpoint string) {
	if _, ok := m.holds[endpoint]; ok {
		st := m.state(endpoint)
		if held, _ := m.held(endpoint); held {
			st.changed = true
		} else {
			st.maybe = true
		}
	}
	delete(m.holds, endpoint)
}

// early is when the first of an endpoint's deliveries may be claimed, if that lies ahead and a hold does not matter more.
func (m *model) early(endpoint string) time.Time {
	st := m.states[endpoint]
	if held, _ := m.held(endpoint); held || st == nil || !st.notBefore.After(m.now) {
		return time.Time{}
	}
	return st.notBefore
}

// stateChanges checks which states a store says to have changed since m.seen, and takes over their versions.
func (m *model) stateChanges(got *webhook.StateChanges) error {
	named := map[string]bool{}
	for _, g := range got.States {
		st := m.states[g.EndpointID]
		if st == nil || !st.changed && !st.maybe {
			return fmt.Errorf("the state of %q has not changed since version %d", g.EndpointID, m.seen)
		}
		held, until := m.held(g.EndpointID)
		switch {
		case g.Version <= m.seen || g.Version > got.Version:
			return fmt.Errorf("the state of %q has version %d between %d and %d", g.EndpointID, g.Version, m.seen, got.Version)
		case string(g.Doc) != st.doc || !g.NotBefore.Equal(st.notBefore):
			return fmt.Errorf("the state of %q is %q until %v, want %q until %v", g.EndpointID, g.Doc, g.NotBefore, st.doc, st.notBefore)
		case held && (g.Hold == nil || !g.Hold.Until.Equal(until)):
			return fmt.Errorf("the hold of %q is %v, want one until %v", g.EndpointID, g.Hold, until)
		case !held && g.Hold != nil && (g.Hold.Until.IsZero() || g.Hold.Until.After(m.now)):
			return fmt.Errorf("the hold of %q is %v, want none", g.EndpointID, g.Hold)
		}
		named[g.EndpointID] = true
		st.version, st.changed, st.maybe = g.Version, false, false
	}
	for ep, st := range m.states {
		if st.changed && !named[ep] {
			return fmt.Errorf("the state of %q has changed since version %d, and is left out", ep, m.seen)
		}
		st.maybe = false
	}
	m.seen = got.Version
	return nil
}

// opStates reads the states that changed since it did last.
func (w *walk) opStates() {
	if _, ok := w.h.Store.(webhook.StateStore); !ok {
		return
	}
	w.note("StateChanges since %d", w.m.seen)
	res, err := w.stateHandle(w.r.IntN(2)).StateChanges(w.ctx, w.m.seen)
	w.ok("StateChanges", err)
	w.try("StateChanges", w.m.stateChanges(res))
}

// opPutStates puts a state of each endpoint, or of some; now and then one that is stale.
func (w *walk) opPutStates() {
	if _, ok := w.h.Store.(webhook.StateStore); !ok {
		return
	}
	w.opStates()
	var states []webhook.NewState
	var want []webhook.OutcomeStatus
	text := ""
	for _, ep := range walkEndpoints {
		if w.chance(2) {
			continue
		}
		in, st := w.newState(ep), webhook.Applied
		if w.chance(4) {
			in.Version, st = in.Version+1, webhook.Stale
		}
		states, want = append(states, in), append(want, st)
		text += fmt.Sprintf("%s version %d not before %v hold %v unhold %v, ", ep, in.Version, in.NotBefore, in.Hold != nil, in.Unhold)
	}
	w.r.Shuffle(len(states), func(i, j int) {
		states[i], states[j] = states[j], states[i]
		want[i], want[j] = want[j], want[i]
	})
	w.note("PutStates %s", text)
	res, err := w.stateHandle(w.r.IntN(2)).PutStates(w.ctx, &webhook.PutStatesRequest{Now: w.m.now, States: states})
	w.ok("PutStates", err)
	w.same("statuses", fmt.Sprint(res.States), fmt.Sprint(want))
	if some := slices.Contains(want, webhook.Applied); some != (res.Version > w.m.seen) {
		w.failf("PutStates: version %d after %d", res.Version, w.m.seen)
	}
	for i, in := range states {
		if want[i] == webhook.Applied {
			w.m.putState(in, res.Version)
		}
	}
}

func (w *walk) newState(endpoint string) webhook.NewState {
	in := webhook.NewState{EndpointID: endpoint, Doc: fmt.Appendf(nil, "doc %x", w.id%256)}
	if st := w.m.states[endpoint]; st != nil {
		in.Version = st.version
	}
	if !w.chance(3) {
		in.NotBefore = w.m.now.Add(time.Duration(w.r.IntN(30)-5) * time.Second)
	}
	if _, ok := w.h.Store.(webhook.HoldStore); !ok {
		return in
	}
	switch w.r.IntN(6) {
	case 0:
		in.Hold = &webhook.HoldRequest{Kind: "paused", Until: w.m.now.Add(time.Duration(1+w.r.IntN(20)) * time.Second)}
	case 1:
		in.Unhold = true
	}
	return in
}

// putState takes over a state that was applied.
func (m *model) putState(in webhook.NewState, version int64) {
	st := m.state(in.EndpointID)
	st.version, st.changed, st.doc, st.notBefore = version, true, string(in.Doc), in.NotBefore
	switch {
	case in.Hold != nil:
		m.holds[in.EndpointID] = mhold{in.Hold.Until}
	case in.Unhold:
		delete(m.holds, in.EndpointID)
	}
}
