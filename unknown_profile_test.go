package webhook_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/profile"
)

// A process that does not know an endpoint's profile, as an older version, leaves its deliveries to those that do.
func TestUnknownProfileDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		older := &running{store: memstore.New(), rc: &receiver{}}
		older.start(t, webhook.DispatcherOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		ep := endpoint(t, "acme")
		ep.Profile = "tradegecko"
		admin, err := webhook.NewDispatcher(older.store, &webhook.DispatcherOptions{Profiles: profile.All()})
		if err != nil {
			t.Fatal(err)
		}
		put(t, admin, ep)
		time.Sleep(2 * time.Second)
		id := older.send(t, webhook.Event{Type: "x"})
		time.Sleep(5 * time.Second)
		x, err := older.Explain(t.Context(), id)
		if err != nil || !strings.Contains(fmt.Sprint(x), `cannot send to its endpoint: unknown profile "tradegecko"`) {
			t.Errorf("explained as %v, %v", x, err)
		}
		if n := strings.Count(log.String(), "cannot send to endpoint"); n != 1 {
			t.Errorf("it is logged %d times, want once", n)
		}

		newer := &running{store: older.store, rc: &receiver{}}
		newer.start(t, webhook.DispatcherOptions{Profiles: profile.All()})
		time.Sleep(time.Second)
		for range 20 {
			older.send(t, webhook.Event{Type: "x"})
		}
		time.Sleep(2 * time.Second)
		if n := len(newer.rc.requests()); n != 21 {
			t.Errorf("%d of 21 went out", n)
		}
	})
}
