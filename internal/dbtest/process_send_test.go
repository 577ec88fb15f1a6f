package dbtest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// fleet is processes that run dispatchers on one database.
type fleet struct {
	*childDB
	recv  *receiver
	cfg   childConfig
	procs []*child
}

const (
	fleetSize      = 4
	fleetEndpoints = 4
	fleetOwn       = 50  // events that each process sends itself
	fleetGiven     = 300 // events that another process sends, which does not run
)

// TestProcessesSendOnce lets four processes run on one database: 2,000 deliveries, of events that they send themselves and
// of events that another sends. Each is sent exactly once, and each process gets its share.
func TestProcessesSendOnce(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		if faults := runFleet(t, v, ""); len(faults) > 0 {
			t.Errorf("%d faults:\n%s", len(faults), head(faults))
		}
	})
	t.Run("sees a store that "+breakClaim, func(t *testing.T) {
		faults := runFleet(t, mainVariants[0], breakClaim)
		if !slices.ContainsFunc(faults, func(s string) bool { return strings.HasPrefix(s, "repeated: ") }) {
			t.Errorf("nothing repeated among %d faults:\n%s", len(faults), head(faults))
		}
	})
}

func runFleet(t *testing.T, v variant, fault string) (faults []string) {
	t.Helper()
	f := &fleet{childDB: openChildDB(t, v, v.database(t)), recv: newReceiver(t, 20*time.Millisecond, nil)}
	f.cfg = f.config()
	f.cfg.URL, f.cfg.Endpoints, f.cfg.MaxInFlight, f.cfg.Break = f.recv.URL, fleetEndpoints, 16, fault
	f.cfg.Timeout, f.cfg.Margin = 20*time.Second, 15*time.Second
	for i := range fleetSize {
		cfg := f.cfg
		cfg.Name, cfg.Prefix, cfg.Events = fmt.Sprint("process", i), fmt.Sprint("own", i), fleetOwn
		f.procs = append(f.procs, startChild(t, "work", "", cfg))
	}
	for _, p := range f.procs {
		p.await("ready", 1, time.Minute)
	}
	began := time.Now()
	f.send(t)
	for _, p := range f.procs {
		p.await("ack ", fleetOwn, time.Minute)
	}
	waitFor(t, time.Minute, "the queue to be empty", func() bool { all, _ := f.queued(t, nil); return all == 0 })
	took := time.Since(began)
	shares := f.judge(t, &faults)
	for _, p := range f.procs {
		p.stop()
	}
	t.Logf("%s: %d deliveries by %d processes in %v; of those that another sent, each got %v",
		v.name, f.recv.total(), fleetSize, took.Round(10*time.Millisecond), shares)
	return faults
}

// send sends the given events, in this process, which does not run a dispatcher.
func (f *fleet) send(t *testing.T) {
	t.Helper()
	store, _ := f.handle(t, f.d)
	d, err := webhook.NewDispatcher(store, f.cfg.options())
	if err != nil {
		t.Fatal(err)
	}
	together(fleetGiven, func(i int) {
		id := childEvent("given", i)
		if _, err := d.Send(t.Context(), webhook.Event{ID: id, Type: "order_create", Payload: []byte(childPayload(id))}); err != nil {
			t.Errorf("send: %v", err)
		}
	})
}

// judge checks the end, and returns how many of the given events' deliveries each process sent.
func (f *fleet) judge(t *testing.T, faults *[]string) (shares []int) {
	t.Helper()
	want := map[string]int{"given": fleetGiven}
	for i := range fleetSize {
		want[fmt.Sprint("own", i)] = fleetOwn
		share := f.recv.sent(fmt.Sprint("process", i), "given")
		shares = append(shares, share)
		if share == 0 {
			*faults = append(*faults, fmt.Sprintf("idle: process %d sent nothing of what another process gave", i))
		}
	}
	received := f.recv.received()
	for _, prefix := range slices.Sorted(maps.Keys(want)) {
		var ids []string
		for i := range want[prefix] {
			ids = append(ids, childEvent(prefix, i))
		}
		l := f.read(t, prefix)
		*faults = append(*faults, l.delivered(ids, fleetEndpoints)...)
		*faults = append(*faults, l.whole(fleetEndpoints)...)
	}
	for key, n := range received {
		if n != 1 {
			*faults = append(*faults, fmt.Sprintf("repeated: %s was sent %d times", key, n))
		}
	}
	return shares
}

// A child at this point goes on by itself, after a pause in AttemptDone.
const (
	pauses    = "pauses"
	pauseTime = 2 * time.Second
)

// TestStoppedProcessIsFenced stops a process with SIGSTOP while it has answers that it has not recorded, for three leases.
// Another takes over and delivers. What the first records when it goes on comes too late and changes nothing.
func TestStoppedProcessIsFenced(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		t.Parallel()
		if faults := stopAndGoOn(t, v, ""); len(faults) > 0 {
			t.Errorf("%d faults:\n%s", len(faults), head(faults))
		}
	})
	t.Run("sees a store that "+breakFence, func(t *testing.T) {
		t.Parallel()
		faults := stopAndGoOn(t, mainVariants[0], breakFence)
		if !slices.ContainsFunc(faults, func(s string) bool { return strings.HasPrefix(s, "stuck: ") }) {
			t.Errorf("no state is changed among %d faults:\n%s", len(faults), head(faults))
		}
	})
}

func stopAndGoOn(t *testing.T, v variant, fault string) (faults []string) {
	t.Helper()
	const events, inFlight, lease = 12, 6, 2 * time.Second
	c := openChildDB(t, v, v.database(t))
	recv := newReceiver(t, 5*time.Millisecond, func(agent string) int {
		if agent == "stopped" {
			return http.StatusInternalServerError // so that what is late also differs
		}
		return http.StatusOK
	})
	cfg := c.config()
	cfg.URL, cfg.Endpoints, cfg.MaxInFlight, cfg.Timeout, cfg.Margin = recv.URL, 1, inFlight, lease/2, lease/2
	first := cfg
	first.Name, first.Prefix, first.Events, first.Point, first.Break = "stopped", "stop", events, pauses, fault
	stopped := startChild(t, "work", "", first)
	stopped.await("ack ", events, time.Minute)
	stopped.await("done ", inFlight, time.Minute)
	stopped.signal(syscall.SIGSTOP)
	at := time.Now()
	done := stopped.said("done ")

	cfg.Name = "other"
	other := startChild(t, "work", "", cfg)
	waitFor(t, time.Minute, "another process to take over", func() bool { all, _ := c.queued(t, nil); return all == 0 })
	took := time.Since(at)
	time.Sleep(3*lease - took)
	before := recv.sent("stopped", "stop")
	stopped.signal(syscall.SIGCONT)
	stopped.await("stale ", len(done), time.Minute)
	stopped.stop()
	other.stop()

	if n := recv.sent("stopped", "stop") - before; n > 0 {
		faults = append(faults, fmt.Sprintf("repeated: the stopped process sent %d requests when it went on", n))
	}
	l := c.read(t, "stop")
	var ids []string
	for i := range events {
		ids = append(ids, childEvent("stop", i))
	}
	faults = append(faults, l.delivered(ids, 1)...)
	byID := map[string]*row{}
	for _, d := range l.deliveries {
		byID[d.id] = d
	}
	for _, id := range done {
		want := []try{{status: 500, late: true}, {status: 200}}
		if d := byID[id]; d == nil || !slices.Equal(d.tries, want) || d.attempts != 1 {
			faults = append(faults, fmt.Sprintf("unfenced: delivery %s: %+v, want 1 attempt that counts among %+v", id, d, want))
		}
	}
	t.Logf("%s: stopped with %d answers unrecorded; taken over after %v (lease %v); all %d late", v.name, len(done), took.Round(10*time.Millisecond), lease, len(done))
	return faults
}

// TestSendTxIsDeliveredIfAndOnlyIfItCommits writes 200 orders, each with its event in one transaction, and rolls half of them
// back. Another process delivers.
func TestSendTxIsDeliveredIfAndOnlyIfItCommits(t *testing.T) {
	const transactions, workers = 200, 8
	each(t, mainVariants, func(t *testing.T, v variant) {
		c := openChildDB(t, v, v.database(t))
		recv := newReceiver(t, 0, nil)
		cfg := c.config()
		cfg.Name, cfg.URL, cfg.Endpoints, cfg.MaxInFlight, cfg.Timeout, cfg.Margin = "runs", recv.URL, 1, 8, 20*time.Second, 15*time.Second
		must(t, c.db, "CREATE TABLE orders (id VARCHAR(64) PRIMARY KEY)")
		runner := startChild(t, "work", "", cfg)
		runner.await("ready", 1, time.Minute)

		store, db := v.handle(t, c.d)
		d, err := webhook.NewDispatcher(store, cfg.options())
		if err != nil {
			t.Fatal(err)
		}
		together(workers, func(w int) {
			for i := w; i < transactions; i += workers {
				id := childEvent("tx", i)
				tx, err := db.BeginTx(t.Context(), nil)
				if err != nil {
					t.Errorf("begin: %v", err)
					return
				}
				defer tx.Rollback()
				if _, err := tx.Exec("INSERT INTO orders (id) VALUES ('" + id + "')"); err != nil {
					t.Errorf("insert: %v", err)
				}
				if _, err := d.SendTx(t.Context(), store.Tx(tx), webhook.Event{ID: id, Type: "order_create", Payload: []byte(childPayload(id))}); err != nil {
					t.Errorf("SendTx: %v", err)
				}
				end := tx.Commit
				if i%2 == 1 {
					end = tx.Rollback
				}
				if err := end(); err != nil {
					t.Errorf("end: %v", err)
				}
			}
		})
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

// TestSendTxNeedsOneConnection: within a transaction on a pool of one connection nothing may ask for another, whether
// the dispatcher has just begun or what it knows of endpoints is old, and whether it also runs on that pool.
func TestSendTxNeedsOneConnection(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		t.Parallel()
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
