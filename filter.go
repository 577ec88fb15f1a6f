package webhook

import "time"

// Filter chooses deliveries: those that match every field that is set. The zero value matches all.
type Filter struct {
	Endpoint string  // ID of the endpoint it goes to; "": any
	Type     string  // type of the event, exact ("order_create") or by prefix ("order_*"); "": any
	Tenant   *string // of the event; nil: any. As new("acme"); new("") is the events that have none
	State    State   // as of now; "": any. [Unmatched] is for [Dispatcher.Replay] alone

	// Since and Until bound when the delivery was made, by the store's clock: Since counts in, Until does not. Zero: no bound.
	Since, Until time.Time
}

// Unmatched, as [Filter.State], chooses events that no endpoint has got, since none subscribed to them. It is the state of no delivery.
const Unmatched State = "unmatched"

// Match reports whether a delivery matches, as it reads now. Of ev only Type and Tenant are looked at.
func (f *Filter) Match(del *Delivery, ev *Event) bool {
	return (f.Endpoint == "" || f.Endpoint == del.EndpointID) &&
		(f.State == "" || f.State == del.State) &&
		f.matchTime(del.CreatedAt) && f.MatchEvent(ev)
}

// MatchEvent reports whether an event has the Type and Tenant asked for.
func (f *Filter) MatchEvent(ev *Event) bool {
	return (f.Tenant == nil || *f.Tenant == ev.Tenant) && (f.Type == "" || matchesType([]string{f.Type}, ev.Type))
}

func (f *Filter) matchTime(at time.Time) bool {
	return !at.Before(f.Since) && (f.Until.IsZero() || at.Before(f.Until))
}
