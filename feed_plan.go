package webhook

import "time"

// retryEvery is how many fresh deliveries may go before a retry that waits.
const retryEvery = 7

// place puts an endpoint where it belongs: among those that have turns when it has due work, else among those that will have
// some later.
func (f *feed) place(e *feedEndpoint, now time.Time) {
	due := e.due()
	switch {
	case e.queued || due.IsZero():
	case due.After(now):
		f.timers.add(e, due)
	default:
		e.tenant, e.queued = f.d.routes.lookup(e.id).tenant, true
		f.turns.push(e.tenant, e)
	}
}

// arrive places an endpoint that may have had nothing before. If neither had its tenant, and that has not had more than its share,
// it need not wait until there is room for a whole claim.
func (f *feed) arrive(e *feedEndpoint, now time.Time) {
	t := f.d.routes.lookup(e.id).tenant
	sparse := !e.queued && f.turns.hasNone(t) && !f.turns.isAhead(t)
	if f.place(e, now); sparse && e.queued {
		f.sparse = append(f.sparse, e)
	}
}

// due is when the endpoint may be asked for; zero: nothing is known.
func (e *feedEndpoint) due() time.Time {
	due := e.class[Fresh].due
	if r := e.class[Retry].due; due.IsZero() || !r.IsZero() && r.Before(due) {
		due = r
	}
	if !due.IsZero() && due.Before(e.notBefore) {
		due = e.notBefore
	}
	return due
}

// ripen places the endpoints whose time has come.
func (f *feed) ripen() {
	for now := f.d.clock.estimate(); len(f.timers) > 0 && !f.timers[0].at.After(now); {
		if e, ok := f.timers.pop(); ok {
			f.arrive(e, now)
		}
	}
}

// plan gives tenants their turns, and each tenant's endpoints theirs; cut short when the claim is as large as it may be. An endpoint
// that has had its turn comes back by settle, or when lanes tells that it has room, or with the next walk.
func (f *feed) plan() (req *ClaimRequest, cut bool) {
	now := f.d.clock.estimate()
	ahead, rows := f.sizes()
	most, few, roomy := f.d.lanes.limit(ahead, f.roomy[:0])
	for _, id := range roomy {
		if e := f.known[id]; e != nil {
			f.place(e, now)
		}
	}
	f.roomy, f.picked = roomy, f.picked[:0]
	most = min(most, rows)
	req = &ClaimRequest{Now: now, Owner: f.d.opts.Owner}
	if most == 0 {
		f.planSparse(req, few)
		return req, true
	}
	f.sparse = f.sparse[:0]
	for lanes := 0; ; {
		if cut = req.Limit >= most || lanes >= claimLanes-1; cut {
			break
		}
		part := f.turns.part(most)
		e, whose, ok := f.turns.pop()
		if !ok {
			break
		}
		e.queued = false
		n := min(part, most-req.Limit)
		switch {
		case e.room > 0: // it has been picked, and comes again for more
		case e.route != nil:
			continue // it has had its room
		default:
			lanes += f.pick(e, now, most-req.Limit)
			n = min(n, e.expect) // others may have more that is due
		}
		if n = min(n, e.room); n == 0 {
			continue
		}
		f.turns.charge(whose, n)
		e.room -= n
		e.asked += n
		req.Limit += n
		if e.room > 0 {
			e.queued = true
			f.turns.push(whose, e)
		}
	}
	f.nameAll(req)
	return req, cut
}

// sizes are how many deliveries may wait for each sender, and be asked for in one claim. What waits too long for its lease goes back, so that more wait
// only where leases are long.
func (f *feed) sizes() (ahead, rows int) {
	if f.d.routes.haveOneTenant() && f.d.opts.LeaseMargin*2/3 > 2*aheadAlone*slowAfter {
		return aheadAlone, claimRowsAlone
	}
	return aheadShared, claimRows
}

// planSparse asks for a few deliveries although as many wait in memory as may: for tenants that have had nothing there for a while. They
// have a turn before all that wait.
func (f *feed) planSparse(req *ClaimRequest, most int) {
	if len(f.sparse) == 0 || time.Now().Before(f.nextSparse) {
		return
	}
	for len(f.sparse) > 0 && req.Limit < most && len(f.picked) < claimLanes/2 {
		e := f.sparse[0]
		f.sparse = f.sparse[1:]
		if !e.queued || e.route != nil || f.turns.isAhead(e.tenant) {
			continue
		}
		if f.pick(e, req.Now, most-req.Limit); e.room > 0 {
			f.turns.charge(e.tenant, e.room)
			req.Limit += e.room
			e.room, e.asked = 0, e.room
		}
	}
	f.nextSparse = time.Now().Add(sparsePause)
	f.nameAll(req)
}

// part is how many of a claim of most deliveries the next element gets in a turn: its part of its tenant's share, but not so few that
// there are very many turns. One that gets all that it has room for would keep the senders of all others idle meanwhile.
func (f *fair[E]) part(most int) int {
	if len(f.due) == 0 {
		return most
	}
	s := f.due[0]
	return max(most*s.weight/f.weight/s.queue.len(), most/64, 1)
}

// pick takes an endpoint into a plan if it is due and has room for up to most deliveries. It returns how many lanes are due.
func (f *feed) pick(e *feedEndpoint, now time.Time, most int) (lanes int) {
	if due := e.due(); due.IsZero() || due.After(now) {
		f.place(e, now)
		return 0
	}
	r := f.d.routes.lookup(e.id)
	if until, blocked := r.blocked(now); blocked {
		if !until.IsZero() {
			f.timers.add(e, until)
		}
		return 0
	}
	if r.err != nil { // a process that can read its secrets, or knows its profile, may send to it undisturbed
		f.timers.add(e, now.Add(unreadablePause))
		return 0
	}
	if e.room = f.d.lanes.room(e.id, r, most); e.room == 0 {
		return 0
	}
	e.route, e.asked = r, 0
	f.picked = append(f.picked, e)
	if e.contended = e.class[Fresh].isDue(now) && e.class[Retry].isDue(now); e.contended {
		return 2
	}
	return 1
}

func (f *feed) nameAll(req *ClaimRequest) {
	for _, e := range f.picked {
		f.name(req, e)
	}
}

// name puts the due lanes of a picked endpoint into the claim. Where both are due, fresh deliveries get the room but an eighth of
// it, and go first until retries are owed one: a rate may allow no more.
func (f *feed) name(req *ClaimRequest, e *feedEndpoint) {
	room, rate, owed := e.asked, e.route.effectiveRate(), e.debt >= retryEvery
	var share [2]int
	switch {
	case !e.contended && e.class[Retry].isDue(req.Now), e.contended && room == 1 && owed:
		share[Retry] = room
	case !e.contended:
		share[Fresh] = room
	case room > 1:
		share[Retry] = max(1, room/8)
		fallthrough
	default:
		share[Fresh] = room - share[Retry]
	}
	order := []Class{Fresh, Retry}
	if owed {
		order = []Class{Retry, Fresh}
	}
	for _, class := range order {
		if n := share[class]; n > 0 {
			req.Lanes = append(req.Lanes, LaneClaim{
				LaneID: LaneID{EndpointID: e.id, Class: class}, Max: n,
				Lease: e.route.lease, From: e.class[class].from, Rate: rate,
			})
		}
	}
	e.room, e.asked, e.route = 0, 0, nil
}

// onBeat is when to ask again for an endpoint whose rate allows the next attempt at until: up to a beat later, so that one claim takes
// several tokens, and for several endpoints; but sooner than the bucket is half full again, so that no token is lost.
func (f *feed) onBeat(until time.Time, rate Rate) time.Time {
	wait := beat
	if half := rate.fills() / 2; half < wait {
		wait = half
	}
	last := until.Add(wait)
	if on := last.Add(-f.phase).Truncate(beat).Add(f.phase); !on.Before(until) {
		return on
	}
	return last
}

// fills is how long an empty bucket takes from its first token to its last, at most a second.
func (r Rate) fills() time.Duration {
	if r.Events <= 0 {
		return 0
	}
	burst := r.Burst
	if burst <= 0 {
		burst = r.Events
	}
	return time.Duration(min(float64(burst-1)/r.perSecond(), 1) * float64(time.Second))
}

// timers is a heap of endpoints by the time at which they will have work. An endpoint has no two entries that count.
type timers []timer

type timer struct {
	at time.Time
	e  *feedEndpoint
}

// add makes sure that an endpoint comes up at a time, or earlier.
func (ts *timers) add(e *feedEndpoint, at time.Time) {
	if !e.timer.IsZero() && !at.Before(e.timer) {
		return
	}
	e.timer = at
	*ts = append(*ts, timer{at, e})
	h := *ts
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].at.Before(h[parent].at) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

// pop removes the earliest entry. It reports false for one that counts no longer.
func (ts *timers) pop() (*feedEndpoint, bool) {
	h := *ts
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], timer{}
	h = h[:last]
	*ts = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if right := child + 1; right < len(h) && h[right].at.Before(h[child].at) {
			child = right
		}
		if !h[child].at.Before(h[i].at) {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	if first.e.timer != first.at {
		return nil, false
	}
	first.e.timer = time.Time{}
	return first.e, true
}
