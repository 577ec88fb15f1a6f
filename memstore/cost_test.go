package memstore

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

var start = time.Date(2026, 1, 30, 12, 0, 0, 0, time.UTC)

// fill queues n deliveries for an endpoint, due one µs after the other from due on.
func fill(tb testing.TB, s *Store, endpoint string, n int, due time.Time) {
	tb.Helper()
	for done := 0; done < n; {
		req := &webhook.EnqueueRequest{Now: start}
		for range min(1000, n-done) {
			id := fmt.Sprintf("%s-%d-%d", endpoint, due.Unix(), done)
			req.Events = append(req.Events, webhook.NewEvent{
				Event:      webhook.Event{ID: id, Type: "t", Payload: make([]byte, 64)},
				Deliveries: []webhook.NewDelivery{{ID: id, EndpointID: endpoint, DueAt: due.Add(time.Duration(done) * time.Microsecond)}},
			})
			done++
		}
		if _, err := s.Enqueue(context.Background(), req); err != nil {
			tb.Fatal(err)
		}
	}
}

// backlog is the state that claims are measured on: one endpoint with 900,000 due and oldest deliveries (times scale),
// 1,000 endpoints with 50 due and 50 that lie ahead, and more endpoints with one that lies ahead.
func backlog(tb testing.TB, hot, others, ahead int) *Store {
	s := New()
	fill(tb, s, "hot", hot, start.Add(-2*time.Hour))
	for i := range others {
		name := fmt.Sprintf("ep%05d", i)
		fill(tb, s, name, 50, start.Add(-time.Hour))
		fill(tb, s, name, 50, start.Add(time.Hour))
	}
	for i := range ahead {
		fill(tb, s, fmt.Sprintf("later%05d", i), 1, start.Add(time.Hour))
	}
	return s
}

func ask(s *Store, limit, max int, endpoints ...string) (*webhook.ClaimResult, error) {
	req := &webhook.ClaimRequest{Now: start, Owner: "test", Limit: limit}
	for _, ep := range endpoints {
		req.Lanes = append(req.Lanes, webhook.LaneClaim{LaneID: webhook.LaneID{EndpointID: ep}, Max: max, Lease: time.Minute})
	}
	return s.Claim(context.Background(), req)
}

// The work of a claim grows with what it returns, not with the backlog: counted in rows compared and walked past, on a
// lane a hundred times as long.
func TestClaimTouchesWhatItReturns(t *testing.T) {
	count := func(backlog int) int {
		s := New()
		fill(t, s, "hot", backlog, start.Add(-time.Hour))
		n := 0
		lane := &s.endpoints["hot"].lanes[webhook.Fresh]
		lane.waiting.cmp = func(a, b waiting) int {
			n++
			return byDue(a, b)
		}
		for range 5 {
			res, err := ask(s, 100, 100, "hot")
			if err != nil || len(res.Deliveries) != 100 {
				t.Fatalf("%d deliveries, %v, want 100", len(res.Deliveries), err)
			}
		}
		return n + lane.waiting.walked
	}
	small, large := count(1_000), count(100_000)
	if large > 3*small {
		t.Errorf("5 claims look at %d rows with 1,000 waiting, %d with 100,000", small, large)
	}
}

// A page of lanes costs the page, wherever it begins and however many lanes there are: counted in lanes compared and walked past.
func TestLanesTouchesItsPage(t *testing.T) {
	s := backlog(t, 0, 0, 10_000)
	n, total := 0, 0
	s.lanes.cmp = func(a, b *lane) int {
		n++
		return lanesByID(a, b)
	}
	req := &webhook.LanesRequest{Limit: 256}
	for {
		n, s.lanes.walked = 0, 0
		res, err := s.Lanes(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if n += s.lanes.walked; n > 256+64 {
			t.Errorf("a page after %v looks at %d lanes", req.After, n)
		}
		total += len(res.Lanes)
		if req.After = res.Next; req.After == (webhook.LaneID{}) {
			break
		}
	}
	if total != 10_000 {
		t.Errorf("%d lanes, want 10,000", total)
	}
}

// percentiles reports the middle and the slow end of what one call takes.
func percentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-µs")
}

// BenchmarkClaim claims 100 rows with 1,000,000 waiting, of which one endpoint holds 900,000, due and oldest.
// "others" names 100 other lanes as when the hot endpoint is full; "hot" names that one.
func BenchmarkClaim(b *testing.B) {
	for _, hot := range []bool{false, true} {
		b.Run(map[bool]string{false: "others", true: "hot"}[hot], func(b *testing.B) {
			s := backlog(b, 900_000, 1_000, 10_000)
			var names []string
			for i := range 1_000 {
				names = append(names, fmt.Sprintf("ep%05d", i))
			}
			var took []time.Duration
			next := 0
			b.ResetTimer()
			for b.Loop() {
				lanes, each := []string{"hot"}, 100
				if !hot {
					lanes, each = names[next%10*100:][:100], 1
				}
				next++
				began := time.Now()
				res, err := ask(s, 100, each, lanes...)
				took = append(took, time.Since(began))
				if err != nil || len(res.Deliveries) != 100 {
					b.Fatalf("%d deliveries, %v", len(res.Deliveries), err)
				}
				giveBack(b, s, res) // counts in ns/op, not in the percentiles
			}
			percentiles(b, took)
		})
	}
}

// giveBack returns claimed deliveries to their old due times, so that the next claim meets the same state.
func giveBack(b *testing.B, s *Store, res *webhook.ClaimResult) {
	req := &webhook.CompleteRequest{Now: start}
	for _, c := range res.Deliveries {
		req.Outcomes = append(req.Outcomes, webhook.Outcome{
			EndpointID: c.Delivery.EndpointID, DeliveryID: c.Delivery.ID, Token: c.Token, Next: webhook.Queued,
			DueAt: start.Add(-time.Minute),
		})
	}
	if _, err := s.Complete(b.Context(), req); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLanes reads one page of 256 of 12,001 lanes.
func BenchmarkLanes(b *testing.B) {
	s := backlog(b, 900_000, 1_000, 11_000)
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := s.Lanes(b.Context(), &webhook.LanesRequest{After: webhook.LaneID{EndpointID: "ep00500"}, Limit: 256}); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	percentiles(b, took)
}

// BenchmarkEnqueue stores a batch of 100 on top of 900,000, with the oldest finished being forgotten.
func BenchmarkEnqueue(b *testing.B) {
	s := backlog(b, 900_000, 0, 0)
	n := 0
	for b.Loop() {
		n++
		fill(b, s, fmt.Sprintf("ep%d", n%1000), 100, start.Add(time.Duration(n)*time.Second))
	}
}
