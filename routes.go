package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// routesAge is how old what a dispatcher knows of endpoints in the store may be: a change made by another process applies
// everywhere within it. Changes made through the dispatcher itself apply at once.
const routesAge = time.Second

// routes knows all endpoints, those given in code and those in the store, resolved for sending.
type routes struct {
	d      *Dispatcher
	static []*route
	store  EndpointStore // nil: only static ones
	holds  HoldStore     // nil: none

	current atomic.Pointer[routeTable]
	turn    chan struct{} // one refresh at a time; a channel, because it is held while the store is asked

	// Whoever has the turn may touch these: the last failure, for those that waited for it.
	failure  error
	failedAt time.Time
	rereadAt time.Time // when what could not be read is asked for again
}

// route is an endpoint with all that is needed to send to it. It is never changed once made.
type route struct {
	endpoint Endpoint
	err      error // why it cannot be sent to by this process, such as an unknown profile

	profile  *Profile
	schedule Schedule
	success  SuccessRule
	target   *target
	run      runner // makes the attempts; nil: HTTP
	inFlight int
	lease    time.Duration
	rate     Rate         // the endpoint's own; what counts is effectiveRate
	health   HealthPolicy // with its defaults

	aim        string // what it must have verified; "": nothing
	given      bool   // in code
	unreadable bool   // the store could not open its secrets

	status *endpointStatus
	tenant *tenant
}

// routeTable is a snapshot of all routes.
type routeTable struct {
	madeAt  time.Time
	version int64
	byID    map[string]*route
	deleted map[string]time.Time // endpoints that this process has seen deleted, and when it asked; the store's clock
	tenants map[string]*subscriptions
	verify  []*route // that must be verified before their first delivery

	unreadable int      // how many routes are
	retiring   []*route // from the store, with secrets that retire
}

// subscriptions of one tenant.
type subscriptions struct {
	exact    map[string][]*route // by event type
	patterns []*route            // with at least one pattern, or no types at all
}

func newRoutes(d *Dispatcher, store Store) (*routes, error) {
	r := &routes{d: d, turn: make(chan struct{}, 1)}
	r.store, _ = store.(EndpointStore)
	r.holds, _ = store.(HoldStore)
	seen := make(map[string]bool)
	for _, ep := range d.opts.Endpoints {
		if err := d.checkEndpoint(&ep); err != nil {
			return nil, err
		}
		if seen[ep.ID] {
			return nil, &FieldError{Op: "dispatcher", Field: "Endpoints", Reason: fmt.Sprintf("endpoint %q is given twice", ep.ID)}
		}
		seen[ep.ID] = true
		rt := d.newRoute(ep)
		rt.given = true
		r.static = append(r.static, rt)
	}
	table := &routeTable{byID: make(map[string]*route), deleted: make(map[string]time.Time)}
	for _, rt := range r.static {
		table.byID[rt.endpoint.ID] = rt
	}
	table.subscribe()
	d.verify.enforce(table)
	r.current.Store(table)
	return r, nil
}

// table returns what is known, no older than routesAge. tx is a caller's transaction, or nil.
func (r *routes) table(ctx context.Context, tx Enqueuer) (*routeTable, error) {
	t := r.current.Load()
	if r.isStatic() || time.Since(t.madeAt) < routesAge {
		return t, nil
	}
	if changes, ok := tx.(changesReader); ok {
		r.refreshSoon()
		return r.within(ctx, t, changes)
	}
	return r.refresh(ctx, t)
}

// latest brings a table up to date that an event matches nothing in: what has been put since, by another process or straight into the
// store, must not miss it. Callers share readings.
func (r *routes) latest(ctx context.Context, tx Enqueuer, t *routeTable) (*routeTable, error) {
	if changes, ok := tx.(changesReader); ok && !r.isStatic() {
		return r.within(ctx, t, changes)
	}
	return r.refresh(ctx, nil)
}

// isGiven reports whether an endpoint is given in code.
func (r *routes) isGiven(id string) bool {
	return slices.ContainsFunc(r.static, func(rt *route) bool { return rt.endpoint.ID == id })
}

func (r *routes) isStatic() bool { return r.store == nil && r.holds == nil }

// changesReader is a caller's transaction that can read endpoints itself: asking the store would take a second
// connection, which a pool of one does not have.
type changesReader interface {
	EndpointChanges(ctx context.Context, since int64) (*EndpointChanges, error)
}

// within reads changes through a caller's transaction. They are not kept: the transaction may see what is not committed.
func (r *routes) within(ctx context.Context, t *routeTable, tx changesReader) (*routeTable, error) {
	changes, err := tx.EndpointChanges(ctx, t.version)
	if err == nil && changes == nil {
		err = errMalformedAnswer
	}
	if err != nil {
		return nil, err
	}
	if changes.Version == t.version {
		return t, nil
	}
	return r.apply(t, changes, r.d.clock.estimate()), nil
}

// refreshSoon brings the table up to date in the background, as soon as the store has a connection to spare, so that the next
// transaction need not read so much.
func (r *routes) refreshSoon() {
	select {
	case r.turn <- struct{}{}:
	default:
		return // under way
	}
	go func() {
		defer func() { <-r.turn }()
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		defer cancel()
		_, _ = r.renew(ctx) // whoever needs it next will see the error
	}()
}

// refresh brings the table up to date. Callers that have found the same table too old share one reading of the store, and its failure.
// With old nil a reading counts only if it began after the call: one under way may have missed what the caller is after.
func (r *routes) refresh(ctx context.Context, old *routeTable) (*routeTable, error) {
	if r.isStatic() {
		return r.current.Load(), nil
	}
	began := time.Now()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if t := r.current.Load(); old != nil && t != old || t.madeAt.After(began) {
		return t, nil
	}
	if old != nil && r.failure != nil && began.Before(r.failedAt) {
		return nil, r.failure
	}
	return r.renew(ctx)
}

// renew reads the store and replaces the table. The caller has the turn.
func (r *routes) renew(ctx context.Context) (*routeTable, error) {
	asked, old := time.Now(), r.current.Load()
	now := r.d.clock.estimate()
	changes, holds, err := r.read(ctx, old.version)
	if err != nil {
		r.failure, r.failedAt = err, time.Now()
		return nil, err
	}
	t := r.apply(old, r.reread(ctx, old, changes), now)
	t.madeAt = asked
	r.failure = nil
	if r.d.health.states != nil {
		r.d.statuses.forget(t.byID)
	} else {
		r.d.statuses.setHolds(holds, t.byID)
	}
	r.d.verify.enforce(t)
	r.current.Store(t)
	r.d.transports.keep(t)
	r.d.tenants.keep(t)
	return t, nil
}

// read asks the store what has changed since version, and for all holds.
func (r *routes) read(ctx context.Context, version int64) (changes *EndpointChanges, holds []HoldStatus, err error) {
	changes = &EndpointChanges{Version: version}
	if r.store != nil {
		if changes, err = r.store.EndpointChanges(ctx, version); err == nil && changes == nil {
			err = errMalformedAnswer
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if r.d.health.states != nil { // holds are among them
		if _, err = r.d.clock.now(ctx); err == nil {
			err = r.d.health.read(ctx)
		}
		return changes, nil, err
	}
	if r.holds != nil {
		now, err := r.d.clock.now(ctx)
		if err != nil {
			return nil, nil, err
		}
		if holds, err = r.holds.ListHolds(ctx, now); err != nil {
			return nil, nil, err
		}
	}
	return changes, holds, nil
}

// apply makes a new table of an old one, by changes that were asked for at now.
func (r *routes) apply(old *routeTable, changes *EndpointChanges, now time.Time) *routeTable {
	t := &routeTable{madeAt: old.madeAt, version: changes.Version, byID: old.byID, deleted: old.deleted, tenants: old.tenants, verify: old.verify, unreadable: old.unreadable, retiring: old.retiring}
	restored := changes.Version < old.version // from a backup: changes are all that there is
	if len(changes.Put)+len(changes.Deleted) == 0 && !restored {
		return t
	}
	t.byID, t.deleted = maps.Clone(old.byID), maps.Clone(old.deleted)
	if restored {
		clear(t.byID)
	}
	for _, id := range changes.Deleted {
		delete(t.byID, id)
		t.deleted[id] = now
	}
	// What waits for those that were deleted longer ago is old enough to be canceled even if nothing is known of its endpoint.
	maps.DeleteFunc(t.deleted, func(_ string, at time.Time) bool { return now.Sub(at) > 2*unknownMost })
	for _, ep := range changes.Put {
		if !r.d.serves(ep.ID) {
			continue // as an inbox is called: it came past PutEndpoint
		}
		rt := r.d.newRoute(ep)
		if err := changes.Unreadable[ep.ID]; err != nil {
			rt = r.d.unreadableRoute(ep, err)
		} else if rt.err != nil {
			r.d.log.Error("webhook: cannot send to endpoint; what is for it waits for a process that can", slog.String("endpoint", ep.ID), slog.Any("error", rt.err))
		}
		t.byID[ep.ID] = rt
		delete(t.deleted, ep.ID)
	}
	for _, rt := range r.static { // code wins over the store
		t.byID[rt.endpoint.ID] = rt
	}
	t.subscribe()
	return t
}

// subscribe fills in the index by tenant and type.
func (t *routeTable) subscribe() {
	t.tenants, t.verify, t.unreadable, t.retiring = make(map[string]*subscriptions), nil, 0, nil
	for _, rt := range t.byID {
		if rt.unreadable {
			t.unreadable++
		}
		if len(rt.endpoint.Retiring) > 0 {
			t.retiring = append(t.retiring, rt)
		}
		if rt.endpoint.Verify != "" && !rt.unreadable { // of that the URL is not known here; who reads it verifies it
			t.verify = append(t.verify, rt)
		}
		s := t.tenants[rt.endpoint.Tenant]
		if s == nil {
			s = &subscriptions{exact: make(map[string][]*route)}
			t.tenants[rt.endpoint.Tenant] = s
		}
		if isPattern(rt.endpoint.Types) {
			s.patterns = append(s.patterns, rt)
			continue
		}
		for _, name := range rt.endpoint.Types {
			if !slices.Contains(s.exact[name], rt) {
				s.exact[name] = append(s.exact[name], rt)
			}
		}
	}
}

// match returns the endpoints that subscribe to an event, in the order of their IDs.
func (t *routeTable) match(ev *Event) []*route {
	s := t.tenants[ev.Tenant]
	if s == nil {
		return nil
	}
	found := slices.Clone(s.exact[ev.Type])
	for _, rt := range s.patterns {
		if matchesType(rt.endpoint.Types, ev.Type) {
			found = append(found, rt)
		}
	}
	slices.SortFunc(found, func(a, b *route) int { return strings.Compare(a.endpoint.ID, b.endpoint.ID) })
	return found
}

func isPattern(types []string) bool {
	return len(types) == 0 || slices.ContainsFunc(types, func(s string) bool { return strings.HasSuffix(s, "*") })
}

// matchesType reports whether one of types is name, or ends in * and begins as name does.
func matchesType(types []string, name string) bool {
	if len(types) == 0 {
		return true
	}
	return slices.ContainsFunc(types, func(s string) bool {
		prefix, isPrefix := strings.CutSuffix(s, "*")
		return s == name || isPrefix && strings.HasPrefix(name, prefix)
	})
}

// haveOneTenant reports whether all endpoints that are known are of one tenant.
func (r *routes) haveOneTenant() bool { return len(r.current.Load().tenants) <= 1 }

// lookup returns what is known of an endpoint now, without asking the store; a route without target when nothing is.
func (r *routes) lookup(id string) *route {
	if rt := r.current.Load().byID[id]; rt != nil {
		return rt
	}
	return r.d.unknownRoute()
}

// resolve returns the endpoint's route for an attempt, no older than routesAge; nil when there is no such endpoint, with
// deleted when that is since this process has been looking. Without that, another process may have it in code. created is when what is to be
// sent was; zero: just now.
func (r *routes) resolve(ctx context.Context, id string, created time.Time) (rt *route, deleted bool, err error) {
	t, err := r.table(ctx, nil)
	if err != nil {
		// What was known a moment ago is better than standing still while the store is away.
		t = r.current.Load()
	}
	if rt := t.byID[id]; rt != nil {
		return rt, false, nil
	}
	if at, known := t.deleted[id]; err == nil && (!known || created.IsZero() || !created.Before(at)) {
		t, err = r.refresh(ctx, nil) // it may be younger than the table, or there again
	}
	if err != nil {
		return nil, false, err
	}
	_, deleted = t.deleted[id]
	return t.byID[id], deleted, nil
}
