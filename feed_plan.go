package webhook

import "time"

// retryEvery is how many fresh deliveries may go before a retry that waits.
const retryEvery = 7

// plan goes once around the endpoints from where the last plan ended; cut short when the claim is as large as it may be.
func (f *feed) plan() (req *ClaimRequest, cut bool) {
	now := f.d.clock.estimate()
	most := min(f.d.lanes.limit(), claimRows)
	req = &ClaimRequest{Now: now, Owner: f.d.opts.Owner}
	for range f.ring {
		if cut = req.Limit >= most || len(req.Lanes) >= claimLanes-1; cut {
			break
		}
		if f.cursor >= len(f.ring) {
			f.cursor = 0
		}
		e := f.ring[f.cursor]
		f.cursor++
		req.Limit += f.planEndpoint(req, e, now, most-req.Limit)
	}
	return req, cut
}

// planEndpoint names the lanes of an endpoint that are due, and returns how many deliveries it asked for. Where both
// are, fresh deliveries get the room but an eighth of it, and go first until retries are owed one: a rate may allow no more.
func (f *feed) planEndpoint(req *ClaimRequest, e *feedEndpoint, now time.Time, limit int) int {
	fresh, retry := e.class[Fresh].isDue(now), e.class[Retry].isDue(now)
	if !fresh && !retry {
		return 0
	}
	r := f.d.routes.lookup(e.id)
	if _, blocked := r.blocked(now); blocked {
		return 0
	}
	room := min(f.d.lanes.room(e.id, r.inFlight), limit)
	if room == 0 {
		return 0
	}
	e.contended = fresh && retry
	rate, owed := r.effectiveRate(), e.debt >= retryEvery
	var share [2]int
	switch {
	case !retry:
		share[Fresh] = room
	case !fresh, room == 1 && owed:
		share[Retry] = room
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
				Lease: r.lease, From: e.class[class].from, Rate: rate,
			})
		}
	}
	return room
}
