package storetest

import (
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

func redeliverCases() []Case {
	const (
		lacking = "an endpoint that has the event already: one that has a delivery of it that is unfinished, delivered, or made at Lacking or later"
		step    = "With req.Step nothing is queued unless the step is Applied"
		applied = "It is Applied while the replay is running and leased under Token, even after the lease's end as long as nobody else has claimed it, and ends the lease"
		needs   = needStore | needQuery | needReplay
	)
	return []Case{
		{"Redeliver/Queued", "They have no ordering key, are due at Now, and change nothing that is stored already", needs, redeliverQueued},
		{"Redeliver/Claimed", "Delivery.Replay; required … Delivery.ReplayOf", needs, redeliverClaimed},
		{"Redeliver/EachByItself", "each by itself Redelivered or passed over … in request order", needs, redeliverEach},
		{"Redeliver/Whole", "all in one transaction", needs, redeliverWhole},
		{"Redeliver/NoEvent", "the event is not stored any more", needs, redeliverNoEvent},
		{"Redeliver/MatchedNothing", "Redeliver queues new deliveries of stored events", needs, redeliverMatchedNothing},
		{"Redeliver/BlockedKey", "They have no ordering key", needs | needHold, redeliverBlockedKey},
		{"Redeliver/Lacking", lacking, needs, redeliverLacking},
		{"Redeliver/LackingTwice", "passed over because of Lacking, also by what stands earlier in the request", needs, redeliverTwice},
		{"Redeliver/DryRun", "With req.DryRun nothing is written, and what is answered is the same", needs, redeliverDryRun},
		{"Redeliver/DryRunStep", "not together with Step", needs, redeliverDryRunStep},
		{"Redeliver/Ended", "Redelivery is a new delivery of a stored event", needs | needLife, redeliverEnded},
		{"Redeliver/Step", "moves a replay on in the same transaction; nil: none … of the replay from now on … when the next step is due … sources, to be added to the replay's … likewise, besides those that this request passes over; what it queues is added to Redelivered", needs, stepApplied},
		{"Redeliver/StepDone", "the replay is done; FinishedAt is Now", needs, stepDone},
		{"Redeliver/StepStale", step, needs, stepStale},
		{"Redeliver/StepRepeated", "Else it is Stale, also when it is repeated: nothing is done then", needs, stepRepeated},
		{"Redeliver/StepLate", applied, needs, stepLate},
		{"Redeliver/StepOnce", applied, needs, stepOnce},
		{"Redeliver/StepUnknown", "Applied, Stale or Unknown … none when the step is not Applied", needs, stepUnknown},
		{"Redeliver/StepPaused", "a step under way is Stale from then on", needs, stepPaused},
	}
}

// again is a redelivery of an event.
func again(id, event, endpoint string) webhook.Redelivery {
	return webhook.Redelivery{ID: id, EventID: event, EndpointID: endpoint, Replay: "r1"}
}

// redeliver redelivers and compares what became of each.
func (e *env) redeliver(req webhook.RedeliverRequest, want ...webhook.RedeliverStatus) {
	res, err := e.replays().Redeliver(e.ctx, &req)
	e.ok("Redeliver", err)
	if res.Step != webhook.Applied || !slices.Equal(res.Deliveries, want) {
		e.failf("Redeliver: got %v and step %d, want %v and Applied", res.Deliveries, res.Step, want)
	}
}

// dead enqueues an event with one delivery and makes it a dead letter.
func (e *env) dead(now time.Time, endpoint, id string) {
	e.put(now, plain(endpoint, id))
	e.apply(now, ended(e.one(id, now, fresh(endpoint)), now, webhook.DeadLetter))
}

func redeliverQueued(e *env) {
	e.dead(at(0), "a", "d1")
	before := e.delivery("d1", at(0))
	rd := again("d2", "d1", "a")
	rd.ReplayOf = "d1"
	e.redeliver(webhook.RedeliverRequest{Now: at(time.Hour + 999), Deliveries: []webhook.Redelivery{rd}}, webhook.Redelivered)
	e.sameDelivery(e.delivery("d1", at(time.Hour)), before)
	e.sameDelivery(e.delivery("d2", at(time.Hour)), webhook.Delivery{ID: "d2", EventID: "d1", EndpointID: "a", State: webhook.Queued,
		DueAt: at(time.Hour), CreatedAt: at(time.Hour), Replay: "r1", ReplayOf: "d1"})
	got, err := e.queries().GetEvent(e.ctx, "d1")
	e.ok("GetEvent", err)
	e.same("fan-out of the event", got.Deliveries, 1)
	if attempts, err := e.queries().ListAttempts(e.ctx, "d1"); err != nil || len(attempts) != 1 {
		e.failf("attempts of what was replayed: %v, %v", attempts, err)
	}
	e.all(at(time.Hour), []string{"d2"}, fresh("a"))
}

func redeliverClaimed(e *env) {
	ev := event("e1", to("a", "d1"))
	ev.Event = richEvent("e1")
	e.put(at(0), ev)
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.Delivered))
	rd := again("d2", "e1", "a")
	rd.ReplayOf = "d1"
	e.redeliver(webhook.RedeliverRequest{Now: at(time.Hour), Deliveries: []webhook.Redelivery{rd, again("d3", "e1", "b")}}, webhook.Redelivered, webhook.Redelivered)
	c := e.one("d2", at(time.Hour), fresh("a"))
	e.sameEvent(c.Event, richEvent("e1"))
	e.same("Replay, ReplayOf", []string{c.Delivery.Replay, c.Delivery.ReplayOf}, []string{"r1", "d1"})
	e.same("ordering key", c.Delivery.OrderingKey, "")
	e.apply(at(time.Hour), ended(c, at(time.Hour), webhook.RetryScheduled))
	c = e.one("d2", at(2*time.Hour), retry("a"))
	e.same("Replay, ReplayOf of a retry", []string{c.Delivery.Replay, c.Delivery.ReplayOf}, []string{"r1", "d1"})
	e.apply(at(2*time.Hour), ended(c, at(2*time.Hour), webhook.DeadLetter))
	d := e.delivery("d2", at(3*time.Hour))
	e.same("Replay, ReplayOf in the end", []string{d.Replay, d.ReplayOf, string(d.State)}, []string{"r1", "d1", "dead_letter"})
	c = e.one("d3", at(time.Hour), fresh("b"))
	e.same("Replay, ReplayOf of another", []string{c.Delivery.Replay, c.Delivery.ReplayOf}, []string{"r1", ""})
	if _, err := e.replays().Redeliver(e.ctx, &webhook.RedeliverRequest{Now: at(0), Deliveries: []webhook.Redelivery{{ID: "d4", EventID: "e1", EndpointID: "a"}}}); err == nil {
		e.failf("Redeliver took a delivery without Replay")
	}
}

func redeliverEach(e *env) {
	e.dead(at(0), "a", "d1")
	e.put(at(0), plain("b", "d2"))
	has := again("x2", "d2", "b")
	has.Lacking = at(0)
	e.redeliver(webhook.RedeliverRequest{Now: at(0), Deliveries: []webhook.Redelivery{again("x1", "e9", "a"), has, again("x3", "d1", "a"), again("x4", "d2", "b")}},
		webhook.NoEvent, webhook.HasEvent, webhook.Redelivered, webhook.Redelivered)
	e.all(at(0), []string{"x3"}, fresh("a"))
	e.all(at(0), []string{"d2", "x4"}, fresh("b"))
}

func redeliverWhole(e *env) {
	e.dead(at(0), "a", "d1")
	for _, id := range []string{"d1", "x1"} {
		req := &webhook.RedeliverRequest{Now: at(0), Deliveries: []webhook.Redelivery{again("x1", "d1", "a"), again(id, "d1", "a")}}
		if res, err := e.replays().Redeliver(e.ctx, req); err == nil {
			e.failf("Redeliver made a second delivery %s: %+v", id, res)
		}
		e.none("the request failed", at(0), fresh("a"))
	}
}

func redeliverNoEvent(e *env) {
	e.put(at(0), event("e1"))
	e.redeliver(webhook.RedeliverRequest{Now: at(0), Deliveries: []webhook.Redelivery{again("d1", "E1", "a")}}, webhook.NoEvent)
	e.none("there is no such event", at(0), fresh("a"))
}

func redeliverMatchedNothing(e *env) {
	e.put(at(0), event("e1"))
	e.redeliver(webhook.RedeliverRequest{Now: at(time.Hour), Deliveries: []webhook.Redelivery{again("d1", "e1", "a")}}, webhook.Redelivered)
	e.apply(at(time.Hour), ended(e.one("d1", at(time.Hour), fresh("a")), at(time.Hour), webhook.Delivered))
	e.wantStates(at(time.Hour), map[string]webhook.State{"d1": webhook.Delivered})
	e.same("deliveries of the event", e.listDeliveries(webhook.ListDeliveriesRequest{EventID: "e1"}), []string{"d1"})
}

func redeliverBlockedKey(e *env) {
	e.queue("a", "k", "d1", "d2")
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.DeadLetter)
	e.apply(at(0), o)
	e.redeliver(webhook.RedeliverRequest{Now: at(0), Deliveries: []webhook.Redelivery{again("x1", "d1", "a")}}, webhook.Redelivered)
	c := e.one("x1", at(0), fresh("a"))
	e.same("sequence", c.Delivery.Sequence, int64(0))
	e.apply(at(0), ended(c, at(0), webhook.Delivered))
	e.none("the key is still blocked", at(0), fresh("a"))
	if released, err := e.holds().ReleaseKey(e.ctx, &webhook.ReleaseKeyRequest{Now: at(0), EndpointID: "a", OrderingKey: "k"}); err != nil || !released {
		e.failf("ReleaseKey: %v, %v", released, err)
	}
	e.one("d2", at(0), fresh("a"))
}

func redeliverLacking(e *env) {
	for _, end := range []webhook.State{"", webhook.RetryScheduled, webhook.Delivered, webhook.DeadLetter, webhook.Canceled, webhook.Expired} {
		id := "d_" + string(end)
		e.put(at(0), plain(id, id))
		want := webhook.HasEvent
		if end != "" {
			e.apply(at(0), ended(e.one(id, at(0), fresh(id)), at(0), end))
			if end.Final() && end != webhook.Delivered {
				want = webhook.Redelivered
			}
		}
		for i, tt := range []struct {
			endpoint string
			lacking  time.Time
			want     webhook.RedeliverStatus
		}{
			{id, at(0), webhook.HasEvent},                     // made at Lacking
			{id, at(-time.Second), webhook.HasEvent},          // made later
			{"other" + id, at(0), webhook.Redelivered},        // another endpoint
			{id, at(time.Microsecond), want},                  // by its state
			{id, time.Time{}, webhook.Redelivered},            // not asked
			{"other" + id, at(time.Minute), webhook.HasEvent}, // is waiting by now
		} {
			rd := again(string('0'+rune(i))+id, id, tt.endpoint)
			rd.Lacking = tt.lacking
			e.redeliver(webhook.RedeliverRequest{Now: at(time.Second), Deliveries: []webhook.Redelivery{rd}}, tt.want)
		}
	}
}

func redeliverTwice(e *env) {
	e.put(at(0), event("e1"))
	var twice []webhook.Redelivery
	for _, id := range []string{"d1", "d2", "d3"} {
		rd := again(id, "e1", "a")
		rd.Lacking = at(time.Hour)
		twice = append(twice, rd)
	}
	twice[2].Lacking = time.Time{}
	e.redeliver(webhook.RedeliverRequest{Now: at(0), Deliveries: twice}, webhook.Redelivered, webhook.HasEvent, webhook.Redelivered)
	e.all(at(0), []string{"d1", "d3"}, fresh("a"))
}

func redeliverDryRun(e *env) {
	e.dead(at(0), "a", "d1")
	e.put(at(0), plain("b", "d2"))
	has := again("x2", "d2", "b")
	has.Lacking = at(0)
	req := webhook.RedeliverRequest{Now: at(0), Deliveries: []webhook.Redelivery{again("x1", "d1", "a"), has, again("x3", "e9", "b")}, DryRun: true}
	for _, req.DryRun = range []bool{true, false} {
		e.none("nothing was written", at(0), fresh("a"))
		e.redeliver(req, webhook.Redelivered, webhook.HasEvent, webhook.NoEvent)
	}
	e.one("x1", at(0), fresh("a"))
}

func redeliverDryRunStep(e *env) {
	token := e.claimedReplay("r1", at(0))
	_, err := e.replays().Redeliver(e.ctx, &webhook.RedeliverRequest{Now: at(0), DryRun: true, Step: &webhook.ReplayStep{ID: "r1", Token: token}})
	e.wantErr("Redeliver", err, webhook.ErrInvalid)
}

func redeliverEnded(e *env) {
	e.dead(at(0), "a", "d1")
	e.redeliver(webhook.RedeliverRequest{Now: at(0), Deliveries: []webhook.Redelivery{again("x1", "d1", "a")}}, webhook.Redelivered)
	res, err := e.life().End(e.ctx, &webhook.EndRequest{Now: at(1), EventID: "d1", Next: webhook.Canceled, Reason: "no"})
	e.ok("End", err)
	if len(res.Ended) != 1 || res.Ended[0].ID != "x1" || res.Ended[0].Replay != "r1" {
		e.failf("End: got %+v, want x1", res.Ended)
	}
	e.none("it was canceled", at(time.Hour), fresh("a"))
}
