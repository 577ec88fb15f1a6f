package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/signalpost/webhook/internal/ids"
)

// Retention says how long what has ended is kept, by the state it ended in and from then on. Zero keeps it for good, and so the zero
// Retention erases nothing. What is not final is never erased, nor a dead letter that blocks its ordering key. An event goes with its last
// delivery; its ID is known for longer, see EventIDs.
//
// Running dispatchers apply it in batches of their own, a short transaction each, at a pace that leaves the database four fifths of the
// time; any number of processes on a store may. What has served its time goes within minutes, and what took long to end within an hour
// or so. It counts on the IDs that dispatchers give to deliveries, which sort by time.
type Retention struct {
	Delivered   time.Duration
	DeadLetters time.Duration
	Canceled    time.Duration
	Expired     time.Duration
	Unmatched   time.Duration // events that matched no endpoint, from when they were accepted
	Replays     time.Duration // rows of replays that are done or canceled; what they made is kept by its own state

	// PayloadAfterDelivery erases payload and header of an event when all its deliveries are delivered, mostly within minutes and at the
	// latest a day later. All else stays; [EventRecord].ErasedAt tells, and to send it again is [ErrPayloadGone].
	PayloadAfterDelivery bool

	// EventIDs is how long the ID of a forgotten event is known, so that sending it again does nothing, from when it was accepted. It is
	// at least the longest of the times above.
	EventIDs time.Duration
}

// Pruned counts what was erased.
type Pruned struct {
	Deliveries int
	Events     int // with their last delivery, or unmatched
	Payloads   int
	EventIDs   int
	Replays    int
}

// Bounds of retention.
const (
	retainEvery   = time.Minute
	retainRecords = time.Hour              // between walks over all that is kept beyond its time; else over what was made at the time in question
	retainWhole   = 24 * time.Hour         // likewise between walks over all for payloads
	retainRecent  = 3 * time.Minute        // by when most are delivered
	retainBatch   = 500                    // deliveries in a transaction
	retainPause   = 20 * time.Millisecond  // at least, after a batch
	retainRest    = 4                      // times as long as a batch took is the pause after it
	retainTimeout = 30 * time.Second       // for a batch
	retainIDs     = 20                     // batches of event IDs in a pass
	retainAtOnce  = 100 * time.Millisecond // at most, between batches of a prune by hand
)

var errNoPruner = errors.New("the store can forget nothing (it is no Pruner)")

func (r *Retention) check() error {
	for _, f := range []struct {
		name string
		keep time.Duration
	}{
		{"Delivered", r.Delivered}, {"DeadLetters", r.DeadLetters}, {"Canceled", r.Canceled}, {"Expired", r.Expired},
		{"Unmatched", r.Unmatched}, {"Replays", r.Replays}, {"EventIDs", r.EventIDs},
	} {
		if f.keep < 0 {
			return &FieldError{Op: "retention", Field: f.name, Reason: fmt.Sprintf("is %v, want 0 (for good) or more", f.keep)}
		}
	}
	return nil
}

// Prune applies r now and to the end, and tells what was erased, also with an error. A prune that was cut off may be repeated.
// It is what Run does all the time with DispatcherOptions.Retention, for those who would rather say when.
func (d *Dispatcher) Prune(ctx context.Context, r Retention) (Pruned, error) {
	pruner, ok := d.store.(Pruner)
	if !ok {
		return Pruned{}, fmt.Errorf("webhook: prune: %w", errNoPruner)
	}
	if err := r.check(); err != nil {
		return Pruned{}, err
	}
	now, err := d.clock.now(ctx)
	if err != nil {
		return Pruned{}, opError("prune", err)
	}
	p := &pruning{pruner: pruner, keep: r, now: now, most: retainAtOnce}
	if err := p.pass(ctx); err != nil {
		return p.done, opError("prune", err)
	}
	return p.done, nil
}

// retain applies the dispatcher's Retention until ctx ends.
func (d *Dispatcher) retain(ctx context.Context) {
	pruner, ok := d.store.(Pruner)
	if !ok || d.opts.Retention == (Retention{}) {
		return
	}
	var records, payloads, last time.Time // when the last walks over all, and the last of any kind, began; zero: none did
	rest := rand.N(retainEvery)           // so that processes started together do not do the same at once
	for sleep(ctx, rest) {
		rest = retainEvery
		now := d.clock.estimate()
		p := &pruning{pruner: pruner, keep: d.opts.Retention, now: now}
		if now.Sub(records) < retainRecords {
			p.records = last
		}
		if now.Sub(payloads) < retainWhole {
			p.payloads = last
		}
		if err := p.pass(ctx); err != nil {
			if ctx.Err() == nil {
				d.log.Warn("webhook: retention failed; trying again", slog.Any("error", err))
			}
		} else {
			last = now
			if p.records.IsZero() {
				records = now
			}
			if p.payloads.IsZero() {
				payloads = now
			}
		}
		if p.done != (Pruned{}) {
			d.log.Info("webhook: retention", slog.Int("deliveries", p.done.Deliveries), slog.Int("events", p.done.Events),
				slog.Int("payloads", p.done.Payloads), slog.Int("event_ids", p.done.EventIDs),
				slog.Int("replays", p.done.Replays))
		}
	}
}

// pruning is one pass over all that may have served its time.
type pruning struct {
	pruner   Pruner
	keep     Retention
	now      time.Time
	records  time.Time     // when all was as it should be but for late ends; zero: walk over all
	payloads time.Time     // likewise
	most     time.Duration // that a pause between batches lasts; zero: any time
	done     Pruned
}

// before is when that must have ended which is kept for so long; zero: it is kept for good.
func (p *pruning) before(keep time.Duration) time.Time {
	if keep == 0 {
		return time.Time{}
	}
	return p.now.Add(-keep)
}

func (p *pruning) pass(ctx context.Context) error {
	k := &p.keep
	if err := p.forget(ctx); err != nil {
		return err
	}
	if k.PayloadAfterDelivery {
		req := PruneRequest{PayloadsBefore: p.now}
		if !p.payloads.IsZero() {
			req.After = ids.At(deliveryIDs, p.payloads.Add(-retainRecent))
		}
		if err := p.walk(ctx, req); err != nil {
			return err
		}
	}
	if err := p.repeat(ctx, PruneRequest{UnmatchedBefore: p.before(k.Unmatched)}, k.Unmatched > 0); err != nil {
		return err
	}
	if err := p.repeat(ctx, PruneRequest{ReplaysBefore: p.before(k.Replays)}, k.Replays > 0); err != nil {
		return err
	}
	longest := max(k.EventIDs, k.Delivered, k.DeadLetters, k.Canceled, k.Expired, k.Unmatched)
	return p.repeat(ctx, PruneRequest{EventIDsBefore: p.before(longest)}, k.EventIDs > 0)
}

// forget walks over the records of deliveries. None that was made less than a time ago has ended so long ago, so its walk ends there; the IDs
// of a process whose clock is ahead only make it later.
func (p *pruning) forget(ctx context.Context) error {
	k := &p.keep
	ended := EndedBefore{
		Delivered: p.before(k.Delivered), DeadLetter: p.before(k.DeadLetters), Canceled: p.before(k.Canceled), Expired: p.before(k.Expired),
	}
	if ended == (EndedBefore{}) {
		return nil
	}
	if p.records.IsZero() {
		last := latest(latest(ended.Delivered, ended.DeadLetter), latest(ended.Canceled, ended.Expired))
		return p.walk(ctx, PruneRequest{Ended: ended, Before: ids.At(deliveryIDs, last)})
	}
	keeps := []time.Duration{k.Delivered, k.DeadLetters, k.Canceled, k.Expired}
	slices.Sort(keeps)
	for _, keep := range slices.Compact(keeps) {
		if keep == 0 {
			continue
		}
		err := p.walk(ctx, PruneRequest{
			Ended: ended, After: ids.At(deliveryIDs, p.records.Add(-keep-retainRecent)), Before: ids.At(deliveryIDs, p.now.Add(-keep)),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// walk goes through deliveries from req.After on.
func (p *pruning) walk(ctx context.Context, req PruneRequest) error {
	for {
		res, err := p.batch(ctx, &req)
		if err != nil {
			return err
		}
		if req.After = res.Next; req.After == "" {
			return nil
		}
	}
}

// repeat asks as long as a whole batch goes.
func (p *pruning) repeat(ctx context.Context, req PruneRequest, asked bool) error {
	for n := 0; asked && n < retainIDs; n++ {
		res, err := p.batch(ctx, &req)
		if err != nil {
			return err
		}
		asked = res.Events+res.EventIDs+res.Replays >= req.Limit
	}
	return nil
}

// batch does one batch, counts what it did and pauses.
func (p *pruning) batch(ctx context.Context, req *PruneRequest) (*PruneResult, error) {
	began := time.Now()
	req.Now, req.Limit = p.now, retainBatch
	limited, cancel := context.WithTimeout(ctx, retainTimeout)
	defer cancel()
	res, err := p.pruner.Prune(limited, req)
	if err == nil && res == nil {
		err = errMalformedAnswer
	}
	if err != nil {
		return nil, err
	}
	p.done.Deliveries += res.Deliveries
	p.done.Events += res.Events
	p.done.Payloads += res.Payloads
	p.done.EventIDs += res.EventIDs
	p.done.Replays += res.Replays
	pause := max(retainPause, retainRest*time.Since(began))
	if p.most > 0 {
		pause = min(pause, p.most)
	}
	if !sleep(ctx, pause) {
		return nil, ctx.Err()
	}
	return res, nil
}
