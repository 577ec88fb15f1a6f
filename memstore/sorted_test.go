package memstore

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// The set against a plain sorted slice, under random insertions and removals that fill, split, empty and merge chunks.
func TestSortedAgainstSlice(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := sorted[int]{cmp: cmp.Compare[int]}
	var model []int
	for step := range 60_000 {
		v := r.IntN(20_000)
		i, there := slices.BinarySearch(model, v)
		grow := step/15_000%2 == 0 // grow, shrink, grow, shrink
		switch {
		case grow && r.IntN(8) > 0:
			if s.insert(v) == there {
				t.Fatalf("step %d: insert(%d) = %v", step, v, there)
			}
			if !there {
				model = slices.Insert(model, i, v)
			}
		default:
			if len(model) > 0 && !grow { // take what is there: the first, or any
				v = model[r.IntN(2)*r.IntN(len(model))]
				i, there = slices.BinarySearch(model, v)
			}
			if s.remove(v) != there {
				t.Fatalf("step %d: remove(%d) = %v", step, v, !there)
			}
			if there {
				model = slices.Delete(model, i, i+1)
			}
		}
		if step%500 == 0 {
			checkSorted(t, &s, model, r.IntN(20_000))
		}
	}
	for len(model) > 0 {
		s.remove(model[0])
		model = model[1:]
	}
	checkSorted(t, &s, model, 0)
}

// checkSorted compares all elements, those from v on, the count, and the shape of the chunks.
func checkSorted(t *testing.T, s *sorted[int], model []int, v int) {
	t.Helper()
	i, _ := slices.BinarySearch(model, v)
	if got := slices.Collect(s.from(v)); !slices.Equal(got, model[i:]) {
		t.Fatalf("from(%d) has %d elements, want %d", v, len(got), len(model)-i)
	}
	if got := slices.Collect(s.from(-1)); !slices.Equal(got, model) || s.n != len(model) {
		t.Fatalf("%d elements, n = %d, want %d", len(got), s.n, len(model))
	}
	first, ok := s.first()
	if ok != (len(model) > 0) || ok && first != model[0] {
		t.Fatalf("first() = %d, %v", first, ok)
	}
	for _, c := range s.chunks {
		if len(c) == 0 || len(c) > chunkMax {
			t.Fatalf("a chunk has %d elements", len(c))
		}
	}
	if most := 4*len(model)/chunkMax*2 + 2; len(s.chunks) > most {
		t.Fatalf("%d chunks for %d elements, want at most %d", len(s.chunks), len(model), most)
	}
}
