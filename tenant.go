package webhook

import (
	"maps"
	"sync"
	"sync/atomic"
)

// TenantPolicy is a tenant's share of the senders, and the bound of what may wait for all of its endpoints together.
type TenantPolicy struct {
	// Weight is its share in attempts begun, in proportion to other tenants', while there is not enough for all; zero: 1; at
	// most 1,000. What is out of range counts as the nearest that is not.
	Weight int

	MaxBacklog int        // deliveries that may wait, over all of its endpoints; zero or less: any number
	WhenFull   FullPolicy // what happens then; what is none is a [*FieldError] of every send for the tenant
}

const maxWeight = 1000

// tenant is what is known of one. There is one for each name; it outlives route tables.
type tenant struct {
	name  string
	rules atomic.Pointer[TenantPolicy]
}

// policy is the tenant's present policy, with a Weight of 1 to 1,000 and a MaxBacklog of 0 or more.
func (t *tenant) policy() TenantPolicy { return *t.rules.Load() }

// tenants knows all tenants that have endpoints, and "".
type tenants struct {
	d      *Dispatcher
	mu     sync.Mutex
	byName map[string]*tenant
}

func newTenants(d *Dispatcher) *tenants { return &tenants{d: d, byName: make(map[string]*tenant)} }

// get returns the tenant of a name, asking for its policy when it is new.
func (ts *tenants) get(name string) *tenant {
	ts.mu.Lock()
	t := ts.byName[name]
	ts.mu.Unlock()
	if t != nil {
		return t
	}
	t = &tenant{name: name}
	ts.ask(t) // not under the lock: it is the caller's function
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if other := ts.byName[name]; other != nil {
		return other
	}
	ts.byName[name] = t
	return t
}

// refresh asks anew for the policies of all tenants that have endpoints.
func (ts *tenants) refresh(table *routeTable) {
	if ts.d.opts.Tenants == nil {
		return
	}
	for name := range table.tenants {
		ts.ask(ts.get(name))
	}
}

// keep forgets the tenants that have no endpoint in a table. It is called when the table has become the current one, by whoever makes the next.
func (ts *tenants) keep(table *routeTable) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.byName) <= len(table.tenants) {
		return
	}
	maps.DeleteFunc(ts.byName, func(name string, _ *tenant) bool { return name != "" && table.tenants[name] == nil })
}

// ask stores what the caller's function says of a tenant. When that panics, what was said before counts.
func (ts *tenants) ask(t *tenant) {
	p := TenantPolicy{Weight: 1}
	defer func() {
		if t.rules.Load() == nil {
			t.rules.Store(&TenantPolicy{Weight: 1})
		}
	}()
	if ts.d.opts.Tenants != nil {
		defer ts.d.guard("Tenants")
		p = ts.d.opts.Tenants(t.name)
	}
	p.Weight = min(max(p.Weight, 1), maxWeight)
	p.MaxBacklog = max(p.MaxBacklog, 0)
	t.rules.Store(&p)
}
