package dbtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// TestSendTxIsDeliveredIfAndOnlyIfItCommits writes 200 orders, each with its event in one transaction, and rolls half of them
// back. Another process delivers.
func TestSendTxIsDeliveredIfAndOnlyIfItCommits(t *testing.T) {
	const transactions = 200
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		c := openChildDB(t, v, v.database(t))
		recv := newReceiver(t, 0, nil)
		cfg := c.config()
		cfg.Name, cfg.URL, cfg.Endpoints, cfg.MaxInFlight, cfg.Timeout, cfg.Margin = "runs", recv.URL, 1, 8, 20*time.Second, 15*time.Second
		must(t, c.db, "CREATE TABLE orders (id VARCHAR(64) PRIMARY KEY)")
		runner := startChild(t, "work", "", cfg)
		runner.await("ready", 1, time.Minute)

		c.sendOrders(t, cfg, transactions)
		waitFor(t, time.Minute, "the queue to be empty", func() bool { all, _ := c.queued(t, nil); return all == 0 })
		time.Sleep(2 * crashPoll) // for what should not come
		runner.stop()
		var orders, wrong int
		c.scan(t, "SELECT count(*) FROM orders", &orders)
		received := recv.received()
		for i := range transactions {
			want := (i + 1) % 2
			if received[childEvent("tx", i)+" "+childEndpoint(0)] != want {
				wrong++
			}
		}
		l := c.read(t, "tx")
		if wrong > 0 || orders != transactions/2 || len(l.deliveries) != orders || len(l.remembered) != orders || len(received) != orders {
			t.Errorf("%d orders, %d deliveries, %d IDs remembered, %d events received, %d of them wrongly; want %d of each",
				orders, len(l.deliveries), len(l.remembered), len(received), wrong, transactions/2)
		}
	})
}

// sendOrders writes n orders with their events, each in one transaction, and rolls every other back.
func (c *childDB) sendOrders(t *testing.T, cfg childConfig, n int) {
	t.Helper()
	const workers = 8
	store, db := c.handle(t, c.d)
	d, err := webhook.NewDispatcher(store, cfg.options())
	if err != nil {
		t.Fatal(err)
	}
	order := func(i int) error {
		id := childEvent("tx", i)
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.Exec("INSERT INTO orders (id) VALUES ('" + id + "')"); err != nil {
			return err
		}
		if _, err := d.SendTx(t.Context(), store.Tx(tx), webhook.Event{ID: id, Type: "order_create", Payload: []byte(childPayload(id))}); err != nil {
			return err
		}
		if i%2 == 1 {
			return tx.Rollback()
		}
		return tx.Commit()
	}
	together(workers, func(w int) {
		for i := w; i < n; i += workers {
			if err := order(i); err != nil {
				t.Errorf("order %d: %v", i, err)
			}
		}
	})
}

// TestSendTxNeedsOneConnection: within a transaction on a pool of one connection nothing may ask for another, whether
// the dispatcher has just begun or what it knows of endpoints is old, and whether it also runs on that pool.
func TestSendTxNeedsOneConnection(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		for _, runs := range []bool{false, true} {
			t.Run(fmt.Sprintf("runs=%t", runs), func(t *testing.T) { sendTxOnOne(t, v, runs) })
		}
	})
}

func sendTxOnOne(t *testing.T, v variant, runs bool) {
	store, db := v.handle(t, v.database(t))
	migrate(t, store)
	db.SetMaxOpenConns(1)
	recv := newReceiver(t, 0, nil)
	cfg := childConfig{Name: "one", URL: recv.URL, Endpoints: 1, Timeout: 20 * time.Second}
	opts := cfg.options()
	endpoint := opts.Endpoints[0]
	opts.Endpoints = nil // it is kept in the store
	d, err := webhook.NewDispatcher(store, opts)
	if err != nil {
		t.Fatal(err)
	}
	other, err := webhook.NewDispatcher(store, opts) // as another process that registers
	if err != nil {
		t.Fatal(err)
	}
	if err := other.PutEndpoint(t.Context(), endpoint); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	if runs {
		go func() { ended <- d.Run(ctx) }()
	} else {
		ended <- nil
	}
	for i := range 3 {
		sendTx := func() error {
			limit, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			tx, err := db.BeginTx(limit, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			id := childEvent("one", i)
			if _, err := d.SendTx(limit, store.Tx(tx), webhook.Event{ID: id, Type: "order_create", Payload: []byte(childPayload(id))}); err != nil {
				return err
			}
			return tx.Commit()
		}
		if err := sendTx(); err != nil {
			t.Fatalf("SendTx %d on a pool of one connection: %v", i, err)
		}
		time.Sleep(1100 * time.Millisecond) // what it knows of endpoints is older than a second now
	}
	if runs {
		waitFor(t, 20*time.Second, "3 deliveries", func() bool { return recv.total() == 3 })
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	rows, err := store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now()})
	if err != nil || len(rows.Deliveries) != 3 {
		t.Errorf("%d deliveries are stored, want 3; %v", len(rows.Deliveries), err)
	}
}
