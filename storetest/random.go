package storetest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"github.com/signalpost/webhook"
)

const (
	randomSeeds = 8
	randomOps   = 200
	shrinkRuns  = 80 // how often a failing sequence is tried shorter
)

// randomCases are sequences of random operations, compared step by step with a model. STORETEST_SEED adds one with that seed.
func randomCases(shrinkRuns int) []Case {
	seeds := make([]uint64, randomSeeds)
	for i := range seeds {
		seeds[i] = uint64(i + 1)
	}
	if seed, err := strconv.ParseUint(os.Getenv("STORETEST_SEED"), 10, 64); err == nil {
		seeds = append(seeds, seed)
	}
	var cases []Case
	for _, seed := range seeds {
		cases = append(cases, Case{fmt.Sprintf("Random/%d", seed), "Store is the heart of what a Dispatcher needs: a queue of deliveries with leases", needStore,
			func(e *env) { randomRun(e, seed, shrinkRuns) }})
	}
	return cases
}

// op is one operation. All that is random in it comes from its own seed and from the state before it, so that a sequence means
// something with any of its operations left out.
type op struct {
	kind func(*walk)
	seed uint64
}

// walk is a store and its model on their way.
type walk struct {
	*env
	m   *model
	r   *rand.Rand // of the current operation
	id  uint64     // seed of the current operation, for new names
	log []string
}

// kinds are the operations, the likelier ones more than once.
func kinds() []func(*walk) {
	return []func(*walk){
		(*walk).opEnqueue, (*walk).opEnqueue, (*walk).opEnqueue, (*walk).opEnqueue, (*walk).opTx, (*walk).opRefused,
		(*walk).opClaim, (*walk).opClaim, (*walk).opClaim, (*walk).opClaim, (*walk).opClaim, (*walk).opLanes,
		(*walk).opComplete, (*walk).opComplete, (*walk).opComplete, (*walk).opComplete, (*walk).opExtend,
		(*walk).opHold, (*walk).opUnhold, (*walk).opRelease, (*walk).opAdvance, (*walk).opAdvance, (*walk).opRead,
		(*walk).opEnd, (*walk).opEnd, (*walk).opBacklog, (*walk).opPutStates, (*walk).opStates,
	}
}

// randomRun runs the operations of a seed. If they fail it looks for a short sequence that fails too and tells that.
func randomRun(e *env, seed uint64, shrinkRuns int) {
	r := rand.New(rand.NewPCG(seed, 1))
	all := kinds()
	ops := make([]op, randomOps)
	for i := range ops {
		ops[i] = op{all[r.IntN(len(all))], r.Uint64()>>24<<8 | uint64(i)}
	}
	failed := runOps(e, ops)
	if failed == nil {
		return
	}
	failed, ops = shrink(e, failed, ops[:failed.step], shrinkRuns)
	e.failf("seed %d: %v\nafter %d operations:\n  %s\n(STORETEST_SEED=%d and -run 'Random/%d$' repeat it)",
		seed, failed.err, len(ops), strings.Join(failed.log, "\n  "), seed, seed)
}

// failedRun is where a run failed.
type failedRun struct {
	err  error
	step int // how many operations were begun
	log  []string
}

// runOps runs operations and then delivers everything. It returns nil when store and model agree throughout.
func runOps(e *env, ops []op) *failedRun {
	w := &walk{env: e, m: newModel()}
	step := 0
	err := guard(func() {
		for i, o := range ops {
			step = i + 1
			w.r, w.id = rand.New(rand.NewPCG(o.seed, 2)), o.seed
			o.kind(w)
		}
		w.drain()
	})
	if err == nil {
		return nil
	}
	return &failedRun{err, step, w.log}
}

// shrink leaves out operations, halves first and single ones last, as long as what is left fails on a fresh store.
func shrink(e *env, failed *failedRun, ops []op, most int) (*failedRun, []op) {
	runs := 0
	for size := len(ops) / 2; size > 0; size /= 2 {
		for from := len(ops) - size; from >= 0; from -= size {
			if runs++; runs > most || e.ctx.Err() != nil {
				return failed, ops
			}
			fewer := append(append([]op(nil), ops[:from]...), ops[from+size:]...)
			if f := runOps(e.fresh(), fewer); f != nil {
				failed, ops = f, fewer[:f.step]
				from = min(from, len(ops))
			}
		}
	}
	return failed, ops
}

// note records what an operation does.
func (w *walk) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("at %v: ", w.m.now.Sub(at(0)))+fmt.Sprintf(format, args...))
}

// try fails the case if err is not nil.
func (w *walk) try(what string, err error) {
	if err != nil {
		w.failf("%s: %v", what, err)
	}
}

// chance is true once in n times.
func (w *walk) chance(n int) bool { return w.r.IntN(n) == 0 }

// store is one of the handles.
func (w *walk) store() webhook.Store { return w.handle(w.r.IntN(2)) }
