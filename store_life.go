package webhook

import (
	"context"
	"time"
)

// LifeStore ends deliveries before their time and counts those that wait. Without it nothing can be canceled, backlogs have no
// bound, and what expires while nobody claims it ends only when its turn comes.
type LifeStore interface {
	// End ends deliveries without an attempt, in one transaction, at most req.Limit. What is leased at Now is left alone unless
	// req.Leased is set: then the lease is fenced, its outcome will be stale and its attempt recorded as late.
	// What is final already is not touched. Repeating it is safe.
	//
	// A delivery with an ordering key is final at once when read, but keeps its place in the key, so that order and "one at a time"
	// hold: it is due now, or when the lease ends that it was under, Claim hands it out in its turn with an
	// ExpiresAt at the Unix epoch, and its completion, whatever it says, removes it, leaves its record as it is, and lets the next go.
	End(ctx context.Context, req *EndRequest) (*EndResult, error)

	// Backlog tells per endpoint, in ascending order of ID, since when deliveries wait and how many. It writes nothing and costs a
	// few probes and at most Count entries an endpoint.
	Backlog(ctx context.Context, req *BacklogRequest) (*BacklogResult, error)

	// BlockedKeys lists ordering keys of an endpoint that wait behind a dead letter, the one blocked longest first.
	BlockedKeys(ctx context.Context, req *BlockedKeysRequest) (*BlockedKeysResult, error)
}

// EndRequest is the argument of [LifeStore.End]. Exactly one of EventID, DeliveryID, Expired and EndpointID says which deliveries.
type EndRequest struct {
	Now        time.Time
	EventID    string // those of an event
	DeliveryID string // this one
	Expired    bool   // those whose ExpiresAt has come, earliest first; one that an earlier request met leased perhaps only when that lease would have ended
	EndpointID string // of its unfinished ones the Oldest, earliest due first as Claim has it; leased ones are passed over unless Leased
	Oldest     int    // with EndpointID, at least 1: how many
	Leased     bool   // what is leased as well
	Next       State  // Canceled or Expired
	Reason     string // in words
	Limit      int    // zero: 500
}

// EndResult is the answer of [LifeStore.End].
type EndResult struct {
	Ended []Delivery // what this request ended, as it reads now
	Found int        // with EventID or DeliveryID: how many deliveries there are, final ones too; 0: no such event or delivery
	Woken []Lane     // lanes in which something is due sooner now; a hint, may be left out, may name a lane twice
	More  bool       // Limit cut it short; with Expired there may be nothing left all the same
}

// BacklogRequest is the argument of [LifeStore.Backlog].
type BacklogRequest struct {
	Now       time.Time
	Endpoints []string // only these, in one answer; nil: all, a page at a time
	After     string   // exclusive ID; "": from the start
	Limit     int      // zero: 256
	Count     int      // count up to so many an endpoint; zero: do not count
}

// BacklogResult is the answer of [LifeStore.Backlog].
type BacklogResult struct {
	Endpoints []EndpointBacklog // those with an unfinished delivery or a blocked key
	Next      string            // pass as After for the next page; "": that was all
}

// EndpointBacklog is what waits for an endpoint. Where it speaks of due times, what End has ended and nobody has taken out of its key
// yet may count; Waiting leaves it out.
type EndpointBacklog struct {
	EndpointID string
	OldestDue  time.Time // due time, or end of a lease that ran out, of the one that is longest due; zero: none is due
	OldestKept time.Time // due time of the earliest that waits behind its ordering key; zero: none. A store may count into OldestDue what no claim has met yet
	Waiting    int       // unfinished ones, leased ones too; Count means as many or more; 0 when not counted
	Blocked    int       // ordering keys behind a dead letter, at most 100
}

// BlockedKeysRequest is the argument of [LifeStore.BlockedKeys].
type BlockedKeysRequest struct {
	EndpointID string
	After      string // as Next of an earlier answer; "": from the start
	Limit      int    // zero: 100
}

// BlockedKeysResult is the answer of [LifeStore.BlockedKeys].
type BlockedKeysResult struct {
	Keys []BlockedKey
	Next string // pass as After for the next page, opaque; "": that was all
}

// BlockedKey is an ordering key that waits behind a dead letter.
type BlockedKey struct {
	EndpointID  string
	OrderingKey string
	DeliveryID  string    // of the dead letter
	Held        bool      // by [HoldKey]: what waits reads as [Held]
	Since       time.Time // when the dead letter ended
}
