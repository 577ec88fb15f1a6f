package dbtest

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// life is what alarms, bounds and the sweep ask while a large backlog waits.
func (b *bench) life(t *testing.T) {
	d, err := webhook.NewDispatcher(b.s, &webhook.DispatcherOptions{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	all := 1 + b.others
	backlog := func(what string, most, want int, opts webhook.BacklogOptions) {
		t.Helper()
		b.try(t, what, most, func() {
			got, err := d.Backlog(t.Context(), &opts)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Endpoints) != want {
				t.Errorf("%s: %d endpoints, want %d", what, len(got.Endpoints), want)
			}
		})
	}
	if _, err := d.Backlog(t.Context(), &webhook.BacklogOptions{Endpoints: []string{"nobody"}}); err != nil { // reads clock, endpoints and holds
		t.Fatal(err)
	}
	for range 6 { // PostgreSQL may change to a generic plan after five
		backlog("ages of all", 20*all+100, all, webhook.BacklogOptions{})
	}
	backlog("the age of the hot one", 30, 1, webhook.BacklogOptions{Endpoints: []string{"hot"}})
	for range 6 {
		backlog("whether the hot one is full", 1000*3+50, 1, webhook.BacklogOptions{Endpoints: []string{"hot"}, Count: 1000})
	}
	backlog("whether each is full", (10*3+20)*all+100, all, webhook.BacklogOptions{Count: 10})
	backlog("an endpoint without any", 50, 0, webhook.BacklogOptions{Endpoints: []string{"nobody"}, Count: 1000})

	end := func(what string, most, want int, req webhook.EndRequest) {
		t.Helper()
		fn := func() {
			res, err := b.s.End(t.Context(), &req)
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Ended) != want {
				t.Errorf("%s: %d ended, want %d", what, len(res.Ended), want)
			}
		}
		if want == 0 {
			b.try(t, what, most, fn)
			return
		}
		// Its statements cannot be explained afterwards: what they were about is gone.
		if rows := b.measure(t, fn); rows > most {
			t.Errorf("%s: %d rows read, want at most %d", what, rows, most)
		}
		b.rec.take()
	}
	for range 6 {
		end("a sweep with nothing to end", 20, 0, webhook.EndRequest{Now: at(0), Expired: true, Next: webhook.Expired})
	}
	for i := range 6 {
		end(fmt.Sprint("the oldest of the hot one ", i), 25*30, 25, webhook.EndRequest{
			Now: at(0), EndpointID: "hot", Oldest: 25, Limit: 25, Next: webhook.Expired, Reason: "test"})
	}
	end("an event of ten", 10*30, 10, webhook.EndRequest{
		Now: at(time.Second), EventID: fmt.Sprintf("ev%09d", b.hot()/20), Leased: true, Next: webhook.Canceled, Reason: "test"})
}
