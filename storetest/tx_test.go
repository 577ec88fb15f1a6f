package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// transactional is a memstore with callers' transactions, good enough to try the cases that need them: a transaction works on a replica,
// made from all enqueued so far, and is enqueued for real when it commits.
type transactional struct {
	full
	mu       sync.Mutex
	enqueued []*webhook.EnqueueRequest
}

func (s *transactional) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res, err := s.full.Enqueue(ctx, req)
	if err == nil {
		own := *req
		own.Events = slices.Clone(req.Events)
		s.enqueued = append(s.enqueued, &own)
	}
	return res, err
}

// transaction is what begin returns.
type transaction struct {
	s       *transactional
	replica webhook.Store
	held    []*webhook.EnqueueRequest
}

func (s *transactional) begin(ctx context.Context) (Tx, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &transaction{s: s, replica: memstore.New()}
	for _, req := range s.enqueued {
		if _, err := t.replica.Enqueue(ctx, req); err != nil {
			return Tx{}, err
		}
	}
	return Tx{Enqueuer: t, Commit: t.commit, Rollback: func() error { return nil }}, nil
}

func (t *transaction) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	for _, ev := range req.Events {
		if slices.ContainsFunc(ev.Deliveries, func(d webhook.NewDelivery) bool { return d.Lease > 0 }) {
			return nil, fmt.Errorf("event %q: %w", ev.Event.ID, webhook.ErrLeaseInTx)
		}
	}
	res, err := t.replica.Enqueue(ctx, req)
	if err == nil {
		t.held = append(t.held, req)
	}
	return res, err
}

func (t *transaction) commit() error {
	for _, req := range t.held {
		if _, err := t.s.Enqueue(context.Background(), req); err != nil {
			return err
		}
	}
	return nil
}

// TestBrokenTx breaks transactions as TestBroken breaks methods.
func TestBrokenTx(t *testing.T) {
	tests := []struct {
		name   string
		breaks func(*transactional, Tx) Tx
		red    []string
	}{
		{"none", func(_ *transactional, tx Tx) Tx { return tx }, nil},
		{"commitLoses", func(_ *transactional, tx Tx) Tx {
			tx.Commit = func() error { return nil }
			return tx
		}, []string{"Tx/Commit", "Tx/Statuses", "Tx/RollbackTakesNoSequence", "Tx/Invisible", "Tx/DelaysNobody", "Expire/InTx", "Random"}},
		{"rollbackCommits", func(_ *transactional, tx Tx) Tx {
			tx.Rollback = tx.Commit
			return tx
		}, []string{"Tx/Rollback", "Tx/RollbackTakesNoSequence", "Expire/InTx", "Random"}},
		{"writesOutside", func(s *transactional, tx Tx) Tx {
			tx.Enqueuer = s
			tx.Commit = func() error { return nil }
			return tx
		}, []string{"Leased/InTx", "Tx/Rollback", "Tx/RollbackTakesNoSequence", "Tx/Invisible", "Tx/DelaysNobody", "Expire/InTx", "Random"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cases := slices.DeleteFunc(unshrunk(), func(c Case) bool { return c.Name == "Tx/SameKeyWaits" }) // no locks here
			got := red(t, cases, func() Harness {
				s := &transactional{full: memstore.New()}
				return Harness{Store: s, Begin: func(ctx context.Context) (Tx, error) {
					tx, err := s.begin(ctx)
					return tt.breaks(s, tx), err
				}}
			})
			wantRed(t, got, tt.red)
		})
	}
}
