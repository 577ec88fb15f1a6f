package webhook

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// changing is a store of endpoints that tells of changes only.
type changing struct {
	Store
	EndpointStore
	changes EndpointChanges
}

func (c *changing) EndpointChanges(context.Context, int64) (*EndpointChanges, error) {
	changes := c.changes
	return &changes, nil
}

// What is known of tenants and deleted endpoints does not grow with all that ever were, and a tenant that stays is the same one.
func TestTenantsAndDeletedEndpointsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &changing{}
		d, err := NewDispatcher(store, &DispatcherOptions{Tenants: func(string) TenantPolicy { return TenantPolicy{Weight: 2} }})
		if err != nil {
			t.Fatal(err)
		}
		secret := GenerateSecret()
		put := func(id, tenant string) {
			store.changes.Put = append(store.changes.Put, Endpoint{ID: id, Tenant: tenant, URL: "https://h.example/", Secrets: []Secret{secret}})
		}
		refresh := func() *routeTable {
			store.changes.Version++
			table, err := d.routes.refresh(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			store.changes = EndpointChanges{Version: store.changes.Version}
			return table
		}
		put("stays", "stays")
		stays := refresh().byID["stays"].tenant
		const each, rounds = 20, 100
		for round := range rounds {
			for i := range each {
				put(fmt.Sprint("e", round, "-", i), fmt.Sprint("t", round, "-", i))
				if round > 0 {
					store.changes.Deleted = append(store.changes.Deleted, fmt.Sprint("e", round-1, "-", i))
				}
			}
			refresh()
			d.tenants.refresh(d.routes.current.Load())
			time.Sleep(10 * time.Minute)
		}
		table := d.routes.current.Load()
		if n, most := len(d.tenants.byName), each+2; n > most { // the one that stays, and ""
			t.Errorf("%d tenants are known, want at most %d", n, most)
		}
		if n, most := len(table.deleted), 14*each; n > most || n < 6*each {
			t.Errorf("%d deleted endpoints are remembered, want those of an hour or two: %d to %d", n, 6*each, most)
		}
		if d.tenants.get("stays") != stays || table.byID["stays"].tenant != stays || stays.policy().Weight != 2 {
			t.Error("a tenant that has an endpoint all the time is not the same one any more")
		}
		if d.tenants.get("") != d.unknown.tenant {
			t.Error(`the tenant "" is not the same one any more`)
		}
	})
}
