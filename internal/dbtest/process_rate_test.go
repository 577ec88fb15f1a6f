package dbtest

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// arrivals notes when requests come.
type arrivals struct {
	mu sync.Mutex
	at []time.Time
}

func (a *arrivals) note(string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
	return http.StatusOK
}

func (a *arrivals) all() []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.at)
}

// burst is the most that any window of time has beyond what a steady rate gives in it.
func burst(at []time.Time, perSecond float64) (most float64) {
	least := math.Inf(1)
	for i, t := range at {
		steady := perSecond * t.Sub(at[0]).Seconds()
		least = min(least, float64(i)-steady)
		most = max(most, float64(i+1)-steady-least)
	}
	return most
}

const (
	rateEvents   = 20 // a second
	rateBurst    = 5
	rateInFlight = 2 // in each of two processes
	rateTime     = 8 * time.Second

	// What a window may have beyond the burst: tokens that were taken and not used when it began, two for each process, whatever
	// keeps them; and what the rate gives while the processes' clocks differ, by 50 ms each way.
	rateError = 2*rateInFlight + rateEvents*0.1
)

// TestProcessesShareRate lets two processes send to one limited endpoint. Together they keep its rate in every window of time,
// within the error that webhook.Rate states, and use it up; one of them is killed and replaced meanwhile.
func TestProcessesShareRate(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		over, n := shareRate(t, v, "")
		t.Logf("%s: %d requests in %v; a window has up to %.1f beyond the rate", v.name, n, rateTime, over)
		if over > rateBurst+rateError {
			t.Errorf("a window has %.1f more than the rate, want at most %.1f", over, rateBurst+rateError)
		}
		// A killed process may take its two tokens with it, and one beat.
		if least := (rateBurst + rateEvents*rateTime.Seconds()) * 0.85; float64(n) < least {
			t.Errorf("%d requests in %v, want at least %.0f", n, rateTime, least)
		}
	})
	t.Run("sees a store that "+breakRate, func(t *testing.T) {
		if over, _ := shareRate(t, mainVariants[0], breakRate); over < rateBurst+rateError {
			t.Errorf("a window has %.1f more than the rate, which is nothing unusual", over)
		}
	})
}

// shareRate returns what the windows of a run have beyond the rate at most, and how many requests came.
func shareRate(t *testing.T, v variant, fault string) (over float64, n int) {
	t.Helper()
	c := openChildDB(t, v, v.database(t))
	got := &arrivals{}
	recv := newReceiver(t, time.Millisecond, got.note)
	cfg := c.config()
	cfg.URL, cfg.Endpoints, cfg.MaxInFlight, cfg.Break = recv.URL, 1, rateInFlight, fault
	cfg.Timeout, cfg.Margin = 2*time.Second, time.Second
	cfg.Rate = webhook.Rate{Events: rateEvents, Burst: rateBurst}
	startNamed := func(name string) *child {
		cfg := cfg
		cfg.Name = name
		p := startChild(t, "work", "", cfg)
		p.await("ready", 1, time.Minute)
		return p
	}
	procs := []*child{startNamed("one"), startNamed("two")}
	d, err := webhook.NewDispatcher(c.store, cfg.options())
	if err != nil {
		t.Fatal(err)
	}
	together(int(rateEvents*rateTime.Seconds()*2), func(i int) {
		id := childEvent("rate", i)
		if _, err := d.Send(t.Context(), webhook.Event{ID: id, Type: "order_create", Payload: []byte(childPayload(id))}); err != nil {
			t.Errorf("send: %v", err)
		}
	})
	waitFor(t, time.Minute, "the first request", func() bool { return len(got.all()) > 0 })
	began := got.all()[0]
	time.Sleep(rateTime / 2)
	procs[0].kill()
	procs[0] = startNamed("three")
	time.Sleep(time.Until(began.Add(rateTime)))
	at := got.all()
	for _, name := range []string{"one", "two"} {
		if recv.sent(name, "rate") == 0 && v.dialect != sqlstore.SQLite { // whose writers wait by sleeping: one may have all the luck
			t.Errorf("process %s sent nothing", name)
		}
	}
	for _, p := range procs {
		p.stop()
	}
	return burst(at, rateEvents), len(at)
}

// TestProcessesServeTenantsFairly lets two processes send for two tenants that have more than can be sent: one of weight 1 with 50
// endpoints, and one of weight 3 with one. Three quarters of all attempts are the latter's.
func TestProcessesServeTenantsFairly(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		c := openChildDB(t, v, v.database(t))
		recv := newReceiver(t, 25*time.Millisecond, nil)
		cfg := c.config()
		cfg.URL, cfg.MaxInFlight, cfg.Senders, cfg.Timeout, cfg.Margin = recv.URL, 64, 4, 10*time.Second, 5*time.Second
		cfg.Tenants = []childTenant{{"many", 1, 50}, {"one", 3, 1}}
		d, err := webhook.NewDispatcher(c.store, cfg.options())
		if err != nil {
			t.Fatal(err)
		}
		send := func(tenant string, n int) {
			together(n, func(i int) {
				id := childEvent(tenant, i)
				ev := webhook.Event{ID: id, Type: "order_create", Tenant: tenant, Payload: []byte(childPayload(id))}
				if _, err := d.Send(t.Context(), ev); err != nil {
					t.Errorf("send: %v", err)
				}
			})
		}
		send("many", 20) // 1,000 deliveries
		send("one", 1_600)
		var procs []*child
		for i := range 2 {
			cfg := cfg
			cfg.Name = fmt.Sprint("process", i)
			procs = append(procs, startChild(t, "work", "", cfg))
		}
		// The heavier one's last are not counted: then there is nothing to share.
		waitFor(t, time.Minute, "1,200 requests", func() bool { return recv.total() >= 1_200 })
		one, all := 0, 0
		for key, n := range recv.received() {
			all += n
			if strings.HasSuffix(key, "_one") {
				one += n
			}
		}
		for _, p := range procs {
			p.signal(syscall.SIGTERM)
		}
		t.Logf("%s: %d of %d requests were those of the tenant with weight 3 in 4", v.name, one, all)
		if share := float64(one) / float64(all); math.Abs(share-0.75) > 0.05*0.75 {
			t.Errorf("%d of %d requests, want 3 in 4", one, all)
		}
	})
}
