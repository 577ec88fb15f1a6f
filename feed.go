package webhook

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Bounds of one round of the feed.
const (
	lanesPage  = 256 // lanes read from the store at a time
	claimLanes = 128 // lanes named in one claim
	claimRows  = 512 // deliveries asked for in one claim
)

// feed fills the lanes from the store: it knows which lanes have work (from walking Store.Lanes once a poll, and from
// hints of this process), and claims for those that have room. One goroutine runs it; hints come from many.
type feed struct {
	d    *Dispatcher
	wake chan struct{}

	hintMu sync.Mutex
	hints  map[LaneID]time.Time // due times of deliveries known to this process before the store is asked
	walk   bool                 // a walk is asked for

	known  map[string]*feedEndpoint
	ring   []*feedEndpoint // all known, in the order of the round
	cursor int
	after  LaneID // where the walk under way goes on
	walks  int    // counts completed walks, to find lanes that are gone
}

// feedEndpoint is what is known of the two lanes of an endpoint.
type feedEndpoint struct {
	id    string
	class [2]laneWork
	turns int // rounds in which only one of both lanes had a place
}

// laneWork is what is known of a lane's work.
type laneWork struct {
	due  time.Time // earliest due time; zero: nothing known
	from time.Time // lower bound for the next claim
	walk int       // number of the walk that saw it last
}

func newFeed(d *Dispatcher) *feed {
	return &feed{d: d, wake: make(chan struct{}, 1), hints: make(map[LaneID]time.Time), known: make(map[string]*feedEndpoint)}
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
	f.hintMu.Lock()
	defer f.hintMu.Unlock()
	if old, ok := f.hints[id]; !ok || due.Before(old) {
		f.hints[id] = due
	}
}

// wakeUp claims what is hinted, or walks all lanes when there is no hint.
func (f *feed) wakeUp() {
	f.hintMu.Lock()
	f.walk = f.walk || len(f.hints) == 0
	f.hintMu.Unlock()
	f.kick()
}

// run feeds until ctx ends. A claim may take until attempts ends, so that none is cut off whose rows would then wait for their
// leases to end, and what comes too late is given back until records ends.
func (f *feed) run(ctx, attempts, records context.Context) {
	clear(f.known)
	f.ring, f.cursor, f.after = f.ring[:0], 0, LaneID{}
	nextWalk := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		asked := f.takeHints()
		if asked || !time.Now().Before(nextWalk) {
			if err := f.walkLanes(ctx); err != nil && ctx.Err() == nil {
				f.d.log.Error("webhook: reading lanes failed; trying again", slog.Any("error", err))
			}
			nextWalk = time.Now().Add(f.d.opts.Poll)
		}
		more, err := f.claim(attempts, records)
		if err != nil && ctx.Err() == nil {
			f.d.log.Error("webhook: claim failed; trying again", slog.Any("error", err))
		}
		if more && err == nil {
			continue
		}
		timer.Reset(f.pause(nextWalk))
		select {
		case <-ctx.Done():
		case <-f.wake:
		case <-timer.C:
		}
	}
}

// pause is how long there is nothing to do: until the next walk or the next due time, whichever comes first.
func (f *feed) pause(nextWalk time.Time) time.Duration {
	wait := time.Until(nextWalk)
	now := f.d.clock.estimate()
	for _, e := range f.ring {
		for _, w := range e.class {
			if w.due.After(now) {
				wait = min(wait, w.due.Sub(now))
			}
		}
	}
	return max(wait, 0)
}

// takeHints takes over what was hinted and reports whether a walk is asked for.
func (f *feed) takeHints() bool {
	f.hintMu.Lock()
	defer f.hintMu.Unlock()
	for id, due := range f.hints {
		w := f.lane(id)
		w.walk = f.walks
		if w.due.IsZero() || due.Before(w.due) {
			w.due = due
		}
		if due.Before(w.from) {
			w.from = due
		}
	}
	clear(f.hints)
	asked := f.walk
	f.walk = false
	return asked
}

func (f *feed) lane(id LaneID) *laneWork {
	e := f.known[id.EndpointID]
	if e == nil {
		e = &feedEndpoint{id: id.EndpointID}
		f.known[id.EndpointID] = e
		f.ring = append(f.ring, e)
	}
	return &e.class[id.Class]
}

// walkLanes reads all lanes, or as many pages as half a poll allows; the next call then goes on from there.
func (f *feed) walkLanes(ctx context.Context) error {
	began := time.Now()
	for {
		res, err := f.d.store.Lanes(ctx, &LanesRequest{After: f.after, Limit: lanesPage})
		if err == nil && res == nil {
			err = errMalformedAnswer
		}
		if err != nil {
			return err
		}
		for _, l := range res.Lanes {
			*f.lane(l.LaneID) = laneWork{due: l.Earliest, from: l.Earliest, walk: f.walks + 1}
		}
		f.after = res.Next
		if res.Next == (LaneID{}) {
			f.walks++
			f.forget()
			return nil
		}
		if time.Since(began) > f.d.opts.Poll/2 {
			return nil
		}
	}
}

// forget drops lanes that neither the last walk nor a hint since the one before has seen.
func (f *feed) forget() {
	kept := f.ring[:0]
	for _, e := range f.ring {
		live := false
		for c := range e.class {
			if e.class[c].walk < f.walks-1 || (e.class[c].walk < f.walks && e.class[c].due.IsZero()) {
				e.class[c] = laneWork{}
			}
			live = live || e.class[c].walk > 0
		}
		if live {
			kept = append(kept, e)
		} else {
			delete(f.known, e.id)
		}
	}
	clear(f.ring[len(kept):])
	f.ring = kept
	if f.cursor >= len(kept) {
		f.cursor = 0
	}
}

// claim asks the store for deliveries of lanes that are due and have room, in turn. It reports whether to go on at once.
func (f *feed) claim(ctx, records context.Context) (more bool, err error) {
	asked := time.Now()
	if f.d.completer.isFailing() {
		return false, nil
	}
	req := f.plan()
	if len(req.Lanes) == 0 {
		return false, nil
	}
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
		return false, err
	}
	if !res.Now.IsZero() {
		f.d.clock.set(res.Now, asked)
	}
	for i := range res.Lanes {
		f.note(&req.Lanes[i], &res.Lanes[i], req.Now)
	}
	for i := range res.Deliveries {
		it := &item{Claimed: res.Deliveries[i]}
		if !f.d.lanes.push(it, f.d.routes.inFlightCap(it.Delivery.EndpointID)) {
			f.d.giveBack(records, it)
		}
	}
	return len(res.Deliveries) > 0 || len(req.Lanes) == claimLanes, nil
}

// note remembers how a claim left a lane.
func (f *feed) note(asked *LaneClaim, status *LaneStatus, now time.Time) {
	w := f.lane(asked.LaneID)
	w.from = status.NextFrom
	switch {
	case status.Held:
		w.due = status.HeldUntil
	case !status.RateUntil.IsZero():
		w.due = status.RateUntil
	case status.More:
		w.due = now
		f.d.lanes.want(asked.EndpointID)
	default:
		w.due = time.Time{} // unknown until the next walk
	}
}

// plan goes once around the endpoints from where the last plan ended.
func (f *feed) plan() *ClaimRequest {
	now := f.d.clock.estimate()
	req := &ClaimRequest{Now: now, Owner: f.d.opts.Owner, Limit: min(f.d.lanes.limit(f.d.opts.Senders), claimRows)}
	total := 0
	for range f.ring {
		if total >= req.Limit || len(req.Lanes)+1 >= claimLanes {
			break
		}
		if f.cursor >= len(f.ring) {
			f.cursor = 0
		}
		e := f.ring[f.cursor]
		f.cursor++
		total += f.planEndpoint(req, e, now, req.Limit-total)
	}
	req.Limit = total
	return req
}

// planEndpoint names the lanes of an endpoint that are due, and returns how many deliveries it asked for. Where both
// are, fresh deliveries get the room but an eighth of it, at least one in every eighth round.
func (f *feed) planEndpoint(req *ClaimRequest, e *feedEndpoint, now time.Time, limit int) int {
	fresh, retry := e.class[Fresh].isDue(now), e.class[Retry].isDue(now)
	if !fresh && !retry {
		return 0
	}
	r := f.d.routes.lookup(e.id)
	room := min(f.d.lanes.room(e.id, r.inFlight), limit)
	if room == 0 {
		return 0
	}
	share := [2]int{Fresh: room, Retry: 0}
	switch {
	case !fresh:
		share = [2]int{Retry: room}
	case retry && room > 1:
		share[Retry] = max(1, room/8)
		share[Fresh] = room - share[Retry]
	case retry:
		if e.turns++; e.turns%8 == 0 {
			share = [2]int{Retry: 1}
		}
	}
	for class, n := range share {
		if n > 0 {
			req.Lanes = append(req.Lanes, LaneClaim{
				LaneID: LaneID{EndpointID: e.id, Class: Class(class)}, Max: n,
				Lease: r.lease, From: e.class[class].from, Rate: r.rate,
			})
		}
	}
	return share[Fresh] + share[Retry]
}

func (w *laneWork) isDue(now time.Time) bool { return !w.due.IsZero() && !w.due.After(now) }
