package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/ordercheck"
	"github.com/signalpost/webhook/memstore"
)

// The load: 100 keys of 40 events each, sent by 8 goroutines, delivered by 6 dispatchers, of which one is killed every 500 ms.
const (
	stressKeys    = 100
	stressEvents  = 40
	stressSenders = 8
	stressClaimer = 6
	stressPause   = 500 * time.Millisecond
)

// TestOrderUnderStress: nothing out of order, nothing at once, nothing left, whoever dies.
func TestOrderUnderStress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newOrderStress(memstore.New(), nil)
		kills := st.run(t)
		if faults := st.log.Faults(); len(faults) > 0 {
			t.Errorf("%d faults:\n%s", len(faults), strings.Join(faults[:min(len(faults), 20)], "\n"))
		}
		stats := st.log.Stats()
		t.Logf("%d requests, %d retries, %d repeats after %d kills", stats.Requests, stats.Retries, stats.Repeats, kills)
		if stats.Repeats == 0 || stats.Retries == 0 || kills < 10 {
			t.Errorf("%+v and %d kills, want retries, repeats and at least 10 kills, or nothing is shown", stats, kills)
		}
	})
}

// TestOrderStressSeesFaults runs the same load on a store that records deliveries when they are claimed, so that the next
// of the key is let go too early.
func TestOrderStressSeesFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newOrderStress(memstore.New(), func(s webhook.Store) webhook.Store { return ordercheck.Hasty{Store: s} })
		st.run(t)
		faults := st.log.Faults()
		for _, kind := range []string{"overlapping: ", "out of order: ", "stuck: "} {
			if !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, kind) }) {
				t.Errorf("no fault %q among %d", kind, len(faults))
			}
		}
	})
}

// orderStress is the load on one store.
type orderStress struct {
	store  *memstore.Store
	spoil  func(webhook.Store) webhook.Store // nil: no fault
	log    *ordercheck.Log
	visits atomic.Int64
	claims []*claimer
}

func newOrderStress(store *memstore.Store, spoil func(webhook.Store) webhook.Store) *orderStress {
	return &orderStress{store: store, spoil: spoil, log: new(ordercheck.Log)}
}

// run sends, kills and waits until all is delivered, or can not be any more. It returns how often it killed.
func (st *orderStress) run(t *testing.T) (kills int) {
	for i := range stressClaimer {
		st.claims = append(st.claims, st.start(t, fmt.Sprint(i, ".0")))
	}
	var senders sync.WaitGroup
	var sent atomic.Bool
	for i := range stressSenders {
		senders.Go(func() { st.send(t, i) })
	}
	go func() { senders.Wait(); sent.Store(true) }()
	for !sent.Load() {
		time.Sleep(stressPause)
		i := kills % stressClaimer
		kills++
		st.claims[i].kill()
		st.claims[i] = st.start(t, fmt.Sprint(i, ".", kills))
	}
	for end := time.Now().Add(time.Minute); st.log.Missing() > 0 && time.Now().Before(end); {
		time.Sleep(time.Second)
	}
	for _, c := range st.claims {
		c.stop()
	}
	return kills
}

// send sends its share of the events, to keys in turn, so that each key has several senders at once. Every third is first
// sent in a request that fails as a whole, as a transaction that is rolled back.
func (st *orderStress) send(t *testing.T, sender int) {
	d, err := webhook.NewDispatcher(st.store, st.options("sender"))
	if err != nil {
		t.Error(err)
		return
	}
	for i := range stressKeys * stressEvents / stressSenders {
		time.Sleep(rand.N(40 * time.Millisecond)) // virtual
		key := fmt.Sprint("k", (i+sender/2)%stressKeys)
		if i%3 == 0 {
			st.rollBack(t, fmt.Sprint("rolled", sender, "-", i), key)
		}
		id := fmt.Sprint("s", sender, "-", i)
		from := time.Now()
		if _, err := d.Send(t.Context(), webhook.Event{ID: id, Type: "a", OrderingKey: key, Payload: []byte(key + " " + id)}); err != nil {
			t.Error(err)
		}
		st.log.Sent(key, id, from, time.Now())
	}
}

func (st *orderStress) rollBack(t *testing.T, id, key string) {
	ev := func(id string, lease time.Duration) webhook.NewEvent {
		return webhook.NewEvent{Event: webhook.Event{ID: id, Type: "a", OrderingKey: key}, Deliveries: []webhook.NewDelivery{
			{ID: "d" + id, EndpointID: "acme", OrderingKey: key, Lease: lease},
		}}
	}
	req := &webhook.EnqueueRequest{Now: time.Now(), Owner: "x", Events: []webhook.NewEvent{ev(id, 0), ev(id+"x", time.Second)}} // the last is refused
	if _, err := st.store.Enqueue(t.Context(), req); err == nil {
		t.Error("a request with a lease on an ordering key was not refused")
	}
}

func (st *orderStress) options(owner string) *webhook.DispatcherOptions {
	secret, _ := webhook.ParseSecret("0123456789abcdef0123456789abcdef")
	return &webhook.DispatcherOptions{
		Owner: owner, Senders: 64, LeaseMargin: 2 * time.Second, Grace: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Endpoints: []webhook.Endpoint{{
			ID: "acme", URL: "https://acme.example/", Secrets: []webhook.Secret{secret}, Timeout: time.Second, MaxInFlight: 64,
			SequenceHeader: "Webhook-Sequence", Schedule: webhook.Exponential(100*time.Millisecond, time.Second, 100), Health: webhook.NoHealth(),
		}},
	}
}

// claimer is a dispatcher that can be killed: from then on it neither reaches the store nor the receiver.
type claimer struct {
	webhook.Store
	st     *orderStress
	name   string
	dead   atomic.Bool
	cancel context.CancelFunc
	ended  chan error
}

var errDead = errors.New("this process is dead")

func (st *orderStress) start(t *testing.T, name string) *claimer {
	t.Helper()
	c := &claimer{Store: st.store, st: st, name: name, ended: make(chan error, 1)}
	if st.spoil != nil {
		c.Store = st.spoil(st.store)
	}
	opts := st.options(name)
	opts.Transport = c
	d, err := webhook.NewDispatcher(c, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel = cancel
	go func() { c.ended <- d.Run(ctx) }()
	return c
}

func (c *claimer) kill() {
	c.st.log.Killed(c.name)
	c.dead.Store(true)
	c.cancel()
}

func (c *claimer) stop() {
	c.cancel()
	<-c.ended
}

func (c *claimer) Claim(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
	if c.dead.Load() {
		return nil, errDead
	}
	return c.Store.Claim(ctx, req)
}

func (c *claimer) Complete(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
	if c.dead.Load() {
		return nil, errDead
	}
	return c.Store.Complete(ctx, req)
}

// RoundTrip is the receiver. It goes on when its sender dies.
func (c *claimer) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	key, event, _ := strings.Cut(string(body), " ")
	if c.dead.Load() {
		return nil, errDead
	}
	number, _ := strconv.ParseInt(r.Header.Get("Webhook-Sequence"), 10, 64)
	if err != nil || number == 0 {
		return nil, fmt.Errorf("sequence %q, %w", r.Header.Get("Webhook-Sequence"), err)
	}
	v := c.st.log.Arrived(key, event, number, c.name)
	time.Sleep(rand.N(20 * time.Millisecond)) // virtual
	status := http.StatusOK
	if c.st.visits.Add(1)%29 == 0 {
		status = http.StatusServiceUnavailable
	}
	v.Answered(status == http.StatusOK)
	if c.dead.Load() {
		return nil, errDead
	}
	return &http.Response{StatusCode: status, Body: http.NoBody, Request: r, ProtoMajor: 1, ProtoMinor: 1, Proto: "HTTP/1.1"}, nil
}
