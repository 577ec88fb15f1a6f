//go:build unix

package dbtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// BenchmarkQueue tells what a delivery of 1 KiB costs each store in its three steps, in batches of 256 over 16 endpoints,
// without HTTP: the bound of what a dispatcher can reach on it. b.N counts batches. CPU time is what compares on a shared machine: ours,
// and the server's where it is one that the test started, on Linux.
func BenchmarkQueue(b *testing.B) {
	for _, v := range mainVariants {
		b.Run(v.name, func(b *testing.B) {
			s, _ := v.handle(b, v.database(b))
			migrate(b, s)
			q := &queueBench{b: b, s: s, now: time.Now(), payload: make([]byte, 1024)}
			for i := range q.payload {
				q.payload[i] = byte('a' + i*7919%26)
			}
			switch v.dialect {
			case sqlstore.PostgreSQL:
				q.server = Postgres(b)
			case sqlstore.MySQL:
				q.server = MariaDB(b)
			}
			for b.Loop() {
				q.enqueue()
				q.complete(q.claim())
			}
			for i, step := range []string{"1-enqueue", "2-claim", "3-complete"} {
				report := func(what string, d time.Duration) {
					b.ReportMetric(float64(d.Nanoseconds()/10)/100/float64(q.rows), step+"-"+what+"-µs/row")
				}
				report("wall", q.took[i].wall)
				report("cpu", q.took[i].client)
				if q.server != nil {
					report("server-cpu", q.took[i].server)
				}
			}
		})
	}
}

type queueBench struct {
	b       *testing.B
	s       *sqlstore.Store
	server  *Server // nil: none
	now     time.Time
	payload []byte
	rows    int
	took    [3]cost
}

// cost is time by the clock, and of the processors.
type cost struct{ wall, client, server time.Duration }

const (
	benchBatch = 256
	benchLanes = 16
)

// step measures fn.
func (q *queueBench) step(i int, fn func() error) {
	server, client, began := q.server.cpuTime(), q.cpuTime(), time.Now()
	err := fn()
	c := &q.took[i]
	c.wall += time.Since(began)
	c.client += q.cpuTime() - client
	c.server += q.server.cpuTime() - server
	if err != nil {
		q.b.Fatal(err)
	}
}

// cpuTime is what this process has used.
func (q *queueBench) cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		q.b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuTime is what the server's processes have used, as far as they still run: 0 where that cannot be told.
func (s *Server) cpuTime() (sum time.Duration) {
	if s == nil || s.proc == nil {
		return 0
	}
	for _, pid := range append(s.proc.children(), s.proc.pid) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, path := range threads {
			text, _ := os.ReadFile(path)
			running, _, _ := strings.Cut(string(text), " ")
			ns, _ := strconv.ParseInt(running, 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}

func (q *queueBench) enqueue() {
	req := &webhook.EnqueueRequest{Now: q.now, Owner: "bench"}
	for i := range benchBatch {
		id := fmt.Sprintf("%026d", q.rows+i)
		req.Events = append(req.Events, webhook.NewEvent{
			Event:      webhook.Event{ID: "evt_" + id, Type: "order_create", Payload: q.payload},
			Deliveries: []webhook.NewDelivery{{ID: "dlv_" + id, EndpointID: fmt.Sprintf("endpoint-%02d", i%benchLanes)}},
		})
	}
	q.rows += benchBatch
	q.step(0, func() error {
		_, err := q.s.Enqueue(q.b.Context(), req)
		return err
	})
}

func (q *queueBench) claim() []webhook.Claimed {
	req := &webhook.ClaimRequest{Now: q.now, Owner: "bench", Limit: benchBatch}
	for i := range benchLanes {
		id := webhook.LaneID{EndpointID: fmt.Sprintf("endpoint-%02d", i)}
		req.Lanes = append(req.Lanes, webhook.LaneClaim{LaneID: id, Max: benchBatch / benchLanes, Lease: time.Minute})
	}
	var res *webhook.ClaimResult
	q.step(1, func() (err error) {
		res, err = q.s.Claim(q.b.Context(), req)
		return err
	})
	if len(res.Deliveries) != benchBatch {
		q.b.Fatalf("claimed %d", len(res.Deliveries))
	}
	return res.Deliveries
}

func (q *queueBench) complete(claimed []webhook.Claimed) {
	req := &webhook.CompleteRequest{Now: q.now}
	for _, c := range claimed {
		req.Outcomes = append(req.Outcomes, webhook.Outcome{
			EndpointID: c.Delivery.EndpointID, DeliveryID: c.Delivery.ID, Token: c.Token, Next: webhook.Delivered,
			Attempt: &webhook.Attempt{Number: 1, Token: c.Token, StartedAt: q.now, Duration: time.Millisecond, Status: 200},
		})
	}
	q.step(2, func() error {
		_, err := q.s.Complete(q.b.Context(), req)
		return err
	})
}
