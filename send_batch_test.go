package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// numbered is a batch whose payloads are the numbers from first on.
func numbered(first, n int, ev webhook.Event) []webhook.Event {
	batch := make([]webhook.Event, n)
	for i := range batch {
		batch[i] = ev
		batch[i].Payload = fmt.Append(nil, first+i)
	}
	return batch
}

// A batch is one commit, is delivered, and keeps the order of its keys.
func TestSendBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{Store: memstore.New(), delay: time.Millisecond}
		r := &running{store: store.Store, on: store, rc: &receiver{}}
		r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		var batch []webhook.Event
		for i := range 1000 {
			batch = append(batch, webhook.Event{Type: "x", OrderingKey: fmt.Sprint("k", i%10), Payload: fmt.Append(nil, i)})
		}
		batch[17].ID = "evt_own"
		given := slices.Clone(batch)
		ids, err := r.SendBatch(t.Context(), batch)
		if err != nil || len(ids) != 1000 || ids[17] != "evt_own" {
			t.Fatalf("%d IDs, the 18th %q, error %v", len(ids), ids[17], err)
		}
		if diff := cmp.Diff(given, batch); diff != "" {
			t.Errorf("the caller's events changed: %s", diff)
		}
		if n := store.calls.Load(); n != 1 {
			t.Errorf("%d commits, want 1", n)
		}
		time.Sleep(time.Minute)
		last := make(map[int]int)
		for _, body := range bodiesOf(r.rc) {
			var n int
			fmt.Sscan(body, &n)
			if before, ok := last[n%10]; ok && n != before+10 {
				t.Errorf("key %d: %d came after %d", n%10, n, before)
			}
			last[n%10] = n
		}
		if got := len(r.rc.requests()); got != 1000 {
			t.Errorf("%d requests, want 1000", got)
		}
		for i, id := range ids {
			rec, err := store.GetEvent(t.Context(), id)
			if err != nil || string(rec.Event.Payload) != fmt.Sprint(i) {
				t.Fatalf("ID %d is that of %+v, %v", i, rec, err)
			}
		}
	})
}

// A lone unordered batch is handed over as far as senders are free.
func TestSendBatchIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{Poll: time.Hour}, endpoint(t, "acme"))
		time.Sleep(time.Second)
		if _, err := r.SendBatch(t.Context(), numbered(0, 5, webhook.Event{Type: "x"})); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := len(r.rc.requests()); got != 5 {
			t.Errorf("%d requests before any time passed, want 5", got)
		}
	})
}

// Conflicts are named; all the others are stored.
func TestSendBatchConflicts(t *testing.T) {
	store := memstore.New()
	d := sender(t, store, endpoint(t, "acme"))
	for i := range 7 {
		if _, err := d.Send(t.Context(), webhook.Event{ID: fmt.Sprint("old", i), Type: "x", Payload: []byte("old")}); err != nil {
			t.Fatal(err)
		}
	}
	batch := []webhook.Event{{ID: "new1", Type: "x"}}
	for i := range 7 {
		batch = append(batch, webhook.Event{ID: fmt.Sprint("old", i), Type: "x", Payload: []byte("new")})
	}
	batch = append(batch, webhook.Event{ID: "old0", Type: "x", Payload: []byte("old")}) // a repeat
	batch = append(batch, webhook.Event{ID: "new2", Type: "x"}, webhook.Event{ID: "new1", Type: "x"}, webhook.Event{ID: "new2", Type: "y"})
	ids, err := d.SendBatch(t.Context(), batch)
	ce, ok := errors.AsType[*webhook.ConflictError](err)
	if !ok || !errors.Is(err, webhook.ErrEventConflict) || len(ids) != len(batch) {
		t.Fatalf("%v, %d IDs", err, len(ids))
	}
	if diff := cmp.Diff([]string{"old0", "old1", "old2", "old3", "old4", "old5", "old6", "new2"}, ce.IDs); diff != "" {
		t.Error(diff)
	}
	want := `webhook: send: event "old0", event "old1", event "old2", event "old3", event "old4" and 3 more: event exists with other content`
	if err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	for _, id := range []string{"new1", "new2"} {
		if rec, err := store.GetEvent(t.Context(), id); err != nil || rec.Deliveries != 1 {
			t.Errorf("%s: %+v, %v", id, rec, err)
		}
	}
}

// A batch that the store cannot take fails whole, and its neighbours in the commit do not.
func TestPoisonedBatchFailsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{Store: memstore.New(), delay: time.Millisecond}
		d := sender(t, store, endpoint(t, "acme"))
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				batch := numbered(0, 30, webhook.Event{Type: "x"})
				if i == 7 {
					batch[13].Payload = []byte("poison")
				}
				ids, err := d.SendBatch(t.Context(), batch)
				if i == 7 != errors.Is(err, errPoison) || len(ids) != 30 {
					t.Errorf("batch %d: %d IDs, %v", i, len(ids), err)
				}
				for _, id := range ids {
					if _, err := store.GetEvent(t.Context(), id); (err == nil) == (i == 7) {
						t.Errorf("batch %d: event %s: %v", i, id, err)
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestSendBatchRefusals(t *testing.T) {
	store := memstore.New()
	d := sender(t, store, endpoint(t, "acme"))
	big := slices.Repeat([]webhook.Event{{Type: "x", Payload: make([]byte, 1<<20)}}, 65)
	for _, tc := range []struct {
		name, field string
		events      []webhook.Event
	}{
		{"too many", "events", make([]webhook.Event, 1001)},
		{"too large", "events", big},
		{"one malformed", "events[2].Type", []webhook.Event{{Type: "x"}, {Type: "x"}, {}}},
		{"alone", "Type", []webhook.Event{{}}},
	} {
		ids, err := d.SendBatch(t.Context(), tc.events)
		if fe, ok := errors.AsType[*webhook.FieldError](err); !ok || fe.Field != tc.field || ids != nil {
			t.Errorf("%s: %v, %v, want a FieldError for %s", tc.name, ids, err, tc.field)
		}
		ids, err = d.SendBatchTx(t.Context(), store, tc.events)
		if fe, ok := errors.AsType[*webhook.FieldError](err); !ok || fe.Field != tc.field || ids != nil {
			t.Errorf("%s in a transaction: %v, %v, want a FieldError for %s", tc.name, ids, err, tc.field)
		}
	}
	if ids, err := d.SendBatch(t.Context(), nil); ids != nil || err != nil {
		t.Errorf("nothing: %v, %v", ids, err)
	}
	if _, err := d.SendBatchTx(t.Context(), nil, big[:1]); !errors.Is(err, webhook.ErrInvalid) {
		t.Errorf("no transaction: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ids, err := d.SendBatch(ctx, numbered(0, 3, webhook.Event{Type: "x"}))
	if !errors.Is(err, context.Canceled) || len(ids) != 3 || !strings.HasPrefix(err.Error(), "webhook: send: ") {
		t.Errorf("canceled: %v, %v", ids, err)
	}
	res, err := store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{})
	if err != nil || len(res.Deliveries) != 0 {
		t.Errorf("%d deliveries are stored, %v", len(res.Deliveries), err)
	}
}

// A fan-out beyond all bounds is refused for a batch.
func TestSendBatchFanOut(t *testing.T) {
	var eps []webhook.Endpoint
	for i := range 101 {
		eps = append(eps, endpoint(t, fmt.Sprint("ep", i)))
	}
	d := sender(t, memstore.New(), eps...)
	_, err := d.SendBatch(t.Context(), numbered(0, 1000, webhook.Event{Type: "x"}))
	if fe, ok := errors.AsType[*webhook.FieldError](err); !ok || fe.Field != "events" || !strings.Contains(fe.Reason, "101000") {
		t.Error(err)
	}
}

func TestSendBatchTx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		batch := numbered(0, 50, webhook.Event{Type: "x", OrderingKey: "k"})
		batch[7].ID = "evt_7"
		batch = append(batch, webhook.Event{ID: "evt_7", Type: "x"})
		ids, err := r.SendBatchTx(t.Context(), r.store, batch)
		ce, ok := errors.AsType[*webhook.ConflictError](err)
		if !ok || !slices.Equal(ce.IDs, []string{"evt_7"}) || len(ids) != 51 {
			t.Errorf("%d IDs, %v", len(ids), err)
		}
		time.Sleep(time.Minute)
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprint(i))
		}
		if diff := cmp.Diff(want, bodiesOf(r.rc)); diff != "" {
			t.Error(diff)
		}
	})
}

// Each event of a batch may have its own time.
func TestSendBatchSchedules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		began := time.Now()
		batch := numbered(0, 5, webhook.Event{Type: "x"})
		for i := range batch {
			batch[i].SendAt = began.Add(time.Duration(5-i) * time.Minute)
		}
		if _, err := r.SendBatch(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		for i, g := range r.rc.requests() {
			if late := g.at.Sub(began) - time.Duration(i+1)*time.Minute; g.body != fmt.Sprint(4-i) || late < 0 || late > 10*time.Millisecond {
				t.Errorf("request %d is %s, %v late", i, g.body, late)
			}
		}
	})
}

func BenchmarkSendBatch(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d, err := webhook.NewDispatcher(memstore.NewWithOptions(nil), &webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{endpoint(b, "acme")}})
			if err != nil {
				b.Fatal(err)
			}
			batch := numbered(0, n, webhook.Event{Type: "x"})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.SendBatch(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
		})
	}
}
