package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/signalpost/webhook"
)

// Shape of the claims that are measured.
const (
	claimSize  = 100 // deliveries of a claim
	claimLanes = 25  // endpoints named in it, with an equal share each
	claimCount = 200 // claims measured
	movedRows  = 500 // of the hot endpoint, claimed and completed between two of them while a snapshot is held
)

// measureClaims measures claims for the others while one endpoint has 900,000 deliveries waiting.
func measureClaims(o *options) ([]*table, error) {
	t := newTable(fmt.Sprintf("Claim of %d deliveries for other endpoints, 1,000,000 waiting, ordered %v", claimSize, o.ordered))
	for _, name := range splitNames(o.stores) {
		if err := measureClaimsOn(name, o.ordered, t); err != nil {
			return []*table{t}, err
		}
	}
	return []*table{t}, nil
}

// measureClaimsOn has its store for itself: a million rows are not to be in the way of another.
func measureClaimsOn(name string, ordered bool, t *table) error {
	backends, stop, err := openBackends(name)
	if err != nil {
		return err
	}
	defer stop()
	be := backends[0]
	ctx := context.Background()
	began := time.Now()
	from, err := be.fill(ctx, ordered)
	if err != nil {
		return err
	}
	runtime.GC() // of what filling left behind
	slog.Info("bench: filled", slog.String("store", be.name), slog.Duration("took", time.Since(began)))
	c := &claimBench{be: be, from: from, hotFrom: from.Add(-2 * time.Hour)}
	if err := c.run(ctx, t, be.name, false); err != nil {
		return err
	}
	if be.name != "PostgreSQL" {
		return nil
	}
	tx, err := be.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, s := range []string{"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT id FROM webhook_queue LIMIT 1"} {
		if _, err := tx.Exec(s); err != nil {
			return err
		}
	}
	return c.run(ctx, t, "PostgreSQL, snapshot held open, 100,000 rows moved", true)
}

// claimBench is claims on one backend.
type claimBench struct {
	be      *backend
	next    int       // endpoint that the next claim begins at
	from    time.Time // due time of the others' oldest
	hotFrom time.Time // lower bound for the hot endpoint, as the dispatcher keeps it
}

func (c *claimBench) run(ctx context.Context, t *table, row string, move bool) error {
	var claims, lanes []time.Duration
	for i := range claimCount {
		if move {
			if err := c.moveHot(ctx); err != nil {
				return err
			}
		}
		if i%4 == 0 { // about as often as the dispatcher walks, for each of its claims
			began := time.Now()
			if _, err := c.be.store.Lanes(ctx, &webhook.LanesRequest{Limit: 256}); err != nil {
				return err
			}
			lanes = append(lanes, time.Since(began))
		}
		took, err := c.claimOthers(ctx)
		if err != nil {
			return err
		}
		claims = append(claims, took)
	}
	t.add(row, "claim p50 ms", percentile(claims, 0.5))
	t.add(row, "claim p99 ms", percentile(claims, 0.99))
	t.add(row, "claim max ms", percentile(claims, 1))
	t.add(row, "256 lanes p50 ms", percentile(lanes, 0.5))
	t.add(row, "256 lanes p99 ms", percentile(lanes, 0.99))
	return nil
}

// claimOthers claims for the next endpoints in turn.
func (c *claimBench) claimOthers(ctx context.Context) (time.Duration, error) {
	now, err := c.be.store.Now(ctx)
	if err != nil {
		return 0, err
	}
	req := &webhook.ClaimRequest{Now: now, Owner: "bench", Limit: claimSize}
	for range claimLanes {
		req.Lanes = append(req.Lanes, webhook.LaneClaim{
			LaneID: webhook.LaneID{EndpointID: otherEndpoint(c.next % others)},
			Max:    claimSize / claimLanes, Lease: time.Hour, From: c.from,
		})
		c.next++
	}
	began := time.Now()
	res, err := c.be.store.Claim(ctx, req)
	took := time.Since(began)
	if err == nil && len(res.Deliveries) != claimSize {
		err = fmt.Errorf("claimed %d deliveries, want %d", len(res.Deliveries), claimSize)
	}
	return took, err
}

// moveHot claims and ends deliveries of the hot endpoint, as deliveries to it would.
func (c *claimBench) moveHot(ctx context.Context) error {
	now, err := c.be.store.Now(ctx)
	if err != nil {
		return err
	}
	res, err := c.be.store.Claim(ctx, &webhook.ClaimRequest{Now: now, Owner: "bench", Limit: movedRows, Lanes: []webhook.LaneClaim{{
		LaneID: webhook.LaneID{EndpointID: hotEndpoint}, Max: movedRows, Lease: time.Hour, From: c.hotFrom,
	}}})
	if err != nil {
		return err
	}
	if len(res.Deliveries) != movedRows {
		return fmt.Errorf("moved %d deliveries, want %d", len(res.Deliveries), movedRows)
	}
	if next := res.Lanes[0].NextFrom; !next.IsZero() {
		c.hotFrom = next
	}
	done := &webhook.CompleteRequest{Now: now}
	for _, d := range res.Deliveries {
		done.Outcomes = append(done.Outcomes, webhook.Outcome{
			EndpointID: hotEndpoint, DeliveryID: d.Delivery.ID, Token: d.Token, Next: webhook.Delivered,
			Attempt: &webhook.Attempt{Number: 1, StartedAt: now, Duration: time.Millisecond, Status: 200},
		})
	}
	_, err = c.be.store.Complete(ctx, done)
	return err
}
