package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// TestRetentionBesideDelivery sends while two others prune all that has ended and erase a tenant, over and over, and are often cut off: what was
// sent arrives, nothing is left without what it belongs to, and in the end all is gone.
func TestRetentionBesideDelivery(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		store, db := v.handle(t, d)
		other, _ := v.handle(t, d)
		migrate(t, store)
		recv := &keepingReceiver{got: map[string]bool{}}
		server := httptest.NewServer(recv)
		t.Cleanup(server.Close)
		hooks, second := retainingDispatcher(t, store, server.URL), retainingDispatcher(t, other, server.URL)
		startRun(t, hooks)

		ctx, stop := context.WithCancel(t.Context())
		var busy sync.WaitGroup
		for _, on := range []*webhook.Dispatcher{hooks, second} {
			busy.Go(func() { pruneOverAndOver(ctx, t, on) })
		}
		busy.Go(func() { eraseOverAndOver(ctx, t, second) })
		sent := sendForAWhile(t, hooks)
		deadline := time.Now().Add(3 * time.Minute) // those of a key go one by one
		open := webhook.DeliveryQuery{States: []webhook.State{webhook.Queued, webhook.Delivering, webhook.RetryScheduled, webhook.Held}}
		for {
			page, err := hooks.Deliveries(t.Context(), open)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Deliveries) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d deliveries still wait, as %+v", len(page.Deliveries), page.Deliveries[0])
			}
			time.Sleep(50 * time.Millisecond)
		}
		stop()
		busy.Wait()
		for _, id := range sent {
			if !recv.has(id) {
				t.Errorf("%s has not arrived", id)
			}
		}
		pruneAll(t, hooks, db)
		checkBelongings(t, db)
		count(t, db, `SELECT COUNT(*) FROM webhook_delivery`, 0)
		count(t, db, `SELECT COUNT(*) FROM webhook_event`, 0)
		count(t, db, `SELECT COUNT(*) FROM webhook_unmatched`, 0)
		count(t, db, `SELECT COUNT(*) FROM webhook_failed`, 0)
		count(t, db, `SELECT COUNT(*) FROM webhook_attempt WHERE NOT late`, 0)
	})
}

// pruneAll prunes until no delivery is left, for a while: what ended just now is not yet older than Retention asks by each estimate of the
// store's clock.
func pruneAll(t *testing.T, hooks *webhook.Dispatcher, db *sql.DB) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		done, err := hooks.Prune(t.Context(), webhook.Retention{Delivered: 1, DeadLetters: 1, Canceled: 1, Expired: 1, Unmatched: 1})
		if err != nil {
			t.Fatal(err)
		}
		var left int
		if err := db.QueryRow(`SELECT COUNT(*) FROM webhook_event`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if left == 0 || time.Now().After(deadline) {
			t.Logf("the last pass: %+v", done)
			return
		}
	}
}

// keepingReceiver remembers the bodies it got, and refuses those that begin with "bad".
type keepingReceiver struct {
	mu  sync.Mutex
	got map[string]bool
}

func (k *keepingReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	k.mu.Lock()
	k.got[string(body)] = true
	k.mu.Unlock()
	if strings.HasPrefix(string(body), "bad") {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, strings.Repeat("no ", 100))
	}
}

func (k *keepingReceiver) has(body string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.got[body]
}

func retainingDispatcher(t *testing.T, store *sqlstore.Store, url string) *webhook.Dispatcher {
	t.Helper()
	secret, err := webhook.IssuedSecret(childSecret)
	if err != nil {
		t.Fatal(err)
	}
	var eps []webhook.Endpoint
	for _, tenant := range []string{"", "gone"} {
		for _, name := range []string{"one", "two"} {
			eps = append(eps, webhook.Endpoint{ID: name + tenant, Tenant: tenant, URL: url, Secrets: []webhook.Secret{secret}, Types: []string{"order"},
				Schedule: webhook.NoRetry(), Order: webhook.SkipDeadLetter, AllowPrivate: true, Health: webhook.NoHealth()})
		}
	}
	d, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{Endpoints: eps, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sendForAWhile sends events, and returns the bodies of those that must arrive.
func sendForAWhile(t *testing.T, d *webhook.Dispatcher) (sent []string) {
	t.Helper()
	for i := range 30 {
		var events []webhook.Event
		for j := range 20 {
			ev := webhook.Event{ID: fmt.Sprintf("ok-%d-%d", i, j), Type: "order"}
			switch j % 5 {
			case 1:
				ev.OrderingKey = "k"
			case 2:
				ev.ID = "bad" + ev.ID
			case 3:
				ev.Type = "refund" // nobody's
			case 4:
				ev.Tenant, ev.ID = "gone", "gone"+ev.ID
			}
			if ev.Payload = []byte(ev.ID); j%5 < 3 {
				sent = append(sent, ev.ID)
			}
			events = append(events, ev)
		}
		if _, err := d.SendBatch(t.Context(), events); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return sent
}

// over reports whether a context has ended or is about to: drivers have timers of their own for its deadline.
func over(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && time.Until(end) < 2*time.Millisecond
}

// cutOff is a context that often ends soon.
func cutOff(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(1+rand.IntN(60))*time.Millisecond)
}

func pruneOverAndOver(ctx context.Context, t *testing.T, d *webhook.Dispatcher) {
	r := webhook.Retention{Delivered: time.Millisecond, DeadLetters: 300 * time.Millisecond, Canceled: time.Millisecond, Unmatched: time.Millisecond, PayloadAfterDelivery: true}
	for ctx.Err() == nil {
		within, cancel := cutOff(ctx)
		if _, err := d.Prune(within, r); err != nil && !over(within) {
			t.Errorf("prune: %v", err)
		}
		cancel()
	}
}

func eraseOverAndOver(ctx context.Context, t *testing.T, d *webhook.Dispatcher) {
	for ctx.Err() == nil {
		within, cancel := cutOff(ctx)
		_, err := d.EraseTenant(within, "gone", &webhook.EraseOptions{CancelWaiting: true})
		if err != nil && !over(within) && !errors.Is(err, webhook.ErrNotFound) {
			t.Errorf("erase: %v", err)
		}
		cancel()
	}
}

// checkBelongings wants no row without what it belongs to.
func checkBelongings(t *testing.T, db *sql.DB) {
	t.Helper()
	for _, query := range []string{
		`SELECT COUNT(*) FROM webhook_delivery d LEFT JOIN webhook_event e ON e.id = d.event_id WHERE e.id IS NULL`,
		`SELECT COUNT(*) FROM webhook_event e LEFT JOIN webhook_delivery d ON d.event_id = e.id WHERE d.id IS NULL AND e.deliveries > 0`,
		`SELECT COUNT(*) FROM webhook_attempt a LEFT JOIN webhook_delivery d ON d.id = a.delivery_id WHERE d.id IS NULL AND NOT a.late`,
		`SELECT COUNT(*) FROM webhook_failed f LEFT JOIN webhook_delivery d ON d.id = f.id WHERE d.id IS NULL`,
		`SELECT COUNT(*) FROM webhook_delivery d LEFT JOIN webhook_failed f ON d.id = f.id WHERE f.id IS NULL AND d.state IN ('dead_letter', 'canceled', 'expired')`,
		`SELECT COUNT(*) FROM webhook_queue q LEFT JOIN webhook_delivery d ON d.id = q.id WHERE d.id IS NULL`,
		`SELECT COUNT(*) FROM webhook_delivery d LEFT JOIN webhook_queue q ON d.id = q.id WHERE q.id IS NULL AND d.finished_at IS NULL`,
	} {
		count(t, db, query, 0)
	}
}

func count(t *testing.T, db *sql.DB, query string, want int) {
	t.Helper()
	var n int
	if err := db.QueryRow(query).Scan(&n); err != nil || n != want {
		t.Errorf("%d rows, want %d, %v: %s", n, want, err, query)
	}
}
