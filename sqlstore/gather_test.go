package sqlstore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
)

// fakeKeys is a gatherer over a database that takes a second for everything, and what it was asked.
type fakeKeys struct {
	g       gatherer
	mu      sync.Mutex
	alone   []string
	batches [][]string
	undone  []string
	fail    error       // of batches
	hang    atomic.Bool // batches and calls run until their context ends
}

func newFakeKeys() *fakeKeys {
	f := &fakeKeys{}
	f.g.run = func(ctx context.Context, calls []*keyCall) error {
		f.mu.Lock()
		var names []string
		for _, c := range calls {
			names = append(names, c.begin.Key)
			c.res = &webhook.BeginResult{Token: 7}
		}
		f.batches = append(f.batches, names)
		f.mu.Unlock()
		return errors.Join(f.work(ctx), f.fail)
	}
	f.g.undo = func(left []*keyCall) {
		for _, c := range left {
			f.undone = append(f.undone, c.begin.Key)
		}
	}
	return f
}

func (f *fakeKeys) work(ctx context.Context) error {
	if f.hang.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	time.Sleep(100 * time.Millisecond)
	return nil
}

func (f *fakeKeys) do(ctx context.Context, key string) error {
	call := &keyCall{begin: webhook.BeginRequest{Key: key}}
	return f.g.do(ctx, call, func(ctx context.Context, c *keyCall) error {
		f.mu.Lock()
		f.alone = append(f.alone, c.begin.Key)
		f.mu.Unlock()
		return f.work(ctx)
	})
}

// come has callers arrive one after the other while the first is under way.
func (f *fakeKeys) come(ctx context.Context, keys ...string) chan error {
	errs := make(chan error, len(keys))
	for _, key := range keys {
		go func() { errs <- f.do(ctx, key) }()
		synctest.Wait()
	}
	return errs
}

func wantErrors(t *testing.T, errs chan error, n int, want error) {
	t.Helper()
	for range n {
		if err := <-errs; !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

// idle says that nothing is under way or waits.
func (f *fakeKeys) idle(t *testing.T) {
	t.Helper()
	synctest.Wait()
	if f.g.busy != 0 || f.g.pending != nil {
		t.Errorf("%d under way and %d waiting at the end", f.g.busy, len(f.g.pending))
	}
}

func TestGatherRunsTogetherWhatCameMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeKeys()
		began := time.Now()
		wantErrors(t, f.come(t.Context(), "a", "b", "c", "d"), 4, nil)
		if took := time.Since(began); took != 200*time.Millisecond {
			t.Errorf("took %v, want one call and one batch", took)
		}
		if len(f.alone) != 1 || len(f.batches) != 1 || len(f.batches[0]) != 3 {
			t.Errorf("alone %q, together %q", f.alone, f.batches)
		}
		f.idle(t)
		wantErrors(t, f.come(t.Context(), "e"), 1, nil)
		if len(f.alone) != 2 {
			t.Errorf("a lone call was gathered: %q", f.batches)
		}
		f.idle(t)
	})
}

func TestGatherFailedBatchIsNobodysAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeKeys()
		f.fail = errors.New("one of them")
		wantErrors(t, f.come(t.Context(), "a", "b", "c"), 3, nil)
		if len(f.batches) != 1 || len(f.alone) != 3 {
			t.Errorf("alone %q, together %q", f.alone, f.batches)
		}
		f.idle(t)
	})
}

func TestGatherCallersWhoLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeKeys()
		ctx, cancel := context.WithCancel(t.Context())
		errs := f.come(t.Context(), "a", "b")
		gone := f.come(ctx, "waiting")
		cancel()
		wantErrors(t, gone, 1, context.Canceled)

		time.Sleep(150 * time.Millisecond) // "b" is in a batch; one more waits for the next
		ctx, cancel = context.WithCancel(t.Context())
		gone = f.come(ctx, "running")
		errs2 := f.come(t.Context(), "stays")
		time.Sleep(100 * time.Millisecond)
		cancel()
		wantErrors(t, gone, 1, context.Canceled)
		wantErrors(t, errs, 2, nil)
		wantErrors(t, errs2, 1, nil)
		f.idle(t)
		if len(f.undone) != 1 || f.undone[0] != "running" {
			t.Errorf("undone %q, want what ran for a caller who is gone", f.undone)
		}
		for _, batch := range f.batches {
			for _, key := range batch {
				if key == "waiting" {
					t.Errorf("ran what was given up before: %q", f.batches)
				}
			}
		}
	})
}

func TestGatherDoesNotWaitForWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeKeys()
		f.hang.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		hung := f.come(ctx, "a")
		time.Sleep(gatherPatience + time.Millisecond)
		f.hang.Store(false)
		began := time.Now()
		wantErrors(t, f.come(t.Context(), "b", "c"), 2, nil)
		if took := time.Since(began); took != 200*time.Millisecond {
			t.Errorf("took %v behind a call that hangs", took)
		}
		wantErrors(t, hung, 1, context.DeadlineExceeded)
		f.idle(t)
	})
}

// A batch that nobody waits for any more is given up.
func TestGatherCancelsABatchThatAllHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeKeys()
		first := f.come(t.Context(), "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		errs := f.come(ctx, "b", "c")
		f.hang.Store(true)
		wantErrors(t, first, 1, nil)
		began := time.Now()
		wantErrors(t, errs, 2, context.DeadlineExceeded)
		f.idle(t)
		if len(f.batches) != 1 || time.Since(began) > time.Second {
			t.Errorf("batches %q, %v", f.batches, time.Since(began))
		}
	})
}
