package dbtest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// longLoad is a key in which very many deliveries wait, beside others of the same endpoint.
type longLoad struct {
	rows   int // in the long key
	keys   int // others
	events int // of each of those
}

// testLongLoad has 10,000 rows, and 100,000 with WEBHOOK_SCALE=full. SQLite, slow under the race detector, gets fewer.
func testLongLoad(d sqlstore.Dialect) longLoad {
	switch {
	case os.Getenv("WEBHOOK_SCALE") == "full":
		return longLoad{rows: 100_000, keys: 50, events: 100}
	case d == sqlstore.SQLite:
		return longLoad{rows: 2000, keys: 50, events: 5}
	}
	return longLoad{rows: 10_000, keys: 50, events: 10}
}

// TestLongKeySlowsNoOther measures how long 50 keys of an endpoint take: alone; while very many wait in another key, one of which
// is always under way; and when those have just been sent, so that claims have yet to set them aside.
func TestLongKeySlowsNoOther(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		load := testLongLoad(v.dialect)
		none := load
		none.rows = 0
		var alone, beside time.Duration
		for range 3 { // other work on the machine disturbs one measurement more than the other
			alone, beside = none.time(t, v, true), load.time(t, v, true)
			if beside <= alone*12/10 {
				break
			}
		}
		justSent := load.time(t, v, false)
		t.Logf("%s: the last of %d other keys after %v; %v (%.2f times that) while %d wait in one key; %v when those have just been sent",
			v.name, load.keys, alone, beside, float64(beside)/float64(alone), load.rows, justSent)
		if beside > alone*12/10 {
			t.Errorf("%d deliveries that wait in one key slow others down: %v, and %v without; want at most 1.2 times that", load.rows, beside, alone)
		}
		// Setting them aside takes its time once, at the rate of about 10,000 to 40,000 a second.
		if most := alone*12/10 + time.Duration(load.rows)*time.Millisecond/2; justSent > most {
			t.Errorf("others took %v beside %d that have just been sent, want at most %v", justSent, load.rows, most)
		}
	})
}

// time is how long the other keys take. With setAside no claim needs to look at the long one's waiting deliveries any more.
func (l longLoad) time(t *testing.T, v variant, setAside bool) time.Duration {
	t.Helper()
	store, db := v.handle(t, v.database(t))
	migrate(t, store)
	others := &othersReceiver{}
	recv := httptest.NewServer(others)
	defer recv.Close()
	cfg := childConfig{Name: "one", URL: recv.URL, Endpoints: 1, Timeout: 20 * time.Second, MaxInFlight: 64}
	d, err := webhook.NewDispatcher(store, cfg.options())
	if err != nil {
		t.Fatal(err)
	}
	var warm, long, rest []webhook.NewEvent
	for i := range l.rows {
		long = append(long, orderedEvent("long", i))
	}
	for i := range l.keys * l.events {
		rest = append(rest, orderedEvent(fmt.Sprint("key", i%l.keys), i/l.keys))
	}
	for i := range l.keys * 4 {
		warm = append(warm, orderedEvent(fmt.Sprint("warm", i%l.keys), i/l.keys))
	}
	storeAll(t, store, warm) // for connections, plans and what is known of the receiver
	stop := startRun(t, d)
	waitFor(t, 5*time.Minute, "the first keys", func() bool { return others.got.Load() == int64(len(warm)) })
	if setAside {
		storeAll(t, store, long)
		waitFor(t, 5*time.Minute, "the long key to be set aside", func() bool {
			var n int
			if err := db.QueryRow("SELECT COUNT(*) FROM (SELECT id FROM webhook_queue WHERE class < 2 LIMIT 3) q").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n < 3
		})
	}
	stop()
	if !setAside {
		storeAll(t, store, long)
	}
	storeAll(t, store, rest)
	others.got.Store(0)
	began := time.Now()
	stop = startRun(t, d)
	waitFor(t, 5*time.Minute, "the other keys", func() bool { return others.got.Load() == int64(len(rest)) })
	took := time.Since(began)
	stop()
	db.Close()
	return took.Round(time.Millisecond)
}

// othersReceiver takes 20 ms and counts what is not of the long key.
type othersReceiver struct{ got atomic.Int64 }

func (o *othersReceiver) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	time.Sleep(20 * time.Millisecond)
	if err == nil && !strings.HasPrefix(string(body), "long-") {
		o.got.Add(1)
	}
}

// orderedEvent is the i-th event of a key.
func orderedEvent(key string, i int) webhook.NewEvent {
	id := fmt.Sprint(key, "-", i)
	return webhook.NewEvent{
		Event:      webhook.Event{ID: id, Type: "order_create", OrderingKey: key, Payload: []byte(id)},
		Digest:     [32]byte{1},
		Deliveries: []webhook.NewDelivery{{ID: "d-" + id, EndpointID: childEndpoint(0), OrderingKey: key}},
	}
}

// storeAll stores events in large transactions.
func storeAll(t *testing.T, store *sqlstore.Store, events []webhook.NewEvent) {
	t.Helper()
	now, err := store.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(events, 500) {
		if _, err := store.Enqueue(t.Context(), &webhook.EnqueueRequest{Now: now, Owner: "test", Events: part}); err != nil {
			t.Fatal(err)
		}
	}
}
