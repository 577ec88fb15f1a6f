package webhook

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// changeTries is how often a change is tried when others change the same state at the same time.
const changeTries = 10

var errContended = errors.New("its state is changed by others all the time; try again")

// read takes over what other processes have stored since it was called last.
func (h *health) read(ctx context.Context) error {
	if h.states == nil {
		return nil
	}
	h.mu.Lock()
	since := h.since
	h.mu.Unlock()
	res, err := h.states.StateChanges(ctx, since)
	if err == nil && res == nil {
		err = errMalformedAnswer
	}
	if err != nil {
		return err
	}
	restored := res.Version < since // from a backup: these are all that there are
	if restored {
		there := make(map[string]bool, len(res.States))
		for i := range res.States {
			there[res.States[i].EndpointID] = true
		}
		for _, st := range h.d.statuses.all() {
			if !there[st.id] {
				h.learn(&EndpointState{EndpointID: st.id}, true)
			}
		}
	}
	for i := range res.States {
		h.learn(&res.States[i], restored)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if restored || res.Version > h.since {
		h.since = res.Version
	}
	return nil
}

// learn takes over a state as it is in the store, unless a newer one is known.
func (h *health) learn(in *EndpointState, anyway bool) {
	if !h.d.serves(in.EndpointID) {
		return
	}
	st := h.d.statuses.get(in.EndpointID)
	rt := h.d.routes.lookup(in.EndpointID)
	st.mu.Lock()
	if in.Version <= st.known.version && !anyway || in.Version == 0 && st.known.version == 0 {
		st.mu.Unlock()
		return
	}
	was := st.known.doc.FailingSince
	st.known = readState(in)
	switch is := st.known.doc.FailingSince; {
	case was > 0 && is != was: // a success, or a person, has ended what was seen here
		st.seen.firstFailure, st.seen.failed = 0, 0
	case is > 0 && st.meter.lastSuccess >= is: // others do not know of it
		st.seen.lastSuccess = max(st.seen.lastSuccess, st.meter.lastSuccess)
	}
	st.meter.judge(st.known.doc.PacedAt, false)
	st.hold.Store(in.Hold)
	h.enforce(st, &st.known, rt)
	st.touched = true
	fresh := !st.watched && !st.known.doc.isIdle()
	st.watched = st.watched || fresh
	st.mu.Unlock()
	if fresh {
		h.watch(st)
	}
	h.d.verify.learn(in, anyway)
}

// catchUp reads what has made states stale, and all states when that was not among the changes.
func (h *health) catchUp(ctx context.Context, plans []*planned, answers []OutcomeStatus) {
	err := h.read(ctx)
	for i, p := range plans {
		if err == nil && answers[i] != Applied && h.isUnchanged(p) {
			h.mu.Lock()
			h.since = 0
			h.mu.Unlock()
			err = h.read(ctx)
			break
		}
	}
	if err != nil && ctx.Err() == nil {
		h.d.log.Warn("webhook: reading the state of endpoints failed; trying again", slog.Any("error", err))
	}
	h.kick()
}

func (h *health) isUnchanged(p *planned) bool {
	p.st.mu.Lock()
	defer p.st.mu.Unlock()
	return p.st.known.version == p.step.was.version
}

// edit is what a change does besides what it makes of stepping.next.
type edit struct {
	hold   *HoldRequest
	unhold bool
}

// change stores what f makes of an endpoint's state, trying again on what others have stored meanwhile. It is in force when change
// returns, and told of. f returns nil when nothing is to be changed.
func (h *health) change(ctx context.Context, rt *route, f func(s *stepping) *edit) error {
	for range changeTries {
		now, err := h.d.clock.now(ctx)
		if err != nil {
			return err
		}
		p := &planned{st: rt.status, rt: rt, step: stepping{policy: rt.health, now: now.UnixMicro(), canHold: h.states != nil}}
		rt.status.mu.Lock()
		p.step.was = rt.status.known
		rt.status.mu.Unlock()
		p.step.next = p.step.was
		e := f(&p.step)
		if e == nil {
			return nil
		}
		p.step.next.doc.At = p.step.now
		put := p.step.next.newState(rt.status.id, e.hold, e.unhold)
		res, err := h.store(ctx, &PutStatesRequest{Now: now, States: []NewState{put}})
		if err != nil {
			return err
		}
		if res.States[0] == Applied {
			h.applied(ctx, p, &put, res.Version)
			return nil
		}
		h.catchUp(ctx, []*planned{p}, res.States)
	}
	return errContended
}

// routeOf is the route of an endpoint, or a makeshift one for one that only other processes know.
func (h *health) routeOf(id string) *route {
	if rt := h.d.routes.lookup(id); rt.status.id == id {
		return rt
	}
	return &route{endpoint: Endpoint{ID: id}, health: Graduated().withDefaults(), status: h.d.statuses.get(id)}
}

// gone puts an endpoint on hold that asked to hear no more, before the outcome of that attempt is recorded. Any other hold stays.
func (h *health) gone(ctx context.Context, rt *route, reason string) {
	id := rt.endpoint.ID
	var err error
	if h.states == nil {
		if err = h.d.hold(ctx, id, HoldGone, reason); err == nil {
			h.d.log.Warn("webhook: endpoint disabled: it is gone (410)", slog.String("endpoint", id))
		}
	} else {
		err = h.change(ctx, rt, func(s *stepping) *edit {
			if s.was.onHold(s.now) != nil {
				return nil
			}
			s.setPace(0, 0)
			s.goTo(HealthHeld, reason)
			return &edit{hold: &HoldRequest{Kind: HoldGone, Reason: reason}}
		})
	}
	if err != nil {
		h.d.log.Error("webhook: could not disable an endpoint that is gone", slog.String("endpoint", id), slog.Any("error", err))
	}
}

// resume ends a hold and what else keeps an endpoint from being sent to: what was kept goes out at a safe pace.
func (h *health) resume(ctx context.Context, rt *route, reason string, may func(hold *HoldStatus) bool) error {
	if h.states != nil {
		if err := h.read(ctx); err != nil { // what is to be ended may be news
			return err
		}
	}
	err := h.change(ctx, rt, func(s *stepping) *edit {
		idle := s.was.hold == nil && s.was.notBefore == 0 && s.was.doc.Stage == "" && s.was.doc.FailingSince == 0
		if idle && h.states != nil || !may(s.was.onHold(s.now)) {
			return nil
		}
		s.next.notBefore = 0
		s.drain(reason)
		return &edit{unhold: true}
	})
	if err == nil && h.d.running.Load() {
		h.d.feed.relax(rt.status.id)
	}
	return err
}

// deletedRest is how long a hold outlives its endpoint: until every process knows that there is nothing to send to any more.
const deletedRest = 2 * routesAge

// deleted is told that an endpoint was deleted. What waits for it must be claimed to be canceled, so what keeps it from that ends: not before
// those that do not know yet would send it. Of what was known of the endpoint nothing is left to one that gets the same ID.
func (h *health) deleted(ctx context.Context, id string) error {
	rest := func(now time.Time) *HoldRequest { // a pause, of which neither health nor verification makes anything
		return &HoldRequest{Now: now, EndpointID: id, Kind: HoldPaused, Reason: "its endpoint was deleted", Until: now.Add(deletedRest)}
	}
	if h.states == nil {
		if h.d.statuses.get(id).hold.Load() == nil {
			return nil
		}
		now, err := h.d.clock.now(ctx)
		if err != nil {
			return err
		}
		return h.d.routes.holds.Hold(ctx, rest(now))
	}
	if err := h.read(ctx); err != nil {
		return err
	}
	return h.change(ctx, h.routeOf(id), func(s *stepping) *edit {
		if s.was.onHold(s.now) == nil && s.was.notBefore == 0 && s.was.doc == (healthDoc{}) {
			return nil
		}
		s.next.doc, s.next.notBefore = healthDoc{}, 0
		return &edit{hold: rest(microTime(s.now))}
	})
}

// resumed is told that the hold of an endpoint was ended otherwise: what was kept goes out at a safe pace.
func (h *health) resumed(ctx context.Context, id string) {
	rt := h.routeOf(id)
	if rt.health.Kind == healthOff {
		return
	}
	err := h.change(ctx, rt, func(s *stepping) *edit {
		s.drain("it was let go")
		return &edit{}
	})
	if err != nil && ctx.Err() == nil {
		h.d.log.Warn("webhook: could not begin slowly with an endpoint", slog.String("endpoint", id), slog.Any("error", err))
	}
}

// testSucceeded is told that an endpoint answered a test with a success, which may end a hold that its failures made.
func (h *health) testSucceeded(ctx context.Context, rt *route) {
	if rt.health.KeepHeld || h.states == nil {
		return
	}
	if err := h.resume(ctx, rt, "it answered a test", (*HoldStatus).isHealthHold); err != nil {
		h.d.log.Warn("webhook: could not end the hold of an endpoint that answered a test",
			slog.String("endpoint", rt.endpoint.ID), slog.Any("error", err))
	}
}

// raise sets v to at least least.
func raise(v *atomic.Int64, least int64) {
	for {
		old := v.Load()
		if old >= least || v.CompareAndSwap(old, least) {
			return
		}
	}
}

// store puts states, or acts as a store would that keeps none.
func (h *health) store(ctx context.Context, req *PutStatesRequest) (*PutStatesResult, error) {
	if h.states == nil {
		return &PutStatesResult{States: make([]OutcomeStatus, len(req.States))}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	res, err := h.states.PutStates(ctx, req)
	if err == nil && (res == nil || len(res.States) != len(req.States)) {
		err = errMalformedAnswer
	}
	return res, err
}

// applied takes over a state that was stored, and tells of it: no other process does.
func (h *health) applied(ctx context.Context, p *planned, put *NewState, version int64) {
	st := p.st
	st.mu.Lock()
	st.pending = 0
	if version >= st.known.version {
		hold := p.step.was.hold
		if put.Unhold {
			hold = nil
		}
		if put.Hold != nil {
			hold = &HoldStatus{EndpointID: st.id, Kind: put.Hold.Kind, Reason: put.Hold.Reason, Until: put.Hold.Until}
		}
		st.known = readState(&EndpointState{EndpointID: st.id, Version: version, Doc: put.Doc, NotBefore: put.NotBefore, Hold: hold})
		if put.Hold != nil || put.Unhold {
			st.hold.Store(hold)
		}
		st.meter.judge(st.known.doc.PacedAt, p.step.judged)
		if put.Unhold || st.seen.notBefore <= st.known.notBefore {
			st.seen.notBefore = 0
		}
		h.enforce(st, &st.known, p.rt)
	}
	fresh := !st.watched && !st.known.doc.isIdle()
	st.watched = st.watched || fresh
	st.mu.Unlock()
	if fresh {
		h.watch(st)
	}
	h.tell(ctx, p.rt, p.step.news)
}

// tell calls the hook and writes to the log.
func (h *health) tell(ctx context.Context, rt *route, news []HealthInfo) {
	for _, info := range news {
		info.EndpointID, info.Tenant, info.URL = rt.endpoint.ID, rt.endpoint.Tenant, RedactURL(rt.endpoint.URL)
		h.d.traceHealth(ctx, info)
	}
}
