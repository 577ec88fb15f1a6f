package dbtest

import (
	"testing"
	"time"
)

// TestDatabaseRestart kills the database server under load and starts it again. The process goes on by itself and loses nothing.
func TestDatabaseRestart(t *testing.T) {
	const (
		events, endpoints = 3000, 2
		lease             = 7 * time.Second
		outage            = time.Second
	)
	eachAtOnce(t, mainVariants[1:], func(t *testing.T, v variant) {
		if testing.Short() {
			t.Skip("short")
		}
		server := v.durableServer(t)
		c := openChildDB(t, v, server.NewDB(t))
		recv := newReceiver(t, 5*time.Millisecond, nil)
		cfg := c.config()
		cfg.Name, cfg.Prefix, cfg.URL, cfg.Endpoints, cfg.MaxInFlight = "goes-on", "restart", recv.URL, endpoints, 8
		cfg.Timeout, cfg.Margin, cfg.Events = lease/2, lease/2, events
		p := startChild(t, "work", "", cfg)
		p.await("ack ", 200, time.Minute)
		killed := time.Now()
		server.Kill(t)
		time.Sleep(outage)
		recv.quiet()
		acked, received := p.count("ack "), recv.total()
		server.Start(t)
		back := time.Now()
		if acked == events {
			t.Fatal("all was sent before the server was killed: nothing is shown")
		}
		const limit = 30 * time.Second
		waitFor(t, limit, "events to be acknowledged and requests to arrive again", func() bool {
			return p.count("ack ") > acked && recv.total() > received
		})
		flow, away := time.Since(back), time.Since(killed)
		p.await("ack ", events, time.Minute)
		ping(t, c)
		waitFor(t, time.Minute, "the queue to be empty", func() bool { all, _ := c.queued(t, nil); return all == 0 })
		if p.count("end") > 0 {
			t.Error("Run ended")
		}
		p.stop()

		l := c.read(t, "restart")
		faults := append(l.delivered(p.said("ack "), endpoints), l.whole(endpoints)...)
		n, more := l.repeats(recv.received(), nil)
		if away < lease-time.Second { // else outcomes were given up, as the leases were
			faults = append(faults, more...)
		}
		if len(faults) > 0 {
			t.Errorf("%d faults:\n%s", len(faults), head(faults))
		}
		t.Logf("%s: killed with %d of %d acknowledged, %d requests received; %v after the restart it flowed again; %d repeated",
			v.name, acked, events, received, flow.Round(10*time.Millisecond), n)
	})
}

// ping makes the test's own connection find out that it was broken.
func ping(t *testing.T, c *childDB) {
	t.Helper()
	waitFor(t, 20*time.Second, "the database to answer", func() bool {
		var one int
		return c.db.QueryRowContext(t.Context(), "SELECT 1").Scan(&one) == nil
	})
}
