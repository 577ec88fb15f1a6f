package dbtest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalpost/webhook/sqlstore"
)

// Limits of what children send: short, so that a takeover is quick.
const (
	crashTimeout   = 2 * time.Second
	crashMargin    = time.Second
	crashLease     = crashTimeout + crashMargin
	crashPoll      = 200 * time.Millisecond
	crashSlack     = 15 * time.Second      // for a busy machine: starting a process, draining the backlog
	crashEach      = 20 * time.Millisecond // for each delivery that is unfinished or to be sent
	crashEndpoints = 2
	crashEvents    = 400
)

// TestCrash kills processes under load at each named point, and checks that nothing is lost, stuck, torn or sent again
// without a reason. WEBHOOK_CRASH=100 kills a hundred times at each point instead of once; `make crash` does, and more.
func TestCrash(t *testing.T) {
	kills := 1
	if n, err := strconv.Atoi(os.Getenv("WEBHOOK_CRASH")); err == nil {
		kills = n
	}
	for _, v := range mainVariants {
		t.Run(v.name, func(t *testing.T) {
			if testing.Short() && v.dialect != sqlstore.SQLite {
				t.Skip("short")
			}
			v.durable(t) // or skip
			names := []string{atClaim, atRequest, atRecord, atSend, withinSend, atTx, atCommit}
			together(len(names), func(i int) { // most of each is waiting for leases to end
				t.Run(strings.ReplaceAll(names[i], " ", "-"), func(t *testing.T) {
					c := newCrash(t, v)
					for k := range kills {
						if faults := c.kill(t, k, names[i]); len(faults) > 0 {
							t.Fatalf("%d faults:\n%s", len(faults), head(faults))
						}
					}
				})
			})
		})
	}
}

// TestCrashTestsSeeFaults runs the crash test on stores that are broken, which it must find.
func TestCrashTestsSeeFaults(t *testing.T) {
	tests := []struct{ fault, point, want string }{
		{breakAck, atRequest, "lost: "},
		{breakLease, atCommit, "stuck: "},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.fault, " ", "-"), func(t *testing.T) {
			c := newCrash(t, mainVariants[0])
			c.cfg.Break = tt.fault
			faults := c.kill(t, 0, tt.point)
			if !slices.ContainsFunc(faults, func(s string) bool { return strings.HasPrefix(s, tt.want) }) {
				t.Errorf("a store that %s: no fault %q among %d:\n%s", tt.fault, tt.want, len(faults), head(faults))
			}
		})
	}
}

// TestCrashAnywhere kills process after process at any moment under load, the next going on where the last one ended, for
// WEBHOOK_CRASH_TIME on each database at once (default: 4 s).
func TestCrashAnywhere(t *testing.T) {
	lasts := 4 * time.Second
	if d, err := time.ParseDuration(os.Getenv("WEBHOOK_CRASH_TIME")); err == nil {
		lasts = d
	}
	variants := mainVariants
	if testing.Short() {
		variants = variants[:1]
	}
	end := time.Now().Add(lasts)
	together(len(variants), func(i int) {
		t.Run(variants[i].name, func(t *testing.T) {
			c := newCrash(t, variants[i])
			for round := 0; round == 0 || time.Now().Before(end); round++ {
				c.killAnywhere(t, fmt.Sprintf("round%d", round), end)
			}
		})
	})
}

// killAnywhere kills up to 20 processes, one after the other, and judges what is left when another has healed it.
func (c *crash) killAnywhere(t *testing.T, prefix string, end time.Time) {
	t.Helper()
	var sum *wreck
	kills := 0
	for ; kills < 20 && (kills == 0 || time.Now().Before(end)); kills++ {
		cfg := c.cfg
		cfg.Name, cfg.Prefix, cfg.Events = "killed", fmt.Sprintf("%s-%d", prefix, kills), crashEvents
		victim := startChild(t, "work", "", cfg)
		victim.await("ack ", 1, time.Minute)
		time.Sleep(rand.N(700 * time.Millisecond))
		killed := time.Now()
		victim.kill()
		w := c.wreck(t, prefix, cfg.Prefix, victim, killed)
		if len(w.faults) > 0 {
			t.Fatalf("kill %d of %s: %d faults:\n%s", kills, prefix, len(w.faults), head(w.faults))
		}
		if sum != nil {
			w.acked, w.open = append(sum.acked, w.acked...), append(sum.open, w.open...)
			maps.Copy(w.leased, sum.leased)
		}
		sum = w
	}
	healed, faults := c.heal(t, sum)
	if len(faults) > 0 {
		t.Fatalf("%s: %d faults:\n%s", prefix, len(faults), head(faults))
	}
	t.Logf("%s: %d kills at any moment: %d acknowledged, in flight %d requests and %d leases, %d repeated, the last taken over after %v",
		c.name, kills, len(sum.acked), total(sum.lost), len(sum.leased), healed.repeated, healed.takeover.Round(10*time.Millisecond))
}

func head(faults []string) string { return strings.Join(faults[:min(10, len(faults))], "\n") }

var durables struct {
	sync.Mutex
	servers map[Kind]*Server
}

// durable makes a fresh database that survives kill -9 of its server, or skips.
func (v variant) durable(t *testing.T) DB {
	t.Helper()
	if v.dialect == sqlstore.SQLite {
		return SQLite(t)
	}
	return v.durableServer(t).NewDB(t)
}

// durableServer is the test binary's durable server for the variant. It ends with the test binary.
func (v variant) durableServer(t *testing.T) *Server {
	t.Helper()
	kind := PostgreSQL
	if v.dialect == sqlstore.MySQL {
		kind = MySQL
	}
	durables.Lock()
	defer durables.Unlock()
	if s := durables.servers[kind]; s != nil {
		return s
	}
	s, err := start(kind, Options{Durable: true})
	if err != nil {
		unavailable(t, err)
	}
	if durables.servers == nil {
		durables.servers = map[Kind]*Server{}
	}
	durables.servers[kind] = s
	return s
}

// crash is a database whose processes are killed.
type crash struct {
	*childDB
	recv *receiver
	cfg  childConfig
}

func newCrash(t *testing.T, v variant) *crash {
	t.Helper()
	c := &crash{childDB: openChildDB(t, v, v.durable(t)), recv: newReceiver(t, 5*time.Millisecond, nil)}
	c.cfg = c.config()
	c.cfg.URL, c.cfg.Endpoints, c.cfg.MaxInFlight = c.recv.URL, crashEndpoints, 6
	c.cfg.Timeout, c.cfg.Margin = crashTimeout, crashMargin
	return c
}

// kill lets one process come to the point, kills it, and lets another heal what it left. It returns what is wrong then.
func (c *crash) kill(t *testing.T, number int, name string) []string {
	t.Helper()
	cfg := c.cfg
	cfg.Name, cfg.Prefix, cfg.Events = "killed", fmt.Sprintf("%s%d", strings.ReplaceAll(name, " ", ""), number), crashEvents
	cfg.Point, cfg.After = name, 40+rand.IntN(160)
	victim := startChild(t, "work", "at "+name, cfg)
	victim.await("at "+name, 1, time.Minute)
	killed := time.Now()
	<-victim.reaped
	w := c.wreck(t, cfg.Prefix, cfg.Prefix, victim, killed)
	faults := append(w.faults, w.missed(name)...)
	if len(faults) == 0 {
		var healed *outcome
		healed, faults = c.heal(t, w)
		t.Logf("%s: killed at %q: %d acknowledged, in flight %d requests and %d leases, %d repeated, taken over after %v, healed %v after the next start",
			c.name, name, len(w.acked), total(w.lost), len(w.leased), healed.repeated, healed.takeover.Round(10*time.Millisecond),
			healed.took.Round(10*time.Millisecond))
	}
	return faults
}

// wreck is what a killed process left.
type wreck struct {
	prefix string
	killed time.Time
	acked  []string        // events
	open   []string        // events that were begun, or would have been soon, and are not acknowledged
	stored int             // of those, how many are there all the same
	leased map[string]bool // delivery IDs
	lost   map[string]int  // requests without a recorded attempt, by delivery
	faults []string
}

// wreck looks at the database and the receiver after a kill: at all events of prefix; the victim's own are those of sent.
func (c *crash) wreck(t *testing.T, prefix, sent string, victim *child, killed time.Time) *wreck {
	t.Helper()
	c.alone(t)
	c.recv.quiet()
	l := c.read(t, prefix)
	w := &wreck{prefix: prefix, killed: killed, acked: victim.said("ack "), leased: l.leased(), lost: l.unrecorded(c.received(prefix))}
	acked := map[string]bool{}
	for _, id := range w.acked {
		acked[id] = true
		if _, stored := l.events[id]; !stored {
			w.faults = append(w.faults, "lost: event "+id+" was acknowledged and is not stored")
		}
	}
	for _, id := range victim.said("open ") {
		if _, stored := l.events[id]; stored {
			w.faults = append(w.faults, "torn: event "+id+" is stored, its transaction was not committed")
		}
	}
	for i, begun := 0, 2*senders; i < min(begun, crashEvents); i++ {
		id := childEvent(sent, i)
		if acked[id] {
			begun = i + 2*senders // it sends in about that order
			continue
		}
		w.open = append(w.open, id)
		if _, stored := l.events[id]; stored {
			w.stored++
		}
	}
	for key, d := range l.deliveries {
		if d.leaseUntil.After(l.now.Add(crashLease)) {
			w.faults = append(w.faults, fmt.Sprintf("stuck: the lease on %s lasts for %v, longer than %v", key, d.leaseUntil.Sub(l.now), crashLease))
		}
	}
	w.faults = append(w.faults, l.whole(crashEndpoints)...)
	return w
}

// missed tells when the kill did not hit what it was to hit: then the run shows nothing.
func (w *wreck) missed(name string) []string {
	hit := len(w.acked) > 0 && len(w.open) > 0
	switch name {
	case atClaim:
		hit = hit && len(w.leased) > 0
	case atRequest:
		hit = hit && len(w.lost) > 0 && len(w.leased) > 0
	case atCommit:
		hit = hit && len(w.leased) > 0 && w.stored > 0
	}
	if hit {
		return nil
	}
	return []string{fmt.Sprintf("missed: killed at %q with %d acknowledged, %d open of which %d stored, %d leased, %d requests in flight",
		name, len(w.acked), len(w.open), w.stored, len(w.leased), total(w.lost))}
}

// received are the receiver's requests for a prefix.
func (c *crash) received(prefix string) map[string]int {
	got := c.recv.received()
	maps.DeleteFunc(got, func(key string, _ int) bool { return !strings.HasPrefix(key, prefix+"-") })
	return got
}

// outcome is how a wreck was healed.
type outcome struct {
	repeated int
	takeover time.Duration // from the kill until the last delivery that it left leased was final
	took     time.Duration // from the start of the next process until nothing was left to do
}

// heal starts another process, which also sends what was not acknowledged again, and judges the end.
func (c *crash) heal(t *testing.T, w *wreck) (*outcome, []string) {
	t.Helper()
	cfg := c.cfg
	cfg.Name = "healer"
	healer := startChild(t, "work", "", cfg)
	healer.await("ready", 1, time.Minute)
	began := time.Now()
	for _, id := range w.open {
		healer.tell("send " + id)
	}
	o := &outcome{}
	unfinished, _ := c.queued(t, nil)
	limit := crashLease + crashPoll + crashSlack + time.Duration(unfinished+len(w.open)*crashEndpoints)*crashEach
	for left, some := -1, 0; left != 0; time.Sleep(20 * time.Millisecond) {
		if left, some = c.queued(t, w.leased); some == 0 && o.takeover == 0 {
			o.takeover = time.Since(w.killed)
		}
		if healer.count("ack ") < len(w.open) {
			left = -1
		}
		if time.Since(began) > limit {
			return o, []string{fmt.Sprintf("stuck: %v after the next process started, %d deliveries are unfinished, %d of them left by the kill; %d of %d sent again",
				limit, left, some, healer.count("ack "), len(w.open))}
		}
	}
	o.took = time.Since(began)
	healer.stop()
	l := c.read(t, w.prefix)
	faults := l.delivered(slices.Concat(w.acked, w.open), crashEndpoints)
	faults = append(faults, l.whole(crashEndpoints)...)
	n, more := l.repeats(c.received(w.prefix), w.lost)
	o.repeated = n
	faults = append(faults, more...)
	if n > total(w.lost) && len(more) == 0 {
		t.Logf("%d requests were repeated for other reasons than the kill: the machine is too slow for the time limit", n-total(w.lost))
	}
	c.recv.mu.Lock()
	defer c.recv.mu.Unlock()
	for _, s := range c.recv.unexpected {
		faults = append(faults, "unexpected: "+s)
	}
	return o, faults
}

func total(counts map[string]int) int {
	n := 0
	for _, m := range counts {
		n += m
	}
	return n
}
