package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/ordercheck"
	"github.com/signalpost/webhook/sqlstore"
)

// orderLoad is how much TestProcessesKeepOrder does. Three processes with two dispatchers each deliver, and one of them is killed
// every 500 ms while 8 goroutines send; a third of their transactions is rolled back.
type orderLoad struct {
	keys, events int           // events of each key
	hold         time.Duration // a transaction stays open for up to this
	pause        time.Duration // of a sender between two, up to this
	limit        time.Duration // for the rest to be delivered after the last kill
	kills        int
	toTheEnd     bool // further kills as long as something is sent
}

const (
	orderProcs = 3
	orderPause = 500 * time.Millisecond
	orderLease = 6 * time.Second // of which 4 s are for the attempt
)

// testOrderLoad is 40 keys of 15 events, fewer on SQLite, and 100 of 40 with WEBHOOK_ORDER=full.
func testOrderLoad(d sqlstore.Dialect) orderLoad {
	load := orderLoad{keys: 40, events: 15, hold: 20 * time.Millisecond, pause: 100 * time.Millisecond, limit: time.Minute, kills: 8}
	if os.Getenv("WEBHOOK_ORDER") == "full" {
		load = orderLoad{keys: 100, events: 40, hold: 200 * time.Millisecond, pause: 50 * time.Millisecond, limit: 3 * time.Minute, kills: 40, toTheEnd: true}
	}
	if d == sqlstore.SQLite {
		load.hold = 2 * time.Millisecond // nobody else writes meanwhile
		if !load.toTheEnd {
			load.keys, load.events = 20, 10 // its processes wait for each other by sleeping, and it is slow under the race detector
		}
	}
	return load
}

// TestProcessesKeepOrder: nothing out of order, nothing at once, nothing left, whoever is killed.
func TestProcessesKeepOrder(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		o := newOrderTest(t, v, testOrderLoad(v.dialect), "")
		o.run(t)
		if faults := o.faults(t); len(faults) > 0 {
			t.Errorf("%d faults:\n%s", len(faults), head(faults))
		}
	})
}

// TestProcessesKeepOrderSeesFaults gives the processes stores that break order, and one whose leases never end.
func TestProcessesKeepOrderSeesFaults(t *testing.T) {
	load := orderLoad{keys: 10, events: 10, hold: time.Millisecond, pause: 50 * time.Millisecond, limit: 8 * time.Second}
	tests := []struct {
		fault string
		kills int
		kinds []string // one of them must be found
	}{
		{breakHaste, 0, []string{"overlapping: ", "out of order: "}},
		{breakLease, 3, []string{"stuck: "}},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			t.Parallel()
			load := load
			load.kills = tt.kills
			o := newOrderTest(t, mainVariants[0], load, tt.fault)
			o.run(t)
			faults := o.faults(t)
			found := slices.ContainsFunc(faults, func(f string) bool {
				return slices.ContainsFunc(tt.kinds, func(kind string) bool { return strings.HasPrefix(f, kind) })
			})
			if !found {
				t.Errorf("no fault of kind %q among %d:\n%s", tt.kinds, len(faults), head(faults))
			}
		})
	}
}

// breakHaste is a fault of a child's store: see ordercheck.Hasty.
const breakHaste = "ends deliveries when they are claimed"

// orderTest is one run of the load.
type orderTest struct {
	*childDB
	load  orderLoad
	cfg   childConfig
	log   *ordercheck.Log
	recv  *httptest.Server
	came  atomic.Int64
	busy  sync.Map // *atomic.Int64 by sender: requests under way
	procs []*child
	names [orderProcs]string
	kills int
}

func newOrderTest(t *testing.T, v variant, load orderLoad, fault string) *orderTest {
	t.Helper()
	o := &orderTest{childDB: openChildDB(t, v, v.database(t)), load: load, log: &ordercheck.Log{Lease: orderLease}}
	o.recv = httptest.NewServer(o)
	t.Cleanup(o.recv.Close)
	o.cfg = o.config()
	o.cfg.URL, o.cfg.Endpoints, o.cfg.MaxInFlight, o.cfg.Break = o.recv.URL, 1, 32, fault
	o.cfg.Timeout, o.cfg.Margin = orderLease*2/3, orderLease/3
	return o
}

// ServeHTTP is the receiver. It takes some milliseconds, and refuses every 29th request.
func (o *orderTest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // its sender was killed while it sent
	}
	key, event, _ := strings.Cut(string(body), " ")
	number, err := strconv.ParseInt(r.Header.Get(sequenceHeader), 10, 64)
	if err != nil {
		number = 0 // which the log calls a fault
	}
	visit := o.log.Arrived(key, event, number, r.UserAgent())
	o.underWay(r.UserAgent()).Add(1)
	defer o.underWay(r.UserAgent()).Add(-1)
	time.Sleep(rand.N(20 * time.Millisecond)) // a receiver at work
	status := http.StatusOK
	if o.came.Add(1)%29 == 0 {
		status = http.StatusServiceUnavailable
	}
	visit.Answered(status == http.StatusOK)
	w.WriteHeader(status)
}

// run sends, kills, and waits until all is delivered or the limit is over.
func (o *orderTest) run(t *testing.T) {
	t.Helper()
	for i := range orderProcs {
		o.procs = append(o.procs, o.start(t, i))
	}
	for _, p := range o.procs {
		p.await("ready", 1, time.Minute)
	}
	began := time.Now()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		together(senders, func(i int) { o.send(t, i) })
	}()
	for sending := true; o.kills < o.load.kills || sending && o.load.toTheEnd; {
		select {
		case <-sent:
			sending = false
		default:
		}
		time.Sleep(orderPause)
		i := o.kills % orderProcs
		o.procs[i].await("ready", 1, time.Minute) // on a busy machine it takes a while
		o.awaitBusy(o.names[i])
		for d := range 2 {
			o.log.Killed(orderOwner(o.names[i], d))
		}
		o.procs[i].kill()
		o.kills++
		o.procs[i] = o.start(t, i)
	}
	<-sent
	took := time.Since(began)
	for end := time.Now().Add(o.load.limit); o.log.Missing() > 0 && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	for end := time.Now().Add(2 * orderLease); o.log.Missing() == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if all, _ := o.queued(t, nil); all == 0 { // recorded too
			break
		}
	}
	for _, p := range o.procs {
		p.stop()
	}
	stats := o.log.Stats()
	t.Logf("%s: %d events of %d keys sent within %v of %d kills, all delivered %v later; %d requests, %d retries, %d repeats (%d by slow processes)",
		o.name, o.load.keys*o.load.events, o.load.keys, took.Round(10*time.Millisecond), o.kills,
		(time.Since(began) - took).Round(10*time.Millisecond), stats.Requests, stats.Retries, stats.Repeats, stats.Overdue)
}

// faults are what the log found, and what was delivered but is not recorded.
func (o *orderTest) faults(t *testing.T) []string {
	faults := o.log.Faults()
	if all, _ := o.queued(t, nil); all > 0 {
		faults = append(faults, fmt.Sprintf("stuck: %d deliveries are left in the queue", all))
	}
	return faults
}

func (o *orderTest) underWay(sender string) *atomic.Int64 {
	n, _ := o.busy.LoadOrStore(sender, new(atomic.Int64))
	return n.(*atomic.Int64)
}

// awaitBusy waits until a process has a request under way, so that a kill hits something. It gives up after a while: there may be
// nothing left for it.
func (o *orderTest) awaitBusy(name string) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for d := range 2 {
			if o.underWay(orderOwner(name, d)).Load() > 0 {
				return
			}
		}
	}
}

// start starts the i-th process, under a name of its own.
func (o *orderTest) start(t *testing.T, i int) *child {
	cfg := o.cfg
	cfg.Name = fmt.Sprint("process", i, ".", o.kills)
	o.names[i] = cfg.Name
	return startChild(t, "order", "", cfg)
}

// orderSender is one goroutine that sends.
type orderSender struct {
	o      *orderTest
	number int
	db     *sql.DB
	store  *sqlstore.Store
	d      *webhook.Dispatcher
}

// send sends a sender's share of the events, in transactions of up to three keys, always locked in the same order. Of three
// transactions one is rolled back.
func (o *orderTest) send(t *testing.T, number int) {
	s := &orderSender{o: o, number: number}
	s.store, s.db = o.handle(t, o.d)
	s.db.SetMaxOpenConns(1)
	var err error
	if s.d, err = webhook.NewDispatcher(s.store, o.cfg.orderOptions("sender")); err != nil {
		t.Error(err)
		return
	}
	var keys []string // of the next transaction
	n := 0
	for i := range o.load.keys * o.load.events / senders {
		keys = append(keys, fmt.Sprintf("k%03d", (i+number/2)%o.load.keys))
		if len(keys) < 1+n%3 && i+1 < o.load.keys*o.load.events/senders {
			continue
		}
		slices.Sort(keys)
		if n%2 == 0 {
			if err := s.tx(t.Context(), keys, fmt.Sprint("rolled", n), false); err != nil {
				t.Logf("a transaction that is rolled back anyway: %v", err)
			}
		}
		began := time.Now()
		for try := 1; ; try++ {
			err := s.tx(t.Context(), keys, fmt.Sprint("sent", n), true)
			if err == nil {
				break
			}
			if try == 20 { // until then a deadlock or a busy file explains it
				t.Errorf("transaction %d of sender %d: %v", n, number, err)
				return
			}
		}
		for _, key := range keys {
			o.log.Sent(key, s.event(key, fmt.Sprint("sent", n)), began, time.Now())
		}
		n, keys = n+1, keys[:0]
		time.Sleep(rand.N(o.load.pause))
	}
}

func (s *orderSender) event(key, name string) string {
	return fmt.Sprint(s.number, "-", name, "-", key)
}

// tx sends an event to each key in one transaction, which stays open for a while.
func (s *orderSender) tx(ctx context.Context, keys []string, name string, commit bool) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, key := range keys {
		id := s.event(key, name)
		ev := webhook.Event{ID: id, Type: "order_create", OrderingKey: key, Payload: []byte(key + " " + id)}
		if _, err := s.d.SendTx(ctx, s.store.Tx(tx), ev); err != nil {
			return err
		}
	}
	time.Sleep(rand.N(s.o.load.hold)) // the rest of the transaction
	if !commit {
		return tx.Rollback()
	}
	return tx.Commit()
}

// What follows runs in child processes.

// sequenceHeader has the place of a delivery in its key.
const sequenceHeader = "Webhook-Sequence"

// orderOwner names one of the dispatchers of a process.
func orderOwner(process string, i int) string { return fmt.Sprint(process, "-", i) }

// orderOptions are a dispatcher's.
func (cfg *childConfig) orderOptions(owner string) *webhook.DispatcherOptions {
	o := cfg.options()
	o.Owner, o.UserAgent = owner, owner
	for i := range o.Endpoints {
		ep := &o.Endpoints[i]
		ep.SequenceHeader, ep.Health = sequenceHeader, webhook.NoHealth()
		ep.Schedule = webhook.Exponential(100*time.Millisecond, time.Second, 100)
	}
	return o
}

// orderPart runs two dispatchers. It prints "ready".
func orderPart() error {
	ctx, cfg, store, _, err := beChild()
	if err != nil {
		return err
	}
	var on webhook.Store = store
	switch cfg.Break {
	case breakHaste:
		on = ordercheck.Hasty{Store: store}
	case breakLease:
		on = &crashStore{Store: store, point: &point{}, fault: breakLease}
	}
	go orders(func(string) {})
	var errs [2]error
	var running sync.WaitGroup
	for i := range errs {
		d, err := webhook.NewDispatcher(on, cfg.orderOptions(orderOwner(cfg.Name, i)))
		if err != nil {
			return err
		}
		running.Go(func() { errs[i] = d.Run(ctx) })
	}
	say("ready")
	running.Wait()
	return errors.Join(errs[:]...)
}
