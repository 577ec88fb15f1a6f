package dbtest

import (
	"fmt"
	"testing"

	"github.com/signalpost/webhook"
)

// TestOrderedPlansOfFewRows lets PostgreSQL plan claims and completions of ordered deliveries while few wait, and keep the plans, as
// prepared statements do until the table is analyzed. With 10,000 waiting in one key they must still read no more than they need.
func TestOrderedPlansOfFewRows(t *testing.T) {
	const keys, waiting, most = 50, 10_000, 2000
	each(t, []variant{mainVariants[1], planVariants[3]}, func(t *testing.T, v variant) {
		d := v.database(t)
		for _, p := range v.params {
			d.DSN = WithParam(d.DSN, p)
		}
		s, db := v.handle(t, d)
		db.SetMaxOpenConns(1) // the counters and the plans are the session's
		migrate(t, s)
		must(t, db, "ALTER TABLE webhook_queue SET (autovacuum_enabled = off)")
		m := meter{v, db}
		round := func(n int) (claimed, completed int) {
			var events []webhook.NewEvent
			for i := range keys {
				events = append(events, orderedEvent(fmt.Sprint("key", i), 2*n), orderedEvent(fmt.Sprint("key", i), 2*n+1))
			}
			enqueue(t.Context(), t, s, events...)
			for range 2 { // behind the first of each key is a second
				var got map[string]webhook.Claimed
				claimed += m.measure(t, func() { got = claim(t.Context(), t, s, childEndpoint(0)) })
				if len(got) < keys {
					t.Fatalf("claimed %d, want one of each of %d keys", len(got), keys)
				}
				completed += m.measure(t, func() { deliver(t, s, got) })
			}
			return claimed, completed
		}
		for n := range 10 {
			round(n)
		}
		var long []webhook.NewEvent
		for i := range waiting {
			long = append(long, orderedEvent("long", i))
		}
		storeAll(t, s, long)
		for i := 0; ; i++ {
			got := claim(t.Context(), t, s, childEndpoint(0)) // the first is leased, the others are set aside
			if i > 0 && len(got) == 0 {
				break
			}
		}
		claimed, completed := round(10)
		t.Logf("%s: %d rows read by 2 claims, %d by 2 completions of %d each", v.name, claimed, completed, keys)
		if claimed > most || completed > most {
			t.Errorf("with %d waiting, 2 claims read %d rows and 2 completions %d, want at most %d", waiting, claimed, completed, most)
		}
	})
}

// deliver ends what was claimed.
func deliver(t *testing.T, s webhook.Store, claimed map[string]webhook.Claimed) {
	t.Helper()
	req := &webhook.CompleteRequest{Now: at(0)}
	for id, c := range claimed {
		req.Outcomes = append(req.Outcomes, webhook.Outcome{EndpointID: c.Delivery.EndpointID, DeliveryID: id, Token: c.Token,
			Next: webhook.Delivered, Attempt: &webhook.Attempt{Number: 1, Token: c.Token, StartedAt: at(0), Status: 200}})
	}
	if _, err := s.Complete(t.Context(), req); err != nil {
		t.Fatal(err)
	}
}
