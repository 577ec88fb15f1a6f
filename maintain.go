package webhook

import (
	"context"
	"log/slog"
	"time"
)

// maintain keeps what is known of endpoints fresh, and forgets expired keys now and then, until ctx ends.
func (d *Dispatcher) maintain(ctx context.Context) {
	pruner, _ := d.store.(Pruner)
	nextPrune := time.Now().Add(pruneEvery)
	for sleep(ctx, routesAge/2) {
		if _, err := d.routes.refresh(ctx, d.routes.current.Load()); err != nil && ctx.Err() == nil {
			d.log.Warn("webhook: reading endpoints failed; trying again", slog.Any("error", err))
		}
		if pruner != nil && time.Now().After(nextPrune) {
			nextPrune = time.Now().Add(pruneEvery)
			req := &PruneRequest{Now: d.clock.estimate(), DedupeKeys: true}
			if _, err := pruner.Prune(ctx, req); err != nil && ctx.Err() == nil {
				d.log.Warn("webhook: forgetting expired keys failed; trying again", slog.Any("error", err))
			}
		}
	}
}

// pruneEvery is how often a running dispatcher forgets up to 1,000 expired keys.
const pruneEvery = time.Minute
