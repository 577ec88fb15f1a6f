package webhook

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// No delivery stands twice in what is recorded together, be it one batch or one joined to another that could not be recorded. Every outcome is
// taken once, in order.
func TestBatchesOfOutcomes(t *testing.T) {
	c := newCompleter(nil)
	named := func(ids ...string) (list []finished) {
		for i, id := range ids {
			list = append(list, finished{outcome: Outcome{DeliveryID: id, Token: int64(i)}})
		}
		return list
	}
	ids := func(list []finished) (ids string) {
		for _, f := range list {
			ids += f.outcome.DeliveryID
		}
		return ids
	}
	var got []string
	c.pending = named("a", "b", "c", "b", "d", "e")
	failed := c.take(nil)
	got = append(got, ids(failed))
	joined := append(failed, c.take(failed)...)
	got = append(got, ids(joined), ids(c.take(nil)))
	c.recycle(joined)
	c.pending = named("d", "a")
	got = append(got, ids(c.take(named("a"))), ids(c.take(named("a"))), ids(c.take(nil)), ids(c.take(nil)))
	if d := cmp.Diff([]string{"abc", "abc", "bde", "d", "", "a", ""}, got); d != "" {
		t.Errorf("batches (-want +got):\n%s", d)
	}
	for i := range completeMost + 1 {
		c.pending = append(c.pending, finished{outcome: Outcome{DeliveryID: fmt.Sprint(i)}})
	}
	if n, left := len(c.take(nil)), len(c.pending); n != completeMost || left != 1 {
		t.Errorf("a batch of %d, and %d left; want %d and 1", n, left, completeMost)
	}
}
