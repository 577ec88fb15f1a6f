package dbtest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// fleet is processes that run dispatchers on one database.
type fleet struct {
	*childDB
	recv  *receiver
	cfg   childConfig
	given int // events
	procs []*child
}

const (
	fleetSize      = 4
	fleetEndpoints = 4
	fleetOwn       = 50  // events that each process sends itself
	fleetGiven     = 300 // events that another process sends, which does not run
	fewGiven       = 30
)

// TestProcessesSendOnce lets four processes run on one database: 2,000 deliveries, of events that they send themselves and
// of events that another sends. Each is sent exactly once, and each process gets its share,
// on SQLite at least of its own.
func TestProcessesSendOnce(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		if faults := runFleet(t, v, fleetGiven, ""); len(faults) > 0 {
			t.Errorf("%d faults:\n%s", len(faults), head(faults))
		}
	})
	t.Run("sees a store that "+breakClaim, func(t *testing.T) {
		faults := runFleet(t, mainVariants[0], fewGiven, breakClaim)
		if !slices.ContainsFunc(faults, func(s string) bool { return strings.HasPrefix(s, "repeated: ") }) {
			t.Errorf("nothing repeated among %d faults:\n%s", len(faults), head(faults))
		}
	})
}

func runFleet(t *testing.T, v variant, given int, fault string) (faults []string) {
	t.Helper()
	f := &fleet{given: given, childDB: openChildDB(t, v, v.database(t)), recv: newReceiver(t, 100*time.Millisecond, nil)}
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
	together(f.given, func(i int) {
		id := childEvent("given", i)
		send := func() error {
			_, err := d.Send(t.Context(), webhook.Event{ID: id, Type: "order_create", Payload: []byte(childPayload(id))})
			return err
		}
		err := send()
		for range 3 {
			if errors.Is(err, webhook.ErrOutcomeUnknown) { // as on SQLite, where others may hold the file for long on a busy machine
				err = send()
			}
		}
		if err != nil {
			t.Errorf("send: %v", err)
		}
	})
}

// judge checks the end, and returns how many of the given events' deliveries each process sent.
func (f *fleet) judge(t *testing.T, faults *[]string) (shares []int) {
	t.Helper()
	want := map[string]int{"given": f.given}
	for i := range fleetSize {
		want[fmt.Sprint("own", i)] = fleetOwn
		name := fmt.Sprint("process", i)
		share := f.recv.sent(name, "given")
		shares = append(shares, share)
		if f.dialect == sqlstore.SQLite {
			// Its processes wait for the one write lock by sleeping, and who sleeps longer may miss its turn many times.
			share += f.recv.sent(name, fmt.Sprint("own", i))
		}
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
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
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
