package dbtest

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
	"github.com/signalpost/webhook/storetest"
)

// patience is how long a statement may take that must wait for nobody. What it would wait for stays open for the whole test.
const patience = 5 * time.Second

// newEvent is an event with one delivery, both called id.
func newEvent(id, endpoint, key string) webhook.NewEvent {
	ev := webhook.Event{ID: id, Type: "order_create", OrderingKey: key, Payload: []byte(id)}
	return webhook.NewEvent{Event: ev, Digest: sha256.Sum256([]byte(id)),
		Deliveries: []webhook.NewDelivery{{ID: id, EndpointID: endpoint, OrderingKey: key}}}
}

func enqueue(ctx context.Context, t *testing.T, q webhook.Enqueuer, events ...webhook.NewEvent) {
	t.Helper()
	res, err := q.Enqueue(ctx, &webhook.EnqueueRequest{Now: at(0), Owner: "test", Events: events})
	if err != nil {
		t.Fatalf("Enqueue: %v", err)
	}
	for i, st := range res.Events {
		if st != webhook.Stored {
			t.Fatalf("Enqueue %s: status %d", events[i].Event.ID, st)
		}
	}
}

// claim takes what the endpoint's fresh lane has and returns it by ID.
func claim(ctx context.Context, t *testing.T, s *sqlstore.Store, endpoint string) map[string]webhook.Claimed {
	t.Helper()
	res, err := s.Claim(ctx, &webhook.ClaimRequest{Now: at(0), Owner: "test", Limit: 100,
		Lanes: []webhook.LaneClaim{lane(endpoint, webhook.Fresh, 100)}})
	if err != nil {
		t.Fatalf("Claim: %v", err)
	}
	got := map[string]webhook.Claimed{}
	for _, c := range res.Deliveries {
		got[c.Delivery.ID] = c
	}
	return got
}

func complete(ctx context.Context, t *testing.T, s *sqlstore.Store, c webhook.Claimed, next webhook.State) {
	t.Helper()
	out := webhook.Outcome{EndpointID: c.Delivery.EndpointID, DeliveryID: c.Delivery.ID, Token: c.Token, Next: next, DueAt: at(time.Minute),
		Attempt: &webhook.Attempt{DeliveryID: c.Delivery.ID, Number: 1, Token: c.Token, StartedAt: at(0), Status: 200}}
	res, err := s.Complete(ctx, &webhook.CompleteRequest{Now: at(0), Outcomes: []webhook.Outcome{out}})
	if err != nil {
		t.Fatalf("Complete: %v", err)
	}
	if res.Outcomes[0] != webhook.Applied {
		t.Fatalf("Complete: %s: status %d", c.Delivery.ID, res.Outcomes[0])
	}
}

func want(t *testing.T, got map[string]webhook.Claimed, ids ...string) {
	t.Helper()
	ok := len(got) == len(ids)
	for _, id := range ids {
		_, found := got[id]
		ok = ok && found
	}
	if !ok {
		t.Fatalf("claimed %d deliveries, want %q: %+v", len(got), ids, got)
	}
}

// TestSendTxLeftOpenDelaysNobody: an Enqueue in a transaction of the caller's that stays open must not make any other send,
// claim or completion to the same endpoint wait, and of an ordering key only the sends to that very key. SQLite has one writer.
func TestSendTxLeftOpenDelaysNobody(t *testing.T) {
	variants := []variant{mainVariants[1], mainVariants[2], {"pq", sqlstore.PostgreSQL, "postgres", nil}}
	each(t, variants, func(t *testing.T, v variant) {
		for _, level := range []sql.IsolationLevel{sql.LevelDefault, sql.LevelRepeatableRead, sql.LevelSerializable} {
			t.Run(level.String(), func(t *testing.T) {
				leaveSendTxOpen(t, v, func(s *sqlstore.Store, db *sql.DB, _ DB) storetest.Tx {
					tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level})
					if err != nil {
						t.Fatal(err)
					}
					return storetest.Tx{Enqueuer: s.Tx(tx), Commit: tx.Commit, Rollback: tx.Rollback}
				})
			})
		}
	})
}

func leaveSendTxOpen(t *testing.T, v variant, begin func(*sqlstore.Store, *sql.DB, DB) storetest.Tx) {
	d := v.database(t)
	s, db := v.handle(t, d)
	other, _ := v.handle(t, d)
	migrate(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	enqueue(ctx, t, s, newEvent("before", "ep", ""), newEvent("keyed", "ep", "k"), newEvent("retry", "ep", ""))

	tx := begin(s, db, d)
	defer tx.Rollback()
	// Several rows, so that locks of gaps between rows have something to do harm with.
	for _, ev := range []webhook.NewEvent{newEvent("open1", "ep", ""), newEvent("open2", "ep", "k"), newEvent("open3", "ep", "new"), newEvent("zz", "zz", "")} {
		enqueue(ctx, t, tx, ev)
	}

	enqueue(ctx, t, other, newEvent("after", "ep", ""), newEvent("otherkey", "ep", "j"), newEvent("otherendpoint", "eq", "k"))
	enqueue(ctx, t, other, newEvent("a-lower", "ep", ""), newEvent("zzz-higher", "ep", ""), newEvent("open1x", "ep", ""))
	if _, err := other.Lanes(ctx, &webhook.LanesRequest{Limit: 10}); err != nil {
		t.Fatalf("Lanes: %v", err)
	}
	got := claim(ctx, t, other, "ep")
	want(t, got, "before", "keyed", "retry", "after", "otherkey", "a-lower", "zzz-higher", "open1x")
	for id, c := range got {
		next := webhook.Delivered
		if id == "retry" {
			next = webhook.RetryScheduled
		}
		complete(ctx, t, other, c, next)
	}
	if err := other.Hold(ctx, &webhook.HoldRequest{Now: at(0), EndpointID: "ep", Kind: "paused"}); err != nil {
		t.Fatalf("Hold: %v", err)
	}
	if err := other.Unhold(ctx, "ep"); err != nil {
		t.Fatalf("Unhold: %v", err)
	}

	waits, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	_, err := other.Enqueue(waits, &webhook.EnqueueRequest{Now: at(0), Events: []webhook.NewEvent{newEvent("same-key", "ep", "k")}})
	if err == nil {
		t.Error("a send to the same key did not wait for the open one: their order is anybody's guess")
	}

	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	want(t, claim(t.Context(), t, other, "ep"), "open1", "open2", "open3")
}

// TestSendTxWithAPoolOfOne needs no second connection, not even for the first event that a process sends.
func TestSendTxWithAPoolOfOne(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		s, db := v.handle(t, d)
		migrate(t, s)
		db.SetMaxOpenConns(1)
		hooks, err := webhook.NewDispatcher(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := hooks.SendTx(ctx, s.Tx(tx), webhook.Event{Type: "x"}); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	})
}
