package webhook

import (
	"context"
	"time"
)

// Store is the heart of what a [Dispatcher] needs: a queue of deliveries with leases. Package memstore has it in
// memory, package sqlstore on SQLite, PostgreSQL and MySQL or MariaDB; docs/writing-a-store.md tells how to write another,
// and package storetest proves every sentence below on it.
//
// Concurrency: all methods may be called by many goroutines and many processes at once.
//
// Time: every request carries Now, the store's clock as the caller estimates it. A store compares due times and leases
// against that Now and never against a clock of its own, so that several processes with different wall clocks agree and
// tests can run in virtual time. Times are kept to the microsecond, rounded down.
//
// Retention: a store neither keeps nor changes what a request points to after the call returns; what it returns is the caller's.
//
// Errors: an error means that nothing of the request was done, unless the connection broke while committing, when nobody
// can know; repeating Enqueue or Complete is then safe. A store retries what its database asks to retry
// (serialization failures, deadlocks, a busy file) by itself, a bounded number of times. A cancelled context ends the call.
//
// Lanes: the waiting deliveries of an endpoint form two lanes, [Fresh] (no attempt yet) and [Retry]. Fairness between lanes is
// the dispatcher's: the store tells which lanes have work (Lanes) and hands out rows of the lanes that it is asked for (Claim),
// so the backlog of a lane that nobody asks for costs nothing.
type Store interface {
	// Now is the clock that leases and due times are read against: the database server's, where there is one.
	Now(ctx context.Context) (time.Time, error)

	Enqueuer

	// Lanes lists the lanes that have waiting or leased deliveries, in ascending order of LaneID, a page at a time.
	// It writes nothing and blocks nobody. Its cost is one probe a lane, however long the lanes are, and a look at
	// what is leased at the head of a lane.
	Lanes(ctx context.Context, req *LanesRequest) (*LanesResult, error)

	// Claim leases due deliveries of the lanes named. What it returns is leased to req.Owner: no other claim returns it until
	// LeaseUntil, and its token is greater than that of any earlier claim of it. A delivery whose lease ran out is simply due
	// again; no rescuer is needed. Claim skips what another transaction has locked rather than wait for it.
	//
	// Within a lane the earliest due comes first; what a lease ran out of counts as due since that lease's end, or as it was due before,
	// as the store likes. Of an ordering key, only the delivery with no unfinished predecessor
	// is returned. Lanes of an endpoint on hold return nothing, nor do those of an endpoint before its
	// [EndpointState].NotBefore. A lane with a Rate returns no more than
	// the rate allows all processes together, and only what is returned is counted against it.
	//
	// Work is bounded by what is returned and by the lanes named, not by their backlog,
	// and by what is leased of them.
	Claim(ctx context.Context, req *ClaimRequest) (*ClaimResult, error)

	// Extend moves the end of leases that are still held under their token. Each is applied or [Stale] by itself.
	Extend(ctx context.Context, req *ExtendRequest) (*ExtendResult, error)

	// Complete records outcomes of claimed deliveries, each applied or stale by itself, all in one transaction.
	// An outcome is applied when the delivery is still leased under its token, even after the lease's end as long as
	// nobody else has claimed it. Else it is stale: it changes no state, and its attempt, if any, is recorded with Late set.
	// Repeating a Complete is safe: an outcome whose attempt is already recorded under its token is answered as
	// before and recorded once.
	Complete(ctx context.Context, req *CompleteRequest) (*CompleteResult, error)
}

// Enqueuer writes events. It is part of every [Store], and what sqlstore's Tx returns for the caller's own transaction.
type Enqueuer interface {
	// Enqueue stores events with their deliveries, all or none, durably before it returns (within a caller's
	// transaction: when that commits). It locks nothing that enqueues, claims or completions of other events need, ordering
	// keys excepted: sends of one endpoint and key wait for each other's commit, and only for those.
	//
	// An event whose ID is stored already, or stands earlier in the same request, is a Repeat when its Digest is the same
	// and a Conflict when it differs; neither stores anything, and neither is an error. An ID is remembered
	// at least as long as its event is kept.
	//
	// Deliveries with an ordering key get the next sequence numbers of their endpoint and key, in request order, from 1 without gaps:
	// a rolled back transaction leaves none.
	Enqueue(ctx context.Context, req *EnqueueRequest) (*EnqueueResult, error)
}

// EnqueueRequest is the argument of [Enqueuer.Enqueue].
type EnqueueRequest struct {
	Now    time.Time
	Owner  string     // whom leased rows belong to
	Events []NewEvent // all or none
}

// NewEvent is an event with the deliveries it fans out to.
type NewEvent struct {
	Event      Event         // with its ID
	Digest     [32]byte      // of all that the caller gave: tells a repeat from a conflict
	Deliveries []NewDelivery // none: recorded as matching nothing
}

// NewDelivery is a delivery to be queued.
type NewDelivery struct {
	ID          string
	EndpointID  string
	OrderingKey string
	DueAt       time.Time     // zero: Now
	ExpiresAt   time.Time     // zero: never; else after the Unix epoch. From then on it is not to be sent; see [LifeStore.End]
	Lease       time.Duration // > 0: inserted claimed by Owner under token 1 until Now+Lease. Refused with an OrderingKey, and with [ErrLeaseInTx] in a caller's transaction
}

// EnqueueStatus says what became of one event.
type EnqueueStatus int8

// The outcomes of [Enqueuer.Enqueue] for one event.
const (
	Stored   EnqueueStatus = iota // written, with its deliveries
	Repeat                        // known, same content: nothing written, nothing leased
	Conflict                      // known, other content: nothing written
)

// EnqueueResult is the answer of [Enqueuer.Enqueue].
type EnqueueResult struct {
	Events []EnqueueStatus // in request order
}

// Class tells the two lanes of an endpoint apart.
type Class int8

// The classes of lanes.
const (
	Fresh Class = 0 // no attempt that counts yet
	Retry Class = 1 // at least one attempt that counts
)

// LaneID names a lane. LaneIDs are ordered by EndpointID, bytewise, then Class.
type LaneID struct {
	EndpointID string
	Class      Class
}

// LanesRequest is the argument of [Store.Lanes].
type LanesRequest struct {
	After LaneID // exclusive; zero: from the start
	Limit int    // at least 1
}

// LanesResult is the answer of [Store.Lanes].
type LanesResult struct {
	Lanes []Lane
	Next  LaneID // pass as After for the next page; zero: the walk is complete
}

// Lane is a lane with work.
type Lane struct {
	LaneID
	Earliest time.Time // smallest due time or lease end in the lane; may lie ahead
	From     time.Time // LaneClaim.From for the next claim of the lane, which misses nothing by it; zero: none
}

// ClaimRequest is the argument of [Store.Claim].
type ClaimRequest struct {
	Now   time.Time
	Owner string
	Lanes []LaneClaim // in the caller's order of fairness; no lane twice
	Limit int         // over all lanes; at least 1
}

// LaneClaim asks for deliveries of one lane.
type LaneClaim struct {
	LaneID
	Max   int           // at most so many; at least 1
	Lease time.Duration // how long they are leased, from Now
	From  time.Time     // leave out what was due before: a bound on work (see [LaneStatus.NextFrom]), zero for none

	// Rate limits the endpoint; zero: no limit. It may differ from claim to claim: what was taken under another rate
	// counts as an empty bucket at most.
	Rate Rate
}

// ClaimResult is the answer of [Store.Claim].
type ClaimResult struct {
	Now        time.Time    // the store's clock, for the caller to calibrate by; zero when the store did not read it
	Deliveries []Claimed    // lane by lane in request order
	Lanes      []LaneStatus // per LaneClaim, in request order
}

// Claimed is a leased delivery with its event.
type Claimed struct {
	Delivery   Delivery // State is Delivering
	Event      Event
	Token      int64
	LeaseUntil time.Time

	// Unreadable says why Event, which then has its ID alone, could not be read; nil: it is whole. It keeps no other from being claimed.
	Unreadable error
}

// LaneStatus says how a claim left a lane.
type LaneStatus struct {
	Held      bool      // the endpoint is on hold
	HeldUntil time.Time // when the hold ends by itself; zero: when somebody ends it
	RateUntil time.Time // set when the rate cut the claim short, or NotBefore lies ahead: when the next is allowed
	More      bool      // there may be more due rows now
	NextFrom  time.Time // From for the next claim of this lane, until Lanes gives a new From; zero: none
}

// ExtendRequest is the argument of [Store.Extend].
type ExtendRequest struct {
	Now    time.Time
	Leases []LeaseRef
}

// LeaseRef names a lease and its new end.
type LeaseRef struct {
	EndpointID string
	DeliveryID string
	Token      int64
	Until      time.Time
}

// ExtendResult is the answer of [Store.Extend].
type ExtendResult struct {
	Leases []OutcomeStatus // Applied, Stale or Unknown, in request order
}

// CompleteRequest is the argument of [Store.Complete].
type CompleteRequest struct {
	Now      time.Time
	Outcomes []Outcome // no delivery twice
}

// Outcome is what became of a claimed delivery.
//
// Next decides the rest. Delivered, DeadLetter, Canceled and Expired end the delivery. RetryScheduled makes it due at
// DueAt in the Retry lane. Queued gives it back: it is due at DueAt (zero: Now) in the lane it came from. With an
// Attempt, that one is recorded but not counted: the failure was ours, not the receiver's.
//
// An outcome of a delivery that [LifeStore.End] has ended already removes it from its key and leaves its record as it is.
type Outcome struct {
	EndpointID  string
	DeliveryID  string
	OrderingKey string // as claimed. A hint: a store need not look for what waits behind it where there is none; a wrong one costs time, no more
	Token       int64
	Attempt     *Attempt // recorded, and counted unless Next is Queued; nil when none was made
	Next        State
	DueAt       time.Time
	Reason      string

	// BehindDeadLetter applies when Next is DeadLetter and the delivery is ordered: with SkipDeadLetter the next of the
	// key may be claimed, else the key waits for [HoldStore.ReleaseKey]. Every other end, and only an end, lets the next go.
	BehindDeadLetter OrderPolicy
}

// OutcomeStatus says what became of one outcome or lease.
type OutcomeStatus int8

// The answers of [Store.Complete] and [Store.Extend] for one item.
const (
	Applied OutcomeStatus = iota // it was held under its token
	Stale                        // it was claimed anew, finished or given back since
	Unknown                      // no such delivery
)

// CompleteResult is the answer of [Store.Complete].
type CompleteResult struct {
	Outcomes []OutcomeStatus // in request order

	// Woken are lanes in which an end let the next of its ordering key go, with that one's due time as Earliest. A
	// hint: it may be left out, and may name a lane twice.
	Woken []Lane
}

// HoldStore pauses endpoints and releases ordering keys. A hold lives on the endpoint: no delivery is touched by it, however many wait.
type HoldStore interface {
	// Hold keeps the endpoint's deliveries from being claimed by any Claim that begins after Hold returned, until Unhold
	// or req.Until. What is leased already runs on. Holding again replaces the hold.
	Hold(ctx context.Context, req *HoldRequest) error

	// Unhold ends a hold. There need not be one.
	Unhold(ctx context.Context, endpointID string) error

	// ListHolds returns the holds in force at now, in ascending order of EndpointID. Its cost grows with the number of
	// holds, not with that of endpoints.
	ListHolds(ctx context.Context, now time.Time) ([]HoldStatus, error)

	// ReleaseKey lets an ordering key go on past the dead letter that blocks it. It reports whether one did.
	ReleaseKey(ctx context.Context, req *ReleaseKeyRequest) (bool, error)
}

// HoldRequest is the argument of [HoldStore.Hold].
type HoldRequest struct {
	Now        time.Time
	EndpointID string
	Kind       string    // machine-readable: [HoldPaused], [HoldDisabled], …
	Reason     string    // in words
	Until      time.Time // zero: until Unhold
}

// HoldStatus is a hold in force.
type HoldStatus struct {
	EndpointID string
	Kind       string
	Reason     string
	Until      time.Time // zero: until Unhold
}

// ReleaseKeyRequest is the argument of [HoldStore.ReleaseKey].
type ReleaseKeyRequest struct {
	Now         time.Time
	EndpointID  string
	OrderingKey string
}

// EndpointStore keeps endpoints.
type EndpointStore interface {
	// PutEndpoint creates or replaces an endpoint, unchecked: [Dispatcher.PutEndpoint] checks it. Replacing one that was deleted creates it
	// anew. Dispatchers notice within a second, and before they record that an event matches no endpoint.
	PutEndpoint(ctx context.Context, ep Endpoint) error

	// UpdateEndpoint replaces an endpoint by what change makes of it, in one step: what other calls put, update or delete meanwhile comes
	// wholly before it or wholly after. There being none is [ErrNotFound]. When change returns an error, nothing is done and
	// the error is returned. change must be quick, may be called several times, and must not call the store; what it makes of the ID does not count.
	UpdateEndpoint(ctx context.Context, id string, change func(ep *Endpoint) error) error

	// GetEndpoint returns an endpoint, or [ErrNotFound].
	GetEndpoint(ctx context.Context, id string) (Endpoint, error)

	// DeleteEndpoint removes an endpoint, or returns [ErrNotFound]. Its deliveries stay; those waiting end as canceled
	// when their turn comes.
	DeleteEndpoint(ctx context.Context, id string) error

	// ListEndpoints returns endpoints in ascending order of ID, bytewise.
	ListEndpoints(ctx context.Context, req *ListEndpointsRequest) (*ListEndpointsResult, error)

	// EndpointChanges returns every endpoint put or deleted after version since (0: all that exist), and the version
	// that this brings a cache to. A version is never given twice for different content, and a change that commits
	// later has a greater one, so that a cache that asks with its last version misses nothing. When nothing changed it costs one lookup.
	EndpointChanges(ctx context.Context, since int64) (*EndpointChanges, error)
}

// ListEndpointsRequest is the argument of [EndpointStore.ListEndpoints].
type ListEndpointsRequest struct {
	Tenant *string // nil: of every tenant
	After  string  // exclusive ID; "": from the start
	Limit  int     // zero: 100
}

// ListEndpointsResult is the answer of [EndpointStore.ListEndpoints].
type ListEndpointsResult struct {
	Endpoints []Endpoint

	// Unreadable says, by ID, of which Endpoints the store could not open what it keeps sealed, and why. They are without it: put none of them back.
	Unreadable map[string]error

	Next string // pass as After for the next page; "": that was all
}

// EndpointChanges is the answer of [EndpointStore.EndpointChanges].
type EndpointChanges struct {
	Version int64
	Put     []Endpoint

	// Unreadable says, by ID, of which endpoints in Put the store could not open what it keeps sealed, and why ([ErrUnknownKey], …). They have their
	// Tenant, Types and policies, so that events for them are stored; deliveries wait until GetEndpoint can read them. So it is with what is unreadable
	// otherwise; Types that are count as all.
	Unreadable map[string]error

	Deleted []string // IDs
}

// DedupeStore remembers idempotency keys, so that a receiver processes each once. Scope and key are compared together
// and bytewise, each as a whole: ("a", "bc") and ("ab", "c") differ.
type DedupeStore interface {
	// Begin takes a key for the caller, atomically: of any number of callers at once exactly one gets [KeyTaken]. It is held
	// until Finish, Release or the end of the hold, whichever comes first; after the hold's end it can be taken anew
	// under a greater token. A key that is finished and not expired answers [KeyDone] with its stored response, unless
	// req.Digest is set and differs from the digest it was last taken with: then it is taken anew, as if it had expired.
	Begin(ctx context.Context, req *BeginRequest) (*BeginResult, error)

	// Finish stores the response for a key taken under token, for req.Keep from req.Now. It returns [ErrStaleKey] when
	// the key is not held under that token any more, and then changes nothing.
	Finish(ctx context.Context, req *FinishRequest) error

	// Release frees a key taken under token, as if it had never been taken. [ErrStaleKey] as for Finish.
	Release(ctx context.Context, req *ReleaseRequest) error
}

// BeginRequest is the argument of [DedupeStore.Begin].
type BeginRequest struct {
	Now   time.Time
	Scope string        // source or tenant; at most 255 bytes
	Key   string        // 1 to 255 bytes of UTF-8 without NUL
	Hold  time.Duration // how long the key stays taken if nothing more is heard

	// Digest of the content, for keys that remember only the latest content; zero: the key alone decides.
	Digest [32]byte
}

// KeyStatus is what Begin found.
type KeyStatus int8

// The answers of [DedupeStore.Begin].
const (
	KeyTaken   KeyStatus = iota // it is the caller's now
	KeyRunning                  // somebody holds it
	KeyDone                     // processed: Response is what was answered
)

// BeginResult is the answer of [DedupeStore.Begin].
type BeginResult struct {
	Status    KeyStatus
	Token     int64     // with KeyTaken
	HeldUntil time.Time // with KeyRunning
	Response  *StoredResponse
	DoneAt    time.Time // with KeyDone
}

// StoredResponse is the part of a response that is kept for repeats.
type StoredResponse struct {
	Status int
	Header map[string][]string // chosen headers; never Set-Cookie
	Body   []byte
}

// FinishRequest is the argument of [DedupeStore.Finish].
type FinishRequest struct {
	Now      time.Time
	Scope    string
	Key      string
	Token    int64
	Response StoredResponse
	Keep     time.Duration
}

// ReleaseRequest is the argument of [DedupeStore.Release].
type ReleaseRequest struct {
	Now   time.Time
	Scope string
	Key   string
	Token int64
}
