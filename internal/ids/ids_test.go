package ids

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestIDsSortByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made []string
		for range 1000 {
			made = append(made, New("evt_"))
			time.Sleep(time.Millisecond)
		}
		if !slices.IsSorted(made) {
			t.Error("ids made later sort earlier")
		}
	})
}

func TestIDsAreDistinctAndWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for range 10000 {
		id := New("x_")
		if len(id) != 28 || strings.Trim(id[2:], alphabet) != "" {
			t.Fatalf("malformed id %q", id)
		}
		if seen[id] {
			t.Fatalf("id %q made twice", id)
		}
		seen[id] = true
	}
}

func TestEncodeUsesEveryBit(t *testing.T) {
	seen := map[string]bool{}
	for bit := range 128 {
		var raw [16]byte
		raw[bit/8] = 1 << (bit % 8)
		var text [26]byte
		encode(text[:], raw)
		seen[string(text[:])] = true
	}
	if len(seen) != 128 {
		t.Errorf("128 different bits encode to %d different texts", len(seen))
	}
}
