package storetest

import (
	"fmt"
	"time"

	"github.com/signalpost/webhook"
)

// backlog walks all pages of Backlog.
func (e *env) backlog(req webhook.BacklogRequest) (all []webhook.EndpointBacklog) {
	for range 1000 {
		res, err := e.life().Backlog(e.ctx, &req)
		e.ok("Backlog", err)
		if req.Endpoints == nil && req.Limit > 0 && len(res.Endpoints) > req.Limit {
			e.failf("Backlog: %d endpoints with a Limit of %d", len(res.Endpoints), req.Limit)
		}
		all = append(all, res.Endpoints...)
		for i := range all {
			if i > 0 && all[i].EndpointID <= all[i-1].EndpointID {
				e.failf("Backlog: %q after %q", all[i].EndpointID, all[i-1].EndpointID)
			}
		}
		if req.After = res.Next; req.After == "" {
			return all
		}
	}
	e.failf("Backlog: the walk does not end")
	return nil
}

// sameBlocked compares blocked keys, times as instants.
func (e *env) sameBlocked(got, want webhook.BlockedKey) {
	e.sameTime("Since of key "+want.OrderingKey, got.Since, want.Since)
	got.Since = want.Since
	e.same("blocked key", got, want)
}

func backlogCases() []Case {
	const tells = "Backlog tells per endpoint, in ascending order of ID, since when deliveries wait and how many"
	const due = "due time, or end of a lease that ran out, of the one that is longest due; zero: none is due"
	const counted = "unfinished ones, leased ones too; Count means as many or more; 0 when not counted"
	const need = needStore | needLife
	return []Case{
		{"Backlog/Empty", "those with an unfinished delivery or a blocked key", need, backlogEmpty},
		{"Backlog/Ages", tells + " … " + due, need, backlogAges},
		{"Backlog/LeasedDoNotAge", due, need, backlogLeased},
		{"Backlog/Parked", "due time of the earliest that waits behind its ordering key; zero: none", need, backlogParked},
		{"Backlog/Count", counted + " … count up to so many an endpoint; zero: do not count", need, backlogCount},
		{"Backlog/CountLeavesOutEnded", "Waiting leaves it out", need, backlogLeavesOutEnded},
		{"Backlog/Pages", tells + " … zero: 256", need, backlogPages},
		{"Backlog/Endpoints", "only these, in one answer; nil: all, a page at a time", need, backlogEndpoints},
		{"Backlog/Blocked", "ordering keys behind a dead letter, at most 100", need | needHold, backlogBlocked},
		{"Backlog/WritesNothing", "It writes nothing", need, backlogWritesNothing},
		{"BlockedKeys/Oldest", "BlockedKeys lists ordering keys of an endpoint that wait behind a dead letter, the one blocked longest first … of the dead letter … by HoldKey: what waits reads as Held … when the dead letter ended … BlockedKey is an ordering key that waits behind a dead letter", need | needHold, blockedOldest},
		{"BlockedKeys/Pages", "pass as After for the next page, opaque; \"\": that was all … as Next of an earlier answer; \"\": from the start", need | needHold, blockedPages},
	}
}

// oneBacklog is what waits for one endpoint.
func (e *env) oneBacklog(endpoint string, now time.Time, count int) webhook.EndpointBacklog {
	got := e.backlog(webhook.BacklogRequest{Now: now, Endpoints: []string{endpoint}, Count: count})
	if len(got) != 1 || got[0].EndpointID != endpoint {
		e.failf("Backlog of %q: got %+v", endpoint, got)
	}
	return got[0]
}

// nothingWaits fails if an endpoint has a backlog.
func (e *env) nothingWaits(endpoint string, now time.Time) {
	for _, count := range []int{0, 9} {
		if got := e.backlog(webhook.BacklogRequest{Now: now, Endpoints: []string{endpoint}, Count: count}); len(got) != 0 {
			e.failf("Backlog of %q: got %+v, want none", endpoint, got)
		}
	}
}

func backlogEmpty(e *env) {
	e.same("of an empty store", len(e.backlog(webhook.BacklogRequest{Now: at(0), Count: 9})), 0)
	e.put(at(0), plain("a", "d1"))
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.Delivered))
	e.same("when all is delivered", len(e.backlog(webhook.BacklogRequest{Now: at(0), Count: 9})), 0)
	e.nothingWaits("nobody", at(0))
	e.nothingWaits("\x00", at(0))
}

func backlogAges(e *env) {
	e.put(at(0), event("e1", toAt("a", "d1", at(2*time.Second)), toAt("a", "d2", at(time.Second)), toAt("b", "d3", at(time.Hour))))
	e.sameTime("OldestDue before anything is", e.oneBacklog("a", at(time.Second-time.Microsecond), 9).OldestDue, time.Time{})
	e.sameTime("OldestDue", e.oneBacklog("a", at(time.Second), 0).OldestDue, at(time.Second))
	e.sameTime("OldestDue later", e.oneBacklog("a", at(time.Minute), 0).OldestDue, at(time.Second))
	e.sameTime("OldestDue of what is scheduled", e.oneBacklog("b", at(time.Minute), 9).OldestDue, time.Time{})
	for _, c := range e.all(at(time.Minute), []string{"d1", "d2"}, fresh("a")) {
		e.apply(at(time.Minute), ended(c, at(time.Minute), webhook.RetryScheduled))
	}
	e.put(at(0), event("e2", toAt("a", "d4", at(3*time.Minute))))
	e.sameTime("OldestDue of retries", e.oneBacklog("a", at(time.Hour), 0).OldestDue, at(2*time.Minute))
}

func backlogLeased(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.one("d1", at(0), fresh("a"))
	e.sameTime("OldestDue under a lease", e.oneBacklog("a", at(time.Minute-time.Microsecond), 9).OldestDue, time.Time{})
	e.same("Waiting under a lease", e.oneBacklog("a", at(0), 9).Waiting, 1)
	e.sameTime("OldestDue after it", e.oneBacklog("a", at(time.Hour), 0).OldestDue, at(time.Minute))
}

func backlogParked(e *env) {
	for i := range 3 {
		e.put(at(time.Duration(i)*time.Second), keyed("a", "k", fmt.Sprint("d", i)))
	}
	e.one("d0", at(time.Minute), fresh("a"))
	e.none("the first is under way", at(time.Minute), fresh("a"))
	got := e.oneBacklog("a", at(time.Minute), 9)
	e.sameTime("OldestDue", got.OldestDue, time.Time{})
	e.sameTime("OldestKept", got.OldestKept, at(time.Second))
	e.same("Waiting", got.Waiting, 3)
}

func backlogCount(e *env) {
	names := append(e.fill("a", 7), "k1")
	e.queue("a", "k", "k1", "k2", "k3")
	e.apply(at(0), ended(e.all(at(0), names, fresh("a"))[0], at(0), webhook.RetryScheduled))
	for count, want := range map[int]int{0: 0, 1: 1, 9: 9, 10: 10, 11: 10, 1000: 10} {
		e.same(fmt.Sprintf("Waiting with Count %d", count), e.oneBacklog("a", at(0), count).Waiting, want)
	}
}

func backlogLeavesOutEnded(e *env) {
	e.queue("a", "k", "d1", "d2", "d3", "d4", "d5")
	e.endOne("d3", at(0), false)
	e.same("after one of the middle", e.oneBacklog("a", at(0), 9).Waiting, 4)
	c := e.one("d1", at(0), fresh("a"))
	e.none("the first is under way", at(0), fresh("a"))
	e.endOne("d2", at(0), false)
	e.same("after one that is parked", e.oneBacklog("a", at(0), 9).Waiting, 3)
	e.endOne("d1", at(0), true)
	e.same("after the one under way", e.oneBacklog("a", at(0), 9).Waiting, 2)
	e.stale(at(0), ended(c, at(0), webhook.Delivered))
	for _, id := range []string{"d4", "d5"} {
		e.endOne(id, at(0), false)
	}
	e.nothingWaits("a", at(time.Hour))
	e.same("of all", len(e.backlog(webhook.BacklogRequest{Now: at(0)})), 0)
}

func backlogPages(e *env) {
	want := []string{"A", "a", "a b", "b", "c", "ä"}
	for i, ep := range []string{"b", "a", "ä", "A", "c", "a b"} {
		e.put(at(0), event(ep, to(ep, fmt.Sprint("x", i)), to(ep, fmt.Sprint("y", i))))
	}
	e.apply(at(0), ended(e.claim(at(0), fresh("c"))[0], at(0), webhook.RetryScheduled))
	for _, page := range []int{0, 1, 2, 5, 6, 7} {
		var got []string
		for _, b := range e.backlog(webhook.BacklogRequest{Now: at(0), Limit: page}) {
			got = append(got, b.EndpointID)
		}
		e.same(fmt.Sprintf("pages of %d", page), got, want)
	}
	res, err := e.life().Backlog(e.ctx, &webhook.BacklogRequest{Now: at(0), After: "a", Limit: 2})
	e.ok("Backlog", err)
	var all []webhook.NewDelivery
	for i := range 300 {
		all = append(all, to(fmt.Sprintf("many%03d", i), fmt.Sprint("m", i)))
	}
	e.put(at(0), event("many", all...))
	first, err := e.life().Backlog(e.ctx, &webhook.BacklogRequest{Now: at(0), After: "c"})
	e.ok("Backlog", err)
	e.same("endpoints of a page, unless the request says", len(first.Endpoints), 256)
	e.same("endpoints after a", []string{res.Endpoints[0].EndpointID, res.Endpoints[1].EndpointID}, []string{"a b", "b"})
}

func backlogEndpoints(e *env) {
	e.spread("a", "b", "c", "d")
	var got []string
	for _, b := range e.backlog(webhook.BacklogRequest{Now: at(0), Endpoints: []string{"d", "nobody", "b", "d", "\xff"}, Limit: 1, After: "c"}) {
		got = append(got, b.EndpointID)
	}
	e.same("endpoints", got, []string{"b", "d"})
	e.same("of none", len(e.backlog(webhook.BacklogRequest{Now: at(0), Endpoints: []string{}})), 0)
}

// block has the key of an endpoint wait behind a dead letter, whose delivery is called like endpoint and key.
func (e *env) block(endpoint, key string, now time.Time, policy webhook.OrderPolicy) {
	id := endpoint + "/" + key
	e.put(now, keyed(endpoint, key, id))
	o := ended(e.one(id, now, fresh(endpoint)), now, webhook.DeadLetter)
	o.BehindDeadLetter = policy
	e.apply(now, o)
}

func backlogBlocked(e *env) {
	e.block("a", "k1", at(0), webhook.BlockBehindDeadLetter)
	e.block("a", "k2", at(0), webhook.HoldKey)
	e.block("a", "k3", at(0), webhook.SkipDeadLetter)
	e.same("what waits for nothing but a release", e.oneBacklog("a", at(0), 9), webhook.EndpointBacklog{EndpointID: "a", Blocked: 2})
	e.queue("a", "k1", "d1", "d2")
	e.none("the key is blocked", at(time.Minute), fresh("a"))
	got := e.oneBacklog("a", at(time.Minute), 9)
	e.same("Blocked and Waiting", []any{got.Blocked, got.Waiting}, []any{2, 2})
	e.release("a", "k1", true)
	e.same("Blocked after a release", e.oneBacklog("a", at(0), 0).Blocked, 1)
	for i := range 101 {
		e.block("b", fmt.Sprint("k", i), at(0), webhook.BlockBehindDeadLetter)
	}
	e.same("Blocked at most", e.oneBacklog("b", at(0), 0).Blocked, 100)
}

func backlogWritesNothing(e *env) {
	e.put(at(0), plain("a", "d1"), keyed("a", "k", "d2"), keyed("a", "k", "d3"))
	before := e.oneBacklog("a", at(0), 9)
	for range 3 {
		e.same("again", e.oneBacklog("a", at(0), 9), before)
	}
	e.all(at(0), []string{"d1", "d2"}, fresh("a"))
}

func (e *env) blockedKeys(req webhook.BlockedKeysRequest) (keys []string) {
	for range 1000 {
		res, err := e.life().BlockedKeys(e.ctx, &req)
		e.ok("BlockedKeys", err)
		if req.Limit > 0 && len(res.Keys) > req.Limit {
			e.failf("BlockedKeys: %d keys with a Limit of %d", len(res.Keys), req.Limit)
		}
		for _, k := range res.Keys {
			keys = append(keys, k.OrderingKey)
		}
		if req.After = res.Next; req.After == "" {
			return keys
		}
	}
	e.failf("BlockedKeys: the walk does not end")
	return nil
}

func blockedOldest(e *env) {
	e.block("a", "late", at(2*time.Second+999), webhook.BlockBehindDeadLetter)
	e.block("a", "first", at(time.Second), webhook.HoldKey)
	e.block("b", "other", at(0), webhook.HoldKey)
	e.block("a", "skipped", at(time.Second), webhook.SkipDeadLetter)
	e.queue("a", "late", "d1", "d2")
	res, err := e.life().BlockedKeys(e.ctx, &webhook.BlockedKeysRequest{EndpointID: "a"})
	e.ok("BlockedKeys", err)
	want := []webhook.BlockedKey{
		{EndpointID: "a", OrderingKey: "first", DeliveryID: "a/first", Held: true, Since: at(time.Second)},
		{EndpointID: "a", OrderingKey: "late", DeliveryID: "a/late", Since: at(2 * time.Second)},
	}
	e.same("how many", len(res.Keys), len(want))
	for i := range want {
		e.sameBlocked(res.Keys[i], want[i])
	}
	e.release("a", "first", true)
	e.same("after a release", e.blockedKeys(webhook.BlockedKeysRequest{EndpointID: "a"}), []string{"late"})
	e.same("of nobody", e.blockedKeys(webhook.BlockedKeysRequest{EndpointID: "\x00"}), []string(nil))
}

func blockedPages(e *env) {
	var want []string
	for i, key := range []string{"b", "a c", "z", "ä", "a", "B"} { // in pairs
		policy := []webhook.OrderPolicy{webhook.BlockBehindDeadLetter, webhook.HoldKey}[i%2]
		e.block("a", key, at(time.Duration(i/2)*time.Second), policy)
		want = append(want, key)
	}
	want[0], want[1], want[4], want[5] = want[1], want[0], want[5], want[4] // of one moment, in order of key
	for _, page := range []int{0, 1, 2, 3, 5, 6, 7} {
		e.same(fmt.Sprintf("pages of %d", page), e.blockedKeys(webhook.BlockedKeysRequest{EndpointID: "a", Limit: page}), want)
	}
	_, err := e.life().BlockedKeys(e.ctx, &webhook.BlockedKeysRequest{EndpointID: "a", After: "no page's"})
	e.wantErr("BlockedKeys after something else", err, webhook.ErrInvalid)
}
