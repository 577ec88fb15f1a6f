package webhook

import (
	"slices"
	"time"
)

// What stores need to judge what matches.

// Matches reports whether a delivery is of those asked for by what it says itself: EventID, EndpointID, State, States, Since and Until.
func (r *ListDeliveriesRequest) Matches(d *Delivery) bool {
	return (r.EventID == "" || r.EventID == d.EventID) && (r.EndpointID == "" || r.EndpointID == d.EndpointID) &&
		(r.State == "" && len(r.States) == 0 || r.State == d.State && r.State != "" || slices.Contains(r.States, d.State)) &&
		inTime(d.CreatedAt, r.Since, r.Until)
}

// MatchesEvent reports whether a delivery's event has the Type and Tenant asked for.
func (r *ListDeliveriesRequest) MatchesEvent(typ, tenant string) bool {
	f := Filter{Type: r.Type, Tenant: r.Tenant}
	return f.MatchEvent(&Event{Type: typ, Tenant: tenant})
}

// Matches reports whether an event is of those asked for.
func (r *ListEventsRequest) Matches(rec *EventRecord) bool {
	f := Filter{Type: r.Type, Tenant: r.Tenant}
	return f.MatchEvent(&rec.Event) && !(r.Unmatched && rec.Deliveries > 0) && inTime(rec.CreatedAt, r.Since, r.Until)
}

func inTime(t, since, until time.Time) bool {
	return !t.Before(since) && (until.IsZero() || t.Before(until))
}

// Matches reports whether status, of an attempt that was made, is of the class. Every status is of the class "".
func (c ResponseClass) Matches(status int) bool {
	switch c {
	case "":
		return true
	case NoResponse:
		return status == 0
	}
	return len(c) == 3 && status/100 == int(c[0]-'0')
}

// Of is the time for a state; zero for one that is not final.
func (b *EndedBefore) Of(s State) time.Time {
	switch s {
	case Delivered:
		return b.Delivered
	case DeadLetter:
		return b.DeadLetter
	case Canceled:
		return b.Canceled
	case Expired:
		return b.Expired
	}
	return time.Time{}
}
