package dbtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// BenchmarkQueue tells what a delivery of 1 KiB costs each store in its three steps, in batches of 250 over 16 endpoints,
// without HTTP: the bound of what a dispatcher can reach on it. b.N counts batches.
func BenchmarkQueue(b *testing.B) {
	for _, v := range mainVariants {
		b.Run(v.name, func(b *testing.B) {
			s, _ := v.handle(b, v.database(b))
			migrate(b, s)
			q := &queueBench{b: b, s: s, now: time.Now(), payload: make([]byte, 1024)}
			for i := range q.payload {
				q.payload[i] = byte('a' + i*7919%26)
			}
			for b.Loop() {
				q.enqueue()
				q.complete(q.claim())
			}
			perRow := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(q.rows) }
			b.ReportMetric(perRow(q.took[0]), "enqueue-µs/row")
			b.ReportMetric(perRow(q.took[1]), "claim-µs/row")
			b.ReportMetric(perRow(q.took[2]), "complete-µs/row")
		})
	}
}

type queueBench struct {
	b       *testing.B
	s       *sqlstore.Store
	now     time.Time
	payload []byte
	rows    int
	took    [3]time.Duration
}

const (
	benchBatch = 256
	benchLanes = 16
)

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
	began := time.Now()
	if _, err := q.s.Enqueue(q.b.Context(), req); err != nil {
		q.b.Fatal(err)
	}
	q.took[0] += time.Since(began)
}

func (q *queueBench) claim() []webhook.Claimed {
	req := &webhook.ClaimRequest{Now: q.now, Owner: "bench", Limit: benchBatch}
	for i := range benchLanes {
		id := webhook.LaneID{EndpointID: fmt.Sprintf("endpoint-%02d", i)}
		req.Lanes = append(req.Lanes, webhook.LaneClaim{LaneID: id, Max: benchBatch / benchLanes, Lease: time.Minute})
	}
	began := time.Now()
	res, err := q.s.Claim(q.b.Context(), req)
	if err != nil || len(res.Deliveries) != benchBatch {
		q.b.Fatalf("claimed %d, %v", len(res.Deliveries), err)
	}
	q.took[1] += time.Since(began)
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
	began := time.Now()
	if _, err := q.s.Complete(q.b.Context(), req); err != nil {
		q.b.Fatal(err)
	}
	q.took[2] += time.Since(began)
}
