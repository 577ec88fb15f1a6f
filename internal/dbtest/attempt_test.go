package dbtest

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// endCases end deliveries by attempts that say little, which the delivery's row keeps, and by such that go to the attempt table.
var endCases = []struct {
	name    string
	state   webhook.State
	reason  string
	attempt webhook.Attempt
	apart   bool // in the attempt table
}{
	{"silent", webhook.Delivered, "", webhook.Attempt{Status: 204}, false},
	{"empty answer", webhook.Delivered, "", webhook.Attempt{Status: 200, Response: []byte{}}, false},
	{"short answer", webhook.Delivered, "", webhook.Attempt{Status: 200, Response: []byte("ok\x00\xff\"\\")}, false},
	{"with a reason", webhook.Delivered, "by hand", webhook.Attempt{Status: 200}, false},
	{"dead", webhook.DeadLetter, "gave up", webhook.Attempt{Status: 410, Error: "status", Detail: "gone \U0001F573"}, false},
	{"as much as fits", webhook.Delivered, "", webhook.Attempt{Status: 200, Response: bytes.Repeat([]byte("x"), 64)}, false},
	{"long answer", webhook.Delivered, "", webhook.Attempt{Status: 200, Response: bytes.Repeat([]byte("x"), 65)}, true},
	{"long detail", webhook.DeadLetter, "", webhook.Attempt{Error: "connect", Detail: strings.Repeat("y", 4000)}, true},
	{"that names a next", webhook.Canceled, "", webhook.Attempt{Status: 500, NextAt: at(time.Hour)}, true},
}

// TestAttemptThatEnds shows that nobody who asks can tell where an attempt is kept.
func TestAttemptThatEnds(t *testing.T) {
	each(t, allVariants, func(t *testing.T, v variant) {
		s, db := v.handle(t, v.database(t))
		migrate(t, s)
		var events []webhook.NewEvent
		for _, c := range endCases {
			events = append(events, newEvent(c.name, "ep", ""))
		}
		enqueue(t.Context(), t, s, events...)
		if got := claim(t.Context(), t, s, "ep"); len(got) != len(endCases) {
			t.Fatalf("claimed %d", len(got))
		}
		end, late := &webhook.CompleteRequest{Now: at(time.Second)}, &webhook.CompleteRequest{Now: at(time.Minute)}
		want, apart := map[string][]webhook.Attempt{}, 0
		for _, c := range endCases {
			a := c.attempt
			a.DeliveryID, a.Number, a.Token, a.StartedAt, a.Duration = c.name, 1, 1, at(0), 1234567*time.Nanosecond
			b := a
			b.Token, b.Late, b.Detail, b.NextAt = 7, true, "late", time.Time{}
			out := webhook.Outcome{EndpointID: "ep", DeliveryID: c.name, Token: 1, Next: c.state, Reason: c.reason, Attempt: &a}
			end.Outcomes = append(end.Outcomes, out)
			out.Token, out.Attempt = 7, &b
			late.Outcomes = append(late.Outcomes, out)
			want[c.name] = []webhook.Attempt{a, b}
			if c.apart {
				apart++
			}
		}
		completed(t, s, end, webhook.Applied)
		completed(t, s, end, webhook.Applied) // a repeat: recorded once
		var rows int
		if err := db.QueryRow("SELECT COUNT(*) FROM webhook_attempt").Scan(&rows); err != nil || rows != apart {
			t.Errorf("%d rows in the attempt table, %v, want %d", rows, err, apart)
		}
		completed(t, s, late, webhook.Stale)
		completed(t, s, late, webhook.Stale)
		endedAs(t, s, want)
	})
}

// completed completes and checks what all outcomes are answered.
func completed(t *testing.T, s *sqlstore.Store, req *webhook.CompleteRequest, want webhook.OutcomeStatus) {
	t.Helper()
	res, err := s.Complete(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range res.Outcomes {
		if got != want {
			t.Errorf("%s: status %d, want %d", req.Outcomes[i].DeliveryID, got, want)
		}
	}
}

// endedAs checks deliveries and attempts of endCases.
func endedAs(t *testing.T, s *sqlstore.Store, want map[string][]webhook.Attempt) {
	t.Helper()
	text := cmp.Transformer("text", func(b []byte) string { return string(b) }) // an empty answer may come back as none
	for _, c := range endCases {
		got, err := s.ListAttempts(t.Context(), c.name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[c.name], got, text); diff != "" {
			t.Errorf("%s: attempts (-want +got):\n%s", c.name, diff)
		}
		list, err := s.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: at(time.Minute), EventID: c.name})
		if err != nil || len(list.Deliveries) != 1 {
			t.Fatalf("%s: %d deliveries, %v", c.name, len(list.Deliveries), err)
		}
		d := list.Deliveries[0]
		if d.State != c.state || d.Reason != c.reason || d.Attempts != 1 || !d.FinishedAt.Equal(at(time.Second)) {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
}
