package webhook

import (
	"context"
	"log/slog"
	"math/bits"
	"time"
)

// How counts are made.
const (
	countPage    = 256         // endpoints in one request
	countKeep    = time.Minute // after its last use a gauge is forgotten
	countPause   = time.Second // after a count that failed
	countTimeout = 15 * time.Second
)

// countNow returns once there has been a count that the call did not come too late for, or that none was needed.
func (b *backlogs) countNow(ctx context.Context) error {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
		return b.count(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// countSoon counts in the background, unless somebody does.
func (b *backlogs) countSoon() {
	select {
	case b.turn <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-b.turn }()
		_ = b.count(context.Background()) // it has logged the error
	}()
}

// count brings the gauges up to date that are stale and were used since their last count. The caller has the turn.
func (b *backlogs) count(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	now, err := b.d.clock.now(ctx)
	if err != nil {
		return err
	}
	for kind, gauges := range b.due(time.Now()) {
		if err = b.countGroup(ctx, now, kind, gauges); err != nil {
			break
		}
	}
	if err != nil {
		b.d.log.Warn("webhook: counting what waits failed; going by the last count", slog.Any("error", err))
		b.mu.Lock()
		b.resume = time.Now().Add(countPause)
		b.mu.Unlock()
	}
	return err
}

// countKind tells which gauges are counted together.
type countKind struct {
	most    int // up to what each endpoint is counted
	tenants bool
}

// due lists the gauges to be counted anew, and forgets those that are not in use.
func (b *backlogs) due(now time.Time) map[countKind][]gaugeID {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.resume) {
		return nil
	}
	found := make(map[countKind][]gaugeID)
	for id, g := range b.gauges {
		switch {
		case g.open == 0 && now.Sub(g.used) > countKeep:
			delete(b.gauges, id)
		case !g.fresh && g.stale(now):
			kind := countKind{roundUp(g.bound), id.endpoint == ""}
			found[kind] = append(found[kind], id)
		}
	}
	return found
}

// roundUp makes few bounds of many: the next power of 2, which is more than n.
func roundUp(n int) int { return 1 << min(bits.Len(uint(n)), 40) }

// countGroup counts for gauges of a kind.
func (b *backlogs) countGroup(ctx context.Context, now time.Time, kind countKind, gauges []gaugeID) error {
	ids, owner := b.endpointsOf(kind, gauges)
	began, sent := b.begin(gauges)
	waiting := make(map[gaugeID]int, len(gauges))
	err := b.each(ctx, now, kind.most, ids, func(e *EndpointBacklog) { waiting[owner[e.EndpointID]] += e.Waiting })
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range gauges {
		g := b.gauges[id]
		g.counted, g.at, g.took, g.fresh, g.wanted = waiting[id], began, time.Since(began), true, 0
		g.sent -= sent[id]
	}
	return nil
}

// endpointsOf lists the endpoints of gauges, and which gauge each counts for.
func (b *backlogs) endpointsOf(kind countKind, gauges []gaugeID) (ids []string, owner map[string]gaugeID) {
	owner = make(map[string]gaugeID, len(gauges))
	if !kind.tenants {
		for _, id := range gauges {
			ids = append(ids, id.endpoint)
			owner[id.endpoint] = id
		}
		return ids, owner
	}
	tenants := make(map[string]gaugeID, len(gauges))
	for _, id := range gauges {
		tenants[id.tenant] = id
	}
	for name, rt := range b.d.routes.current.Load().byID {
		if id, ok := tenants[rt.endpoint.Tenant]; ok {
			ids = append(ids, name)
			owner[name] = id
		}
	}
	return ids, owner
}

// begin tells when a count begins and what this process has sent before: the count will have found it.
func (b *backlogs) begin(gauges []gaugeID) (at time.Time, sent map[gaugeID]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sent = make(map[gaugeID]int, len(gauges))
	for _, id := range gauges {
		sent[id] = b.gauges[id].sent
	}
	return time.Now(), sent
}

// each asks the store about endpoints, a page at a time, and calls f for those with a backlog.
func (b *backlogs) each(ctx context.Context, now time.Time, most int, ids []string, f func(*EndpointBacklog)) error {
	for len(ids) > 0 {
		page := ids[:min(countPage, len(ids))]
		ids = ids[len(page):]
		res, err := b.store.Backlog(ctx, &BacklogRequest{Now: now, Endpoints: page, Count: most})
		if err == nil && res == nil {
			err = errMalformedAnswer
		}
		if err != nil {
			return err
		}
		for i := range res.Endpoints {
			f(&res.Endpoints[i])
		}
	}
	return nil
}
