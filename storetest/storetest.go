// Package storetest proves that a store keeps the contracts of package webhook: those of [webhook.Store] and of whichever of
// [webhook.HoldStore], [webhook.StateStore], [webhook.LifeStore], [webhook.EndpointStore], [webhook.DedupeStore], [webhook.QueryStore],
// [webhook.Pruner] and [webhook.ReplayStore] it implements.
// It is imported from tests only:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Harness {
//			return storetest.Harness{Store: newEmptyStore(t)}
//		})
//	}
//
// Each case has a name and a reason: the sentence of the contract that it proves. All cases pass their own Now to the store,
// years away from the wall clock, and none sleeps.
//
// # What stays free
//
// Where the contract leaves a store free, the cases do too:
//   - Deliveries of one lane that are due at the same time come in any order.
//   - A claim may return fewer than it could, as long as the lane's status says More and asking again gets on.
//   - A lane in which everything waits behind an ordering key may be listed by Lanes or not, and may count into Earliest or not.
//   - From may be honoured or not when something is due before it.
//   - Extend may apply or refuse a lease that has run out but was not claimed again.
//   - A delivery whose lease ran out reads as delivering or as waiting.
//   - Durations may be kept to the microsecond.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// Harness is a store to be tested, fresh and empty.
type Harness struct {
	// Store is the store under test: a [webhook.Store] and whichever of its sibling interfaces it implements.
	Store any

	// Second is another handle on the same data, as another process would have one. Nil: Store itself.
	Second any

	// Begin begins a transaction as a caller of the store's would, for the cases that need one. The harness
	// must allow two more writers while it is open, unless Without has "OpenTx".
	Begin func(ctx context.Context) (Tx, error)

	// Without names what the store leaves out on purpose; the cases that need it are skipped. Something that is
	// neither there nor named here fails them. Known names: "Store", "HoldStore", "StateStore", "LifeStore",
	// "EndpointStore", "DedupeStore", "QueryStore", "Pruner", "Eraser", "ReplayStore", "Tx" (there is no Begin) and "OpenTx" (nobody else can write while a transaction is
	// open, as on SQLite).
	Without []string
}

// Tx is a caller's transaction.
type Tx struct {
	webhook.Enqueuer
	Commit   func() error
	Rollback func() error
}

// Case is one sentence of the contract, put to the test.
type Case struct {
	Name   string // as the subtest is called: "Claim/EarliestFirst"
	Reason string // the words of the contract that it proves

	needs need
	run   func(e *env)
}

// ErrSkipped is wrapped by what [Case.Check] returns when the harness names what the case needs in Without.
var ErrSkipped = errors.New("skipped")

// limit is how long a case may take before it counts as hanging. What it asks of the store ends a little sooner.
const limit = 60 * time.Second

// Run runs each case of [Cases] as a subtest of t, in turn, on a store of its own. open may be called several times by one case;
// it runs on the subtest's goroutine, so that it may use t in any way.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			err := c.Check(func() Harness { return open(t) })
			switch {
			case errors.Is(err, ErrSkipped):
				t.Skip(err)
			case err != nil:
				t.Errorf("%v\ncontract: %s", err, c.Reason)
			}
		})
	}
}

// Cases returns all cases, in a fixed order.
func Cases() []Case {
	return slices.Concat(nowCases(), enqueueCases(), enqueueKeyCases(), leasedCases(), lanesCases(), claimCases(), claimBoundCases(), leaseCases(),
		orderCases(), deadLetterCases(), extendCases(), completeCases(), attemptCases(), wokenCases(), endCases(), expireCases(), backlogCases(),
		holdCases(), rateCases(), rateChangeCases(), stateCases(), notBeforeCases(), retainCases(),
		contextCases(), txCases(), endpointCases(), changeCases(), dedupeCases(), finishCases(), queryCases(), listCases(),
		filterCases(), eventCases(), keyHeadCases(), pruneCases(), forgetCases(), payloadCases(), eraseCases(),
		redeliverCases(), sourceCases(), replayCases(), concurrentCases(), randomCases(shrinkRuns))
}

// Check runs the case without package testing and returns what is wrong, or an error that wraps [ErrSkipped].
// open gives a fresh and empty store; it is called on the caller's goroutine.
func (c Case) Check(open func() Harness) error {
	h := open()
	if err := h.check(c.needs); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit-5*time.Second)
	defer cancel()
	e := newEnv(ctx, h)
	done := make(chan error, 1)
	go func() { done <- guard(func() { c.run(e) }) }()
	watchdog := time.NewTimer(limit)
	defer watchdog.Stop()
	for {
		select {
		case reply := <-e.opens:
			reply <- open()
		case err := <-done:
			return err
		case <-watchdog.C:
			stacks := make([]byte, 64<<10)
			return fmt.Errorf("still running after %v\n%s", limit, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// need is a set of what a case needs of a harness.
type need uint16

const (
	needStore need = 1 << iota
	needHold
	needEndpoint
	needDedupe
	needQuery
	needPrune
	needTx
	needOpenTx
	needState
	needLife
	needErase
	needReplay
)

// parts are the names of the bits of need, and how to see whether a store has what they stand for.
func parts() []part {
	return []part{
		{needStore, "Store", func(h Harness) bool { return both[webhook.Store](h) }},
		{needHold, "HoldStore", func(h Harness) bool { return both[webhook.HoldStore](h) }},
		{needState, "StateStore", func(h Harness) bool { return both[webhook.StateStore](h) }},
		{needLife, "LifeStore", func(h Harness) bool { return both[webhook.LifeStore](h) }},
		{needReplay, "ReplayStore", func(h Harness) bool { return both[webhook.ReplayStore](h) }},
		{needEndpoint, "EndpointStore", func(h Harness) bool { return both[webhook.EndpointStore](h) }},
		{needDedupe, "DedupeStore", func(h Harness) bool { return both[webhook.DedupeStore](h) }},
		{needQuery, "QueryStore", func(h Harness) bool { return both[webhook.QueryStore](h) }},
		{needPrune, "Pruner", func(h Harness) bool { return both[webhook.Pruner](h) }},
		{needErase, "Eraser", func(h Harness) bool { return both[webhook.Eraser](h) }},
		{needTx, "Tx", func(h Harness) bool { return h.Begin != nil }},
		{needOpenTx, "OpenTx", func(h Harness) bool { return h.Begin != nil }},
	}
}

type part struct {
	bit  need
	name string
	in   func(Harness) bool
}

// both reports whether the handles of h implement I.
func both[I any](h Harness) bool {
	_, ok := h.Store.(I)
	if h.Second != nil && ok {
		_, ok = h.Second.(I)
	}
	return ok
}

// check says whether h has what a case needs: nil, an error that wraps ErrSkipped, or what is missing.
func (h Harness) check(needs need) error {
	for _, name := range h.Without {
		if !slices.ContainsFunc(parts(), func(p part) bool { return p.name == name }) {
			return fmt.Errorf("storetest: Harness.Without: unknown name %q", name)
		}
	}
	var left []string
	for _, p := range parts() {
		switch {
		case needs&p.bit == 0:
		case slices.Contains(h.Without, p.name):
			left = append(left, p.name)
		case !p.in(h):
			return fmt.Errorf("storetest: the store has no %s, and Harness.Without does not name it", p.name)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("%w: the store is without %s", ErrSkipped, strings.Join(left, ", "))
	}
	return nil
}
