package webhook

import (
	"sync"
	"sync/atomic"
	"time"
)

// endpointStatus is what this process knows of an endpoint beyond its settings, in force at once for all attempts. There is one for
// each ID; it outlives route tables. Zero: nothing stands in the way.
type endpointStatus struct {
	hold       atomic.Pointer[HoldStatus] // nil: none. Set by routes from ListHolds, and by health
	notBefore  atomic.Int64               // no attempt earlier; Unix µs by the store's clock; 0: no bound
	pace       atomic.Pointer[Rate]       // what health allows over all processes; nil: as many as Endpoint.Rate
	unverified atomic.Bool                // it has not shown yet that it wants what it gets
	own        ownFaults                  // failures of this process's own
}

// blocked reports whether nothing may be sent now, and until when; zero: until somebody changes that.
func (s *endpointStatus) blocked(now time.Time) (until time.Time, blocked bool) {
	if h := s.hold.Load(); h != nil && (h.Until.IsZero() || now.Before(h.Until)) {
		return h.Until, true
	}
	if s.unverified.Load() {
		return time.Time{}, true
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

// blocked is endpointStatus.blocked.
func (rt *route) blocked(now time.Time) (until time.Time, blocked bool) {
	return rt.status.blocked(now)
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
		st = &endpointStatus{}
		s.byID[id] = st
	}
	return st
}

// setHolds replaces what is known of holds, and forgets the status of endpoints that are not in use.
func (s *statuses) setHolds(holds []HoldStatus, used map[string]*route) {
	byID := make(map[string]*HoldStatus, len(holds))
	for i := range holds {
		byID[holds[i].EndpointID] = &holds[i]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, st := range s.byID {
		if used[id] == nil {
			delete(s.byID, id)
			continue
		}
		st.hold.Store(byID[id])
	}
}
