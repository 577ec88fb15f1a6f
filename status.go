package webhook

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// endpointStatus is what this process knows of an endpoint beyond its settings, in force at once for all attempts. There is one for
// each ID; it outlives route tables. Zero: nothing stands in the way.
type endpointStatus struct {
	id        string
	hold      atomic.Pointer[HoldStatus] // nil: none. Set by health, or by routes from ListHolds where the store keeps no states
	notBefore atomic.Int64               // no attempt earlier; Unix µs by the store's clock; 0: no bound
	pace      atomic.Pointer[Rate]       // what health allows over all processes; nil: as many as Endpoint.Rate
	verified  atomic.Pointer[string]     // the aim that it has verified, as far as verification knows; nil: none
	own       ownFaults                  // failures of this process's own

	// The rest belongs to mu, which is never held while blocking.
	mu      sync.Mutex
	known   healthState // as it is in the store, as far as this process has read
	seen    observed    // and what is not in there yet
	meter   meter
	pending int64 // since when something waits to be stored; Unix µs; 0: nothing does
	looked  int64 // when step looked last; Unix µs
	watched bool  // stands in health.watched
	touched bool  // there are observations since step looked
}

// blocked reports whether nothing may be sent now, and until when; zero: until somebody changes that.
func (s *endpointStatus) blocked(now time.Time) (until time.Time, blocked bool) {
	if h := s.hold.Load(); h != nil && (h.Until.IsZero() || now.Before(h.Until)) {
		return h.Until, true
	}
	if us := s.notBefore.Load(); us != 0 {
		if t := time.UnixMicro(us); now.Before(t) {
			return t, true
		}
	}
	if us := s.own.until.Load(); us != 0 {
		if t := time.UnixMicro(us); now.Before(t) {
			return t, true
		}
	}
	return time.Time{}, false
}

// setPace puts a pace in force; nil: none. It reports whether the endpoint may get more than before.
func (s *endpointStatus) setPace(pace *Rate) (relaxed bool) {
	old := s.pace.Swap(pace)
	return old != nil && (pace == nil || old.stricter(*pace))
}

// paceRate is a number of attempts a second as a Rate, with a burst of what comes in a fifth of a second, so that one claim can take
// several.
func paceRate(perSecond float64) Rate {
	return Rate{
		Events: 1,
		Per:    max(time.Duration(math.Ceil(float64(time.Second)/perSecond)), time.Nanosecond),
		Burst:  max(1, int(perSecond/5)),
	}
}

// blocked is endpointStatus.blocked, and of what is not verified.
func (rt *route) blocked(now time.Time) (until time.Time, blocked bool) {
	if rt.isUnverified() {
		return time.Time{}, true
	}
	return rt.status.blocked(now)
}

// isUnverified reports whether the endpoint has not shown yet that it wants what it gets, at this very address: nobody needs to be told
// of a new one to keep it from being sent to.
func (rt *route) isUnverified() bool {
	if rt.aim == "" {
		return false
	}
	has := rt.status.verified.Load()
	return has == nil || *has != rt.aim
}

// effectiveRate is the stricter of the endpoint's own rate and of what health allows.
func (rt *route) effectiveRate() Rate {
	pace := rt.status.pace.Load()
	if pace == nil || !pace.stricter(rt.rate) {
		return rt.rate
	}
	return *pace
}

// stricter reports whether r, over a long time, allows fewer than other.
func (r Rate) stricter(other Rate) bool {
	switch {
	case r.Events <= 0:
		return false
	case other.Events <= 0:
		return true
	}
	return r.perSecond() < other.perSecond()
}

func (r Rate) perSecond() float64 {
	per := r.Per
	if per <= 0 {
		per = time.Second
	}
	return float64(r.Events) / per.Seconds()
}

// statuses are those of all endpoints.
type statuses struct {
	mu   sync.Mutex
	byID map[string]*endpointStatus
}

// get returns the one of an endpoint, made when there is none yet.
func (s *statuses) get(id string) *endpointStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.byID[id]
	if st == nil {
		if s.byID == nil {
			s.byID = make(map[string]*endpointStatus)
		}
		st = &endpointStatus{id: id}
		s.byID[id] = st
	}
	return st
}

// all returns them in no order.
func (s *statuses) all() []*endpointStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*endpointStatus, 0, len(s.byID))
	for _, st := range s.byID {
		list = append(list, st)
	}
	return list
}

// setHolds replaces what is known of holds, and forgets endpoints as forget does.
func (s *statuses) setHolds(holds []HoldStatus, used map[string]*route) {
	byID := make(map[string]*HoldStatus, len(holds))
	for i := range holds {
		byID[holds[i].EndpointID] = &holds[i]
	}
	s.forget(used)
	for _, st := range s.all() {
		st.hold.Store(byID[st.id])
	}
}

// forget drops those of endpoints that are not in use and of which the store keeps nothing. Of the others that are not, what was seen is
// forgotten: an endpoint that gets the same ID is another.
func (s *statuses) forget(used map[string]*route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, st := range s.byID {
		if used[id] != nil {
			continue
		}
		st.mu.Lock()
		if st.known.version == 0 && !st.watched {
			delete(s.byID, id)
		}
		st.seen, st.meter = observed{}, meter{}
		st.mu.Unlock()
		st.own.over()
	}
}
