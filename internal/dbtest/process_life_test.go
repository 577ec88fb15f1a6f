package dbtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
)

// lifePart runs a dispatcher that tells of what expires. It sends as fast as it can: on "flood" so much, on "fill" until it has been
// refused so often.
func lifePart() error {
	ctx, cfg, store, _, err := beChild()
	if err != nil {
		return err
	}
	opts := cfg.options()
	opts.Trace = &webhook.Trace{Expired: func(_ context.Context, info webhook.ExpiredInfo) { say("expired %s", info.Delivery.ID) }}
	d, err := webhook.NewDispatcher(store, opts)
	if err != nil {
		return err
	}
	go orders(func(line string) {
		switch line {
		case "flood":
			go flood(ctx, d, floodSends, 1)
		case "fill":
			go flood(ctx, d, 1<<30, 100)
		}
	})
	say("ready")
	return d.Run(ctx)
}

const floodSends = 500

// flood sends from four goroutines, until so many are accepted or so many refused, and says what came of it.
func flood(ctx context.Context, d *webhook.Dispatcher, sends, refusals int64) {
	until := time.Now().Add(40 * time.Second)
	var sent, refused, failed atomic.Int64
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := 0; sent.Load() < sends && refused.Load() < refusals && time.Now().Before(until); n++ {
				ev := webhook.Event{Type: "order_create", Payload: []byte("{}")}
				if n%3 == 0 {
					ev.OrderingKey = fmt.Sprint("k", i)
				}
				switch _, err := d.Send(ctx, ev); {
				case err == nil:
					sent.Add(1)
				case errors.Is(err, webhook.ErrBacklogFull):
					refused.Add(1)
					time.Sleep(time.Millisecond)
				default:
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	say("flooded %d %d %d", sent.Load(), refused.Load(), failed.Load())
}

// lifeProcesses starts two processes that send to one endpoint on hold.
func lifeProcesses(t *testing.T, c *childDB, cfg childConfig) (procs []*child) {
	t.Helper()
	cfg.Endpoints, cfg.Timeout, cfg.Margin, cfg.URL = 1, 5*time.Second, 15*time.Second, "http://127.0.0.1:9"
	now, err := c.store.Now(t.Context())
	if err == nil {
		err = c.store.Hold(t.Context(), &webhook.HoldRequest{Now: now, EndpointID: childEndpoint(0), Kind: webhook.HoldPaused})
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		cfg.Name = fmt.Sprint("process", i)
		procs = append(procs, startChild(t, "life", "", cfg))
	}
	for _, p := range procs {
		p.await("ready", 1, time.Minute)
	}
	return procs
}

// flooded tells processes to send, all at once, and returns what they accepted and refused.
func flooded(t *testing.T, order string, procs ...*child) (sent, refused int) {
	t.Helper()
	past := make([]int, len(procs))
	for i, p := range procs {
		past[i] = len(p.said("flooded "))
		p.tell(order)
	}
	for i, p := range procs {
		var s, r, failed int
		fmt.Sscan(p.await("flooded ", past[i]+1, time.Minute), &s, &r, &failed)
		if failed > 0 {
			t.Errorf("%d sends failed", failed)
		}
		sent, refused = sent+s, refused+r
	}
	return sent, refused
}

// waits is how many deliveries are not final.
func (c *childDB) waits(t *testing.T) (n int) {
	t.Helper()
	now, err := c.store.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.store.Backlog(t.Context(), &webhook.BacklogRequest{Now: now, Count: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range res.Endpoints {
		n += e.Waiting
	}
	return n
}

// TestProcessesBoundTheBacklog: what one process has sent counts for the other. One fills the backlog, and neither lets in any more.
// Where both send at once, each may not have seen yet what the other sends, but counts after a quarter of the bound at the latest.
func TestProcessesBoundTheBacklog(t *testing.T) {
	const bound, underWay = 500, 4
	const least = bound * 9 / 10 // what is sent while a slow machine counts counts twice, until it counts again
	run := func(t *testing.T, check func(t *testing.T, c *childDB, procs []*child)) {
		eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
			c := openChildDB(t, v, v.database(t))
			cfg := c.config()
			cfg.Bound = bound
			procs := lifeProcesses(t, c, cfg)
			check(t, c, procs)
			for _, p := range procs {
				p.stop()
			}
		})
	}
	t.Run("in turn", func(t *testing.T) {
		run(t, func(t *testing.T, c *childDB, procs []*child) {
			if sent, refused := flooded(t, "fill", procs[0]); sent < least || sent > bound || refused == 0 {
				t.Errorf("one process let in %d and refused %d, want %d and some", sent, refused, bound)
			}
			if _, refused := flooded(t, "fill", procs...); refused == 0 {
				t.Error("then both refuse nothing")
			}
			if n := c.waits(t); n > bound+2*underWay {
				t.Errorf("then %d wait, want %d", n, bound)
			}
		})
	})
	t.Run("at once", func(t *testing.T) {
		run(t, func(t *testing.T, c *childDB, procs []*child) {
			sent, refused := flooded(t, "fill", procs...)
			n := c.waits(t)
			t.Logf("%d wait, allowed %d; %d refused", n, bound, refused)
			if n != sent || n < least || n > bound+2*(bound/4) || refused == 0 {
				t.Errorf("%d sent, %d refused, %d wait, want %d to %d", sent, refused, n, bound, bound+2*(bound/4))
			}
		})
	})
}

// TestProcessesExpireTheOldest lets two processes send more than may wait, where the oldest give way. Both end what is too much; what is
// left is the newest, and not much less than may wait.
func TestProcessesExpireTheOldest(t *testing.T) {
	const bound = 200
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		c := openChildDB(t, v, v.database(t))
		cfg := c.config()
		cfg.Bound, cfg.Oldest = bound, true
		procs := lifeProcesses(t, c, cfg)
		sent, refused := flooded(t, "flood", procs...)
		if sent < 2*floodSends || refused != 0 {
			t.Fatalf("%d sent, %d refused", sent, refused)
		}
		waitFor(t, 30*time.Second, "the backlog to be within its bound", func() bool { return c.waits(t) <= bound })
		time.Sleep(2 * time.Second) // and nothing more is ended
		n := c.waits(t)
		var told []string
		for _, p := range procs {
			told = append(told, p.said("expired ")...)
		}
		slices.Sort(told)
		t.Logf("%d sent, %d wait, allowed %d; %d expired", sent, n, bound, len(told))
		if n < bound-bound/20 || len(told) != sent-n || len(slices.Compact(told)) != sent-n {
			t.Errorf("%d sent, %d wait, want %d or little less; told of %d", sent, n, bound, len(told))
		}
		c.newestStay(t)
		for _, p := range procs {
			p.stop()
		}
	})
}

// newestStay checks that what expired was sent before what waits, as far as the clocks of two processes agree.
func (c *childDB) newestStay(t *testing.T) {
	t.Helper()
	var expired, waiting time.Time
	req := &webhook.ListDeliveriesRequest{Limit: 1000}
	for {
		res, err := c.store.ListDeliveries(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range res.Deliveries {
			switch {
			case d.State == webhook.Expired && d.CreatedAt.After(expired):
				expired = d.CreatedAt
			case !d.State.Final() && (waiting.IsZero() || d.CreatedAt.Before(waiting)):
				waiting = d.CreatedAt
			}
		}
		if req.After = res.Next; req.After == "" {
			break
		}
	}
	if over := expired.Sub(waiting); over > 200*time.Millisecond {
		t.Errorf("one that was sent %v later than another has expired before it", over)
	}
}

// timed is a receiver that remembers when each body came first and last, and how many requests it answered at once.
type timed struct {
	*httptest.Server
	delay time.Duration

	mu   sync.Mutex
	list []string
	at   map[string]time.Time
	open int
	most int
}

func newTimed(t *testing.T, delay time.Duration) *timed {
	r := &timed{delay: delay, at: make(map[string]time.Time)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.list = append(r.list, string(body))
		r.at[string(body)] = time.Now()
		r.open++
		r.most = max(r.most, r.open)
		r.mu.Unlock()
		time.Sleep(r.delay)
		r.mu.Lock()
		r.open--
		r.mu.Unlock()
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *timed) bodies() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// lifeFleet is two processes that deliver, and a dispatcher in this one that does not.
func lifeFleet(t *testing.T, v variant, r *timed) (*childDB, *webhook.Dispatcher, []*child) {
	t.Helper()
	c := openChildDB(t, v, v.database(t))
	cfg := c.config()
	cfg.URL, cfg.Endpoints, cfg.Timeout, cfg.Margin = r.URL, 1, 2*time.Second, 2*time.Second
	var procs []*child
	for i := range 2 {
		cfg.Name = fmt.Sprint("process", i)
		procs = append(procs, startChild(t, "life", "", cfg))
	}
	for _, p := range procs {
		p.await("ready", 1, time.Minute)
	}
	store, _ := c.handle(t, c.d)
	d, err := webhook.NewDispatcher(store, cfg.options())
	if err != nil {
		t.Fatal(err)
	}
	return c, d, procs
}

// TestProcessesKeepSchedules sends events with times and with ends from one process, which two others deliver: none too early, each in time, and
// what expires on hold is told of once.
func TestProcessesKeepSchedules(t *testing.T) {
	const slack = 100 * time.Millisecond // between the clocks as both estimate them
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		r := newTimed(t, 0)
		c, d, procs := lifeFleet(t, v, r)
		began := time.Now()
		var batch []webhook.Event
		for i := range 20 {
			ahead := time.Duration(i) * 150 * time.Millisecond
			batch = append(batch, webhook.Event{Type: "x", Payload: []byte(ahead.String()), SendAt: began.Add(ahead)})
		}
		if _, err := d.SendBatch(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		waitFor(t, time.Minute, "all to be sent", func() bool { return len(r.bodies()) >= len(batch) })
		for body, at := range r.at {
			ahead, err := time.ParseDuration(body)
			if early := began.Add(ahead).Sub(at); err != nil || early > slack || -early > 5*time.Second {
				t.Errorf("what was to be sent after %s came %v early, %v", body, early, err)
			}
		}
		if n := len(r.bodies()); n != len(batch) {
			t.Errorf("%d requests, want %d", n, len(batch))
		}
		if err := d.PauseEndpoint(t.Context(), childEndpoint(0), "test"); err != nil {
			t.Fatal(err)
		}
		var ends []webhook.Event
		for i := range 600 {
			ends = append(ends, webhook.Event{Type: "x", TTL: time.Second, OrderingKey: []string{"", "k"}[i%2]})
		}
		if _, err := d.SendBatch(t.Context(), ends); err != nil {
			t.Fatal(err)
		}
		waitFor(t, time.Minute, "all to expire", func() bool { return c.waits(t) == 0 })
		told := 0
		waitFor(t, 10*time.Second, "all to be told of", func() bool {
			told = procs[0].count("expired ") + procs[1].count("expired ")
			return told >= len(ends)
		})
		if told != len(ends) || len(r.bodies()) != len(batch) {
			t.Errorf("told of %d, want %d; %d requests", told, len(ends), len(r.bodies()))
		}
		for _, p := range procs {
			p.stop()
		}
	})
}

// TestProcessCancelsWhatAnotherSends cancels events of an ordering key from a process that does not deliver: one under way in another, one that waits
// and the last. Order and "one at a time" hold, and the attempt that was under way is recorded as late.
func TestProcessCancelsWhatAnotherSends(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		r := newTimed(t, time.Second)
		c, d, procs := lifeFleet(t, v, r)
		var ids []string
		for i := range 6 {
			id, err := d.Send(t.Context(), webhook.Event{Type: "x", OrderingKey: "k", Payload: fmt.Append(nil, i)})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		waitFor(t, time.Minute, "the first to be under way", func() bool { return len(r.bodies()) == 1 })
		for _, i := range []int{0, 2, 5} {
			if n, err := d.Cancel(t.Context(), ids[i], "test"); n != 1 || err != nil {
				t.Errorf("Cancel of %d: %d, %v", i, n, err)
			}
		}
		waitFor(t, time.Minute, "the queue to be empty", func() bool { all, _ := c.queued(t, nil); return all == 0 })
		if diff := cmp.Diff([]string{"0", "1", "3", "4"}, r.bodies()); diff != "" || r.most != 1 {
			t.Errorf("%d at once; %s", r.most, diff)
		}
		for i, id := range ids {
			state := webhook.Delivered
			if i == 0 || i == 2 || i == 5 {
				state = webhook.Canceled
			}
			res, err := c.store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{EventID: id})
			if err != nil || len(res.Deliveries) != 1 || res.Deliveries[0].State != state {
				t.Fatalf("%d: %+v, %v, want it %s", i, res, err, state)
			}
			as, err := c.store.ListAttempts(t.Context(), res.Deliveries[0].ID)
			if want := i != 2 && i != 5; err != nil || (len(as) == 1) != want || want && as[0].Late != (i == 0) {
				t.Errorf("%d: attempts %+v, %v", i, as, err)
			}
		}
		for _, p := range procs {
			p.stop()
			if s := strings.Join(p.said("ERROR"), " "); s != "" {
				t.Error(s)
			}
		}
	})
}
