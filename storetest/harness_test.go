package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// TestWithout checks that a case whose interface is missing is skipped only if the harness says so, and else fails.
func TestWithout(t *testing.T) {
	type dedupeOnly struct{ webhook.DedupeStore }
	only := dedupeOnly{memstore.New()}
	tests := []struct {
		name        string
		h           Harness
		case1, want string // "" wants no error
	}{
		{"has it", Harness{Store: only}, "Dedupe/TakenOnce", ""},
		{"silently without", Harness{Store: only}, "Enqueue/Stored", "the store has no Store, and Harness.Without does not name it"},
		{"without by name", Harness{Store: only, Without: []string{"Store"}}, "Enqueue/Stored", "skipped: the store is without Store"},
		{"one of two handles", Harness{Store: memstore.New(), Second: only}, "Enqueue/Stored", "the store has no Store"},
		{"no transactions", Harness{Store: memstore.New()}, "Tx/Commit", "the store has no Tx"},
		{"two things missing", Harness{Store: only, Without: []string{"Store", "QueryStore"}}, "Attempt/Late", "skipped: the store is without Store, QueryStore"},
		{"misspelt", Harness{Store: only, Without: []string{"Dedup"}}, "Dedupe/TakenOnce", `unknown name "Dedup"`},
		{"nothing at all", Harness{}, "Dedupe/TakenOnce", "the store has no DedupeStore"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := find(t, tt.case1).Check(func() Harness { return tt.h })
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if errors.Is(err, ErrSkipped) != strings.HasPrefix(tt.want, "skipped") {
				t.Errorf("skipped: %v", err)
			}
		})
	}
}

func find(t *testing.T, name string) Case {
	t.Helper()
	for _, c := range Cases() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no case %s", name)
	return Case{}
}

// TestShrink checks that a failing random case tells its seed and far fewer operations than it ran.
func TestShrink(t *testing.T) {
	var err error
	seed := 0
	for err == nil { // until a seed shows it
		if seed++; seed > randomSeeds {
			t.Fatal("a broken store passed")
		}
		err = find(t, fmt.Sprint("Random/", seed)).Check(func() Harness { return Harness{Store: completeAcceptsStale(memstore.New())} })
	}
	_, told, _ := strings.Cut(err.Error(), "operations:\n")
	if n := strings.Count(told, "\n"); n > 20 || !strings.Contains(err.Error(), fmt.Sprintf("STORETEST_SEED=%d ", seed)) {
		t.Errorf("%d operations told:\n%v", n, err)
	}
	t.Log(err)
}

// TestPanic checks that a store's panic is a failure of the case and not of the process.
func TestPanic(t *testing.T) {
	err := find(t, "Enqueue/Stored").Check(func() Harness { return Harness{Store: brokenEnqueue{full: memstore.New()}} })
	if err == nil || !strings.Contains(err.Error(), "nil pointer") {
		t.Errorf("got %v, want the panic", err)
	}
}
