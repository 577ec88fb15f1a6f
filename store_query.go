package webhook

import (
	"context"
	"time"
)

// QueryStore answers the questions of people. None of it is needed to deliver.
//
// Lists are pages by ID, ascending or with Newest descending. A store examines no more than some thousands of rows for a
// page (10,000 in the stores of this module): when few match, a page may hold fewer than Limit, even none, and its Next says where to go
// on. The walk is complete when Next is "". What is stored, ends or goes meanwhile may be missed; nothing else is, and nothing comes twice.
type QueryStore interface {
	// GetEvent returns a stored event, or [ErrNotFound].
	GetEvent(ctx context.Context, id string) (*EventRecord, error)

	// ListEvents returns events without their payloads and headers.
	ListEvents(ctx context.Context, req *ListEventsRequest) (*ListEventsResult, error)

	// ListDeliveries returns deliveries with their states as of req.Now. What is unfinished, and what ended otherwise than
	// delivered, is found without a walk over what was delivered.
	ListDeliveries(ctx context.Context, req *ListDeliveriesRequest) (*ListDeliveriesResult, error)

	// ListAttempts returns the attempts of a delivery in the order of their tokens.
	ListAttempts(ctx context.Context, deliveryID string) ([]Attempt, error)

	// KeyHead returns what stands first in an ordering key of an endpoint: what the others of the key wait for. [ErrNotFound]: nothing
	// of the key waits, and nothing blocks it.
	KeyHead(ctx context.Context, endpointID, orderingKey string) (*KeyHead, error)
}

// EventRecord is a stored event.
type EventRecord struct {
	Event      Event
	CreatedAt  time.Time
	Deliveries int       // how many it fanned out to; 0: it matched nothing
	ErasedAt   time.Time // when its payload and header were erased, and so are empty here; zero: they were not
	Unreadable error     // why its header, which is empty here, could not be read; nil: it was
}

// ListEventsRequest is the argument of [QueryStore.ListEvents]. Empty fields do not filter.
type ListEventsRequest struct {
	Type      string    // exact, or a prefix and "*"
	Tenant    *string   // nil: of every tenant
	Unmatched bool      // only those that matched no endpoint
	Since     time.Time // CreatedAt, inclusive
	Until     time.Time // CreatedAt, exclusive
	After     string    // exclusive ID: only greater ones
	Before    string    // exclusive ID: only lesser ones
	Newest    bool      // in descending order of ID
	Limit     int       // zero: 100
}

// ListEventsResult is the answer of [QueryStore.ListEvents].
type ListEventsResult struct {
	Events []EventRecord
	Next   string // pass as After, with Newest as Before, for the next page; "": that was all
}

// ListDeliveriesRequest is the argument of [QueryStore.ListDeliveries]. Empty fields do not filter.
type ListDeliveriesRequest struct {
	Now        time.Time
	EventID    string
	EndpointID string
	State      State
	States     []State       // any of these, or State
	Type       string        // of the event: exact, or a prefix and "*"
	Tenant     *string       // of the event; nil: of every tenant
	Response   ResponseClass // of the attempt with the greatest token
	Since      time.Time     // CreatedAt, inclusive
	Until      time.Time     // CreatedAt, exclusive
	After      string        // exclusive ID: only greater ones
	Before     string        // exclusive ID: only lesser ones
	Newest     bool          // in descending order of ID
	Limit      int           // zero: 100
}

// ListDeliveriesResult is the answer of [QueryStore.ListDeliveries].
type ListDeliveriesResult struct {
	Deliveries []Delivery
	Next       string // pass as After, with Newest as Before, for the next page; "": that was all
}

// ResponseClass tells answers apart by their first digit.
type ResponseClass string

// The classes of responses to an attempt.
const (
	Response2xx ResponseClass = "2xx"
	Response3xx ResponseClass = "3xx"
	Response4xx ResponseClass = "4xx"
	Response5xx ResponseClass = "5xx"
	NoResponse  ResponseClass = "none" // an attempt was made and got no status
)

// KeyHead is what stands first in an ordering key.
type KeyHead struct {
	DeliveryID string
	Sequence   int64
	Blocked    bool // it is a dead letter, behind which the key waits for [HoldStore.ReleaseKey]
	Held       bool // it is one by [HoldKey]: what waits reads as [Held]
	Ended      bool // [LifeStore.End] has ended it, and it keeps its place until its turn has come
}

// Pruner forgets what has served its time.
type Pruner interface {
	// Prune removes at most req.Limit of each kind, each kind in one transaction, and reports how many.
	//
	// Event IDs and idempotency keys: call it again until it removes fewer.
	//
	// Deliveries: it examines no more than some thousands in ascending order of ID and forgets those that ended in a state and
	// before the time that req.Ended gives for it, with their attempts; an event goes with its last delivery. Never forgotten is what is not
	// final, and what stands in its ordering key yet: a dead letter that blocks it, or what End has ended and whose turn has not come. Go on
	// with Next until that is "". Several processes may do so at once.
	//
	// Payloads: it examines deliveries likewise, and erases payload and header of events whose deliveries were all delivered before
	// req.PayloadsBefore. The event and all that is told of its deliveries stay.
	//
	// Unmatched events go by age, and replays that are done or canceled by when they ended; others never go.
	Prune(ctx context.Context, req *PruneRequest) (*PruneResult, error)
}

// PruneRequest is the argument of [Pruner.Prune].
type PruneRequest struct {
	Now             time.Time
	EventIDsBefore  time.Time   // forget event IDs stored before, unless their event is still kept; zero: none
	DedupeKeys      bool        // forget idempotency keys that have expired
	Ended           EndedBefore // forget deliveries
	PayloadsBefore  time.Time   // erase payloads and headers of what was delivered before; zero: none
	UnmatchedBefore time.Time   // forget events that matched no endpoint and were stored before; zero: none
	ReplaysBefore   time.Time   // forget replays that ended before; zero: none
	After           string      // deliveries: exclusive ID; "": from the start
	Before          string      // deliveries: exclusive ID, where the walk ends; "": at the last
	Limit           int         // zero: 1,000
}

// EndedBefore says by state which deliveries to forget: those that ended before. Zero: none in that state.
type EndedBefore struct {
	Delivered  time.Time
	DeadLetter time.Time
	Canceled   time.Time
	Expired    time.Time
}

// PruneResult is the answer of [Pruner.Prune].
type PruneResult struct {
	EventIDs   int
	DedupeKeys int
	Deliveries int    // forgotten
	Events     int    // gone with their last delivery, or unmatched
	Payloads   int    // erased
	Replays    int    // forgotten
	Next       string // of the deliveries: pass as After to go on; "": the walk is complete
}

// Eraser erases what was sent for a tenant.
type Eraser interface {
	// EraseTenant examines no more than some thousands of events in ascending order of ID and erases at most req.Limit of the tenant's, in
	// one transaction: what was sent (payload, header), what was answered, and all records. What remains is the digest by
	// which a repeat of the event's ID is known.
	//
	// An event with a delivery that is not final is left as it is and counted as Waiting. One of which a delivery stands in its ordering key
	// yet, as for [Pruner.Prune], loses its payload, header and what was answered, and keeps its records; it is counted as Kept.
	//
	// With req.Count it erases nothing and only tells what it would do.
	EraseTenant(ctx context.Context, req *EraseTenantRequest) (*EraseTenantResult, error)
}

// EraseTenantRequest is the argument of [Eraser.EraseTenant].
type EraseTenantRequest struct {
	Now    time.Time
	Tenant string // "" is the tenant of those without one
	Count  bool
	After  string // exclusive event ID; "": from the start
	Limit  int    // zero: 500
}

// EraseTenantResult is the answer of [Eraser.EraseTenant].
type EraseTenantResult struct {
	Events     int      // erased
	Deliveries int      // erased
	Waiting    []string // IDs of events left alone, as something of them waits
	Kept       int      // events of which records are left, and nothing else
	Next       string   // pass as After to go on; "": that was all
}
