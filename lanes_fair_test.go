package webhook

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func newTenant(name string, weight int) *tenant {
	t := &tenant{name: name}
	t.rules.Store(&TenantPolicy{Weight: weight})
	return t
}

// While all have something, what each got is its weight's part, after any number of turns.
func TestFairFollowsWeights(t *testing.T) {
	for _, weights := range [][]int{{1, 1}, {1, 3}, {1, 1000}, {7, 2, 5, 1, 1, 30}} {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			var f fair[int]
			var all []*tenant
			sum := 0
			for i, w := range weights {
				all = append(all, newTenant(fmt.Sprint(i), w))
				sum += w
				for n := range 1 + i*i*100 { // how many elements it has does not matter
					f.push(all[i], n)
				}
			}
			got := make(map[*tenant]int)
			for turns := 1; turns <= 5*sum+50; turns++ {
				e, whose, ok := f.pop()
				if !ok {
					t.Fatal("nothing left")
				}
				f.charge(whose, 1)
				f.push(whose, e)
				got[whose]++
				for i, w := range weights {
					// A tenant's turn comes within one of its strides of when it should.
					if off := float64(got[all[i]]) - float64(turns*w)/float64(sum); off > float64(len(weights)) || off < -float64(len(weights)) {
						t.Fatalf("after %d turns the tenant of weight %d has had %d", turns, w, got[all[i]])
					}
				}
			}
		})
	}
}

// A tenant that comes back after a time without anything has no credit from it, and one that was ahead then still is.
func TestFairGivesNoCreditForIdleTime(t *testing.T) {
	var f fair[int]
	busy, idle := newTenant("busy", 1), newTenant("idle", 1)
	turn := func() *tenant {
		e, whose, _ := f.pop()
		f.charge(whose, 1)
		if whose == busy {
			f.push(busy, e)
		}
		return whose
	}
	f.push(idle, 0)
	f.push(busy, 0)
	for range 1000 {
		turn()
	}
	for i := range 100 {
		f.push(idle, i)
	}
	n := 0
	for range 100 {
		if turn() == idle {
			n++
		}
	}
	if n < 49 || n > 51 {
		t.Errorf("of 100 turns after an idle time it got %d, want 50", n)
	}
	for !f.hasNone(idle) {
		turn()
	}
	f.charge(idle, 20)
	f.push(idle, 0)
	for i := range 19 {
		if turn() == idle {
			t.Fatalf("it has had 20 more than its share, and gets turn %d", i+1)
		}
	}
}

// Any number of tenants may come and go: those without elements are forgotten, with what they are ahead only when very many others came.
func TestFairForgetsTenants(t *testing.T) {
	var f fair[int]
	busy, ahead := newTenant("busy", 1), newTenant("ahead", 1)
	f.push(busy, 0)
	f.charge(ahead, 1_000_000)
	most := 0
	for i := range 100_000 {
		tn := newTenant(fmt.Sprint(i), 1)
		f.push(tn, i)
		if e, whose, _ := f.pop(); whose == busy {
			f.push(busy, e)
		} else {
			f.charge(whose, 1) // nobody's turn moves on by it: each is ahead for ever
		}
		most = max(most, len(f.shares))
		if i < 20*sharesLeast && i%(sharesLeast/2) == 0 && !f.isAhead(ahead) {
			t.Fatalf("tenant %d: one that is asked for all the time was forgotten", i)
		}
	}
	if most > 4*sharesLeast {
		t.Errorf("%d tenants are remembered, want at most %d", most, 4*sharesLeast)
	}
	if f.hasNone(busy) || f.isAhead(ahead) {
		t.Error("the busy one was forgotten, or one that nobody asked for was not")
	}
	for i := range 3 * sharesLeast { // all have something
		f.push(newTenant(fmt.Sprint("kept", i), 1), i)
	}
	n := 0
	for _, _, ok := f.pop(); ok; _, _, ok = f.pop() {
		n++
	}
	if n < 3*sharesLeast {
		t.Errorf("%d elements came of %d", n, 3*sharesLeast)
	}
}

// The heap agrees with a model that looks at everything, through pushes, pops, charges, refunds and new weights.
func TestFairAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var f fair[int]
	var all []*tenant
	for i := range 40 {
		all = append(all, newTenant(fmt.Sprint(i), 1+r.IntN(20)))
	}
	model := make(map[*tenant][]int)
	weight := make(map[*tenant]int) // as known when it was last looked at
	for step := range 200_000 {
		tn := all[r.IntN(len(all))]
		switch r.IntN(8) {
		case 0, 1, 2:
			if len(model[tn]) == 0 {
				weight[tn] = tn.policy().Weight
			}
			model[tn] = append(model[tn], step)
			f.push(tn, step)
		case 3:
			n := r.IntN(9) - 4
			f.charge(tn, n)
			weight[tn] = tn.policy().Weight
		case 4:
			tn.rules.Store(&TenantPolicy{Weight: 1 + r.IntN(20)})
		default:
			e, whose, ok := f.pop()
			if !ok {
				for _, q := range model {
					if len(q) > 0 {
						t.Fatal("nothing came, and there is something")
					}
				}
				continue
			}
			if q := model[whose]; len(q) == 0 || q[0] != e {
				t.Fatalf("step %d: got %d, want the first of %v", step, e, q)
			}
			for other, q := range model {
				if len(q) > 0 && int64(f.of(other).pass-f.of(whose).pass) < 0 {
					t.Fatalf("step %d: the turn went past a tenant that is more behind", step)
				}
			}
			model[whose] = model[whose][1:]
		}
		sum := 0
		for other, q := range model {
			if len(q) > 0 {
				sum += weight[other]
			}
		}
		if sum != f.weight {
			t.Fatalf("step %d: weight is %d, want %d", step, f.weight, sum)
		}
	}
}

// What a turn costs, by the number of tenants and of endpoints in each.
func BenchmarkFair(b *testing.B) {
	for _, tc := range []struct{ tenants, endpoints int }{{1, 1}, {1, 10_000}, {100, 100}, {10_000, 1}} {
		b.Run(fmt.Sprintf("%d tenants of %d", tc.tenants, tc.endpoints), func(b *testing.B) {
			var f fair[int]
			for i := range tc.tenants {
				tn := newTenant(fmt.Sprint(i), 1+i%3)
				for n := range tc.endpoints {
					f.push(tn, n)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				e, whose, _ := f.pop()
				f.charge(whose, 1)
				f.push(whose, e)
			}
		})
	}
}
