package webhook

import (
	"context"
	"log/slog"
	"time"
)

// maintain keeps what is known of endpoints and tenants fresh, until ctx ends.
func (d *Dispatcher) maintain(ctx context.Context) {
	nextTenants := time.Now()
	for sleep(ctx, d.upkeepEvery()) {
		if _, err := d.routes.refresh(ctx, d.routes.current.Load()); err != nil && ctx.Err() == nil {
			d.log.Warn("webhook: reading endpoints failed; trying again", slog.Any("error", err))
		}
		if now := time.Now(); !now.Before(nextTenants) {
			nextTenants = now.Add(routesAge)
			d.tenants.refresh(d.routes.current.Load())
		}
	}
}

// upkeepEvery is half a second; where the store is to be asked less often than that, so long, but at most 10 s.
func (d *Dispatcher) upkeepEvery() time.Duration {
	return min(max(routesAge/2, d.opts.Poll), 10*time.Second)
}

// upkeep does what deliveries do not wait for, until ctx ends. What it calls returns soon when ctx does.
func (d *Dispatcher) upkeep(ctx context.Context) {
	defer d.verify.wait()
	nextPrune := time.Now().Add(pruneEvery)
	for sleep(ctx, d.upkeepEvery()) {
		if d.only == "" {
			d.life.sweep(ctx) // what an inbox keeps does not expire
		}
		d.backlogs.watch(ctx)
		d.alarms.look(ctx)
		d.verify.work(ctx)
		d.retire(ctx)
		if time.Now().After(nextPrune) {
			nextPrune = time.Now().Add(pruneEvery)
			if d.prune(ctx) {
				nextPrune = time.Now() // the rest at the next tick
			}
		}
	}
}

// How a running dispatcher forgets expired keys: a busy receiver's expire by the hundred a second.
const (
	pruneEvery = time.Minute
	pruneBatch = 1000
)

// prune forgets expired keys, and tells whether there may be more.
func (d *Dispatcher) prune(ctx context.Context) (more bool) {
	pruner, ok := d.store.(Pruner)
	if !ok {
		return false
	}
	res, err := pruner.Prune(ctx, &PruneRequest{Now: d.clock.estimate(), DedupeKeys: true, Limit: pruneBatch})
	if err == nil && res == nil {
		err = errMalformedAnswer
	}
	if err != nil {
		if ctx.Err() == nil {
			d.log.Warn("webhook: forgetting expired keys failed; trying again", slog.Any("error", err))
		}
		return false
	}
	return res.DedupeKeys >= pruneBatch
}
