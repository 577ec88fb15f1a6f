package webhook

import (
	"context"
	"time"
)

// ReplayStore queues new deliveries of events that are stored, and keeps replays. Without it nothing can be replayed.
type ReplayStore interface {
	// Redeliver queues new deliveries of stored events, all in one transaction, each by itself [Redelivered] or passed over. They have
	// no ordering key, are due at Now, and change nothing that is stored already. With req.Step nothing is queued unless the step is Applied.
	// With req.DryRun nothing is written, and what is answered is the same.
	Redeliver(ctx context.Context, req *RedeliverRequest) (*RedeliverResult, error)

	// ReplaySources returns what a replay is to repeat, in ascending order of [ReplaySource.ID], a page at a time.
	//
	// Sources are deliveries that are final and match req.Filter. Of those of one event to one endpoint that were made within the
	// filter's time and before req.Before only the latest may be one, and not when a later one is unfinished, or is delivered while it is not.
	// So a dead letter that was replayed since with success is no source, and one that was replayed in vain counts once.
	//
	// With [Unmatched] sources are events that have no delivery; with req.Events they are events, whatever deliveries they have. Type,
	// Tenant and time are the event's then, and no other field of the filter counts.
	//
	// A page looks at no more than req.Examine deliveries or events, so it may have fewer sources than its Limit, even none, with Next saying where to go on.
	ReplaySources(ctx context.Context, req *ReplaySourcesRequest) (*ReplaySourcesResult, error)

	// PutReplay stores a new replay, and fails when its ID exists. It is due at its DueAt, or at its CreatedAt when that is zero.
	PutReplay(ctx context.Context, r Replay) error

	// GetReplay returns a replay, or [ErrNotFound].
	GetReplay(ctx context.Context, id string) (Replay, error)

	// ListReplays returns replays in descending order of ID: the newest first.
	ListReplays(ctx context.Context, req *ListReplaysRequest) (*ListReplaysResult, error)

	// ChangeReplay makes a replay running, paused or canceled, and returns it as it is then, or [ErrNotFound]. One that is done or canceled stays as
	// it is. One that is paused or canceled is not claimed, and a step under way is Stale from then on. One that is resumed is due at once.
	ChangeReplay(ctx context.Context, req *ChangeReplayRequest) (Replay, error)

	// ClaimReplay leases the running replay that is longest due, if any is due, to req.Owner until Now+Lease: no other claim returns it
	// before, unless a step ends the lease, and its token is greater than that of any earlier claim of it.
	ClaimReplay(ctx context.Context, req *ClaimReplayRequest) (*ClaimReplayResult, error)
}

// RedeliverRequest is the argument of [ReplayStore.Redeliver].
type RedeliverRequest struct {
	Now        time.Time
	Deliveries []Redelivery
	Step       *ReplayStep // moves a replay on in the same transaction; nil: none
	DryRun     bool        // not together with Step
}

// Redelivery is a new delivery of a stored event.
type Redelivery struct {
	ID         string
	EventID    string
	EndpointID string
	Replay     string // [Delivery.Replay]; required
	ReplayOf   string // [Delivery.ReplayOf]

	// Lacking, when set, passes over an endpoint that has the event already: one that has a delivery of it that is unfinished,
	// delivered, or made at Lacking or later.
	Lacking time.Time
}

// RedeliverStatus says what became of one redelivery.
type RedeliverStatus int8

// The answers of [ReplayStore.Redeliver] for one delivery.
const (
	Redelivered RedeliverStatus = iota // queued
	HasEvent                           // passed over because of Lacking, also by what stands earlier in the request
	NoEvent                            // the event is not stored any more
	PayloadGone                        // the event's payload was erased
)

// RedeliverResult is the answer of [ReplayStore.Redeliver].
type RedeliverResult struct {
	Deliveries []RedeliverStatus // in request order; none when the step is not Applied
	Step       OutcomeStatus     // Applied, Stale or Unknown
}

// ReplayStep is how far a claimed replay has got. It is Applied while the replay is running and leased under Token, even after the
// lease's end as long as nobody else has claimed it, and ends the lease. Else it is Stale, also when it is repeated: nothing is done then.
type ReplayStep struct {
	ID         string
	Token      int64
	Cursor     string    // of the replay from now on
	Done       bool      // the replay is done; FinishedAt is Now
	DueAt      time.Time // when the next step is due
	Reason     string    // of the replay from now on
	Matched    int       // sources, to be added to the replay's
	PassedOver int       // likewise, besides those that this request passes over; what it queues is added to Redelivered
}

// ReplaySourcesRequest is the argument of [ReplayStore.ReplaySources].
type ReplaySourcesRequest struct {
	Filter  Filter
	Before  time.Time // only what was made before; required
	Events  bool
	After   string // exclusive ID; "": from the start
	To      string // exclusive ID, where the walk ends; "": at the end
	Limit   int    // at least 1
	Examine int    // at least 1
}

// ReplaySource is what a replay is to repeat.
type ReplaySource struct {
	ID         string // of the delivery, or of the event where those are the sources
	EventID    string
	Type       string
	Tenant     string
	EndpointID string // of the delivery; "" where events are the sources
}

// ReplaySourcesResult is the answer of [ReplayStore.ReplaySources].
type ReplaySourcesResult struct {
	Sources []ReplaySource
	Next    string // pass as After for the next page; "": the walk is complete
}

// ListReplaysRequest is the argument of [ReplayStore.ListReplays].
type ListReplaysRequest struct {
	Before string // exclusive ID; "": from the newest
	Limit  int    // zero: 100
}

// ListReplaysResult is the answer of [ReplayStore.ListReplays].
type ListReplaysResult struct {
	Replays []Replay
	Next    string // pass as Before for the next page; "": that was all
}

// ChangeReplayRequest is the argument of [ReplayStore.ChangeReplay].
type ChangeReplayRequest struct {
	Now    time.Time
	ID     string
	State  ReplayState // [ReplayRunning], [ReplayPaused] or [ReplayCanceled]
	Reason string      // in words
}

// ClaimReplayRequest is the argument of [ReplayStore.ClaimReplay].
type ClaimReplayRequest struct {
	Now   time.Time
	Owner string
	Lease time.Duration
}

// ClaimReplayResult is the answer of [ReplayStore.ClaimReplay].
type ClaimReplayResult struct {
	Replay *Replay // nil: none is due
	Token  int64
	Next   time.Time // without a replay: when the next one is due or its lease ends; zero: none is running
}
