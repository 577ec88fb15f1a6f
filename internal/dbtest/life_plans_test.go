package dbtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// leasedTwice is how many rows two looks at all that is leased read: in PostgreSQL a lease leaves a row where it stands in its lane.
func (b *bench) leasedTwice(t *testing.T) (n int) {
	t.Helper()
	if b.v.dialect != sqlstore.PostgreSQL {
		return 0
	}
	if err := b.db.QueryRow("SELECT COUNT(*) FROM webhook_queue WHERE leased_until IS NOT NULL").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return 2 * n
}

// life is Backlog, BlockedKeys and End. It ends some of the backlog.
func (b *bench) life(t *testing.T) {
	lanes := 1 + 2*b.others
	leased := b.leasedTwice(t)
	b.try(t, "ages of all backlogs", 8*lanes+50+leased, func() {
		req, seen := &webhook.BacklogRequest{Now: at(0)}, 0
		for {
			res := b.backlog(t, req)
			seen += len(res.Endpoints)
			if req.After = res.Next; req.After == "" {
				break
			}
		}
		if seen != 1+b.others {
			t.Errorf("%d endpoints, want %d", seen, 1+b.others)
		}
	})
	const count = 1000
	most := count + 20 + leased
	if b.v.dialect == sqlstore.MySQL {
		most += count // it counts a derived table, which it reads once more
	}
	for i := range 7 { // PostgreSQL may change to a generic plan after five
		b.try(t, fmt.Sprint("count of the hot endpoint's ", i), most, func() {
			res := b.backlog(t, &webhook.BacklogRequest{Now: at(0), Endpoints: []string{"hot"}, Count: count})
			if len(res.Endpoints) != 1 || res.Endpoints[0].Waiting != count {
				t.Errorf("got %+v", res.Endpoints)
			}
		})
	}
	b.try(t, "blocked keys of the hot endpoint, none", 20, func() {
		res, err := b.s.BlockedKeys(t.Context(), &webhook.BlockedKeysRequest{EndpointID: "hot"})
		if err != nil || len(res.Keys) != 0 {
			t.Errorf("%+v, %v", res, err)
		}
	})
	for i := range 7 {
		b.try(t, fmt.Sprint("sweep with nothing due ", i), 20, func() {
			b.end(t, 0, webhook.EndRequest{Now: at(2*time.Hour - time.Microsecond), Expired: true})
		})
	}
	for i := range 7 {
		b.try(t, fmt.Sprint("sweep of 50 ", i), 50*20, func() {
			b.end(t, 50, webhook.EndRequest{Now: at(3 * time.Hour), Expired: true, Limit: 50})
		})
		b.try(t, fmt.Sprint("the oldest 100 ", i), 100*20, func() {
			b.end(t, 100, webhook.EndRequest{Now: at(0), EndpointID: "hot", Oldest: 100})
		})
	}
	b.try(t, "an event's", 10*20, func() { b.end(t, 10, webhook.EndRequest{Now: at(0), EventID: fmt.Sprintf("ev%09d", b.hot()/40)}) })
	b.try(t, "a delivery", 30, func() { b.end(t, 1, webhook.EndRequest{Now: at(0), DeliveryID: fmt.Sprintf("d%09d", b.hot()-1)}) })
	b.try(t, "what is not there", 20, func() { b.end(t, 0, webhook.EndRequest{Now: at(0), EventID: "nothing"}) })
}

func (b *bench) backlog(t *testing.T, req *webhook.BacklogRequest) *webhook.BacklogResult {
	t.Helper()
	res, err := b.s.Backlog(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (b *bench) end(t *testing.T, want int, req webhook.EndRequest) {
	t.Helper()
	req.Next = webhook.Expired
	res, err := b.s.End(t.Context(), &req)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Ended) != want {
		t.Errorf("ended %d, want %d", len(res.Ended), want)
	}
}
