package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/signalpost/webhook"
)

// wantErr fails the case unless err wraps want.
func (e *env) wantErr(what string, err, want error) {
	if !errors.Is(err, want) {
		e.failf("%s: got error %v, want %v", what, err, want)
	}
}

func retainCases() []Case {
	const request = "a store neither keeps nor changes what a request points to after the call returns"
	const result = "what it returns is the caller's"
	return []Case{
		{"Retention/Enqueue", request, needStore, retainEnqueue},
		{"Retention/Claimed", result, needStore, retainClaimed},
		{"Retention/Complete", request + " … " + result, needStore | needQuery, retainComplete},
		{"Retention/GetEvent", result, needStore | needQuery, retainGetEvent},
		{"Retention/Endpoint", request + " … " + result, needEndpoint, retainEndpoint},
		{"Retention/Response", request + " … " + result, needDedupe, retainResponse},
	}
}

// scribble overwrites a slice of bytes.
func scribble(b []byte) {
	for i := range b {
		b[i] = '#'
	}
}

func retainEnqueue(e *env) {
	ev := event("e1", to("a", "d1"))
	ev.Event = richEvent("e1")
	e.put(at(0), ev)
	e.sameEvent(ev.Event, richEvent("e1"))
	e.same("NewDelivery after the call", ev.Deliveries[0], to("a", "d1"))
	scribble(ev.Event.Payload)
	ev.Event.Header.Set("X-New", "1")
	ev.Event.Header["X-Many"][0] = "#"
	ev.Deliveries[0] = to("z", "z")
	e.sameEvent(e.one("d1", at(0), fresh("a")).Event, richEvent("e1"))
}

func retainClaimed(e *env) {
	ev := event("e1", to("a", "d1"), to("b", "d2"))
	ev.Event = richEvent("e1")
	e.put(at(0), ev)
	for _, id := range []string{"d1", "d2"} {
		c := e.one(id, at(0), fresh(map[string]string{"d1": "a", "d2": "b"}[id]))
		e.sameEvent(c.Event, richEvent("e1"))
		scribble(c.Event.Payload)
		c.Event.Header["X-Many"][0] = "#"
		c.Event.Header.Del("Content-Type")
	}
	e.sameEvent(e.one("d1", at(time.Hour), fresh("a")).Event, richEvent("e1"))
}

func retainComplete(e *env) {
	e.put(at(0), plain("a", "d1"))
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.Delivered)
	o.Attempt.Response = []byte("response")
	want := *o.Attempt
	e.apply(at(0), o)
	e.same("Response after the call", string(o.Attempt.Response), "response")
	scribble(o.Attempt.Response)
	o.Attempt.Status = 1
	want.Response = []byte("response")
	for range 2 {
		got := e.attempts("d1", 1)
		e.sameAttempt(got[0], want)
		scribble(got[0].Response)
	}
}

func retainGetEvent(e *env) {
	ev := event("e1")
	ev.Event = richEvent("e1")
	e.put(at(0), ev)
	for range 2 {
		got, err := e.queries().GetEvent(e.ctx, "e1")
		e.ok("GetEvent", err)
		e.sameEvent(got.Event, richEvent("e1"))
		scribble(got.Event.Payload)
		got.Event.Header["X-Many"][0] = "#"
	}
}

func retainEndpoint(e *env) {
	ep := richEndpoint("a")
	e.ok("PutEndpoint", e.endpoints().PutEndpoint(e.ctx, ep))
	scribbleEndpoint(&ep)
	spoil := func(what string, ep webhook.Endpoint) {
		e.sameEndpoint(what, ep, richEndpoint("a"))
		scribbleEndpoint(&ep)
	}
	for range 2 {
		got, err := e.endpoints().GetEndpoint(e.ctx, "a")
		e.ok("GetEndpoint", err)
		spoil("GetEndpoint", got)
		list, err := e.endpoints().ListEndpoints(e.ctx, &webhook.ListEndpointsRequest{})
		e.ok("ListEndpoints", err)
		e.same("endpoints listed", len(list.Endpoints), 1)
		spoil("ListEndpoints", list.Endpoints[0])
		changes, err := e.endpoints().EndpointChanges(e.ctx, 0)
		e.ok("EndpointChanges", err)
		e.same("endpoints changed", len(changes.Put), 1)
		spoil("EndpointChanges", changes.Put[0])
	}
}

// scribbleEndpoint spoils all that ep points to.
func scribbleEndpoint(ep *webhook.Endpoint) {
	ep.Types[0] = "#"
	ep.Schedule.List[0] = 0
	ep.Secrets[0] = webhook.Secret{}
	ep.Header["X-Shop"][0] = "#"
	ep.Header["X-More"] = nil
	scribble(ep.TLS.RootCAs)
	scribble(ep.TLS.Certificate)
}

func retainResponse(e *env) {
	token := e.take(at(0), "k")
	r := richResponse()
	e.finish(at(0), "k", token, r, time.Hour)
	e.sameResponse(&r, richResponse())
	scribble(r.Body)
	r.Header["X-Many"][0] = "#"
	for range 2 {
		got := e.beginKey(at(0), "k").Response
		e.sameResponse(got, richResponse())
		scribble(got.Body)
		got.Header["X-Many"][0] = "#"
		delete(got.Header, "Content-Type")
	}
}

func contextCases() []Case {
	const ends = "A cancelled context ends the call … an error means that nothing of the request was done"
	return []Case{
		{"Cancelled/Store", ends, needStore, cancelledStore},
		{"Cancelled/HoldStore", ends, needStore | needHold, cancelledHold},
		{"Cancelled/LifeStore", ends, needStore | needLife, cancelledLife},
		{"Cancelled/EndpointStore", ends, needEndpoint, cancelledEndpoint},
		{"Cancelled/DedupeStore", ends, needDedupe, cancelledDedupe},
		{"Cancelled/QueryStore", ends, needStore | needQuery, cancelledQuery},
		{"Cancelled/Pruner", ends, needDedupe | needPrune, cancelledPruner},
	}
}

// cancelled returns a context that has ended.
func (e *env) cancelled() context.Context {
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	return ctx
}

func cancelledStore(e *env) {
	ctx := e.cancelled()
	_, err := e.s.Now(ctx)
	e.wantErr("Now", err, context.Canceled)
	_, err = e.s.Enqueue(ctx, &webhook.EnqueueRequest{Now: at(0), Events: []webhook.NewEvent{plain("a", "d1")}})
	e.wantErr("Enqueue", err, context.Canceled)
	e.put(at(0), plain("a", "d1"))
	_, err = e.s.Lanes(ctx, &webhook.LanesRequest{Limit: 1})
	e.wantErr("Lanes", err, context.Canceled)
	_, err = e.s.Claim(ctx, &webhook.ClaimRequest{Now: at(0), Owner: "tester", Lanes: []webhook.LaneClaim{fresh("a")}, Limit: 1})
	e.wantErr("Claim", err, context.Canceled)
	c := e.one("d1", at(0), fresh("a"))
	_, err = e.s.Extend(ctx, &webhook.ExtendRequest{Now: at(0), Leases: []webhook.LeaseRef{ref(c, at(time.Hour))}})
	e.wantErr("Extend", err, context.Canceled)
	c = e.one("d1", at(time.Minute), fresh("a"))
	_, err = e.s.Complete(ctx, &webhook.CompleteRequest{Now: at(time.Minute), Outcomes: []webhook.Outcome{ended(c, at(0), webhook.Delivered)}})
	e.wantErr("Complete", err, context.Canceled)
	e.one("d1", at(time.Hour), fresh("a"))
}

func cancelledHold(e *env) {
	ctx := e.cancelled()
	e.queue("a", "k", "d1", "d2")
	e.put(at(0), plain("b", "d3"))
	e.wantErr("Hold", e.holds().Hold(ctx, &webhook.HoldRequest{Now: at(0), EndpointID: "a", Kind: "paused"}), context.Canceled)
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.DeadLetter))
	_, err := e.holds().ReleaseKey(ctx, &webhook.ReleaseKeyRequest{Now: at(0), EndpointID: "a", OrderingKey: "k"})
	e.wantErr("ReleaseKey", err, context.Canceled)
	e.none("the key is blocked", at(0), fresh("a"))
	e.hold("b", time.Time{})
	_, err = e.holds().ListHolds(ctx, at(0))
	e.wantErr("ListHolds", err, context.Canceled)
	e.wantErr("Unhold", e.holds().Unhold(ctx, "b"), context.Canceled)
	e.none("the endpoint is on hold", at(0), fresh("b"))
}

func cancelledLife(e *env) {
	ctx := e.cancelled()
	e.put(at(0), plain("a", "d1"))
	_, err := e.life().End(ctx, &webhook.EndRequest{Now: at(0), EventID: "d1", Next: webhook.Canceled})
	e.wantErr("End", err, context.Canceled)
	_, err = e.life().Backlog(ctx, &webhook.BacklogRequest{Now: at(0)})
	e.wantErr("Backlog", err, context.Canceled)
	_, err = e.life().BlockedKeys(ctx, &webhook.BlockedKeysRequest{EndpointID: "a"})
	e.wantErr("BlockedKeys", err, context.Canceled)
	e.one("d1", at(0), fresh("a"))
}

func cancelledEndpoint(e *env) {
	ctx, s := e.cancelled(), e.endpoints()
	e.wantErr("PutEndpoint", s.PutEndpoint(ctx, bareEndpoint("a")), context.Canceled)
	_, err := s.GetEndpoint(e.ctx, "a")
	e.wantErr("GetEndpoint after a cancelled PutEndpoint", err, webhook.ErrNotFound)
	e.ok("PutEndpoint", s.PutEndpoint(e.ctx, bareEndpoint("a")))
	e.wantErr("DeleteEndpoint", s.DeleteEndpoint(ctx, "a"), context.Canceled)
	_, err = s.GetEndpoint(e.ctx, "a")
	e.ok("GetEndpoint after a cancelled DeleteEndpoint", err)
	_, err = s.GetEndpoint(ctx, "a")
	e.wantErr("GetEndpoint", err, context.Canceled)
	_, err = s.ListEndpoints(ctx, &webhook.ListEndpointsRequest{})
	e.wantErr("ListEndpoints", err, context.Canceled)
	_, err = s.EndpointChanges(ctx, 0)
	e.wantErr("EndpointChanges", err, context.Canceled)
}

func cancelledDedupe(e *env) {
	ctx, s := e.cancelled(), e.dedupe()
	_, err := s.Begin(ctx, &webhook.BeginRequest{Now: at(0), Scope: "s", Key: "k", Hold: time.Minute})
	e.wantErr("Begin", err, context.Canceled)
	token := e.take(at(0), "k")
	e.wantErr("Finish", s.Finish(ctx, &webhook.FinishRequest{Now: at(0), Scope: "s", Key: "k", Token: token, Keep: time.Hour}), context.Canceled)
	e.wantErr("Release", s.Release(ctx, &webhook.ReleaseRequest{Now: at(0), Scope: "s", Key: "k", Token: token}), context.Canceled)
	e.wantStatus(at(0), "k", webhook.KeyRunning)
}

func cancelledQuery(e *env) {
	ctx, s := e.cancelled(), e.queries()
	e.put(at(0), plain("a", "d1"))
	_, err := s.GetEvent(ctx, "d1")
	e.wantErr("GetEvent", err, context.Canceled)
	_, err = s.ListDeliveries(ctx, &webhook.ListDeliveriesRequest{Now: at(0)})
	e.wantErr("ListDeliveries", err, context.Canceled)
	_, err = s.ListAttempts(ctx, "d1")
	e.wantErr("ListAttempts", err, context.Canceled)
}

func cancelledPruner(e *env) {
	e.finish(at(0), "k", e.take(at(0), "k"), webhook.StoredResponse{Status: 200}, time.Minute)
	req := &webhook.PruneRequest{Now: at(time.Hour), DedupeKeys: true}
	_, err := e.pruner().Prune(e.cancelled(), req)
	e.wantErr("Prune", err, context.Canceled)
	res, err := e.pruner().Prune(e.ctx, req)
	e.ok("Prune", err)
	e.same("DedupeKeys after a cancelled Prune", res.DedupeKeys, 1)
}

func txCases() []Case {
	const tx = "durably before it returns (within a caller's transaction: when that commits)"
	const locks = "It locks nothing that enqueues, claims or completions of other events need, ordering keys excepted"
	return []Case{
		{"Tx/Commit", tx, needStore | needTx, txCommit},
		{"Tx/Rollback", tx, needStore | needTx, txRollback},
		{"Tx/Statuses", "An event whose ID is stored already, or stands earlier in the same request, is a Repeat", needStore | needTx, txStatuses},
		{"Tx/RollbackTakesNoSequence", "from 1 without gaps: a rolled back transaction leaves none", needStore | needTx, txSequence},
		{"Tx/Invisible", tx, needStore | needTx | needOpenTx, txInvisible},
		{"Tx/DelaysNobody", locks, needStore | needTx | needOpenTx, txDelaysNobody},
		{"Tx/SameKeyWaits", "sends of one endpoint and key wait for each other's commit, and only for those", needStore | needTx | needOpenTx, txSameKeyWaits},
	}
}

// begin begins a caller's transaction.
func (e *env) begin() Tx {
	tx, err := e.h.Begin(e.ctx)
	e.ok("Begin", err)
	return tx
}

func txCommit(e *env) {
	tx := e.begin()
	got := e.enqueueOn(tx, at(0), plain("a", "d1"), keyed("a", "k", "d2"), event("e3"))
	e.same("statuses", got, make([]webhook.EnqueueStatus, 3))
	e.ok("Commit", tx.Commit())
	e.all(at(0), []string{"d1", "d2"}, fresh("a"))
	e.same("status of the repeat", e.enqueue(at(0), plain("a", "d1"))[0], webhook.Repeat)
}

func txRollback(e *env) {
	tx := e.begin()
	e.enqueueOn(tx, at(0), plain("a", "d1"), keyed("a", "k", "d2"))
	e.ok("Rollback", tx.Rollback())
	e.same("lanes", len(e.lanes(10)), 0)
	e.put(at(0), other(plain("a", "d1")))
	e.one("d1", at(0), fresh("a"))
}

func txStatuses(e *env) {
	e.put(at(0), plain("a", "d1"))
	tx := e.begin()
	e.enqueueOn(tx, at(0), plain("a", "d2"))
	got := e.enqueueOn(tx, at(0), plain("a", "d1"), other(plain("a", "d1")), plain("a", "d2"), plain("a", "d3"))
	e.same("statuses", got, []webhook.EnqueueStatus{webhook.Repeat, webhook.Conflict, webhook.Repeat, webhook.Stored})
	e.ok("Commit", tx.Commit())
	e.all(at(0), []string{"d1", "d2", "d3"}, fresh("a"))
}

func txSequence(e *env) {
	e.put(at(0), keyed("a", "k", "d1"))
	for i := range 3 {
		tx := e.begin()
		e.enqueueOn(tx, at(0), keyed("a", "k", fmt.Sprint("x", i)), keyed("a", "k", fmt.Sprint("y", i)))
		e.ok("Rollback", tx.Rollback())
	}
	tx := e.begin()
	e.enqueueOn(tx, at(0), keyed("a", "k", "d2"))
	e.ok("Commit", tx.Commit())
	e.put(at(0), keyed("a", "k", "d3"))
	e.wantKey(at(0), "a", "k", "d1", "d2", "d3")
}

func txInvisible(e *env) {
	tx := e.begin()
	e.enqueueOn(tx, at(0), plain("a", "d1"), keyed("b", "k", "d2"))
	e.same("lanes while the transaction is open", len(e.lanes(10)), 0)
	e.none("the transaction is open", at(0), fresh("a"), fresh("b"))
	e.ok("Commit", tx.Commit())
	e.all(at(0), []string{"d1", "d2"}, fresh("a"), fresh("b"))
}

// txDelaysNobody does everything that others do while a transaction is open. It hangs on a store that makes them wait.
func txDelaysNobody(e *env) {
	e.put(at(0), plain("a", "d1"), keyed("a", "l", "d2"))
	tx := e.begin()
	e.enqueueOn(tx, at(0), plain("a", "t1"), keyed("a", "k", "t2"))
	ctx, cancel := context.WithTimeout(e.ctx, 10*time.Second)
	defer cancel()
	others := *e
	others.ctx = ctx
	others.put(at(0), plain("a", "d3"), keyed("a", "l", "d4"), event("d5", to("a", "d5"), to("b", "d6")))
	for _, c := range others.all(at(0), []string{"d1", "d2", "d3", "d5", "d6"}, fresh("a"), fresh("b")) {
		others.apply(at(0), ended(c, at(0), webhook.Delivered))
	}
	others.one("d4", at(0), fresh("a"))
	e.ok("Commit", tx.Commit())
	e.all(at(0), []string{"t1", "t2"}, fresh("a"))
}

// txSameKeyWaits has a send wait for another's transaction of the same key, which then commits or rolls back.
func txSameKeyWaits(e *env) {
	for i, end := range []string{"commit", "rollback"} {
		ep := fmt.Sprint("ep", i)
		tx := e.begin()
		e.enqueueOn(tx, at(0), keyed(ep, "k", ep+"1"))
		done := make(chan error, 1)
		go func() {
			_, err := e.s.Enqueue(e.ctx, &webhook.EnqueueRequest{Now: at(0), Owner: "tester", Events: []webhook.NewEvent{keyed(ep, "k", ep+"2")}})
			done <- err
		}()
		select {
		case err := <-done:
			tx.Rollback()
			e.failf("the send of the same key did not wait for the other's %s (error: %v)", end, err)
		case <-time.After(30 * time.Millisecond): // real time: that somebody waits cannot be seen otherwise
		}
		want := []string{ep + "2"}
		if end == "commit" {
			e.ok("Commit", tx.Commit())
			want = []string{ep + "1", ep + "2"}
		} else {
			e.ok("Rollback", tx.Rollback())
		}
		e.ok("the send that waited", <-done)
		e.wantKey(at(0), ep, "k", want...)
	}
}

// richResponse is a response in which every field is set.
func richResponse() webhook.StoredResponse {
	return webhook.StoredResponse{Status: 418, Body: allBytes(),
		Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "X-Many": {"one", "two", ""}}}
}
