package webhook

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"time"

	"github.com/signalpost/webhook/internal/ids"
)

// How replays are worked on.
const (
	replayPoll    = time.Second            // between looks for replays that this process was not told of, or that wait; see Poll
	replayLease   = 15 * time.Second       // what a process that died was doing is taken over after that
	replayStep    = 500 * time.Millisecond // of the pace is done in one step
	replayMost    = 500                    // deliveries in a step
	replayExamine = 2000                   // deliveries or events looked at in one request
	replayLook    = 2 * time.Second        // that a step looks for sources

	// replaySkew is how wrong the clocks of processes that send may be: the walk over deliveries goes by their IDs, which have the time of
	// the process that made them, and begins and ends so much outside of the time asked for.
	replaySkew = 24 * time.Hour
)

// replays works on replays: a claim, a look for sources, one transaction that makes deliveries and moves the replay on. Between steps
// nobody has a lease, and the store knows when the next is due, so the pace holds over all processes and whatever becomes of them.
type replays struct {
	d     *Dispatcher
	store ReplayStore   // nil: the store has none
	soon  chan struct{} // there may be something to do
}

func newReplays(d *Dispatcher) *replays {
	p := &replays{d: d, soon: make(chan struct{}, 1)}
	p.store, _ = d.store.(ReplayStore)
	return p
}

// look makes run look now.
func (p *replays) look() {
	select {
	case p.soon <- struct{}{}:
	default:
	}
}

// run works on replays until ctx ends.
func (p *replays) run(ctx context.Context) {
	if p.store == nil {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-p.soon:
		}
		timer.Reset(p.work(ctx))
	}
}

// work does one step of a replay that is due, if any is, and returns when to look again.
func (p *replays) work(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, replayLease*2/3)
	defer cancel()
	now := p.d.clock.estimate()
	res, err := p.store.ClaimReplay(ctx, &ClaimReplayRequest{Now: now, Owner: p.d.opts.Owner, Lease: replayLease})
	if err == nil && res == nil {
		err = errMalformedAnswer
	}
	switch {
	case err != nil:
		p.warn(ctx, "looking for replays", "", err)
		return replayPoll
	case res.Replay == nil && res.Next.IsZero():
		return max(replayPoll, p.d.upkeepEvery())
	case res.Replay == nil:
		return min(max(res.Next.Sub(p.d.clock.estimate()), time.Millisecond), replayPoll)
	}
	if err := p.step(ctx, res.Replay, res.Token, latest(now, res.Replay.CreatedAt)); err != nil {
		p.warn(ctx, "a step of a replay", res.Replay.ID, err)
		return replayPoll
	}
	return 0
}

func (p *replays) warn(ctx context.Context, what, id string, err error) {
	if !errors.Is(context.Cause(ctx), context.Canceled) {
		p.d.log.Warn("webhook: "+what+" failed; trying again", slog.String("replay", id), slog.Any("error", err))
	}
}

// step makes the next deliveries of a claimed replay and says when the one after is due.
func (p *replays) step(ctx context.Context, r *Replay, token int64, now time.Time) error {
	batch := &replayBatch{p: p, r: r, cursor: r.Cursor, want: stepSize(r.Rate), wait: true}
	err := batch.fill(ctx)
	st := &ReplayStep{
		ID: r.ID, Token: token, Cursor: batch.cursor, Done: batch.done, Reason: batch.reason, DueAt: now,
		Matched: batch.matched, PassedOver: batch.passed,
	}
	switch {
	case err != nil: // leave it to whoever comes next
		*st = ReplayStep{ID: r.ID, Token: token, Cursor: r.Cursor, Reason: r.Reason, DueAt: now.Add(replayPoll)}
		batch.deliveries = nil
	case batch.reason != "":
		st.DueAt = now.Add(replayPoll)
	}
	if n := len(batch.deliveries); n > 0 {
		st.DueAt = latest(st.DueAt, now.Add(stepPause(r.Rate, n)))
	}
	res, failed := p.redeliver(ctx, &RedeliverRequest{Now: now, Deliveries: batch.deliveries, Step: st})
	batch.settle(err == nil && (failed != nil || res.Step == Applied))
	if failed != nil || err != nil {
		return errors.Join(err, failed)
	}
	if res.Step != Applied {
		return nil // paused, canceled or taken over
	}
	for i, status := range res.Deliveries {
		if status != Redelivered {
			r.PassedOver++
			continue
		}
		r.Redelivered++
		p.wake(batch.deliveries[i].EndpointID, now)
	}
	if st.Done {
		r.State, r.Reason, r.Cursor, r.DueAt, r.FinishedAt = ReplayDone, "", st.Cursor, time.Time{}, now
		r.Matched, r.PassedOver = r.Matched+st.Matched, r.PassedOver+st.PassedOver
		p.tell(ctx, *r)
	}
	return nil
}

// stepSize is how many deliveries a step makes.
func stepSize(rate Rate) int {
	return int(min(max(float64(rate.Events)*float64(replayStep)/float64(rate.Per), 1), replayMost))
}

// stepPause is how long n deliveries are to last.
func stepPause(rate Rate, n int) time.Duration {
	return time.Duration(float64(n) * float64(rate.Per) / float64(rate.Events))
}

// redeliver is Redeliver with its answer checked.
func (p *replays) redeliver(ctx context.Context, req *RedeliverRequest) (*RedeliverResult, error) {
	res, err := p.store.Redeliver(ctx, req)
	if err == nil && (res == nil || res.Step == Applied && len(res.Deliveries) != len(req.Deliveries)) {
		err = errMalformedAnswer
	}
	return res, err
}

// wake makes the feed look for what was made.
func (p *replays) wake(endpointID string, now time.Time) {
	if p.d.running.Load() {
		p.d.feed.hint(LaneID{endpointID, Fresh}, now)
		p.d.feed.kick()
	}
}

// tell tells of a replay whose state has changed.
func (p *replays) tell(ctx context.Context, r Replay) {
	p.d.log.LogAttrs(ctx, slog.LevelInfo, "webhook: replay is "+string(r.State), slog.String("replay", r.ID), slog.String("reason", r.Reason),
		slog.Int("matched", r.Matched), slog.Int("redelivered", r.Redelivered), slog.Int("passed_over", r.PassedOver))
	p.d.traceReplay(ctx, r)
}

// count walks all sources of a replay that began now, and returns it with what it would do.
func (p *replays) count(ctx context.Context, r Replay) (Replay, error) {
	batch := &replayBatch{p: p, r: &r, cursor: r.Cursor, want: replayMost}
	if r.Reroute && !r.walksEvents() && r.Filter.Endpoint == "" {
		batch.seen, batch.hash = make(map[uint64]bool), maphash.MakeSeed()
	}
	for !batch.done {
		if err := batch.fill(ctx); err != nil {
			return Replay{}, err
		}
		r.Redelivered += len(batch.deliveries)
		batch.deliveries = batch.deliveries[:0]
	}
	r.Matched, r.PassedOver = batch.matched, batch.passed
	r.State, r.DueAt = ReplayDone, time.Time{}
	return r, nil
}

// replayBatch is what one step makes.
type replayBatch struct {
	p    *replays
	r    *Replay
	want int  // deliveries
	wait bool // for room at endpoints that are full
	seen map[uint64]bool

	cursor          string
	done            bool
	reason          string // why it waits
	matched, passed int
	deliveries      []Redelivery
	room            [][]admission
	hash            maphash.Seed
}

// walksEvents reports whether the sources are events rather than deliveries.
func (r *Replay) walksEvents() bool {
	return r.Filter.State == Unmatched || r.Reroute && r.Filter.Endpoint == "" && r.Filter.State == ""
}

// request asks for the sources from the cursor on.
func (b *replayBatch) request() *ReplaySourcesRequest {
	r := b.r
	req := &ReplaySourcesRequest{
		Filter: r.Filter, Before: r.CreatedAt, After: b.cursor, Limit: max(b.want-len(b.deliveries), 1), Examine: replayExamine,
	}
	if r.Reroute { // of which most may be passed over
		req.Limit = max(req.Limit, replayMost/4)
	}
	if r.walksEvents() { // their IDs may be the caller's, and say nothing about time
		req.Events = r.Filter.State != Unmatched
		return req
	}
	if req.After == "" && !r.Filter.Since.IsZero() {
		req.After = ids.At("dlv_", r.Filter.Since.Add(-replaySkew))
	}
	end := r.CreatedAt
	if u := r.Filter.Until; !u.IsZero() && u.Before(end) {
		end = u
	}
	req.To = ids.At("dlv_", end.Add(replaySkew))
	return req
}

// fill looks for sources until there are deliveries enough for the step, it has looked for long enough, or there is no more.
func (b *replayBatch) fill(ctx context.Context) error {
	for began := time.Now(); !b.done && b.reason == "" && len(b.deliveries) < b.want && time.Since(began) < replayLook; {
		res, err := b.p.store.ReplaySources(ctx, b.request())
		if err == nil && res == nil {
			err = errMalformedAnswer
		}
		if err != nil {
			return err
		}
		table, err := b.p.d.routes.table(ctx, nil)
		if err != nil {
			return err
		}
		plan, whole, err := b.plan(ctx, table, res.Sources)
		if err != nil {
			return err
		}
		if all, err := b.take(ctx, plan); err != nil || !all {
			return err
		}
		if whole {
			b.done = res.Next == ""
			if !b.done {
				b.cursor = res.Next
			}
		}
	}
	return nil
}

// replayPlan is a source with the deliveries that are to be made of it.
type replayPlan struct {
	src    *ReplaySource
	passed int
	routes []*route
	made   []Redelivery // one for each route
}

// plan makes deliveries of sources, of as many as fit into one request, and tells whether that is all of them.
func (b *replayBatch) plan(ctx context.Context, table *routeTable, sources []ReplaySource) (plan []replayPlan, whole bool, err error) {
	var all []Redelivery
	for i := range sources {
		src := &sources[i]
		routes, passed := b.targets(table, src)
		if len(all) > 0 && len(all)+len(routes) > replayExamine {
			break
		}
		for _, rt := range routes {
			rd := Redelivery{ID: ids.New("dlv_"), EventID: src.EventID, EndpointID: rt.endpoint.ID, Replay: cmpOr(b.r.ID, "dry run")}
			if src.EndpointID != "" {
				rd.ReplayOf = src.ID
			}
			if b.r.Reroute {
				rd.Lacking = b.r.CreatedAt
			}
			all = append(all, rd)
		}
		plan = append(plan, replayPlan{src, passed, routes, all[len(all)-len(routes):]})
	}
	whole = len(plan) == len(sources)
	if !b.r.Reroute || len(all) == 0 {
		return plan, whole, nil
	}
	// What would be passed over is dropped here, so that it does not count against the pace.
	res, err := b.p.redeliver(ctx, &RedeliverRequest{Now: b.r.CreatedAt, Deliveries: all, DryRun: true})
	if err != nil {
		return nil, false, err
	}
	for i, status := 0, res.Deliveries; i < len(plan); i++ {
		n := len(plan[i].made)
		plan[i].keep(status[:n])
		status = status[n:]
	}
	return plan, whole, nil
}

// keep drops what would be passed over.
func (p *replayPlan) keep(status []RedeliverStatus) {
	routes, left := p.routes, p.made
	p.routes, p.made = nil, nil
	for i := range status {
		if status[i] == Redelivered {
			p.routes, p.made = append(p.routes, routes[i]), append(p.made, left[i])
		} else {
			p.passed++
		}
	}
}

// take adds sources to the step until it is large enough, or there is no room for the next one, and tells whether it took them all.
func (b *replayBatch) take(ctx context.Context, plan []replayPlan) (bool, error) {
	for i := range plan {
		next := &plan[i]
		if n := len(b.deliveries); n > 0 && n+len(next.made) > b.want {
			return false, nil
		}
		if b.wait {
			room, full, err := b.p.d.backlogs.admitReplay(ctx, next.routes)
			if err != nil {
				return false, err
			}
			if full != nil {
				b.reason = "waits for room: " + full.Error()
				return false, nil
			}
			b.room = append(b.room, room)
		}
		b.matched, b.passed, b.cursor = b.matched+1, b.passed+next.passed, next.src.ID
		if b.seen != nil {
			b.seen[maphash.String(b.hash, next.src.EventID)] = true
		}
		b.deliveries = append(b.deliveries, next.made...)
	}
	return true, nil
}

// targets are the endpoints that a source goes to, and how many it does not go to.
func (b *replayBatch) targets(table *routeTable, src *ReplaySource) (routes []*route, passed int) {
	if !b.r.Reroute {
		rt := table.byID[src.EndpointID]
		if rt == nil || rt.endpoint.Tenant != src.Tenant {
			return nil, 1
		}
		return []*route{rt}, 0
	}
	if isReceived(src.EventID) { // what others have sent us is not ours to send
		return nil, 1
	}
	for _, rt := range table.match(&Event{Type: src.Type, Tenant: src.Tenant}) {
		if b.r.To == "" || b.r.To == rt.endpoint.ID {
			routes = append(routes, rt)
		}
	}
	if b.seen != nil && b.seen[maphash.String(b.hash, src.EventID)] { // in a dry run: the replay would have made these for an earlier delivery of the event
		return nil, len(routes)
	}
	return routes, 0
}

// settle gives back the room that was taken. stored says that the deliveries wait in the store now, or may; that of those
// passed over counts as taken until the next count.
func (b *replayBatch) settle(stored bool) {
	for _, room := range b.room {
		b.p.d.backlogs.leave(room, stored)
	}
}
