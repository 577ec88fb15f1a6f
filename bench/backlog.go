package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"
)

// A backlog of so many deliveries is compared with one of a hundredth. A round delivers half as many as the small one has, on both,
// and both are filled up before it, so that the claims on the small one do not run dry: they cost as much as those on the large one.
const (
	backlogRatio     = 100
	backlogEndpoints = 16
	backlogTurns     = 3 // of each in a round: they are short
)

// measureBacklog measures whether a drain is as fast from among many that wait as from among few, on the databases.
func measureBacklog(o *options) ([]*table, error) {
	r, err := startReceiver()
	if err != nil {
		return nil, err
	}
	defer r.stop()
	t := newTable(fmt.Sprintf("Drains of %d from among %d that wait, all due, and from among %d; %d times",
		o.backlog/backlogRatio/2, o.backlog, o.backlog/backlogRatio, o.rounds*backlogTurns))
	tables := []*table{t}
	var statements *table
	if o.statements {
		statements = newTable("Statements of those drains on PostgreSQL, a delivery")
		tables = append(tables, statements)
	}
	for _, name := range splitNames(o.stores) {
		if name != "sqlite" && name != "postgres" {
			continue
		}
		if err := backlogOn(o, name, r, t, statements); err != nil {
			return tables, fmt.Errorf("%s: %w", name, err)
		}
	}
	return tables, nil
}

// backlogBench is two stores of a kind, which take turns.
type backlogBench struct {
	each     int // deliveries of a round
	receiver *receiver
	table    *table
	batch    int // of rows made, so that their IDs differ
	profile  *profiler

	statements *table // nil: not told
}

func backlogOn(o *options, name string, r *receiver, t, statements *table) error {
	var settings []string
	if o.statements {
		settings = statementSettings
	}
	backends, stop, err := openBackends(name+","+name, settings...)
	if err != nil {
		return err
	}
	defer stop()
	few, many := backends[0], backends[1]
	b := &backlogBench{each: o.backlog / backlogRatio / 2, receiver: r, table: t, profile: &profiler{o.profile}, statements: statements}
	t.atLeast(many.name, "deliveries/s, many / few", 0.95)
	t.atMost(many.name, "claim ms a row, many / few", 1.3)
	t.atMost(many.name, "claim ms, many / few", 1.3)
	began := time.Now()
	if err := errors.Join(b.fill(few, b.each), b.fill(many, o.backlog-b.each)); err != nil {
		return err
	}
	slog.Info("bench: filled", slog.String("store", many.name), slog.Duration("took", time.Since(began)))
	// What was delivered since they were filled up is more than was waited for: claims are ahead.
	gone := [2]int{b.each, b.each}
	for round := range o.rounds*backlogTurns + 1 { // the first is to warm up
		var got [2]backlogFigures
		for i, be := range []*backend{few, many} {
			if err := b.fill(be, gone[i]); err != nil {
				return err
			}
			delivered := be.store.delivered.Load()
			which := []string{"few", "many"}[i]
			if got[i], err = b.round(be, fmt.Sprintf("%s, %s, round %d", be.name, which, round)); err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
			gone[i] = int(be.store.delivered.Load() - delivered)
			if b.statements != nil && round > 0 {
				if err := be.readStatements(b.statements, which+", ", b.each); err != nil {
					return err
				}
			}
		}
		if round > 0 {
			b.add(many.name, got[0], got[1])
		}
	}
	return nil
}

// backlogFigures are a round's.
type backlogFigures struct{ rate, claim, claimRow float64 }

func (b *backlogBench) add(row string, few, many backlogFigures) {
	for _, c := range []struct {
		name      string
		few, many float64
	}{
		{"deliveries/s", few.rate, many.rate}, {"claim ms", few.claim, many.claim}, {"claim ms a row", few.claimRow, many.claimRow},
	} {
		b.table.add(row, c.name+", few", c.few)
		b.table.add(row, c.name+", many", c.many)
		b.table.add(row, c.name+", many / few", c.many/c.few)
	}
}

// fill adds n due deliveries.
func (b *backlogBench) fill(be *backend, n int) error {
	ctx := context.Background()
	now, err := be.store.Now(ctx)
	if err != nil {
		return err
	}
	b.batch++
	return be.fillDue(ctx, fmt.Sprintf("b%03d_", b.batch), n, now.Add(-time.Hour))
}

// fillDue makes n deliveries that are due, each with an event of its own, shared evenly by endpoints.
func (be *backend) fillDue(ctx context.Context, prefix string, n int, due time.Time) error {
	d := dialects[be.dialect]
	us, series := due.UnixMicro(), fmt.Sprintf(d.series, n)
	event, delivery := fmt.Sprintf(d.padded, "evt_"+prefix, "n"), fmt.Sprintf(d.padded, "dlv_"+prefix, "n")
	endpoint := fmt.Sprintf(d.padded, "waiting-", fmt.Sprintf("n %% %d", backlogEndpoints))
	return be.execAll(ctx, []string{
		fmt.Sprintf("INSERT INTO webhook_event (id, type, tenant, ordering_key, payload, deliveries, created_at) SELECT %s, 'order_create', '', '', %s, 1, %d FROM %s",
			event, d.payload, us, series),
		fmt.Sprintf("INSERT INTO webhook_delivery (id, event_id, endpoint_id, ordering_key, seq, state, reason, attempts, created_at) SELECT %s, %s, %s, '', 0, 'queued', '', 0, %d FROM %s",
			delivery, event, endpoint, us, series),
		fmt.Sprintf("INSERT INTO webhook_queue (id, event_id, endpoint_id, class, due_at, token, seq, created_at, attempts) SELECT %s, %s, %s, 0, %d + n, 0, 0, %d, 0 FROM %s",
			delivery, event, endpoint, us, us, series),
		d.analyze,
	})
}

// round runs a dispatcher until it has delivered a round's share. name is that of its profiles.
func (b *backlogBench) round(be *backend, name string) (f backlogFigures, err error) {
	s := &ours{be: be}
	if err := s.openFor(b.receiver.url, backlogEndpoints, func(i int) string { return fmt.Sprintf("waiting-%09d", i) }); err != nil {
		return f, err
	}
	if b.statements != nil {
		if err := be.resetStatements(); err != nil {
			return f, err
		}
	}
	runtime.GC()
	stopProfile := b.profile.start(name)
	claims, claimed, took := be.store.claims.Load(), be.store.claimed.Load(), be.store.claimTime.Load()
	began := time.Now()
	if err := s.run(); err != nil {
		return f, err
	}
	defer s.close()
	if err := s.await(b.each); err != nil {
		return f, err
	}
	f.rate = float64(b.each) / time.Since(began).Seconds()
	if err := stopProfile(); err != nil {
		return f, err
	}
	inClaims := float64(be.store.claimTime.Load()-took) / float64(time.Millisecond)
	f.claim = inClaims / float64(be.store.claims.Load()-claims)
	f.claimRow = inClaims / float64(be.store.claimed.Load()-claimed)
	if err := s.close(); err != nil {
		return f, err
	}
	_, err = b.receiver.ask(command{Reset: true})
	return f, err
}
