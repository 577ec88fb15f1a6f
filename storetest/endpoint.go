package storetest

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/signalpost/webhook"
)

func endpointCases() []Case {
	const put = "PutEndpoint creates or replaces an endpoint"
	return []Case{
		{"Endpoint/RoundTrip", put, needEndpoint, endpointRoundTrip},
		{"Endpoint/Replaced", put, needEndpoint, endpointReplaced},
		{"Endpoint/IDsAreBytes", put, needEndpoint, endpointIDsAreBytes},
		{"Endpoint/Update", "UpdateEndpoint replaces an endpoint by what change makes of it … what it makes of the ID does not count", needEndpoint, endpointUpdate},
		{"Endpoint/UpdateNotFound", "There being none is ErrNotFound", needEndpoint, endpointUpdateNotFound},
		{"Endpoint/UpdateRefused", "When change returns an error, nothing is done and the error is returned", needEndpoint, endpointUpdateRefused},
		{"Endpoint/UpdateConcurrent", "in one step: what other calls put, update or delete meanwhile comes wholly before it or wholly after", needEndpoint, endpointUpdateConcurrent},
		{"Endpoint/NotFound", "GetEndpoint returns an endpoint, or ErrNotFound", needEndpoint, endpointNotFound},
		{"Endpoint/Deleted", "DeleteEndpoint removes an endpoint, or returns ErrNotFound", needEndpoint, endpointDeleted},
		{"Endpoint/CreatedAnew", "Replacing one that was deleted creates it anew", needEndpoint, endpointAnew},
		{"Endpoint/DeletedKeepsDeliveries", "Its deliveries stay; those waiting end as canceled when their turn comes", needStore | needEndpoint, endpointDeliveriesStay},
		{"Endpoint/ListOrder", "ListEndpoints returns endpoints in ascending order of ID, bytewise", needEndpoint, endpointListOrder},
		{"Endpoint/ListPages", "pass as After for the next page; \"\": that was all … exclusive ID; \"\": from the start", needEndpoint, endpointListPages},
		{"Endpoint/ListTenant", "nil: of every tenant", needEndpoint, endpointListTenant},
		{"Endpoint/ListLimit", "zero: 100", needEndpoint, endpointListLimit},
	}
}

func bareEndpoint(id string) webhook.Endpoint {
	return webhook.Endpoint{ID: id, URL: "https://" + id + ".example/hooks"}
}

// richEndpoint is an endpoint in which every field is set.
func richEndpoint(id string) webhook.Endpoint {
	current, _ := webhook.IssuedSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	old, _ := webhook.IssuedSecret("an old secret, ünd 'quoted' \"twice\"")
	password, _ := webhook.IssuedSecret("pässword: 'quoted' \x00\xff")
	key, _ := webhook.IssuedSecret("-----BEGIN PRIVATE KEY-----\n…")
	return webhook.Endpoint{
		ID: id, URL: "https://ü.example:8443/hooks?a=b&c=%20", Tenant: "Zürich 東京 🚚",
		Secrets:  []webhook.Secret{current, old},
		Retiring: []webhook.RetiringSecret{{Secret: password, Until: at(time.Hour)}, {Secret: old, Until: at(time.Microsecond)}},
		Types:    []string{"order_create", "order.*", "*"},
		Profile:  "tradegecko",
		Schedule: webhook.Schedule{Kind: "list", List: []time.Duration{1, time.Second, time.Hour}, First: 3, Cap: 4, Retries: 5, Jitter: 0.1},
		Timeout:  1500 * time.Millisecond, Success: webhook.SuccessRule{From: 200, To: 399},
		MaxInFlight: 7, Rate: webhook.Rate{Events: 50, Per: time.Minute, Burst: 5}, Order: webhook.HoldKey, AllowPrivate: true,
		Health: webhook.HealthPolicy{
			Kind: "graduated", SlowAfter: 1, ProbeAfter: time.Minute, ProbeEvery: 90 * time.Second, HoldAfter: 72 * time.Hour,
			Gap: 36 * time.Hour, Warn: time.Hour, Notice: -1, KeepHeld: true,
		},
		Verify: webhook.VerifyChallenge, MaxBacklog: 10_000, WhenFull: webhook.ExpireOldest,
		Header:         http.Header{"X-Shop": {"Zürich", "東京"}, "X-Empty": {""}},
		Auth:           webhook.Basic("Jürg", password),
		TLS:            webhook.ClientTLS{RootCAs: []byte{0, 0xff, '\n'}, Certificate: []byte("-----BEGIN"), Key: key, ServerName: "shop.example"},
		Proxy:          "http://user:p%20w@proxy.example:3128",
		SequenceHeader: "Webhook-Sequence",
	}
}

// sameEndpoint compares endpoints, their secrets too; nil and empty slices are the same.
func (e *env) sameEndpoint(what string, got, want webhook.Endpoint) {
	if g, w := reveal(got.Secrets), reveal(want.Secrets); !slices.Equal(g, w) {
		e.failf("%s: endpoint %q: got secrets %q, want %q", what, want.ID, g, w)
	}
	if g, w := got.Auth.Secret.Reveal(), want.Auth.Secret.Reveal(); g != w {
		e.failf("%s: endpoint %q: got Auth.Secret %q, want %q", what, want.ID, g, w)
	}
	if g, w := got.TLS.Key.Reveal(), want.TLS.Key.Reveal(); g != w {
		e.failf("%s: endpoint %q: got TLS.Key %q, want %q", what, want.ID, g, w)
	}
	if g, w := ends(got.Retiring), ends(want.Retiring); !slices.Equal(g, w) {
		e.failf("%s: endpoint %q: got retiring secrets %q, want %q", what, want.ID, g, w)
	}
	got.Secrets, want.Secrets, got.Retiring, want.Retiring = nil, nil, nil, nil // which no comparison finds equal
	got.Auth.Secret, want.Auth.Secret = webhook.Secret{}, webhook.Secret{}
	got.TLS.Key, want.TLS.Key = webhook.Secret{}, webhook.Secret{}
	for _, ep := range []*webhook.Endpoint{&got, &want} {
		if len(ep.Types) == 0 {
			ep.Types = nil
		}
		if len(ep.Schedule.List) == 0 {
			ep.Schedule.List = nil
		}
		if len(ep.Header) == 0 {
			ep.Header = nil
		}
		if len(ep.TLS.RootCAs) == 0 {
			ep.TLS.RootCAs = nil
		}
		if len(ep.TLS.Certificate) == 0 {
			ep.TLS.Certificate = nil
		}
	}
	if !reflect.DeepEqual(got, want) {
		e.failf("%s: got endpoint %+v, want %+v", what, got, want)
	}
}

func reveal(secrets []webhook.Secret) (texts []string) {
	for _, s := range secrets {
		texts = append(texts, s.Reveal())
	}
	return texts
}

func ends(secrets []webhook.RetiringSecret) (texts []string) {
	for _, s := range secrets {
		texts = append(texts, fmt.Sprint(s.Secret.Reveal(), " until ", s.Until.UnixMicro()))
	}
	return texts
}

func (e *env) putEndpoints(eps ...webhook.Endpoint) {
	for _, ep := range eps {
		e.ok("PutEndpoint", e.endpoints().PutEndpoint(e.ctx, ep))
	}
}

// wantEndpoint gets an endpoint from both handles.
func (e *env) wantEndpoint(want webhook.Endpoint) {
	for _, s := range []webhook.EndpointStore{e.endpoints(), e.h.Second.(webhook.EndpointStore)} {
		got, err := s.GetEndpoint(e.ctx, want.ID)
		e.ok("GetEndpoint", err)
		e.sameEndpoint("GetEndpoint", got, want)
	}
}

func endpointRoundTrip(e *env) {
	e.putEndpoints(richEndpoint("rich"), bareEndpoint("bare"))
	e.wantEndpoint(richEndpoint("rich"))
	e.wantEndpoint(bareEndpoint("bare"))
}

func endpointReplaced(e *env) {
	e.putEndpoints(richEndpoint("a"), bareEndpoint("b"), bareEndpoint("a"))
	e.wantEndpoint(bareEndpoint("a"))
	e.wantEndpoint(bareEndpoint("b"))
}

func endpointIDsAreBytes(e *env) {
	var want []webhook.Endpoint
	for i, id := range []string{"acme", "ACME", "acme.", "acme_", "acme-"} {
		ep := bareEndpoint(id)
		ep.MaxInFlight = i + 1
		want = append(want, ep)
	}
	e.putEndpoints(want...)
	for _, ep := range want {
		e.wantEndpoint(ep)
	}
}

func endpointNotFound(e *env) {
	e.putEndpoints(bareEndpoint("a"))
	_, err := e.endpoints().GetEndpoint(e.ctx, "b")
	e.wantErr("GetEndpoint", err, webhook.ErrNotFound)
}

func endpointDeleted(e *env) {
	s := e.endpoints()
	e.wantErr("DeleteEndpoint of none", s.DeleteEndpoint(e.ctx, "a"), webhook.ErrNotFound)
	e.putEndpoints(bareEndpoint("a"), bareEndpoint("b"))
	e.ok("DeleteEndpoint", s.DeleteEndpoint(e.ctx, "a"))
	_, err := e.h.Second.(webhook.EndpointStore).GetEndpoint(e.ctx, "a")
	e.wantErr("GetEndpoint of the deleted", err, webhook.ErrNotFound)
	e.wantErr("DeleteEndpoint of the deleted", s.DeleteEndpoint(e.ctx, "a"), webhook.ErrNotFound)
	e.same("endpoints listed", e.listEndpoints(nil, 10), []string{"b"})
}

func endpointAnew(e *env) {
	e.putEndpoints(richEndpoint("a"))
	e.ok("DeleteEndpoint", e.endpoints().DeleteEndpoint(e.ctx, "a"))
	e.putEndpoints(bareEndpoint("a"))
	e.wantEndpoint(bareEndpoint("a"))
	e.same("endpoints listed", e.listEndpoints(nil, 10), []string{"a"})
}

func endpointDeliveriesStay(e *env) {
	e.putEndpoints(bareEndpoint("a"))
	e.put(at(0), plain("a", "d1"), plain("a", "d2"))
	c := e.claimOn(e.s, at(0), 1, fresh("a")).Deliveries[0]
	e.ok("DeleteEndpoint", e.endpoints().DeleteEndpoint(e.ctx, "a"))
	e.apply(at(0), ended(c, at(0), webhook.RetryScheduled))
	for _, c := range e.all(at(time.Hour), []string{"d1", "d2"}, fresh("a"), retry("a")) {
		o := ended(c, at(time.Hour), webhook.Canceled)
		o.Attempt = nil
		e.apply(at(time.Hour), o)
	}
}

// listEndpoints walks the pages and returns the IDs.
func (e *env) listEndpoints(tenant *string, page int) (all []string) {
	after := ""
	for {
		res, err := e.endpoints().ListEndpoints(e.ctx, &webhook.ListEndpointsRequest{Tenant: tenant, After: after, Limit: page})
		e.ok("ListEndpoints", err)
		if len(res.Endpoints) > page {
			e.failf("ListEndpoints: %d endpoints with a Limit of %d", len(res.Endpoints), page)
		}
		for _, ep := range res.Endpoints {
			all = append(all, ep.ID)
		}
		if after = res.Next; after == "" {
			return all
		}
		if len(all) > 10000 {
			e.failf("ListEndpoints: the walk does not end")
		}
	}
}

func endpointListOrder(e *env) {
	want := []string{"b", "B", "a", "a.b", "a-b", "a_b", "~", "0", "10", "9", "A"}
	for _, id := range want {
		e.putEndpoints(bareEndpoint(id))
	}
	slices.Sort(want)
	e.same("endpoints", e.listEndpoints(nil, 100), want)
}

func endpointListPages(e *env) {
	want := []string{"a", "b", "c", "d", "e"}
	for _, id := range want {
		e.putEndpoints(bareEndpoint(id))
	}
	for page := 1; page <= 6; page++ {
		e.same(fmt.Sprintf("endpoints in pages of %d", page), e.listEndpoints(nil, page), want)
	}
	res, err := e.endpoints().ListEndpoints(e.ctx, &webhook.ListEndpointsRequest{After: "bb", Limit: 1})
	e.ok("ListEndpoints", err)
	e.same("endpoints after one that is not there", res.Endpoints[0].ID, "c")
}

func endpointListTenant(e *env) {
	for i, tenant := range []string{"x", "", "y", "x", "", "X"} {
		ep := bareEndpoint(fmt.Sprint("ep", i))
		ep.Tenant = tenant
		e.putEndpoints(ep)
	}
	x, none, nobody := "x", "", "z"
	e.same("endpoints of x", e.listEndpoints(&x, 1), []string{"ep0", "ep3"})
	e.same("endpoints of no tenant", e.listEndpoints(&none, 10), []string{"ep1", "ep4"})
	e.same("endpoints of an unknown tenant", e.listEndpoints(&nobody, 10), []string(nil))
	e.same("all endpoints", len(e.listEndpoints(nil, 10)), 6)
}

func endpointListLimit(e *env) {
	for i := range 101 {
		e.putEndpoints(bareEndpoint(fmt.Sprintf("ep%03d", i)))
	}
	res, err := e.endpoints().ListEndpoints(e.ctx, &webhook.ListEndpointsRequest{})
	e.ok("ListEndpoints", err)
	e.same("endpoints without a Limit", len(res.Endpoints), 100)
	e.same("Next", res.Next != "", true)
}

func changeCases() []Case {
	const every = "EndpointChanges returns every endpoint put or deleted after version since (0: all that exist), and the version that this brings a cache to"
	return []Case{
		{"Changes/FromZero", every, needEndpoint, changesFromZero},
		{"Changes/Since", every, needEndpoint, changesSince},
		{"Changes/Deleted", every, needEndpoint, changesDeleted},
		{"Changes/VersionGrows", "A version is never given twice for different content, and a change that commits later has a greater one", needEndpoint, changesVersions},
		{"Changes/CacheMissesNothing", "so that a cache that asks with its last version misses nothing", needEndpoint, changesCache},
	}
}

// changes asks for the changes since a version and returns them with the IDs put, sorted.
func (e *env) changes(since int64) (version int64, put, deleted []string) {
	res, err := e.endpoints().EndpointChanges(e.ctx, since)
	e.ok("EndpointChanges", err)
	for _, ep := range res.Put {
		put = append(put, ep.ID)
	}
	slices.Sort(put)
	return res.Version, put, slices.Sorted(slices.Values(res.Deleted))
}

func (e *env) wantChanges(since int64, wantPut, wantDeleted []string) int64 {
	version, put, deleted := e.changes(since)
	e.same(fmt.Sprintf("endpoints put since %d", since), put, wantPut)
	e.same(fmt.Sprintf("endpoints deleted since %d", since), deleted, wantDeleted)
	return version
}

func changesFromZero(e *env) {
	e.wantChanges(0, nil, nil)
	e.putEndpoints(richEndpoint("b"), bareEndpoint("a"), bareEndpoint("c"))
	e.ok("DeleteEndpoint", e.endpoints().DeleteEndpoint(e.ctx, "c"))
	_, put, _ := e.changes(0)
	e.same("endpoints put", put, []string{"a", "b"})
	res, err := e.endpoints().EndpointChanges(e.ctx, 0)
	e.ok("EndpointChanges", err)
	for _, ep := range res.Put {
		if ep.ID == "b" {
			e.sameEndpoint("EndpointChanges", ep, richEndpoint("b"))
		}
	}
}

func changesSince(e *env) {
	e.putEndpoints(bareEndpoint("a"), bareEndpoint("b"), bareEndpoint("c"))
	v := e.wantChanges(0, []string{"a", "b", "c"}, nil)
	e.same("version when nothing changed", e.wantChanges(v, nil, nil), v)
	e.putEndpoints(richEndpoint("b"), bareEndpoint("d"))
	w := e.wantChanges(v, []string{"b", "d"}, nil)
	e.wantChanges(w, nil, nil)
	e.wantChanges(v, []string{"b", "d"}, nil)
}

func changesDeleted(e *env) {
	e.putEndpoints(bareEndpoint("a"), bareEndpoint("b"), bareEndpoint("c"))
	v := e.wantChanges(0, []string{"a", "b", "c"}, nil)
	e.ok("DeleteEndpoint", e.endpoints().DeleteEndpoint(e.ctx, "a"))
	e.ok("DeleteEndpoint", e.endpoints().DeleteEndpoint(e.ctx, "b"))
	e.putEndpoints(richEndpoint("b"))
	w := e.wantChanges(v, []string{"b"}, []string{"a"})
	e.putEndpoints(bareEndpoint("a"))
	e.wantChanges(w, []string{"a"}, nil)
}

func changesVersions(e *env) {
	last := e.wantChanges(0, nil, nil)
	step := func(what string, err error) {
		e.ok(what, err)
		v, _, _ := e.changes(last)
		if v <= last {
			e.failf("version %d after %d: it does not grow with %s", v, last, what)
		}
		last = v
	}
	s, s2 := e.endpoints(), e.h.Second.(webhook.EndpointStore)
	for i := range 3 {
		a, b := bareEndpoint("a"), bareEndpoint("b")
		a.MaxInFlight, b.MaxInFlight = i+1, i+1
		step("PutEndpoint", s.PutEndpoint(e.ctx, a))
		step("PutEndpoint on the other handle", s2.PutEndpoint(e.ctx, b))
		step("DeleteEndpoint", s.DeleteEndpoint(e.ctx, "b"))
	}
}

// changesCache keeps a cache by its versions while four writers put and delete, and compares it with the truth afterwards.
func changesCache(e *env) {
	const writers, rounds = 4, 15
	cache := map[string]int{}
	var version int64
	refresh := func() {
		res, err := e.endpoints().EndpointChanges(e.ctx, version)
		e.ok("EndpointChanges", err)
		for _, id := range res.Deleted {
			delete(cache, id)
		}
		for _, ep := range res.Put {
			cache[ep.ID] = ep.MaxInFlight
		}
		version = res.Version
	}
	for i := range writers {
		e.changeEndpoints(i, 1)
	}
	refresh()
	var writing sync.WaitGroup
	writing.Add(writers)
	stop := make(chan struct{})
	go func() { writing.Wait(); close(stop) }()
	e.parallel(writers+1, func(i int) {
		if i < writers {
			defer writing.Done()
			e.changeEndpoints(i, rounds)
			return
		}
		for {
			select {
			case <-stop:
				return
			default:
				refresh()
			}
		}
	})
	refresh()
	truth := map[string]int{}
	for _, id := range e.listEndpoints(nil, 100) {
		ep, err := e.endpoints().GetEndpoint(e.ctx, id)
		e.ok("GetEndpoint", err)
		truth[id] = ep.MaxInFlight
	}
	if !maps.Equal(cache, truth) {
		e.failf("a cache kept by versions has %v, the store has %v", cache, truth)
	}
}

// changeEndpoints is the i-th writer of changesCache: it puts two endpoints over and over and deletes one of them now and then.
func (e *env) changeEndpoints(i, rounds int) {
	s := e.endpoints()
	if i%2 == 1 {
		s = e.h.Second.(webhook.EndpointStore)
	}
	for n := range rounds {
		for _, id := range []string{fmt.Sprint("a", i), fmt.Sprint("b", i)} {
			ep := bareEndpoint(id)
			ep.MaxInFlight = rounds + n
			e.ok("PutEndpoint", s.PutEndpoint(e.ctx, ep))
		}
		if n%4 == 3 {
			e.ok("DeleteEndpoint", s.DeleteEndpoint(e.ctx, fmt.Sprint("b", i)))
		}
	}
}
