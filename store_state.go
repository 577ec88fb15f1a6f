package webhook

import (
	"context"
	"time"
)

// StateStore keeps what the dispatchers on a store have to agree on about each endpoint. It goes with [HoldStore]: a hold
// is part of an endpoint's state. Without it a dispatcher knows the health of endpoints only from its own
// attempts, and switches none off.
type StateStore interface {
	// PutStates changes states, each by itself and all in one transaction: one whose endpoint's state has not the Version given
	// any more is [Stale], and nothing of it is stored. What is applied by one request gets one Version.
	// Hold gives a state a new Version too, and so does Unhold when it ends a hold. PutStates waits for no enqueue and
	// for no claim longer than those take. It changes nothing of an endpoint's rate.
	PutStates(ctx context.Context, req *PutStatesRequest) (*PutStatesResult, error)

	// StateChanges returns every state that changed after version since (0: all there are), in ascending order of EndpointID, and
	// the version that this brings a cache to: a change that commits later has a greater one, so that a cache that asks with its
	// last version misses nothing. When nothing changed it costs one lookup. A version beyond the latest is answered like 0.
	StateChanges(ctx context.Context, since int64) (*StateChanges, error)
}

// MaxStateDoc is how many bytes [EndpointState].Doc may have.
const MaxStateDoc = 8 << 10

// The kinds of hold that the library itself uses ([HoldStatus].Kind).
const (
	HoldPaused     = "paused"     // by a person
	HoldGone       = "gone"       // the endpoint answered 410 Gone
	HoldDisabled   = "disabled"   // nothing but failures for longer than the endpoint's policy bears
	HoldUnverified = "unverified" // it has not shown yet that it wants what it gets
)

// EndpointState is what all dispatchers know about sending to an endpoint.
type EndpointState struct {
	EndpointID string
	Version    int64       // grows with each change, over all endpoints
	Doc        []byte      // the dispatchers' own, at most MaxStateDoc bytes; nil: none
	NotBefore  time.Time   // Claim returns none of its deliveries earlier; zero: no bound
	Hold       *HoldStatus // nil: none. One whose Until has passed may still be here
}

// PutStatesRequest is the argument of [StateStore.PutStates].
type PutStatesRequest struct {
	Now    time.Time
	States []NewState // no endpoint twice
}

// NewState replaces Doc and NotBefore of a state.
type NewState struct {
	EndpointID string
	Version    int64        // as last read; 0: it has none yet
	Doc        []byte       // empty: none
	NotBefore  time.Time    // zero: no bound
	Hold       *HoldRequest // put on hold as well; its EndpointID and Now do not count. nil: the hold stays as it is
	Unhold     bool         // end the hold as well, if there is one; not together with Hold
}

// PutStatesResult is the answer of [StateStore.PutStates].
type PutStatesResult struct {
	States  []OutcomeStatus // Applied or Stale, in request order
	Version int64           // of those applied; 0: none was
}

// StateChanges is the answer of [StateStore.StateChanges].
type StateChanges struct {
	Version int64
	States  []EndpointState
}
