package webhook

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Bounds of one round of the feed.
const (
	lanesPage      = 256  // lanes read from the store at a time
	claimLanes     = 128  // lanes named in one claim
	claimRows      = 512  // deliveries asked for in one claim
	claimRowsAlone = 1024 // the same where one tenant has all

	expectFirst = 1 // delivery that an endpoint is likely to have, before anything is known

	claimFailures = 3                     // of single lanes, and no success, tell that the store is away
	sparsePause   = 10 * time.Millisecond // between claims for tenants that had nothing, while there is no room for others
	firstWalk     = time.Second           // what the first reading of lanes may take, so that all known have their first turn before any has a second
	barrenPause   = 10 * time.Millisecond // after a claim that got nothing where the store says that there is more
	rateMost      = 10 * time.Second      // a limited lane is asked for so often at least: its rate may have changed
	beat          = 20 * time.Millisecond // limited endpoints are asked for on beats where their bursts allow it: together, for several each
)

// feed fills the lanes from the store: it knows which lanes have work (from walking Store.Lanes once a poll, and from
// hints of this process), and claims for those that have room. One goroutine runs it; hints come from many.
type feed struct {
	d    *Dispatcher
	wake chan struct{}

	hintMu sync.Mutex
	hints  map[LaneID]time.Time // due times of deliveries known to this process before the store is asked
	walk   bool                 // a walk is asked for
	eased  []string             // endpoints that may get more than before

	known  map[string]*feedEndpoint
	turns  fair[*feedEndpoint] // have due work, as far as is known
	timers timers              // the others that are known to have some later
	sparse []*feedEndpoint     // of tenants that had nothing, while there is no room for a claim

	nextSparse time.Time // no claim for those earlier

	roomy  []string        // scratch of plan
	picked []*feedEndpoint // the same
	phase  time.Duration   // of the beats on which limited endpoints are asked for
	after  LaneID          // where the walk under way goes on
	begun  bool            // lanes have been walked in this Run
	walks  int             // counts completed walks, from 1, to find lanes that are gone; what 0 saw nobody has seen
}

// feedEndpoint is what is known of the two lanes of an endpoint.
type feedEndpoint struct {
	id     string
	tenant *tenant
	class  [2]laneWork
	queued bool      // stands in feed.turns
	timer  time.Time // of the earliest entry in feed.timers; zero: none

	notBefore time.Time // its rate allows nothing earlier
	limit     Rate      // that rate

	expect int // deliveries that a claim is likely to find, at least 1

	// contended: the last plan found both lanes due. debt: fresh deliveries that were claimed while retries waited, less 7
	// for each retry claimed; from 7 on retries come first.
	contended bool
	debt      int

	// While a claim is planned:
	route *route
	asked int // deliveries
	room  int // for more
}

// laneWork is what is known of a lane's work.
type laneWork struct {
	due  time.Time // earliest due time; zero: nothing known
	from time.Time // lower bound for the next claim
	walk int       // number of the walk that saw it last
}

func newFeed(d *Dispatcher) *feed {
	return &feed{d: d, wake: make(chan struct{}, 1), hints: make(map[LaneID]time.Time), known: make(map[string]*feedEndpoint), walks: 1}
}

// kick makes the feed look again.
func (f *feed) kick() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// hint tells of a delivery in the store, or about to be committed to it. It does not wake the feed.
func (f *feed) hint(id LaneID, due time.Time) {
	if !f.d.running.Load() || !f.d.serves(id.EndpointID) {
		return // Run begins with a walk
	}
	f.hintMu.Lock()
	defer f.hintMu.Unlock()
	if old, ok := f.hints[id]; !ok || due.Before(old) {
		f.hints[id] = due
	}
}

// relax tells that an endpoint may get more than before: it need not rest as long as its rate said.
func (f *feed) relax(id string) {
	f.hintMu.Lock()
	f.eased = append(f.eased, id)
	f.hintMu.Unlock()
	f.kick()
}

// wakeUp makes the feed walk all lanes soon, and claim what is hinted at once.
func (f *feed) wakeUp() {
	f.hintMu.Lock()
	f.walk = true
	f.hintMu.Unlock()
	f.kick()
}

// run feeds until ctx ends. A claim may take until attempts ends, so that none is cut off whose rows would then wait for their
// leases to end, and what comes too late is given back until records ends.
func (f *feed) run(ctx, attempts, records context.Context) {
	clear(f.known)
	f.turns, f.timers, f.sparse, f.after = fair[*feedEndpoint]{}, nil, nil, LaneID{}
	f.phase, f.begun = rand.N(beat), false
	asked, nextWalk, rested := false, time.Now(), time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		asked = f.takeHints() || asked
		began := time.Now()
		if !began.Before(nextWalk) || asked && !began.Before(rested) {
			if err := f.walkLanes(ctx); err != nil && ctx.Err() == nil {
				f.d.log.Error("webhook: reading lanes failed; trying again", slog.Any("error", err))
			}
			// However often Wake is called, walks leave the most of the time for claims.
			asked, rested = false, time.Now().Add(4*time.Since(began))
			nextWalk = time.Now().Add(f.d.opts.Poll)
		}
		f.ripen()
		more, err := f.claim(attempts, records)
		if err != nil && ctx.Err() == nil {
			f.d.log.Error("webhook: claim failed; trying again", slog.Any("error", err))
		}
		if more {
			continue
		}
		until := nextWalk
		if asked && rested.Before(until) {
			until = rested
		}
		if len(f.sparse) > 0 && f.nextSparse.Before(until) {
			until = f.nextSparse
		}
		timer.Reset(f.pause(until))
		select {
		case <-ctx.Done():
		case <-f.wake:
		case <-timer.C:
		}
	}
}

// pause is how long there is nothing to do: until the given time or the next due time, whichever comes first.
func (f *feed) pause(until time.Time) time.Duration {
	wait := time.Until(until)
	if len(f.timers) > 0 {
		wait = min(wait, f.timers[0].at.Sub(f.d.clock.estimate()))
	}
	return max(wait, 0)
}

// takeHints takes over what was hinted and reports whether a walk is asked for.
func (f *feed) takeHints() bool {
	f.hintMu.Lock()
	defer f.hintMu.Unlock()
	now := f.d.clock.estimate()
	for id, due := range f.hints {
		e := f.endpoint(id.EndpointID)
		w := &e.class[id.Class]
		w.walk = f.walks
		if w.due.IsZero() || due.Before(w.due) {
			w.due = due
		}
		if due.Before(w.from) {
			w.from = due
		}
		f.arrive(e, now)
	}
	clear(f.hints)
	for _, id := range f.eased {
		e := f.known[id]
		if e == nil || e.notBefore.IsZero() {
			continue
		}
		e.notBefore = time.Time{}
		for c := range e.class {
			if w := &e.class[c]; w.due.After(now) {
				w.due = now // it was put off by the rate, or the claim that finds nothing tells
			}
		}
		f.arrive(e, now)
	}
	f.eased = nil
	asked := f.walk
	f.walk = false
	return asked
}

func (f *feed) endpoint(id string) *feedEndpoint {
	e := f.known[id]
	if e == nil {
		e = &feedEndpoint{id: id, tenant: f.d.routes.lookup(id).tenant, expect: expectFirst}
		f.known[id] = e
	}
	return e
}

// walkLanes reads all lanes, or as many pages as half a poll allows, and more at first; the next call then goes on from there.
func (f *feed) walkLanes(ctx context.Context) error {
	began, most := time.Now(), f.d.opts.Poll/2
	if !f.begun {
		f.begun, most = true, max(most, firstWalk)
	}
	for {
		res, err := f.d.lanesPage(ctx, f.after)
		if err == nil && res == nil {
			err = errMalformedAnswer
		}
		if err != nil {
			return err
		}
		now := f.d.clock.estimate()
		for _, l := range res.Lanes {
			if !f.d.serves(l.EndpointID) {
				continue
			}
			e := f.endpoint(l.EndpointID)
			w := &e.class[l.Class]
			w.due, w.from, w.walk = l.Earliest, l.From, f.walks+1
			if !e.notBefore.IsZero() && e.limit != f.d.routes.lookup(e.id).effectiveRate() {
				e.notBefore = time.Time{} // another rate may allow it earlier
			}
			f.arrive(e, now)
		}
		f.after = res.Next
		if res.Next == (LaneID{}) {
			f.walks++
			f.forget()
			return nil
		}
		if time.Since(began) > most {
			return nil
		}
	}
}

// forget drops lanes that neither the last walk nor a hint since the one before has seen.
func (f *feed) forget() {
	for id, e := range f.known {
		live := false
		for c := range e.class {
			if e.class[c].walk < f.walks-1 || e.class[c].walk < f.walks && e.class[c].due.IsZero() {
				e.class[c] = laneWork{}
			}
			live = live || e.class[c].walk > 0 || !e.class[c].due.IsZero()
		}
		if !live {
			delete(f.known, id)
		}
	}
}

// claim asks the store for deliveries of lanes that are due and have room, in turn. It reports whether to go on at once.
func (f *feed) claim(ctx, records context.Context) (more bool, err error) {
	if f.d.completer.isFailing() {
		f.sparse = f.sparse[:0]
		return false, nil
	}
	req, cut := f.plan()
	if len(req.Lanes) == 0 {
		return false, nil
	}
	var tally claimTally
	got := f.ask(ctx, records, req, &tally)
	return got > 0 || cut && tally.succeeded > 0, tally.err
}

// claimTally counts what became of one claim and of the parts it was taken apart into.
type claimTally struct {
	succeeded int // parts
	failed    int // single lanes
	err       error
}

// ask claims, and where that fails asks for the halves by themselves, so that a lane that cannot be read keeps no other. It
// returns how many deliveries came.
func (f *feed) ask(ctx, records context.Context, req *ClaimRequest, tally *claimTally) (got int) {
	got, err := f.askOnce(ctx, records, req)
	if err == nil {
		tally.succeeded++
		return got
	}
	tally.err = err
	if len(req.Lanes) == 1 {
		tally.failed++
		l := &req.Lanes[0]
		f.endpoint(l.EndpointID).class[l.Class].due = time.Time{} // not before the next walk
		f.settle(l, 0, req.Now)
		return 0
	}
	half := len(req.Lanes) / 2
	for _, lanes := range [][]LaneClaim{req.Lanes[:half], req.Lanes[half:]} {
		if ctx.Err() != nil || tally.succeeded == 0 && tally.failed >= claimFailures {
			break
		}
		part := &ClaimRequest{Now: req.Now, Owner: req.Owner, Lanes: lanes}
		for i := range lanes {
			part.Limit += lanes[i].Max
		}
		got += f.ask(ctx, records, part, tally)
	}
	return got
}

// askOnce makes one claim, queues what it yields, and returns how many that is.
func (f *feed) askOnce(ctx, records context.Context, req *ClaimRequest) (int, error) {
	asked := time.Now()
	res, err := f.d.store.Claim(ctx, req)
	if err == nil && (res == nil || len(res.Lanes) != len(req.Lanes)) {
		err = errMalformedAnswer
	}
	info := ClaimInfo{Lanes: len(req.Lanes), Duration: time.Since(asked), Err: err}
	if err == nil {
		info.Deliveries = len(res.Deliveries)
	}
	f.d.traceClaim(ctx, info)
	if err != nil {
		return 0, err
	}
	if !res.Now.IsZero() {
		f.d.clock.set(res.Now, asked)
	}
	got := make(map[LaneID]int, len(req.Lanes))
	for i := range res.Deliveries {
		it := &item{Claimed: res.Deliveries[i]}
		got[it.lane()]++
		if !f.d.lanes.push(it, f.d.routes.lookup(it.Delivery.EndpointID)) {
			f.d.giveBack(records, it)
		}
	}
	for i := range res.Lanes {
		f.note(&req.Lanes[i], &res.Lanes[i], got[req.Lanes[i].LaneID], req.Now)
	}
	for i := range req.Lanes {
		f.settle(&req.Lanes[i], got[req.Lanes[i].LaneID], req.Now)
	}
	return len(res.Deliveries), nil
}

// settle ends what planEndpoint began for a lane.
func (f *feed) settle(asked *LaneClaim, got int, now time.Time) {
	e := f.endpoint(asked.EndpointID)
	f.turns.charge(e.tenant, got-asked.Max)
	f.d.lanes.settleClaim(e.id, e.class[Fresh].isDue(now) || e.class[Retry].isDue(now))
	f.place(e, now)
}

// note remembers how a claim that yielded got deliveries of a lane left it.
func (f *feed) note(asked *LaneClaim, status *LaneStatus, got int, now time.Time) {
	e := f.endpoint(asked.EndpointID)
	w := &e.class[asked.Class]
	w.from = status.NextFrom
	switch {
	case status.Held:
		w.due = status.HeldUntil
	case !status.RateUntil.IsZero():
		e.notBefore, e.limit = f.onBeat(status.RateUntil, asked.Rate), asked.Rate
		if most := now.Add(rateMost); e.notBefore.After(most) {
			e.notBefore = most
		}
		w.due = e.notBefore
	case status.More:
		w.due = now
	default:
		w.due = time.Time{} // unknown until the next walk
	}
	if status.More {
		e.expect = claimRows
	} else if !e.contended {
		e.expect = max(got, 1)
	}
	if got == 0 && w.isDue(now) { // others have them locked, or the store looked at many that wait for their ordering key
		w.due = now.Add(barrenPause)
	}
	if e.contended && asked.Class == Fresh {
		e.debt = min(e.debt+got, 8*retryEvery)
	} else if asked.Class == Retry {
		e.debt = max(e.debt-retryEvery*got, 0)
	}
}

func (w *laneWork) isDue(now time.Time) bool { return !w.due.IsZero() && !w.due.After(now) }
