package webhook

import (
	"context"
	"log/slog"
	"time"
)

// How alarms are looked for.
const (
	alarmEvery  = 15 * time.Second // from one look at all endpoints to the next
	alarmRepeat = time.Hour        // while a bound stays passed
	alarmWork   = 100 * time.Millisecond
)

// alarms tells when a bound of DispatcherOptions.Alarms is passed. It belongs to the upkeep goroutine.
type alarms struct {
	d      *Dispatcher
	raised map[alarmID]*alarm
	kept   map[string]time.Time // endpoints with a backlog that nothing may be sent to, and when that was seen last

	next   time.Time // of the next walk
	after  string    // where the walk under way goes on
	walk   int       // counts walks
	oldest time.Time // due time of the oldest that this walk met
}

// alarmID names a bound.
type alarmID struct {
	kind     AlarmKind
	endpoint string
}

// alarm is a bound that is passed.
type alarm struct {
	since time.Time
	told  time.Time
	walk  int // that met it last
}

func newAlarms(d *Dispatcher) *alarms {
	return &alarms{d: d, raised: make(map[alarmID]*alarm), kept: make(map[string]time.Time)}
}

// look compares what waits with the bounds, and tells. It is called about twice a second and keeps its own pace: a part of a
// walk over all endpoints that have a backlog, until that is complete.
func (a *alarms) look(ctx context.Context) {
	began := time.Now()
	if a.d.opts.Trace.Alarm == nil || began.Before(a.next) {
		return
	}
	for {
		if a.after == "" {
			a.walk, a.oldest = a.walk+1, time.Time{}
		}
		now, err := a.d.clock.now(ctx)
		if err == nil {
			err = a.page(ctx, now)
		}
		if err != nil {
			if ctx.Err() == nil {
				a.d.log.Warn("webhook: looking at backlogs failed; trying again", slog.Any("error", err))
			}
			a.next = began.Add(alarmEvery)
			return
		}
		if a.after == "" {
			a.overall(ctx, now)
			a.next = began.Add(alarmEvery)
			return
		}
		if time.Since(began) > alarmWork {
			return
		}
	}
}

// page looks at some endpoints.
func (a *alarms) page(ctx context.Context, now time.Time) error {
	req := &BacklogRequest{Now: now, After: a.after}
	if a.d.opts.Alarms.Backlog > 0 {
		req.Count = a.d.opts.Alarms.Backlog + 1
	}
	res, err := a.d.backlogs.page(ctx, req)
	if err != nil {
		return err
	}
	for i := range res.Endpoints {
		if !a.d.serves(res.Endpoints[i].EndpointID) {
			continue
		}
		a.endpoint(ctx, now, &res.Endpoints[i])
	}
	a.after = res.Next
	return nil
}

// endpoint compares one endpoint's backlog with the bounds.
func (a *alarms) endpoint(ctx context.Context, now time.Time, e *EndpointBacklog) {
	if due := a.due(now, e); !due.IsZero() {
		if a.oldest.IsZero() || due.Before(a.oldest) {
			a.oldest = due
		}
		a.age(ctx, now, e.EndpointID, due)
	}
	if most := a.d.opts.Alarms.Backlog; most > 0 {
		a.compare(ctx, now, AlarmInfo{Kind: AlarmBacklog, EndpointID: e.EndpointID, Waiting: e.Waiting}, e.Waiting > most, e.Waiting > most/2)
	}
	a.compare(ctx, now, AlarmInfo{Kind: AlarmBlockedKey, EndpointID: e.EndpointID, Waiting: e.Blocked}, e.Blocked > 0, e.Blocked > 0)
}

// due is since when something waits that might have been sent: while an endpoint is on hold or asked to be left alone, nothing might.
func (a *alarms) due(now time.Time, e *EndpointBacklog) time.Time {
	if _, blocked := a.d.routes.lookup(e.EndpointID).blocked(now); blocked {
		a.kept[e.EndpointID] = now
		return time.Time{}
	}
	if e.OldestDue.IsZero() {
		return time.Time{}
	}
	return latest(e.OldestDue, a.kept[e.EndpointID])
}

func (a *alarms) age(ctx context.Context, now time.Time, endpoint string, due time.Time) {
	most, age := a.d.opts.Alarms.OldestDue, now.Sub(due)
	if most > 0 {
		a.compare(ctx, now, AlarmInfo{Kind: AlarmOldestDue, EndpointID: endpoint, Age: age}, age > most, age > most/2)
	}
}

// overall ends a walk: it tells of all endpoints together, and of bounds that are kept again because nothing waits any more.
func (a *alarms) overall(ctx context.Context, now time.Time) {
	if !a.oldest.IsZero() {
		a.age(ctx, now, "", a.oldest)
	}
	for id, r := range a.raised {
		if r.walk != a.walk {
			a.compare(ctx, now, AlarmInfo{Kind: id.kind, EndpointID: id.endpoint}, false, false)
		}
	}
	for id, seen := range a.kept {
		if now.Sub(seen) > a.d.opts.Alarms.OldestDue {
			delete(a.kept, id)
		}
	}
}

// compare tells when a bound is passed, hourly while it is, and when it is kept again: not before what there is has fallen well below.
func (a *alarms) compare(ctx context.Context, now time.Time, info AlarmInfo, over, still bool) {
	id := alarmID{info.Kind, info.EndpointID}
	r := a.raised[id]
	switch {
	case r == nil && !over:
		return
	case r == nil:
		r = &alarm{since: now}
		a.raised[id] = r
	case !still:
		delete(a.raised, id)
		info.Cleared = true
	}
	r.walk, info.Since, info.Owner = a.walk, r.since, a.d.opts.Owner
	if info.Cleared || r.told.IsZero() || now.Sub(r.told) >= alarmRepeat {
		r.told = now
		a.d.traceAlarm(ctx, info)
	}
}

// traceAlarm tells of a bound that is passed, or kept again.
func (d *Dispatcher) traceAlarm(ctx context.Context, info AlarmInfo) {
	level, text := slog.LevelWarn, "webhook: alarm"
	if info.Cleared {
		level, text = slog.LevelInfo, "webhook: alarm is over"
	}
	d.log.LogAttrs(ctx, level, text, slog.String("kind", string(info.Kind)), slog.String("endpoint", info.EndpointID),
		slog.Duration("age", info.Age), slog.Int("waiting", info.Waiting), slog.Time("since", info.Since))
	if d.opts.Trace.Alarm == nil {
		return
	}
	defer d.guard("Alarm")
	d.opts.Trace.Alarm(ctx, info)
}
