package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// The points at which a child stops to be killed.
const (
	atClaim     = "claim"     // deliveries are claimed, none of them is sent
	atRequest   = "request"   // requests are answered, not recorded
	atRecord    = "record"    // within the transaction that records outcomes
	atSend      = "send"      // Send was called, nothing is written
	withinSend  = "in send"   // within the transaction that stores events
	atCommit    = "commit"    // events are committed and leased, not handed over
	atTx        = "tx"        // SendTx returned, the transaction is open
	awaitsDeath = time.Minute // how long a child stays at its point
	senders     = 8           // goroutines that send
	txEvery     = 4           // one event in so many goes by SendTx
	sendPause   = 50 * time.Millisecond
)

// Faults that a child's store can be given.
const (
	breakAck   = "acknowledges before the commit"
	breakLease = "leases never end"
	breakClaim = "claims for a moment only at first"
	breakFence = "completes whatever the token"
	breakRate  = "lets twice the rate go"
)

// point stops the child where it is to be killed. Whoever else comes to it stops there too, as long as the rest goes on.
type point struct {
	name  string
	after int64
	acked atomic.Int64
	hit   atomic.Bool
}

func (p *point) here(name string) bool { return p.name == name && p.acked.Load() >= p.after }

func (p *point) say() {
	if !p.hit.Swap(true) {
		say("at %s", p.name)
	}
}

// stop blocks when the child is to be killed at name.
func (p *point) stop(name string) {
	if p.here(name) {
		p.say()
		time.Sleep(awaitsDeath)
	}
}

// during calls fn. When the child is to be killed within name, the line is printed while fn runs, and nothing follows.
func (p *point) during(name string, fn func()) {
	if !p.here(name) {
		fn()
		return
	}
	go fn()
	time.Sleep(rand.N(2 * time.Millisecond))
	p.say()
	time.Sleep(awaitsDeath)
}

// crashStore is a store with points, and with a fault if wanted.
type crashStore struct {
	*sqlstore.Store
	db    *sql.DB
	point *point
	fault string

	claims atomic.Int64 // of lanes
	sends  atomic.Int64 // batches
}

func (s *crashStore) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (res *webhook.EnqueueResult, err error) {
	leased := s.spoil(req)
	if s.fault == breakAck {
		late := *req
		late.Events = append([]webhook.NewEvent(nil), req.Events...)
		delay := 20 * time.Millisecond
		if s.sends.Add(1)%10 == 0 {
			delay = awaitsDeath // some are certain not to be committed when the process is killed
		}
		time.AfterFunc(delay, func() { s.Store.Enqueue(context.Background(), &late) })
		return &webhook.EnqueueResult{Events: make([]webhook.EnqueueStatus, len(req.Events))}, nil
	}
	s.point.stop(atSend)
	s.point.during(withinSend, func() { res, err = s.Store.Enqueue(ctx, req) })
	if err == nil && leased {
		s.point.stop(atCommit)
	}
	return res, err
}

// spoil reports whether something is leased, and puts the fault in.
func (s *crashStore) spoil(req *webhook.EnqueueRequest) (leased bool) {
	for i := range req.Events {
		for j := range req.Events[i].Deliveries {
			d := &req.Events[i].Deliveries[j]
			leased = leased || d.Lease > 0
			if d.Lease > 0 && s.fault == breakLease {
				d.Lease = time.Hour
			}
		}
	}
	return leased
}

func (s *crashStore) Claim(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
	for i := range req.Lanes {
		switch {
		case s.fault == breakLease:
			req.Lanes[i].Lease = time.Hour
		case s.fault == breakClaim && s.claims.Add(1) <= 20:
			req.Lanes[i].Lease = 50 * time.Millisecond
		case s.fault == breakRate:
			req.Lanes[i].Rate.Events *= 2
		}
	}
	res, err := s.Store.Claim(ctx, req)
	if err == nil && s.fault == breakClaim {
		for i := range res.Deliveries {
			res.Deliveries[i].LeaseUntil = req.Now.Add(time.Hour)
		}
	}
	return res, err
}

func (s *crashStore) Complete(ctx context.Context, req *webhook.CompleteRequest) (res *webhook.CompleteResult, err error) {
	if s.fault == breakFence {
		s.forge(ctx, req)
	}
	s.point.during(atRecord, func() { res, err = s.Store.Complete(ctx, req) })
	return res, err
}

// forge gives outcomes the tokens that their deliveries have now, and makes them end what is finished.
func (s *crashStore) forge(ctx context.Context, req *webhook.CompleteRequest) {
	for _, o := range req.Outcomes {
		query := fmt.Sprintf("UPDATE webhook_delivery SET state = 'dead_letter' WHERE id = '%s' AND state = 'delivered'", o.DeliveryID)
		if _, err := s.db.ExecContext(ctx, query); err != nil {
			slog.Error("forge", "error", err)
		}
	}
}

// workPart sends, runs, and stops where it is to be killed. It prints "ready", "ack ID" for each event that is acknowledged,
// "stale ID" for each delivery lost to another process, and "end".
func workPart() error {
	ctx, cfg, store, db, err := beChild()
	if err != nil {
		return err
	}
	w := &worker{cfg: cfg, db: db, store: store, point: &point{name: cfg.Point, after: int64(cfg.After)}}
	opts := cfg.options()
	opts.Trace = w.trace()
	w.d, err = webhook.NewDispatcher(&crashStore{Store: store, db: db, point: w.point, fault: cfg.Break}, opts)
	if err != nil {
		return err
	}
	go orders(func(line string) {
		if id, ok := strings.CutPrefix(line, "send "); ok {
			go w.send(ctx, id, false)
		}
	})
	var sending sync.WaitGroup
	var next atomic.Int64
	for range senders {
		sending.Go(func() {
			for i := int(next.Add(1)) - 1; i < cfg.Events && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				w.ease()
				w.send(ctx, childEvent(cfg.Prefix, i), i%txEvery == 0)
			}
		})
	}
	say("ready")
	err = w.d.Run(ctx)
	sending.Wait()
	say("end")
	return err
}

// ease slows the load down once the child is to be killed between commit and hand-over: what waits in the store goes
// first, and only where nothing does are deliveries handed over in memory.
func (w *worker) ease() {
	if w.point.here(atCommit) {
		time.Sleep(100 * time.Millisecond)
	}
}

type worker struct {
	cfg   childConfig
	db    *sql.DB
	store *sqlstore.Store
	d     *webhook.Dispatcher
	point *point
}

func (w *worker) trace() *webhook.Trace {
	return &webhook.Trace{
		Claim: func(_ context.Context, info webhook.ClaimInfo) {
			if info.Deliveries > 0 {
				w.point.stop(atClaim)
			}
		},
		AttemptDone: func(_ context.Context, info webhook.AttemptDoneInfo) {
			if info.Attempt.Status == 200 {
				w.point.stop(atRequest)
			}
			if w.cfg.Point == pauses {
				say("done %s", info.Delivery.ID)
				time.Sleep(pauseTime)
			}
		},
		StaleLease: func(_ context.Context, info webhook.StaleLeaseInfo) {
			if info.Attempt != nil {
				say("stale %s", info.Delivery.ID)
			}
		},
	}
}

// send sends an event until it is acknowledged, always under the same ID.
func (w *worker) send(ctx context.Context, id string, inTx bool) {
	ev := webhook.Event{ID: id, Type: "order_create", Payload: []byte(childPayload(id))}
	for ctx.Err() == nil {
		var err error
		if inTx {
			err = w.sendTx(ctx, ev)
		} else {
			_, err = w.d.Send(ctx, ev)
		}
		if err == nil {
			say("ack %s", id)
			w.point.acked.Add(1)
			return
		}
		slog.Warn("send failed; trying again", "error", err)
		time.Sleep(sendPause)
	}
}

func (w *worker) sendTx(ctx context.Context, ev webhook.Event) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := w.d.SendTx(ctx, w.store.Tx(tx), ev); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if w.point.here(atTx) {
		say("open %s", ev.ID)
		w.point.stop(atTx)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	w.d.Wake()
	return nil
}
