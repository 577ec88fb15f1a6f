package dbtest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
)

const (
	healthPoll = 200 * time.Millisecond
	// healthSlack is what two busy processes and a database on one machine may take from an answer to the commit, and from a send to the receiver.
	healthSlack = 400 * time.Millisecond
)

// healthPart runs a dispatcher that sends to itself as fast as 100 times a second once it is told to, until it is told to stop.
func healthPart() error {
	ctx, cfg, store, _, err := beChild()
	if err != nil {
		return err
	}
	opts := cfg.options()
	opts.Poll = healthPoll
	opts.Profiles = []webhook.Profile{healthProfile()}
	opts.Trace = &webhook.Trace{Health: func(_ context.Context, info webhook.HealthInfo) {
		say("health %s %s>%s", info.EndpointID, info.From, info.To)
	}}
	d, err := webhook.NewDispatcher(store, opts)
	if err != nil {
		return err
	}
	var sending context.CancelFunc
	go orders(func(line string) {
		switch line {
		case "go":
			var own context.Context
			own, sending = context.WithCancel(ctx)
			go func() {
				for i := 0; own.Err() == nil; i++ {
					if _, err := d.Send(own, webhook.Event{ID: childEvent(cfg.Prefix, i), Type: "x"}); err == nil {
						say("ack %d", i)
					}
					time.Sleep(10 * time.Millisecond)
				}
				say("quiet")
			}()
		case "stop":
			sending()
		}
	})
	say("ready")
	return d.Run(ctx)
}

// healthProfile is the default one, with an endpoint's 410 taken at its word.
func healthProfile() webhook.Profile {
	p := webhook.DefaultProfile()
	p.GoneDisables = true
	return p
}

// healthReceiver answers one sender once with what tells to stop, and all else with 200.
type healthReceiver struct {
	*httptest.Server
	mu     sync.Mutex
	told   string // whom: its name
	status int
	header http.Header
	at     time.Time // when it was told
	got    map[string][]time.Time
}

func newHealthReceiver(t *testing.T) *healthReceiver {
	r := &healthReceiver{got: map[string][]time.Time{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *healthReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, name := time.Now(), req.UserAgent()
	r.got[name] = append(r.got[name], now)
	if r.told == name && r.at.IsZero() {
		r.at = now
		for k, v := range r.header {
			w.Header()[k] = v
		}
		w.WriteHeader(r.status)
	}
}

// tell makes the next request of a sender the one that is answered otherwise.
func (r *healthReceiver) tell(name string, status int, header http.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told, r.status, r.header, r.at = name, status, header, time.Time{}
}

// between counts the requests of a sender.
func (r *healthReceiver) between(name string, from, to time.Time) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.got[name] {
		if at.After(from) && at.Before(to) {
			n++
		}
	}
	return n
}

func (r *healthReceiver) toldAt(t *testing.T) (at time.Time) {
	waitFor(t, 20*time.Second, "the answer that tells to stop", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		at = r.at
		return !at.IsZero()
	})
	return at
}

// TestProcessesAgreeOnHealth lets two processes send to one endpoint, which tells one of them to stop: for good, or for a while; or a
// third process pauses it. Both obey within a poll, hand-overs in memory included, the hook is called once, and what waits is not touched.
func TestProcessesAgreeOnHealth(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		c := openChildDB(t, v, v.database(t))
		recv := newHealthReceiver(t)
		cfg := c.config()
		cfg.URL, cfg.Endpoints, cfg.MaxInFlight, cfg.Timeout, cfg.Margin = recv.URL, 1, 16, 5*time.Second, 15*time.Second
		var procs []*child
		for _, name := range []string{"a", "b"} {
			cfg.Name, cfg.Prefix = name, "own"+name
			procs = append(procs, startChild(t, "health", "", cfg))
		}
		for _, p := range procs {
			p.await("ready", 1, time.Minute)
		}
		opts := cfg.options()
		opts.Profiles = []webhook.Profile{healthProfile()}
		admin, err := webhook.NewDispatcher(c.store, opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range procs {
			p.tell("go")
		}
		busy := func() {
			from := time.Now()
			waitFor(t, 30*time.Second, "both to send", func() bool {
				return recv.between("a", from, time.Now()) > 20 && recv.between("b", from, time.Now()) > 20
			})
		}
		silent := func(since time.Time, long time.Duration) {
			t.Helper()
			from, to := since.Add(healthPoll+healthSlack), since.Add(long)
			time.Sleep(time.Until(to))
			for _, name := range []string{"a", "b"} {
				if n := recv.between(name, from, to); n > 0 {
					t.Errorf("%s: %d requests later than a poll and %v after", name, n, healthSlack)
				}
			}
		}
		busy()
		recv.tell("a", 429, http.Header{"Retry-After": {"3"}})
		silent(recv.toldAt(t), 2900*time.Millisecond)
		busy()
		if err := admin.PauseEndpoint(t.Context(), "ep0", "works"); err != nil {
			t.Fatal(err)
		}
		silent(time.Now(), 2*time.Second)
		resume := func() {
			t.Helper()
			if err := admin.ResumeEndpoint(t.Context(), "ep0"); err != nil {
				t.Fatal(err)
			}
		}
		resume()
		busy()
		recv.tell("a", 410, nil)
		silent(recv.toldAt(t), 2*time.Second)
		for _, p := range procs {
			p.tell("stop")
			p.await("quiet", 1, 20*time.Second)
		}
		h, err := admin.Health(t.Context(), "ep0")
		if err != nil || h.Stage != webhook.HealthHeld || h.Hold == nil || h.Hold.Kind != webhook.HoldGone {
			t.Errorf("health is %+v, %v", h, err)
		}
		before := c.waiting(t)
		for _, d := range before {
			if d.State != webhook.Held {
				t.Fatalf("delivery is %+v, want it held", d)
			}
		}
		time.Sleep(time.Second)
		if diff := cmp.Diff(before, c.waiting(t)); diff != "" || len(before) < 20 {
			t.Errorf("%d deliveries on hold changed (-before +after):\n%s", len(before), diff)
		}
		resume()
		waitFor(t, time.Minute, "all to be delivered", func() bool { return len(c.waiting(t)) == 0 })
		var told []string
		for _, p := range procs {
			told = append(told, p.said("health ep0 ")...)
			p.stop()
		}
		if n := strings.Count(fmt.Sprint(told), ">held"); n != 1 {
			t.Errorf("told %d times that it is held, want once: %v", n, told)
		}
		t.Logf("%d were on hold; told %v", len(before), told)
	})
}

// waiting is the deliveries that are not final.
func (c *childDB) waiting(t *testing.T) (list []webhook.Delivery) {
	t.Helper()
	now, err := c.store.Now(t.Context())
	for after := ""; err == nil; {
		var res *webhook.ListDeliveriesResult
		if res, err = c.store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: now, EndpointID: "ep0", After: after, Limit: 1000}); err != nil {
			break
		}
		for _, d := range res.Deliveries {
			if !d.State.Final() {
				list = append(list, d)
			}
		}
		if after = res.Next; after == "" {
			return list
		}
	}
	t.Fatal(err)
	return nil
}
