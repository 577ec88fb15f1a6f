package webhook

import (
	"testing"
	"time"
)

func TestFilterMatch(t *testing.T) {
	at := time.Date(2026, 1, 30, 0, 0, 0, 0, time.UTC)
	del := Delivery{ID: "d", EndpointID: "acme", State: DeadLetter, CreatedAt: at}
	ev := Event{Type: "order_create", Tenant: "t1"}
	none := Event{Type: "order_create"}
	for _, tc := range []struct {
		name   string
		filter Filter
		ev     *Event
		want   bool
	}{
		{"zero", Filter{}, &ev, true},
		{"endpoint", Filter{Endpoint: "acme"}, &ev, true},
		{"other endpoint", Filter{Endpoint: "acm"}, &ev, false},
		{"type", Filter{Type: "order_create"}, &ev, true},
		{"type prefix", Filter{Type: "order_*"}, &ev, true},
		{"any type", Filter{Type: "*"}, &ev, true},
		{"other type", Filter{Type: "order"}, &ev, false},
		{"tenant", Filter{Tenant: new("t1")}, &ev, true},
		{"other tenant", Filter{Tenant: new("t2")}, &ev, false},
		{"no tenant, has one", Filter{Tenant: new("")}, &ev, false},
		{"no tenant", Filter{Tenant: new("")}, &none, true},
		{"state", Filter{State: DeadLetter}, &ev, true},
		{"other state", Filter{State: Delivered}, &ev, false},
		{"unmatched", Filter{State: Unmatched}, &ev, false},
		{"since counts in", Filter{Since: at}, &ev, true},
		{"since later", Filter{Since: at.Add(1)}, &ev, false},
		{"until does not count in", Filter{Until: at}, &ev, false},
		{"until later", Filter{Until: at.Add(1)}, &ev, true},
		{"all", Filter{Endpoint: "acme", Type: "order_create", Tenant: new("t1"), State: DeadLetter, Since: at, Until: at.Add(1)}, &ev, true},
		{"all but one", Filter{Endpoint: "acme", Type: "order_create", Tenant: new("t2"), State: DeadLetter, Since: at, Until: at.Add(1)}, &ev, false},
	} {
		if got := tc.filter.Match(&del, tc.ev); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}
