package webhook_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// lateTx is a caller's transaction that stores nothing until it is committed, and then all.
type lateTx struct {
	store *memstore.Store
	reqs  []*webhook.EnqueueRequest
}

func (tx *lateTx) Now(context.Context) (time.Time, error) { return time.Now(), nil }

func (tx *lateTx) Enqueue(_ context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	tx.reqs = append(tx.reqs, req)
	return &webhook.EnqueueResult{Events: make([]webhook.EnqueueStatus, len(req.Events))}, nil
}

func (tx *lateTx) commit(t *testing.T) {
	t.Helper()
	for _, req := range tx.reqs {
		if _, err := tx.store.Enqueue(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
}

// What is sent in a transaction before the first walk, and committed after it, is claimed in time, and takes nothing down.
func TestSentBeforeTheFirstWalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: &receiver{}}
		started, sent := make(chan struct{}), make(chan struct{})
		var first atomic.Bool
		r.on = &faulty{Store: r.store, now: func(ctx context.Context) (time.Time, error) {
			if first.CompareAndSwap(false, true) {
				close(started)
				<-sent
			}
			return r.store.Now(ctx)
		}}
		r.start(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		<-started
		tx := &lateTx{store: r.store}
		id, err := r.SendTx(t.Context(), tx, webhook.Event{Type: "a"})
		if err != nil {
			t.Fatal(err)
		}
		close(sent)
		time.Sleep(time.Second)
		tx.commit(t)
		time.Sleep(time.Second)
		if d := r.delivery(t, id); d.State != webhook.Delivered {
			t.Errorf("the delivery is %+v", d)
		}
	})
}
