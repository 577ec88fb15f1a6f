package dbtest

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
)

// TestBehindADeadLetter lets a delivery of a key be refused for good on each store: what comes behind it goes on, or waits until another
// dispatcher, which does not run, releases the key. The receiver sees by the numbers what it did not get.
func TestBehindADeadLetter(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		for policy, state := range map[webhook.OrderPolicy]webhook.State{
			webhook.BlockBehindDeadLetter: webhook.Queued, webhook.SkipDeadLetter: webhook.Delivered, webhook.HoldKey: webhook.Held,
		} {
			t.Run(fmt.Sprint("then ", state), func(t *testing.T) { behindADeadLetter(t, v, d, policy, state) })
		}
	})
}

func behindADeadLetter(t *testing.T, v variant, db DB, policy webhook.OrderPolicy, state webhook.State) {
	store, _ := v.handle(t, db)
	migrate(t, store)
	recv := &orderedReceiver{}
	server := httptest.NewServer(recv)
	t.Cleanup(server.Close)
	cfg := childConfig{Name: "one", URL: server.URL, Timeout: 20 * time.Second}
	opts := cfg.options()
	opts.Logger = slog.New(slog.DiscardHandler)
	id := "order-" + string(state)
	secret, err := webhook.IssuedSecret(childSecret)
	if err != nil {
		t.Fatal(err)
	}
	opts.Endpoints = []webhook.Endpoint{{
		ID: id, URL: server.URL, Secrets: []webhook.Secret{secret}, Types: []string{id}, Order: policy, Schedule: webhook.NoRetry(),
		SequenceHeader: sequenceHeader, Health: webhook.NoHealth(),
	}}
	d, err := webhook.NewDispatcher(store, opts)
	if err != nil {
		t.Fatal(err)
	}
	other, err := webhook.NewDispatcher(store, opts)
	if err != nil {
		t.Fatal(err)
	}
	startRun(t, d)
	last := ""
	for i, text := range []string{"ok", "bad", "ok", "other", "ok"} {
		ev := webhook.Event{ID: fmt.Sprint(id, i), Type: id, Payload: []byte(text), OrderingKey: "k" + strings.TrimPrefix(text, "ok")}
		if text == "bad" {
			ev.OrderingKey = "k"
		}
		if last, err = d.Send(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	// Two of the key and the other key's, at least.
	waitFor(t, patience, "what may go", func() bool {
		return len(recv.requests()) >= 3 && (state != webhook.Delivered || len(recv.requests()) == 5)
	})
	waitFor(t, patience, "the state of the last", func() bool { return stateOf(t, store, last) == state })
	blocked := func() []webhook.BlockedKey {
		keys, err := other.BlockedKeys(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	if state != webhook.Delivered {
		waitFor(t, patience, "the key to be blocked", func() bool { return len(blocked()) > 0 })
		keys := blocked()
		if len(keys) != 1 || keys[0].OrderingKey != "k" || keys[0].Held != (policy == webhook.HoldKey) || len(recv.requests()) != 3 {
			t.Fatalf("blocked keys %+v after %q, want k", keys, recv.requests())
		}
		if released, err := other.ReleaseKey(t.Context(), id, "k"); !released || err != nil {
			t.Fatalf("release: %t, %v", released, err)
		}
		waitFor(t, patience, "the rest", func() bool { return stateOf(t, store, last) == webhook.Delivered })
	}
	if keys := blocked(); len(keys) > 0 {
		t.Errorf("blocked keys at the end: %+v", keys)
	}
	got := recv.requests()
	got = slices.DeleteFunc(got, func(s string) bool { return s == "1 other" })
	if diff := cmp.Diff([]string{"1 ok", "2 bad", "3 ok", "4 ok"}, got); diff != "" {
		t.Errorf("went (-want +got):\n%s", diff)
	}
}

// stateOf is the state of an event's only delivery.
func stateOf(t *testing.T, store webhook.QueryStore, event string) webhook.State {
	t.Helper()
	res, err := store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now(), EventID: event})
	if err != nil || len(res.Deliveries) != 1 {
		t.Fatalf("deliveries of %s: %+v, %v; want one", event, res, err)
	}
	return res.Deliveries[0].State
}

// orderedReceiver keeps the number and the body of each request, and refuses what is bad.
type orderedReceiver struct {
	mu  sync.Mutex
	got []string
}

func (o *orderedReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	o.mu.Lock()
	o.got = append(o.got, r.Header.Get(sequenceHeader)+" "+string(body))
	o.mu.Unlock()
	if string(body) == "bad" {
		w.WriteHeader(http.StatusBadRequest)
	}
}

func (o *orderedReceiver) requests() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.got)
}
