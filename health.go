package webhook

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what health asks of the store.
const (
	statesMost  = 256                                   // states put in a poll
	healthPause = 20 * time.Millisecond                 // between puts that cannot wait for the next poll
	healthLook  = int64(time.Second / time.Microsecond) // an endpoint that fails is looked at so often without attempts, µs
)

// health watches how endpoints fare, and slows, probes and holds those that fail. Senders note what they see; one goroutine works out
// what becomes of it and stores that by compare-and-set, so that all processes on the store agree on it.
type health struct {
	d      *Dispatcher
	states StateStore // nil: each process knows what it saw itself, and none switches anything off
	wake   chan struct{}

	mu      sync.Mutex // never held while blocking; taken before none
	since   int64      // version up to which changes were read
	watched []*endpointStatus
}

func newHealth(d *Dispatcher) *health {
	h := &health{d: d, wake: make(chan struct{}, 1)}
	h.states, _ = d.store.(StateStore)
	return h
}

func (h *health) kick() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// watch has an endpoint looked at.
func (h *health) watch(st *endpointStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watched = append(h.watched, st)
}

// observe takes note of an attempt that says something about its endpoint: each but tests, and failures of our own. It is called by
// senders, before the outcome is recorded, and must be quick. retryAfter is what the answer asks for, bounded; 0: nothing.
func (h *health) observe(rt *route, _ *item, a *Attempt, retryAfter time.Duration) {
	if rt.health.Kind == healthOff {
		return
	}
	ok := a.Error == "" && rt.success.Accepts(a.Status)
	throttled := a.Error == NetErrorTimeout || a.Error == "" && (a.Status == 429 || a.Status == 503)
	began := a.StartedAt.UnixMicro()
	at := began + a.Duration.Microseconds()
	st := rt.status
	st.mu.Lock()
	st.meter.note(began, at, ok, a.Status, throttled)
	if ok && !st.watched {
		st.mu.Unlock()
		return
	}
	urgent := false
	if o := &st.seen; ok {
		urgent = st.known.doc.FailingSince > 0 && o.lastSuccess == 0
		o.lastSuccess, o.firstFailure, o.failed = max(o.lastSuccess, at), 0, 0
	} else {
		if o.firstFailure == 0 {
			o.firstFailure = at
		}
		o.failed++
		o.lastFailure, o.reason = max(o.lastFailure, at), shortReason(a)
		if throttled && retryAfter > 0 {
			o.notBefore = max(o.notBefore, at+retryAfter.Microseconds())
			raise(&st.notBefore, o.notBefore)
			urgent = true
		}
		urgent = urgent || throttled && st.known.doc.Pace == 0 && st.meter.epoch.throttled == throttledLeast
	}
	fresh := !st.watched
	st.watched, st.touched = true, true
	st.mu.Unlock()
	if fresh {
		h.watch(st)
	}
	if urgent {
		h.kick()
	}
}

// shortReason is what a failed attempt came to, in at most 200 bytes.
func shortReason(a *Attempt) string {
	text := describeAnswer(a)
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "")
	}
	return text
}

// run works until ctx ends.
func (h *health) run(ctx context.Context) {
	poll := h.d.opts.Poll
	next, budget := time.Now(), 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		if now := time.Now(); !now.Before(next) {
			next, budget = now.Add(poll), statesMost
			if err := h.read(ctx); err != nil && ctx.Err() == nil {
				h.d.log.Warn("webhook: reading the state of endpoints failed; trying again", slog.Any("error", err))
			}
		}
		asked, _ := h.look(ctx, budget, false)
		budget -= asked
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			continue
		case <-h.wake:
		}
		if !sleep(ctx, min(healthPause, max(time.Until(next), 0))) {
			return
		}
	}
}

// flush stores what was seen of endpoints that fail, at the end of Run, or until ctx ends.
func (h *health) flush(ctx context.Context) {
	for ctx.Err() == nil {
		if _, applied := h.look(ctx, statesMost, true); applied < statesMost {
			return
		}
	}
}

// planned is a step that is to be stored.
type planned struct {
	st    *endpointStatus
	rt    *route
	step  stepping
	rank  int
	since int64 // when it first was to be
}

// look steps all endpoints that anything was seen of, puts at most budget states, the most urgent and then the oldest first, and
// returns how many it put and how many of those were applied.
func (h *health) look(ctx context.Context, budget int, last bool) (asked, applied int) {
	now := h.d.clock.estimate().UnixMicro()
	h.mu.Lock()
	watched := h.watched
	h.watched = nil
	h.mu.Unlock()
	var plans []*planned
	kept := watched[:0]
	for _, st := range watched {
		rt := h.d.routes.lookup(st.id)
		if rt.status != st {
			rt = nil // nothing is sent to it; a policy of it is not known
		}
		p, keep := h.stepOne(st, rt, now, last)
		if keep {
			kept = append(kept, st)
		}
		if p != nil {
			plans = append(plans, p)
		}
	}
	h.mu.Lock()
	h.watched = append(kept, h.watched...)
	h.mu.Unlock()
	slices.SortStableFunc(plans, func(a, b *planned) int {
		if a.rank != b.rank {
			return b.rank - a.rank
		}
		return int(min(max(a.since-b.since, -1), 1))
	})
	plans = plans[:min(len(plans), max(budget, 0))]
	if len(plans) == 0 {
		return 0, 0
	}
	return len(plans), h.put(ctx, plans)
}

// stepOne steps an endpoint. keep is false when there is nothing about it to be watched any more. With last, what could wait is to be
// stored too.
func (h *health) stepOne(st *endpointStatus, rt *route, now int64, last bool) (p *planned, keep bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if rt == nil {
		st.watched = false
		return nil, false
	}
	if !last && !st.touched && now-st.looked < healthLook && st.pending == 0 && st.known.doc.Pace == 0 {
		return nil, true
	}
	st.touched, st.looked = false, now
	p = &planned{st: st, rt: rt, step: stepping{
		policy: rt.health, now: now, canHold: h.states != nil, was: st.known, seen: st.seen,
		epoch: st.meter.epoch, window: st.meter.window, rate: st.meter.perSecond(now),
	}}
	p.rank = p.step.step()
	if last && p.rank == rankNothing && st.seen.lastFailure > st.known.doc.LastFailure {
		p.rank = rankCounters
	}
	h.enforce(st, &p.step.next, rt)
	if p.step.windowEnd {
		st.meter.window = window{}
	}
	if p.rank == rankNothing {
		if p.step.judged {
			st.meter.epoch = epoch{}
		}
		st.pending = 0
		if p.step.next.doc.isIdle() && st.known.doc.isIdle() && st.seen.firstFailure == 0 &&
			p.step.next.notBefore == 0 && st.meter.window.at == 0 {
			st.seen, st.watched = observed{}, false
		}
		return nil, st.watched
	}
	if st.pending == 0 {
		st.pending = now
	}
	p.since = st.pending
	return p, true
}

// enforce puts in force what a state says. The caller holds st.mu.
func (h *health) enforce(st *endpointStatus, s *healthState, rt *route) {
	st.notBefore.Store(max(s.notBefore, st.seen.notBefore))
	if st.setPace(s.doc.paceOf(&rt.health)) && h.d.running.Load() {
		h.d.feed.relax(st.id)
	}
}

// put stores states, tells of those that were applied, and returns how many. What was seen of the others is kept for the next step.
func (h *health) put(ctx context.Context, plans []*planned) (applied int) {
	now := h.d.clock.estimate()
	req := &PutStatesRequest{Now: now, States: make([]NewState, len(plans))}
	for i, p := range plans {
		s := &p.step
		p.st.mu.Lock()
		s.seen = p.st.seen // all that was seen until now is with it, or waits for the next
		p.st.seen = observed{notBefore: s.seen.notBefore}
		p.st.mu.Unlock()
		s.judged, s.windowEnd, s.news, s.hold = false, false, nil, ""
		s.now = now.UnixMicro()
		s.step()
		s.next.doc.At = s.now
		var hold *HoldRequest
		if s.hold != "" {
			hold = &HoldRequest{Kind: HoldDisabled, Reason: s.hold}
		}
		req.States[i] = s.next.newState(p.st.id, hold, false)
	}
	res, err := h.store(ctx, req)
	if err != nil && ctx.Err() == nil {
		h.d.log.Warn("webhook: storing the state of endpoints failed; trying again", slog.Any("error", err))
	}
	for i, p := range plans {
		if err == nil && res.States[i] == Applied {
			h.applied(ctx, p, &req.States[i], res.Version)
			applied++
			continue
		}
		p.st.mu.Lock()
		seen := p.step.seen
		seen.add(p.st.seen)
		p.st.seen, p.st.touched = seen, true
		p.st.mu.Unlock()
	}
	if err == nil && applied < len(plans) {
		h.catchUp(ctx, plans, res.States)
	}
	return applied
}
