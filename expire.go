package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// How backlogs are kept within their bounds where the oldest give way.
const (
	trimEvery = time.Second
	trimWork  = time.Second // that one look may take; it goes on soon when there is more

	// So many are ended before they are counted anew: not many, since another process may have done the same just now.
	trimPart  = 16                     // of what is too much, …
	trimShare = 20                     // … or of the bound, whichever is more, …
	trimMost  = 500                    // … but no more
	trimAge   = 100 * time.Millisecond // of the count that says what is too much
)

// trim is a backlog of one or more endpoints that has a bound.
type trim struct {
	ids    []string
	bound  int
	reason string
}

// watch ends what is beyond a bound where the oldest give way. It is called about twice a second and keeps its own pace.
func (b *backlogs) watch(ctx context.Context) {
	began := time.Now()
	if b.store == nil || began.Before(b.nextTrim) {
		return
	}
	if b.nextTrim.IsZero() { // processes that began together should not look together
		b.nextTrim = began.Add(rand.N(trimEvery))
		return
	}
	b.nextTrim = began.Add(trimEvery)
	all := b.trims()
	if len(all) == 0 {
		return
	}
	over, err := b.overfull(ctx, all)
	b.nextTrim = began.Add(max(trimEvery, countRest*time.Since(began)) + rand.N(trimEvery/4))
	for i := 0; i < len(over) && err == nil; i++ {
		if time.Since(began) > trimWork {
			b.nextTrim = began // the rest at the next tick
			return
		}
		err = b.cut(ctx, over[i], began.Add(trimWork))
	}
	if err != nil && ctx.Err() == nil {
		b.d.log.Warn("webhook: ending what is beyond a backlog's bound failed; trying again", slog.Any("error", err))
	}
}

// trims lists the bounds at which the oldest give way.
func (b *backlogs) trims() []*trim {
	table := b.d.routes.current.Load()
	var all []*trim
	tenants := make(map[string]*trim)
	for name := range table.tenants {
		if b.d.opts.Tenants == nil {
			break
		}
		if p := b.d.tenants.get(name).policy(); p.MaxBacklog > 0 && p.WhenFull == ExpireOldest {
			tenants[name] = &trim{bound: p.MaxBacklog, reason: fmt.Sprintf("the backlog of its tenant was over %d", p.MaxBacklog)}
			all = append(all, tenants[name])
		}
	}
	for id, rt := range table.byID {
		if t := tenants[rt.endpoint.Tenant]; t != nil {
			t.ids = append(t.ids, id)
		}
		if n := rt.endpoint.MaxBacklog; n > 0 && rt.endpoint.WhenFull == ExpireOldest {
			all = append(all, &trim{ids: []string{id}, bound: n, reason: fmt.Sprintf("the backlog of its endpoint was over %d", n)})
		}
	}
	return all
}

// overfull counts, and returns those that have too much.
func (b *backlogs) overfull(ctx context.Context, all []*trim) (over []*trim, err error) {
	now, err := b.d.clock.now(ctx)
	if err != nil {
		return nil, err
	}
	byMost := make(map[int][]*trim)
	for _, t := range all {
		most := roundUp(t.bound)
		byMost[most] = append(byMost[most], t)
	}
	for most, group := range byMost {
		owners := make(map[string][]*trim)
		var ids []string
		for _, t := range group {
			for _, id := range t.ids {
				if owners[id] == nil {
					ids = append(ids, id)
				}
				owners[id] = append(owners[id], t)
			}
		}
		waiting := make(map[*trim]int)
		err := b.each(ctx, now, most, ids, func(e *EndpointBacklog) {
			for _, t := range owners[e.EndpointID] {
				waiting[t] += e.Waiting
			}
		})
		if err != nil {
			return over, err
		}
		for t, n := range waiting {
			if n > t.bound {
				over = append(over, t)
			}
		}
	}
	return over, nil
}

// cut ends the oldest of a backlog until it is within its bound, or the time is over. It counts anew each time, and ends only a
// part of what is too much, so that several processes that do so at once do not end too many.
func (b *backlogs) cut(ctx context.Context, t *trim, until time.Time) error {
	skip := make(map[string]bool) // all that they have is being sent
	slow := false
	for ctx.Err() == nil && time.Now().Before(until) {
		now, err := b.d.clock.now(ctx)
		if err != nil {
			return err
		}
		asked := time.Now()
		waiting, oldest := 0, EndpointBacklog{}
		err = b.each(ctx, now, t.bound+trimPart*trimMost, t.ids, func(e *EndpointBacklog) {
			waiting += e.Waiting
			if e.Waiting > 0 && !skip[e.EndpointID] && (oldest.EndpointID == "" || older(e, &oldest)) {
				oldest = *e
			}
		})
		over := waiting - t.bound
		if err != nil || over <= 0 || oldest.EndpointID == "" {
			return err
		}
		if took := time.Since(asked); took > trimAge && !slow {
			slow = true // once: a store that always takes so long has to go on as well
			continue
		}
		n := min(max(over/trimPart, min(t.bound/trimShare, over/4), 1), trimMost)
		res, err := b.d.life.end(ctx, &EndRequest{
			Now: now, EndpointID: oldest.EndpointID, Oldest: n, Limit: n, Next: Expired, Reason: t.reason,
		})
		if err != nil {
			return err
		}
		for i := range res.Ended {
			b.d.traceExpired(ctx, res.Ended[i], t.reason)
		}
		skip[oldest.EndpointID] = len(res.Ended) == 0
	}
	return nil
}

// older reports whether a has the older delivery; of two with nothing due, whether it has more.
func older(a, b *EndpointBacklog) bool {
	switch x, y := a.oldest(), b.oldest(); {
	case x.IsZero() && y.IsZero():
		return a.Waiting > b.Waiting
	case x.IsZero() || y.IsZero():
		return y.IsZero()
	default:
		return x.Before(y)
	}
}

// oldest is the earlier one of OldestDue and OldestKept; zero: neither is set.
func (e *EndpointBacklog) oldest() time.Time {
	if e.OldestDue.IsZero() || !e.OldestKept.IsZero() && e.OldestKept.Before(e.OldestDue) {
		return e.OldestKept
	}
	return e.OldestDue
}
