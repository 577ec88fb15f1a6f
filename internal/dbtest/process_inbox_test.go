package dbtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// inboxPart takes requests in and processes them. It prints "url URL", "ran ID" before each run has its effect, and "disorder ID" when
// something later of the same order was processed before.
func inboxPart() error {
	ctx, cfg, store, db, err := beChild()
	if err != nil {
		return err
	}
	verifier, err := childVerifier()
	if err != nil {
		return err
	}
	inbox := webhook.NewInbox(store, verifier, func(ctx context.Context, ev webhook.Event) error {
		n, err := numberOf(ev.Payload)
		if err != nil {
			return err
		}
		del, _ := webhook.DeliveryFromContext(ctx)
		say("ran %s/%d", ev.OrderingKey, n)
		time.Sleep(cfg.Timeout)
		if del.Attempts == 0 && n%10 == 3 {
			return fmt.Errorf("the first run of every tenth fails")
		}
		var later int
		if err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*) FROM done WHERE ord = '%s' AND n > %d", ev.OrderingKey, n)).Scan(&later); err != nil {
			return err
		}
		if later > 0 {
			say("disorder %s/%d", ev.OrderingKey, n)
		}
		_, err = db.ExecContext(ctx, fmt.Sprintf("INSERT INTO done (ord, n) VALUES ('%s', %d)", ev.OrderingKey, n))
		return err
	}, &webhook.InboxOptions{
		OrderingKey: orderOf, Schedule: webhook.Delays(50*time.Millisecond, time.Second, time.Second, time.Second), LeaseMargin: cfg.Margin,
		Timeout: time.Second, Owner: cfg.Name, Receive: webhook.ReceiveOptions{Logger: slog.New(slog.DiscardHandler)},
	})
	if err := inbox.Err(); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go orders(func(string) {})
	go http.Serve(ln, inbox)
	say("url http://%s", ln.Addr())
	return inbox.Run(ctx)
}

// inboxUpdate is the body of signedUpdate.
type inboxUpdate struct {
	Data struct {
		Order  string `json:"orderId"`
		Status string `json:"status"`
	} `json:"data"`
}

func orderOf(ev webhook.Event) string {
	var u inboxUpdate
	_ = json.NewDecoder(bytes.NewReader(ev.Payload)).Decode(&u)
	return u.Data.Order
}

func numberOf(body []byte) (n int, err error) {
	var u inboxUpdate
	if err = json.Unmarshal(body, &u); err == nil {
		_, err = fmt.Sscan(u.Data.Status, &n)
	}
	return n, err
}

// TestProcessesInbox has two processes take in and process 200 events of 10 orders, kills one after another meanwhile, and has the sender
// try again until each is answered 200: each is processed, in the order of its key, and nothing is left.
func TestProcessesInbox(t *testing.T) {
	const keys, perKey, kills = 10, 20, 4
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		c := openChildDB(t, v, v.durable(t))
		must(t, c.db, "CREATE TABLE done (ord VARCHAR(64) NOT NULL, n INT NOT NULL)")
		f := newInboxFleet(t, c)
		var sending sync.WaitGroup
		for k := range keys {
			sending.Go(func() {
				for n := range perKey {
					f.deliver(signedUpdate(t, fmt.Sprint("order", k), fmt.Sprint(n)))
				}
			})
		}
		for i := range kills {
			f.current(i%2).await("ran ", 10, time.Minute)
			time.Sleep(rand.N(30 * time.Millisecond))
			f.replace(i % 2)
		}
		sending.Wait()
		waitFor(t, time.Minute, "the inbox to be empty", func() bool { all, _ := c.queued(t, nil); return all == 0 })
		var done, distinct, unfinished int
		c.scan(t, "SELECT count(*) FROM done", &done)
		c.scan(t, "SELECT count(*) FROM (SELECT DISTINCT ord, n FROM done) d", &distinct)
		ended, err := c.store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now(), EndpointID: "inbox:gett", Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ended.Deliveries {
			if d.State != webhook.Delivered {
				unfinished++
			}
		}
		if distinct != keys*perKey || len(ended.Deliveries) != keys*perKey || unfinished != 0 || done > distinct+kills*16 {
			t.Errorf("%d events done, %d runs, %d deliveries, %d of them not delivered; want %d events", distinct, done, len(ended.Deliveries), unfinished, keys*perKey)
		}
		if n := f.count("disorder "); n != 0 {
			t.Errorf("%d runs came after a later one of their key", n)
		}
		t.Logf("%s: %d events, %d kills, %d repeated by crashes", v.name, distinct, kills, done-distinct)
	})
}

// inboxFleet is two processes with an inbox, replaced when they are killed.
type inboxFleet struct {
	t *testing.T
	c *childDB

	mu   sync.Mutex
	now  [2]*child
	urls [2]string
	all  []*child
}

func newInboxFleet(t *testing.T, c *childDB) *inboxFleet {
	f := &inboxFleet{t: t, c: c}
	f.replace(0)
	f.replace(1)
	return f
}

func (f *inboxFleet) current(i int) *child {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now[i]
}

// replace kills a process, if there is one, and starts another in its place.
func (f *inboxFleet) replace(i int) {
	f.t.Helper()
	if old := f.current(i); old != nil {
		old.kill()
	}
	cfg := f.c.config()
	cfg.Name, cfg.Margin, cfg.Timeout = fmt.Sprint("inbox ", i), time.Second, 5*time.Millisecond
	p := startChild(f.t, "inbox", "", cfg)
	url := p.await("url ", 1, time.Minute)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now[i], f.urls[i] = p, url
	f.all = append(f.all, p)
}

// deliver sends a request to one or the other until it is answered 200.
func (f *inboxFleet) deliver(r *signedRequest) {
	for i, end := rand.N(2), time.Now().Add(time.Minute); time.Now().Before(end); i++ {
		f.mu.Lock()
		url := f.urls[i%2]
		f.mu.Unlock()
		if a := f.c.send(f.t.Context(), url, r); a.err == nil && a.status == http.StatusOK {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.t.Error("no process took a request for a minute")
}

func (f *inboxFleet) count(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.all {
		n += p.count(prefix)
	}
	return n
}

// BenchmarkInboxRun tells what processing an event costs that waits in an inbox, with a handler that does nothing.
func BenchmarkInboxRun(b *testing.B) {
	for _, v := range mainVariants {
		b.Run(v.name, func(b *testing.B) {
			store, _ := v.handle(b, v.database(b))
			migrate(b, store)
			verifier, err := childVerifier()
			if err != nil {
				b.Fatal(err)
			}
			var left atomic.Int64
			done := make(chan struct{})
			inbox := webhook.NewInbox(store, verifier, func(context.Context, webhook.Event) error {
				if left.Add(-1) == 0 {
					close(done)
				}
				return nil
			}, &webhook.InboxOptions{Receive: webhook.ReceiveOptions{Logger: slog.New(slog.DiscardHandler)}})
			secret, err := webhook.IssuedSecret(childSecret)
			if err != nil {
				b.Fatal(err)
			}
			signer, err := webhook.NewSigner(secret)
			if err != nil {
				b.Fatal(err)
			}
			left.Store(int64(b.N))
			together(min(b.N, 64), func(i int) {
				for ; i < b.N; i += 64 {
					r := &signedRequest{header: http.Header{}, body: fmt.Appendf(nil, `{"type":"order_create","data":{"orderId":"%d"}}`, i)}
					if err := signer.Sign(r.header, r.body); err != nil {
						b.Error(err)
					}
					if w := serve(inbox, r); w.Code != 200 {
						b.Errorf("answered %d", w.Code)
					}
				}
			})
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error)
			b.ResetTimer()
			go func() { ended <- inbox.Run(ctx) }()
			<-done
			b.StopTimer()
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}
