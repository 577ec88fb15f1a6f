package storetest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalpost/webhook"
)

// env is what a case works with: a store, a clock that stands still unless the case says otherwise, and short ways to ask and compare.
// Its methods end the case by a panic with a failure, which guard turns into an error.
type env struct {
	ctx   context.Context
	h     Harness
	opens chan chan Harness // asks Check for another store

	stopped *atomic.Bool // set when one of the goroutines of parallel has failed, so that others may stop

	s, s2 webhook.Store // the two handles; nil when the store is Without Store
}

// failure is what is wrong; it travels as a panic within this package.
type failure string

func newEnv(ctx context.Context, h Harness) *env {
	if h.Second == nil {
		h.Second = h.Store
	}
	e := &env{ctx: ctx, h: h, opens: make(chan chan Harness), stopped: new(atomic.Bool)}
	e.s, _ = h.Store.(webhook.Store)
	e.s2, _ = h.Second.(webhook.Store)
	return e
}

// guard runs f and returns the failure that ended it. A panic of the store is a failure as well.
func guard(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = fmt.Errorf("%s", string(r))
		default:
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	f()
	return nil
}

// fresh returns an environment with another empty store.
func (e *env) fresh() *env {
	reply := make(chan Harness, 1)
	select {
	case e.opens <- reply:
	case <-e.ctx.Done():
		e.failf("no time left for another store")
	}
	select {
	case h := <-reply:
		next := newEnv(e.ctx, h)
		next.opens = e.opens
		return next
	case <-e.ctx.Done(): // open ended the test
		e.failf("no other store to be had")
	}
	return nil
}

func (e *env) holds() webhook.HoldStore         { return e.h.Store.(webhook.HoldStore) }
func (e *env) life() webhook.LifeStore          { return e.h.Store.(webhook.LifeStore) }
func (e *env) endpoints() webhook.EndpointStore { return e.h.Store.(webhook.EndpointStore) }
func (e *env) dedupe() webhook.DedupeStore      { return e.h.Store.(webhook.DedupeStore) }
func (e *env) queries() webhook.QueryStore      { return e.h.Store.(webhook.QueryStore) }
func (e *env) replays() webhook.ReplayStore     { return e.h.Store.(webhook.ReplayStore) }
func (e *env) pruner() webhook.Pruner           { return e.h.Store.(webhook.Pruner) }
func (e *env) eraser() webhook.Eraser           { return e.h.Store.(webhook.Eraser) }

func (e *env) failf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// ok fails the case if err is not nil.
func (e *env) ok(what string, err error) {
	if err != nil {
		e.failf("%s: unexpected error: %v", what, err)
	}
}

// same fails the case unless got equals want.
func (e *env) same(what string, got, want any) {
	if !reflect.DeepEqual(got, want) {
		e.failf("%s: got %v, want %v", what, got, want)
	}
}

// sameTime fails the case unless got is the same instant as want.
func (e *env) sameTime(what string, got, want time.Time) {
	if !got.Equal(want) {
		e.failf("%s: got %v, want %v", what, got, want)
	}
}

// parallel runs f n times at once and waits for all; f gets its number. The first failure ends the case.
func (e *env) parallel(n int, f func(i int)) {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			if errs[i] = guard(func() { f(i) }); errs[i] != nil {
				e.stopped.Store(true)
			}
		})
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			panic(failure(err.Error()))
		}
	}
}

// handle returns one of the two handles in turn.
func (e *env) handle(i int) webhook.Store {
	if i%2 == 0 {
		return e.s
	}
	return e.s2
}

// at is the cases' clock: an instant with microseconds, years ahead of the wall clock.
func at(d time.Duration) time.Time {
	return time.Date(2036, 3, 4, 5, 6, 7, 890123000, time.UTC).Add(d)
}

// event is an event with the deliveries given, its content decided by its ID.
func event(id string, deliveries ...webhook.NewDelivery) webhook.NewEvent {
	ev := webhook.Event{ID: id, Type: "order_create", Payload: []byte(`{"id":"` + id + `"}`)}
	return webhook.NewEvent{Event: ev, Digest: sha256.Sum256([]byte(id)), Deliveries: deliveries}
}

// other is ev with other content.
func other(ev webhook.NewEvent) webhook.NewEvent {
	ev.Event.Payload = []byte("other content")
	ev.Digest = sha256.Sum256(ev.Event.Payload)
	return ev
}

// to is a delivery that is due at once.
func to(endpoint, id string) webhook.NewDelivery {
	return webhook.NewDelivery{ID: id, EndpointID: endpoint}
}

// toAt is a delivery that is due at a time.
func toAt(endpoint, id string, due time.Time) webhook.NewDelivery {
	return webhook.NewDelivery{ID: id, EndpointID: endpoint, DueAt: due}
}

// keyed is an event with one delivery with an ordering key. The event is called like the delivery.
func keyed(endpoint, key, id string) webhook.NewEvent {
	ev := event(id, webhook.NewDelivery{ID: id, EndpointID: endpoint, OrderingKey: key})
	ev.Event.OrderingKey = key
	return ev
}

// plain is an event with one delivery that is due at once. The event is called like the delivery.
func plain(endpoint, id string) webhook.NewEvent { return event(id, to(endpoint, id)) }

// enqueue enqueues and returns the statuses.
func (e *env) enqueue(now time.Time, events ...webhook.NewEvent) []webhook.EnqueueStatus {
	return e.enqueueOn(e.s, now, events...)
}

func (e *env) enqueueOn(s webhook.Enqueuer, now time.Time, events ...webhook.NewEvent) []webhook.EnqueueStatus {
	res, err := s.Enqueue(e.ctx, &webhook.EnqueueRequest{Now: now, Owner: "tester", Events: events})
	e.ok("Enqueue", err)
	if len(res.Events) != len(events) {
		e.failf("Enqueue: %d statuses for %d events", len(res.Events), len(events))
	}
	return res.Events
}

// put enqueues events that must be new.
func (e *env) put(now time.Time, events ...webhook.NewEvent) {
	for i, st := range e.enqueue(now, events...) {
		if st != webhook.Stored {
			e.failf("Enqueue: event %q: got status %d, want Stored", events[i].Event.ID, st)
		}
	}
}

// queue enqueues deliveries of one ordering key, each by a request of its own.
func (e *env) queue(endpoint, key string, ids ...string) {
	for _, id := range ids {
		e.put(at(0), keyed(endpoint, key, id))
	}
}

// lane names a lane for a claim, with a lease of a minute.
func lane(endpoint string, class webhook.Class, most int) webhook.LaneClaim {
	return webhook.LaneClaim{LaneID: webhook.LaneID{EndpointID: endpoint, Class: class}, Max: most, Lease: time.Minute}
}

// fresh and retry are the lanes of an endpoint, asked for all they have.
func fresh(endpoint string) webhook.LaneClaim { return lane(endpoint, webhook.Fresh, 100) }
func retry(endpoint string) webhook.LaneClaim { return lane(endpoint, webhook.Retry, 100) }

// claimOn claims once.
func (e *env) claimOn(s webhook.Store, now time.Time, limit int, lanes ...webhook.LaneClaim) *webhook.ClaimResult {
	res, err := s.Claim(e.ctx, &webhook.ClaimRequest{Now: now, Owner: "tester", Lanes: lanes, Limit: limit})
	e.ok("Claim", err)
	if len(res.Lanes) != len(lanes) {
		e.failf("Claim: %d lane statuses for %d lanes", len(res.Lanes), len(lanes))
	}
	return res
}

// claim claims all that is due in the lanes: it asks again as long as the store says More and gives something, and a few
// times more when it gives nothing.
func (e *env) claim(now time.Time, lanes ...webhook.LaneClaim) []webhook.Claimed {
	return e.claimAll(e.s, now, lanes...)
}

func (e *env) claimAll(s webhook.Store, now time.Time, lanes ...webhook.LaneClaim) []webhook.Claimed {
	var all []webhook.Claimed
	for idle := 0; idle < 8; {
		res := e.claimOn(s, now, 1000, lanes...)
		all = append(all, res.Deliveries...)
		if !slices.ContainsFunc(res.Lanes, func(l webhook.LaneStatus) bool { return l.More }) {
			break
		}
		if len(res.Deliveries) == 0 {
			idle++
		}
		if len(all) > 10000 {
			e.failf("Claim returns without end")
		}
	}
	return all
}

// one claims from the lanes and fails unless it gets exactly the delivery named.
func (e *env) one(id string, now time.Time, lanes ...webhook.LaneClaim) webhook.Claimed {
	got := e.claim(now, lanes...)
	if len(got) != 1 || got[0].Delivery.ID != id {
		e.failf("Claim at %v: got %v, want [%s]", now.Sub(at(0)), ids(got), id)
	}
	return got[0]
}

// none claims from the lanes and fails if it gets anything.
func (e *env) none(why string, now time.Time, lanes ...webhook.LaneClaim) {
	if got := e.claim(now, lanes...); len(got) != 0 {
		e.failf("Claim at %v: got %v, want none: %s", now.Sub(at(0)), ids(got), why)
	}
}

// all claims from the lanes and fails unless it gets the deliveries named, in any order.
func (e *env) all(now time.Time, want []string, lanes ...webhook.LaneClaim) []webhook.Claimed {
	got := e.claim(now, lanes...)
	have := ids(got)
	slices.Sort(have)
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(have, want) {
		e.failf("Claim at %v: got %v, want %v", now.Sub(at(0)), have, want)
	}
	return got
}

func ids(cs []webhook.Claimed) []string {
	var out []string
	for _, c := range cs {
		out = append(out, c.Delivery.ID)
	}
	return out
}

// attempt is an attempt of a claimed delivery, started at now.
func attempt(c webhook.Claimed, now time.Time) *webhook.Attempt {
	return &webhook.Attempt{DeliveryID: c.Delivery.ID, Number: c.Delivery.Attempts + 1, Token: c.Token,
		StartedAt: now, Duration: 120 * time.Millisecond, Status: 200}
}

// ended is an outcome that ends a delivery or, with webhook.RetryScheduled, schedules it a minute later.
func ended(c webhook.Claimed, now time.Time, next webhook.State) webhook.Outcome {
	o := back(c)
	o.Attempt, o.Next = attempt(c, now), next
	if next == webhook.RetryScheduled {
		o.DueAt = now.Add(time.Minute)
	}
	return o
}

// back is an outcome that gives a delivery back unattempted.
func back(c webhook.Claimed) webhook.Outcome {
	return webhook.Outcome{EndpointID: c.Delivery.EndpointID, DeliveryID: c.Delivery.ID, OrderingKey: c.Delivery.OrderingKey,
		Token: c.Token, Next: webhook.Queued}
}

// complete records outcomes and returns the statuses.
func (e *env) complete(now time.Time, outcomes ...webhook.Outcome) []webhook.OutcomeStatus {
	res, err := e.s.Complete(e.ctx, &webhook.CompleteRequest{Now: now, Outcomes: outcomes})
	e.ok("Complete", err)
	if len(res.Outcomes) != len(outcomes) {
		e.failf("Complete: %d statuses for %d outcomes", len(res.Outcomes), len(outcomes))
	}
	return res.Outcomes
}

// apply records outcomes that must all be applied.
func (e *env) apply(now time.Time, outcomes ...webhook.Outcome) {
	for i, st := range e.complete(now, outcomes...) {
		if st != webhook.Applied {
			e.failf("Complete: %q under token %d to %s: got status %d, want Applied",
				outcomes[i].DeliveryID, outcomes[i].Token, outcomes[i].Next, st)
		}
	}
}

// stale records an outcome that must be stale.
func (e *env) stale(now time.Time, o webhook.Outcome) {
	if st := e.complete(now, o)[0]; st != webhook.Stale {
		e.failf("Complete: %q under token %d to %s: got status %d, want Stale", o.DeliveryID, o.Token, o.Next, st)
	}
}

// lanes walks all pages of Lanes.
func (e *env) lanes(page int) []webhook.Lane {
	var all []webhook.Lane
	var after webhook.LaneID
	for {
		res, err := e.s.Lanes(e.ctx, &webhook.LanesRequest{After: after, Limit: page})
		e.ok("Lanes", err)
		if len(res.Lanes) > page {
			e.failf("Lanes: %d lanes with a Limit of %d", len(res.Lanes), page)
		}
		all = append(all, res.Lanes...)
		if after = res.Next; after == (webhook.LaneID{}) {
			return all
		}
		if len(all) > 10000 {
			e.failf("Lanes: the walk does not end")
		}
	}
}

func laneIDs(ls []webhook.Lane) []webhook.LaneID {
	var out []webhook.LaneID
	for _, l := range ls {
		out = append(out, l.LaneID)
	}
	return out
}
