package webhook

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStatusBlocks(t *testing.T) {
	now := time.Unix(1_770_000_000, 0)
	for _, tt := range []struct {
		name    string
		set     func(s *endpointStatus)
		until   time.Time
		blocked bool
	}{
		{"nothing", func(*endpointStatus) {}, time.Time{}, false},
		{"a hold", func(s *endpointStatus) { s.hold.Store(&HoldStatus{}) }, time.Time{}, true},
		{"a hold until later", func(s *endpointStatus) { s.hold.Store(&HoldStatus{Until: now.Add(1)}) }, now.Add(1), true},
		{"a hold until now", func(s *endpointStatus) { s.hold.Store(&HoldStatus{Until: now}) }, time.Time{}, false},
		{"not before later", func(s *endpointStatus) { s.notBefore.Store(now.Add(time.Second).UnixMicro()) }, now.Add(time.Second), true},
		{"not before now", func(s *endpointStatus) { s.notBefore.Store(now.UnixMicro()) }, time.Time{}, false},
	} {
		s := &endpointStatus{}
		tt.set(s)
		until, blocked := (&route{status: s}).blocked(now)
		if !until.Equal(tt.until) || blocked != tt.blocked {
			t.Errorf("%s: got %v, %v, want %v, %v", tt.name, until, blocked, tt.until, tt.blocked)
		}
	}
}

// One status serves all that an endpoint was and becomes: what was verified of one address lets nothing go to another.
func TestUnverifiedIsOfTheAddress(t *testing.T) {
	a, b := "a", "b"
	for _, tt := range []struct {
		aim      string
		verified *string
		want     bool
	}{{"", nil, false}, {"", &a, false}, {a, nil, true}, {a, &a, false}, {a, &b, true}} {
		rt := &route{aim: tt.aim, status: &endpointStatus{}}
		rt.status.verified.Store(tt.verified)
		if _, blocked := rt.blocked(time.Now()); blocked != tt.want || rt.isUnverified() != tt.want {
			t.Errorf("%+v: blocked %v, unverified %v", tt, blocked, rt.isUnverified())
		}
	}
}

func TestEffectiveRate(t *testing.T) {
	fifty, minute := PerSecond(50), Rate{Events: 50, Per: time.Minute}
	for _, tt := range []struct {
		own, want Rate
		pace      *Rate
	}{
		{Rate{}, Rate{}, nil},
		{fifty, fifty, nil},
		{Rate{}, fifty, &fifty},
		{fifty, minute, &minute},
		{minute, minute, &fifty},
		{Rate{Events: 51}, fifty, &fifty},
		{fifty, fifty, &Rate{}},
	} {
		rt := &route{rate: tt.own, status: &endpointStatus{}}
		rt.status.pace.Store(tt.pace)
		if got := rt.effectiveRate(); got != tt.want {
			t.Errorf("own %v, pace %v: got %v, want %v", tt.own, tt.pace, got, tt.want)
		}
	}
}

func TestHoldsReplaceEachOther(t *testing.T) {
	var s statuses
	a, b := s.get("a"), s.get("b")
	used := map[string]*route{"a": {}}
	s.setHolds([]HoldStatus{{EndpointID: "a", Kind: HoldGone}}, used)
	if a.hold.Load() == nil || s.get("a") != a {
		t.Error("a is not on hold, or forgotten")
	}
	if s.get("b") == b {
		t.Error("b is not forgotten")
	}
	s.setHolds(nil, used)
	if a.hold.Load() != nil {
		t.Error("a is still on hold")
	}
}

func TestTenantPolicies(t *testing.T) {
	said := TenantPolicy{Weight: 2000, MaxBacklog: -1, WhenFull: ExpireOldest}
	d := &Dispatcher{log: slog.New(slog.DiscardHandler), opts: DispatcherOptions{Tenants: func(tenant string) TenantPolicy {
		if tenant != "a" {
			panic("unknown")
		}
		return said
	}}}
	ts := newTenants(d)
	if diff := cmp.Diff(TenantPolicy{Weight: 1000, WhenFull: ExpireOldest}, ts.get("a").policy()); diff != "" {
		t.Errorf("a (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(TenantPolicy{Weight: 1}, ts.get("b").policy()); diff != "" {
		t.Errorf("a tenant whose policy panics (-want +got):\n%s", diff)
	}
	said = TenantPolicy{Weight: 3}
	ts.refresh(&routeTable{tenants: map[string]*subscriptions{"a": nil, "b": nil}})
	if got := ts.get("a").policy().Weight; got != 3 {
		t.Errorf("after a refresh: weight %d, want 3", got)
	}
}
