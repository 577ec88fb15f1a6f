package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/signalpost/webhook"
)

func replayCases() []Case {
	const claim = "no other claim returns it before, unless a step ends the lease"
	return []Case{
		{"Replay/PutGet", "GetReplay returns a replay, or ErrNotFound", needReplay, replayPutGet},
		{"Replay/PutTwice", "PutReplay stores a new replay, and fails when its ID exists", needReplay, replayPutTwice},
		{"Replay/List", "ListReplays returns replays in descending order of ID: the newest first … exclusive ID; \"\": from the newest … pass as Before for the next page; \"\": that was all", needReplay, replayList},
		{"Replay/Due", "It is due at its DueAt, or at its CreatedAt when that is zero", needReplay, replayDue},
		{"Replay/LongestDue", "ClaimReplay leases the running replay that is longest due, if any is due, to req.Owner until Now+Lease", needReplay, replayLongestDue},
		{"Replay/NoneDue", "nil: none is due … without a replay: when the next one is due or its lease ends; zero: none is running", needReplay, replayNoneDue},
		{"Replay/Leased", claim, needReplay, replayLeased},
		{"Replay/TokenGrows", "its token is greater than that of any earlier claim of it", needReplay, replayTokens},
		{"Replay/OneClaims", claim, needReplay, replayOneClaims},
		{"Replay/Pause", "ChangeReplay makes a replay running, paused or canceled, and returns it as it is then, or ErrNotFound", needReplay, replayPause},
		{"Replay/Paused", "One that is paused or canceled is not claimed", needReplay, replayPaused},
		{"Replay/PauseBinds", "a step under way is Stale from then on", needStore | needReplay, replayPauseBinds},
		{"Replay/Resumed", "One that is resumed is due at once", needReplay, replayResumed},
		{"Replay/Ended", "One that is done or canceled stays as it is", needReplay, replayEnded},
		{"Replay/BadState", "ReplayRunning, ReplayPaused or ReplayCanceled", needReplay, replayBadState},
		{"Replay/ResumeRunning", claim, needReplay, replayResumeRunning},
	}
}

// aReplay is a replay with a value in every field.
func aReplay(id string) webhook.Replay {
	return webhook.Replay{
		ID: id, Filter: webhook.Filter{Endpoint: "a", Type: "order_*", Tenant: new("t\u00e9"), State: webhook.DeadLetter, Since: at(-time.Hour), Until: at(time.Hour)},
		Reroute: true, To: "b", Rate: webhook.Rate{Events: 7, Per: time.Minute, Burst: 3}, State: webhook.ReplayRunning, Reason: "because \u2603",
		Matched: 5, Redelivered: 4, PassedOver: 3, Cursor: "dlv_1", DueAt: at(time.Second), CreatedAt: at(0),
	}
}

// sameReplay compares replays, times as instants.
func (e *env) sameReplay(got, want webhook.Replay) {
	tenant := func(r *webhook.Replay) string {
		if r.Filter.Tenant == nil {
			return "any"
		}
		return "of " + *r.Filter.Tenant
	}
	e.same("Tenant", tenant(&got), tenant(&want))
	e.sameTime("Since", got.Filter.Since, want.Filter.Since)
	e.sameTime("Until", got.Filter.Until, want.Filter.Until)
	e.sameTime("DueAt", got.DueAt, want.DueAt)
	e.sameTime("CreatedAt", got.CreatedAt, want.CreatedAt)
	e.sameTime("FinishedAt", got.FinishedAt, want.FinishedAt)
	for _, r := range []*webhook.Replay{&got, &want} {
		r.Filter.Tenant, r.Filter.Since, r.Filter.Until = nil, time.Time{}, time.Time{}
		r.DueAt, r.CreatedAt, r.FinishedAt = time.Time{}, time.Time{}, time.Time{}
	}
	if got != want {
		e.failf("Replay: got %+v, want %+v", got, want)
	}
}

// putReplay stores a running replay that is due at a time.
func (e *env) putReplay(id string, due time.Time) {
	e.ok("PutReplay", e.replays().PutReplay(e.ctx, webhook.Replay{ID: id, State: webhook.ReplayRunning, Rate: webhook.PerSecond(1), DueAt: due, CreatedAt: at(0)}))
}

func (e *env) getReplay(id string) webhook.Replay {
	r, err := e.replays().GetReplay(e.ctx, id)
	e.ok("GetReplay", err)
	return r
}

// claimReplay claims for a minute, and fails unless it gets the replay named; "" is none.
func (e *env) claimReplay(id string, now time.Time) *webhook.ClaimReplayResult {
	res, err := e.replays().ClaimReplay(e.ctx, &webhook.ClaimReplayRequest{Now: now, Owner: "tester", Lease: time.Minute})
	e.ok("ClaimReplay", err)
	got := ""
	if res.Replay != nil {
		got = res.Replay.ID
	}
	if got != id {
		e.failf("ClaimReplay at %v: got %q, want %q", now.Sub(at(0)), got, id)
	}
	return res
}

// claimedReplay stores a replay and claims it at now.
func (e *env) claimedReplay(id string, now time.Time) (token int64) {
	e.putReplay(id, now)
	return e.claimReplay(id, now).Token
}

func (e *env) changeReplay(id string, now time.Time, to webhook.ReplayState) webhook.Replay {
	r, err := e.replays().ChangeReplay(e.ctx, &webhook.ChangeReplayRequest{Now: now, ID: id, State: to, Reason: "to " + string(to)})
	e.ok("ChangeReplay", err)
	return r
}

// step does a step and compares what became of it.
func (e *env) step(now time.Time, st webhook.ReplayStep, want webhook.OutcomeStatus, ds ...webhook.Redelivery) {
	res, err := e.replays().Redeliver(e.ctx, &webhook.RedeliverRequest{Now: now, Deliveries: ds, Step: &st})
	e.ok("Redeliver", err)
	if res.Step != want {
		e.failf("Redeliver: got step %d, want %d", res.Step, want)
	}
	if want != webhook.Applied && len(res.Deliveries) != 0 {
		e.failf("Redeliver: got %v although the step was not applied", res.Deliveries)
	}
}

func replayPutGet(e *env) {
	e.ok("PutReplay", e.replays().PutReplay(e.ctx, aReplay("r1")))
	e.sameReplay(e.getReplay("r1"), aReplay("r1"))
	bare := webhook.Replay{ID: "r2", State: webhook.ReplayPaused, Rate: webhook.PerSecond(1), CreatedAt: at(999)}
	e.ok("PutReplay", e.replays().PutReplay(e.ctx, bare))
	bare.CreatedAt = at(0)
	e.sameReplay(e.getReplay("r2"), bare)
	_, err := e.replays().GetReplay(e.ctx, "R1")
	e.wantErr("GetReplay", err, webhook.ErrNotFound)
}

func replayPutTwice(e *env) {
	e.ok("PutReplay", e.replays().PutReplay(e.ctx, aReplay("r1")))
	other := aReplay("r1")
	other.Matched = 99
	if err := e.replays().PutReplay(e.ctx, other); err == nil {
		e.failf("PutReplay stored a second replay of the same ID")
	}
	e.sameReplay(e.getReplay("r1"), aReplay("r1"))
}

func replayList(e *env) {
	for _, id := range []string{"r2", "r1", "r4", "r3"} {
		e.ok("PutReplay", e.replays().PutReplay(e.ctx, aReplay(id)))
	}
	var got []string
	req := &webhook.ListReplaysRequest{Limit: 2}
	for range 4 {
		res, err := e.replays().ListReplays(e.ctx, req)
		e.ok("ListReplays", err)
		for _, r := range res.Replays {
			e.sameReplay(r, aReplay(r.ID))
			got = append(got, r.ID)
		}
		got = append(got, "|")
		if req.Before = res.Next; req.Before == "" {
			break
		}
	}
	e.same("pages", got, []string{"r4", "r3", "|", "r2", "r1", "|"})
}

func replayDue(e *env) {
	e.putReplay("r1", at(time.Minute))
	e.claimReplay("", at(time.Minute-time.Microsecond))
	e.claimReplay("r1", at(time.Minute))
	e.putReplay("r2", time.Time{})
	e.claimReplay("r2", at(0))
}

func replayLongestDue(e *env) {
	e.putReplay("r1", at(2*time.Second))
	e.putReplay("r2", at(time.Second))
	e.putReplay("r3", at(3*time.Second))
	res := e.claimReplay("r2", at(time.Minute))
	e.sameTime("DueAt", res.Replay.DueAt, at(2*time.Minute))
	e.claimReplay("r1", at(time.Minute))
	e.claimReplay("r3", at(time.Minute))
	e.claimReplay("", at(time.Minute))
}

func replayNoneDue(e *env) {
	e.sameTime("Next with none", e.claimReplay("", at(0)).Next, time.Time{})
	e.putReplay("r1", at(time.Minute))
	e.sameTime("Next", e.claimReplay("", at(0)).Next, at(time.Minute))
	e.claimReplay("r1", at(time.Minute))
	e.sameTime("Next with a lease", e.claimReplay("", at(time.Minute)).Next, at(2*time.Minute))
}

func replayLeased(e *env) {
	token := e.claimedReplay("r1", at(0))
	e.claimReplay("", at(time.Minute-time.Microsecond))
	e.step(at(time.Second), webhook.ReplayStep{ID: "r1", Token: token, DueAt: at(2 * time.Second)}, webhook.Applied)
	e.claimReplay("", at(time.Second))
	e.claimReplay("r1", at(2*time.Second))
}

func replayTokens(e *env) {
	last := e.claimedReplay("r1", at(0))
	for i := 1; i < 4; i++ {
		now := at(time.Duration(i) * time.Minute)
		if i == 2 { // a step in between
			e.step(now, webhook.ReplayStep{ID: "r1", Token: last, DueAt: now}, webhook.Applied)
		}
		res := e.claimReplay("r1", now)
		if res.Token <= last {
			e.failf("ClaimReplay: token %d after %d", res.Token, last)
		}
		last = res.Token
	}
}

func replayOneClaims(e *env) {
	const n = 8
	e.putReplay("r1", at(0))
	won := make([]bool, n)
	e.parallel(n, func(i int) {
		h := e.h.Store
		if i%2 == 1 {
			h = e.h.Second
		}
		res, err := h.(webhook.ReplayStore).ClaimReplay(e.ctx, &webhook.ClaimReplayRequest{Now: at(0), Owner: fmt.Sprint("p", i), Lease: time.Minute})
		e.ok("ClaimReplay", err)
		won[i] = res.Replay != nil
	})
	winners := 0
	for _, w := range won {
		if w {
			winners++
		}
	}
	e.same("claims that got it", winners, 1)
}

func replayPause(e *env) {
	e.ok("PutReplay", e.replays().PutReplay(e.ctx, aReplay("r1")))
	want := aReplay("r1")
	want.State, want.Reason, want.DueAt = webhook.ReplayPaused, "to paused", time.Time{}
	e.sameReplay(e.changeReplay("r1", at(0), webhook.ReplayPaused), want)
	e.sameReplay(e.getReplay("r1"), want)
	want.State, want.Reason, want.DueAt = webhook.ReplayRunning, "to running", at(time.Hour)
	e.sameReplay(e.changeReplay("r1", at(time.Hour), webhook.ReplayRunning), want)
	want.State, want.Reason, want.DueAt, want.FinishedAt = webhook.ReplayCanceled, "to canceled", time.Time{}, at(2*time.Hour)
	e.sameReplay(e.changeReplay("r1", at(2*time.Hour), webhook.ReplayCanceled), want)
	_, err := e.replays().ChangeReplay(e.ctx, &webhook.ChangeReplayRequest{Now: at(0), ID: "r2", State: webhook.ReplayPaused})
	e.wantErr("ChangeReplay", err, webhook.ErrNotFound)
}

func replayPaused(e *env) {
	for _, state := range []webhook.ReplayState{webhook.ReplayPaused, webhook.ReplayCanceled} {
		id := string(state)
		e.putReplay(id, at(0))
		e.changeReplay(id, at(0), state)
		e.sameTime("Next", e.claimReplay("", at(time.Hour)).Next, time.Time{})
	}
}

// replayPauseBinds pauses while steps are done through the other handle: none is applied once ChangeReplay has returned.
func replayPauseBinds(e *env) {
	e.put(at(0), event("e1"))
	other := e.h.Second.(webhook.ReplayStore)
	for round := range 6 {
		id := fmt.Sprint("r", round)
		e.putReplay(id, at(0))
		some := make(chan struct{})
		enough := sync.OnceFunc(func() { close(some) })
		var then webhook.Replay
		e.parallel(2, func(i int) {
			if i == 1 {
				<-some
				e.changeReplay(id, at(0), webhook.ReplayPaused)
				then = e.getReplay(id)
				return
			}
			defer enough()
			for n := range 1000 {
				res, err := other.ClaimReplay(e.ctx, &webhook.ClaimReplayRequest{Now: at(0), Owner: "other", Lease: time.Minute})
				e.ok("ClaimReplay", err)
				if n == round {
					enough()
				}
				if res.Replay == nil {
					return
				}
				_, err = other.Redeliver(e.ctx, &webhook.RedeliverRequest{Now: at(0), Deliveries: []webhook.Redelivery{again(fmt.Sprint(id, ".", n), "e1", "a")},
					Step: &webhook.ReplayStep{ID: id, Token: res.Token, Cursor: fmt.Sprint(n), DueAt: at(0), Matched: 1}})
				e.ok("Redeliver", err)
			}
		})
		e.sameReplay(e.getReplay(id), then)
	}
}

func replayResumed(e *env) {
	e.putReplay("r1", at(time.Hour))
	e.changeReplay("r1", at(0), webhook.ReplayPaused)
	e.changeReplay("r1", at(time.Second), webhook.ReplayRunning)
	e.claimReplay("", at(0))
	e.claimReplay("r1", at(time.Second))
}

func replayEnded(e *env) {
	e.step(at(0), webhook.ReplayStep{ID: "done", Token: e.claimedReplay("done", at(0)), Done: true}, webhook.Applied)
	e.putReplay("canceled", at(0))
	e.changeReplay("canceled", at(0), webhook.ReplayCanceled)
	for _, id := range []string{"done", "canceled"} {
		before := e.getReplay(id)
		for _, to := range []webhook.ReplayState{webhook.ReplayRunning, webhook.ReplayPaused, webhook.ReplayCanceled} {
			e.sameReplay(e.changeReplay(id, at(time.Hour), to), before)
			e.sameReplay(e.getReplay(id), before)
		}
	}
}

func replayBadState(e *env) {
	e.putReplay("r1", at(0))
	for _, to := range []webhook.ReplayState{"", webhook.ReplayDone, "other"} {
		_, err := e.replays().ChangeReplay(e.ctx, &webhook.ChangeReplayRequest{Now: at(0), ID: "r1", State: to})
		e.wantErr("ChangeReplay", err, webhook.ErrInvalid)
	}
}

func replayResumeRunning(e *env) {
	token := e.claimedReplay("r1", at(0))
	e.changeReplay("r1", at(0), webhook.ReplayRunning)
	e.claimReplay("", at(time.Second))
	e.step(at(time.Second), webhook.ReplayStep{ID: "r1", Token: token, DueAt: at(time.Hour)}, webhook.Applied)
}

func stepApplied(e *env) {
	e.dead(at(0), "a", "d1")
	token := e.claimedReplay("r1", at(0))
	st := webhook.ReplayStep{ID: "r1", Token: token, Cursor: "d1", DueAt: at(time.Minute + 999), Reason: "waits \u2603", Matched: 5, PassedOver: 2}
	e.step(at(time.Second), st, webhook.Applied, again("x1", "d1", "a"), again("x2", "e9", "a"))
	want := webhook.Replay{ID: "r1", State: webhook.ReplayRunning, Rate: webhook.PerSecond(1), CreatedAt: at(0),
		Cursor: "d1", DueAt: at(time.Minute), Reason: "waits \u2603", Matched: 5, Redelivered: 1, PassedOver: 3}
	e.sameReplay(e.getReplay("r1"), want)
	e.one("x1", at(time.Second), fresh("a"))
	token = e.claimReplay("r1", at(time.Minute)).Token
	e.step(at(time.Minute), webhook.ReplayStep{ID: "r1", Token: token, Cursor: "d2", DueAt: at(time.Hour), Matched: 1}, webhook.Applied)
	want.Cursor, want.DueAt, want.Reason, want.Matched = "d2", at(time.Hour), "", 6
	e.sameReplay(e.getReplay("r1"), want)
}

func stepDone(e *env) {
	e.dead(at(0), "a", "d1")
	token := e.claimedReplay("r1", at(0))
	e.step(at(time.Second), webhook.ReplayStep{ID: "r1", Token: token, Cursor: "d1", Done: true, DueAt: at(time.Second), Matched: 1}, webhook.Applied, again("x1", "d1", "a"))
	e.sameReplay(e.getReplay("r1"), webhook.Replay{ID: "r1", State: webhook.ReplayDone, Rate: webhook.PerSecond(1), CreatedAt: at(0),
		Cursor: "d1", FinishedAt: at(time.Second), Matched: 1, Redelivered: 1})
	e.claimReplay("", at(time.Hour))
	e.one("x1", at(time.Second), fresh("a"))
}

func stepStale(e *env) {
	e.dead(at(0), "a", "d1")
	old := e.claimedReplay("r1", at(0))
	e.claimReplay("r1", at(time.Minute))
	before := e.getReplay("r1")
	for _, token := range []int64{old, old - 1, old + 9} {
		e.step(at(time.Minute), webhook.ReplayStep{ID: "r1", Token: token, Cursor: "x", Done: true, Matched: 9}, webhook.Stale, again("x1", "d1", "a"))
	}
	e.sameReplay(e.getReplay("r1"), before)
	e.none("the step was stale", at(time.Hour), fresh("a"))
}

func stepRepeated(e *env) {
	e.dead(at(0), "a", "d1")
	token := e.claimedReplay("r1", at(0))
	st := webhook.ReplayStep{ID: "r1", Token: token, Cursor: "d1", DueAt: at(0), Matched: 1}
	e.step(at(0), st, webhook.Applied, again("x1", "d1", "a"))
	e.step(at(0), st, webhook.Stale, again("x2", "d1", "a"))
	e.same("Matched", e.getReplay("r1").Matched, 1)
	e.one("x1", at(time.Hour), fresh("a"))
}

func stepLate(e *env) {
	token := e.claimedReplay("r1", at(0))
	e.step(at(time.Hour), webhook.ReplayStep{ID: "r1", Token: token, DueAt: at(time.Hour)}, webhook.Applied)
}

func stepOnce(e *env) {
	const n = 8
	e.dead(at(0), "a", "d1")
	token := e.claimedReplay("r1", at(0))
	status := make([]webhook.OutcomeStatus, n)
	e.parallel(n, func(i int) {
		h := e.h.Store
		if i%2 == 1 {
			h = e.h.Second
		}
		res, err := h.(webhook.ReplayStore).Redeliver(e.ctx, &webhook.RedeliverRequest{Now: at(0),
			Deliveries: []webhook.Redelivery{again(fmt.Sprint("x", i), "d1", "a")}, Step: &webhook.ReplayStep{ID: "r1", Token: token, DueAt: at(0), Matched: 1}})
		e.ok("Redeliver", err)
		status[i] = res.Step
	})
	applied := 0
	for _, st := range status {
		if st == webhook.Applied {
			applied++
		}
	}
	e.same("steps applied", applied, 1)
	e.same("deliveries made", len(e.claim(at(0), fresh("a"))), 1)
	e.same("Redelivered", e.getReplay("r1").Redelivered, 1)
}

func stepUnknown(e *env) {
	e.dead(at(0), "a", "d1")
	e.step(at(0), webhook.ReplayStep{ID: "r9", Token: 1}, webhook.Unknown, again("x1", "d1", "a"))
	e.none("there is no such replay", at(0), fresh("a"))
}

func stepPaused(e *env) {
	for _, to := range []webhook.ReplayState{webhook.ReplayPaused, webhook.ReplayCanceled} {
		id := string(to)
		e.dead(at(0), id, id)
		token := e.claimedReplay(id, at(0))
		e.changeReplay(id, at(0), to)
		e.step(at(0), webhook.ReplayStep{ID: id, Token: token, DueAt: at(0)}, webhook.Stale, again("x"+id, id, id))
		if to == webhook.ReplayPaused { // nor when it runs again
			e.changeReplay(id, at(0), webhook.ReplayRunning)
			e.step(at(0), webhook.ReplayStep{ID: id, Token: token, DueAt: at(0)}, webhook.Stale, again("y"+id, id, id))
			e.changeReplay(id, at(0), to)
		}
		e.none("the step was stale", at(time.Hour), fresh(id))
	}
}
