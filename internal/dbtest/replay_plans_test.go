package dbtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// replay is what a replay asks and writes. It comes after life, which has ended some of the hot endpoint's.
func (b *bench) replay(t *testing.T) {
	const examine = 2000
	sources := func(what string, most, want int, req webhook.ReplaySourcesRequest) (found []webhook.ReplaySource) {
		t.Helper()
		req.Before, req.Examine = at(365*24*time.Hour), examine
		b.try(t, what, most, func() {
			res, err := b.s.ReplaySources(t.Context(), &req)
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Sources) != want {
				t.Errorf("%s: %d sources, want %d", what, len(res.Sources), want)
			}
			found = res.Sources
		})
		return found
	}
	const page = examine * 10 // a few probes for each delivery, and those of its event
	expired := webhook.Filter{Endpoint: "hot", State: webhook.Expired}
	var found []webhook.ReplaySource
	for i := range 7 { // PostgreSQL may change to a generic plan after five
		found = sources(fmt.Sprint("a step's sources ", i), page, 50, webhook.ReplaySourcesRequest{Filter: expired, Limit: 50})
	}
	sources("a page without sources", page, 0, webhook.ReplaySourcesRequest{Filter: webhook.Filter{Endpoint: "hot", Type: "none"}, Limit: 500})
	sources("a page of all endpoints' without sources", page, 0, webhook.ReplaySourcesRequest{Filter: webhook.Filter{State: webhook.DeadLetter}, Limit: 500})
	sources("events", page, 500, webhook.ReplaySourcesRequest{Events: true, Limit: 500})
	sources("events without deliveries", page, 0, webhook.ReplaySourcesRequest{Filter: webhook.Filter{State: webhook.Unmatched}, Limit: 500})

	if err := b.s.PutReplay(t.Context(), webhook.Replay{ID: "r", State: webhook.ReplayRunning, Rate: webhook.PerSecond(1), CreatedAt: at(0)}); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		req := &webhook.RedeliverRequest{Now: at(time.Duration(i) * time.Hour)}
		for j, src := range found[:50] {
			req.Deliveries = append(req.Deliveries, webhook.Redelivery{ID: fmt.Sprintf("x%d.%d", i, j), EventID: src.EventID, EndpointID: fmt.Sprint("to", i), Replay: "r", Lacking: at(time.Hour)})
		}
		redeliver := func(want int) {
			res, err := b.s.Redeliver(t.Context(), req)
			if err != nil || res.Step != webhook.Applied || len(res.Deliveries) != want {
				t.Fatal(res, err)
			}
		}
		req.DryRun = true
		b.try(t, fmt.Sprint("dry run of 50 ", i), 50*40, func() { redeliver(50) })
		var token int64
		b.try(t, fmt.Sprint("claim ", i), 20, func() {
			res, err := b.s.ClaimReplay(t.Context(), &webhook.ClaimReplayRequest{Now: req.Now, Owner: "bench", Lease: time.Minute})
			if err != nil || res.Replay == nil {
				t.Fatal(res, err)
			}
			token = res.Token
		})
		req.DryRun, req.Step = false, &webhook.ReplayStep{ID: "r", Token: token, DueAt: req.Now}
		// Not through try, which repeats what it explains: these rows exist by then.
		if rows := b.measure(t, func() { redeliver(50) }); rows > 50*40 {
			t.Errorf("a step of 50: %d rows read", rows)
		}
	}
}
