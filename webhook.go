// Package webhook gives a Go service both ends of webhooks, in process and on the database that it already has: sending
// them (sign, persist, deliver, retry, give up visibly) and receiving them (verify, drop repeats, process once).
//
// # Sending
//
// A [Dispatcher] works on a [Store]: package memstore has one in memory, package sqlstore one on SQLite, PostgreSQL and MySQL or
// MariaDB. [Dispatcher.PutEndpoint] registers where events go; endpoints can also be given in code
// ([DispatcherOptions]). [Dispatcher.Send] stores an [Event] with one [Delivery] for each [Endpoint] that subscribes to it;
// [Dispatcher.SendTx] does so within the caller's own transaction. [Dispatcher.Run] delivers: it makes an [Attempt],
// and on failure further ones by the endpoint's [Schedule], until one succeeds or the delivery ends as a dead letter. Any number of processes may
// send, and any number may run, on one store. [Dispatcher.Replay] sends again what a [Filter] matches.
//
// # Receiving
//
// A [Verifier] checks signatures; [Middleware] puts one before an http.Handler, and remembers in a [DedupeStore] what has
// been processed, so that a repeat gets the stored answer. [FromContext] gives the handler the verified event. An [Inbox] stores what
// verifies, answers, and processes it afterwards, with retries. sqlstore's HandleTx runs a handler in the transaction that records the key.
//
// # Formats
//
// A [Scheme] is one system's wire format of signing, a [Profile] its whole behaviour: format, retry delays, time limit, what counts
// as success, idempotency key. [DefaultProfile] is Gett's; package profile has Gett Business, TradeGecko, GetHook and
// Standard Webhooks. [NewSigner] and [NewVerifier] use the default. A [Secret] never shows itself in logs, errors or JSON.
//
// # Guarantees
//
// What Send has acknowledged is delivered at least once or ends visibly in [DeadLetter], through crashes, restarts and takeovers
// between processes. What SendTx wrote is delivered if and only if the transaction commits. A verified request runs
// its handler once per idempotency key; only a crash, or an outage of the dedupe store, between the handler's own commit and
// the record of it can repeat it. One slow or dead endpoint delays no other. No request leaves for an address that is not public unless that is allowed.
//
// Exactly once over HTTP is not promised, by anybody: an attempt that was answered but not recorded before a crash is made
// again, with the same event ID. Nor is order, except among events that share an [Event.OrderingKey].
//
// # Errors
//
// What a caller gave wrong is a [*FieldError] that names the field and the reason, and wraps [ErrInvalid]; nothing was done
// then. A request that does not verify is a [*VerifyError] with one cause for each way to be wrong. Every other cause has a
// sentinel as well, from [ErrEventConflict] to [ErrOutcomeUnknown]; test with errors.Is and errors.AsType.
package webhook

import (
	"net/http"
	"time"
)

// Event is the thing that happened. It is sent to every [Endpoint] that subscribes to its Type within its Tenant.
type Event struct {
	// ID names the event for ever: on every attempt, every replay, and at the receiver. Empty lets [Dispatcher.Send]
	// make one (see [NewEventID]). Sending an ID again is a repeat and does nothing, unless the content differs
	// ([ErrEventConflict]). 1 to 128 visible ASCII characters without '.', which Standard Webhooks signs as a separator.
	ID string

	// Type is what subscriptions match, as "order_create" or "invoice.paid". Required. 1 to 128 visible ASCII
	// characters without '*' and ','.
	Type string

	// Payload is the body of the request, sent byte for byte. It may be empty and need not be JSON.
	Payload []byte

	// Tenant scopes the event: only endpoints with the very same Tenant get it, and none ("") is a tenant too.
	// At most 255 bytes of UTF-8 without control characters.
	Tenant string

	// OrderingKey, when set, makes deliveries of one endpoint and key go one at a time, in the order of Send.
	// Limits as for Tenant.
	OrderingKey string

	// Header is sent with every attempt, besides what the library sets. Content-Type defaults to application/json.
	// Headers that frame the request or sign it are refused.
	Header http.Header

	// SendAt is when to send it, by this process's clock; zero or past: at once. At most 365 days ahead. With an
	// ordering key, the later ones of the key wait for it.
	SendAt time.Time

	// TTL makes deliveries expire so long after SendAt, or after Send if that is later, if they are not delivered by then; zero: never. No
	// attempt begins after that; one that is under way may still deliver. What nobody may send, as while its endpoint is on
	// hold, reads as [Expired] about 5 s later at most, where a dispatcher runs on the store.
	//
	// Neither SendAt nor TTL is content: sending an ID again with others is a repeat and changes nothing, and neither is stored with
	// the event. [Delivery] has what came of them.
	TTL time.Duration
}

// Endpoint is where events go.
type Endpoint struct {
	ID     string // 1 to 128 visible ASCII characters; required
	URL    string // absolute http or https URL without user info or fragment; required
	Tenant string // gets the events of this tenant only; see [Event.Tenant]. What waits for it when that changes is canceled when it is an hour old

	// Secrets sign. The first is the current one; formats that carry several signatures carry one per secret,
	// the others use the first alone. Required, unless the profile's scheme signs nothing.
	Secrets []Secret

	// Retiring are former secrets that still sign, each until its time, the latest first. [Dispatcher.RotateSecret] fills it in, and
	// it is emptied as their times come.
	Retiring []RetiringSecret

	// Types are the subscribed event types: exact ("order_create"), by prefix ("order.*", "order_*") or all ("*").
	// None means all.
	Types []string

	// Profile names the [Profile] whose rules apply, "" the dispatcher's default. The fields below override it.
	Profile string

	Schedule Schedule      // retry delays; zero: the profile's
	Timeout  time.Duration // limit of one attempt over connect, headers and body; zero: the profile's
	Success  SuccessRule   // statuses that count as delivered; zero: the profile's

	MaxInFlight int         // attempts under way at once, per process; zero: [DispatcherOptions.MaxInFlight]
	Rate        Rate        // limit over all processes together; zero: none
	Order       OrderPolicy // what happens to an ordering key behind a dead letter; zero: [BlockBehindDeadLetter]

	Health HealthPolicy // what becomes of it when it fails; zero: the profile's
	Verify VerifyMode   // what it must answer before its first delivery; "": nothing

	// MaxBacklog bounds how many deliveries may wait for it, counting those under way; zero: any number. WhenFull says what
	// happens then. One process keeps it exactly, save for open transactions. Several may exceed it: each by what it accepts
	// between two counts, which is at most a quarter of the bound. Where the oldest give way, by what all accept in two seconds.
	MaxBacklog int
	WhenFull   FullPolicy

	// Header is sent with every attempt, over those of the event. The rules of [Event.Header] apply. Its values are kept like
	// secrets, but what lets requests in is better given as Auth.
	Header http.Header

	Auth Auth      // sent with every attempt, over all headers; zero: none
	TLS  ClientTLS // client certificate and CAs; zero: the dispatcher's

	// Proxy is the URL of the egress proxy that requests to this endpoint take; "": the dispatcher's; "direct": none. It may have user
	// info, which is kept like a secret, and must be at a public address unless private ones are allowed.
	Proxy string

	// SequenceHeader names a header that carries [Delivery].Sequence in decimal, so that the receiver sees gaps and order;
	// "": none. Deliveries without ordering key do not have it. Formats that sign only the body do not sign it.
	SequenceHeader string

	// AllowPrivate lets this endpoint be at a private, loopback or otherwise special address.
	// See [DispatcherOptions.AllowPrivate] for what that risks.
	AllowPrivate bool
}

// DirectProxy as [Endpoint.Proxy] means that requests take no proxy, whatever [DispatcherOptions.Proxy] is.
const DirectProxy = "direct"

// VerifyMode says how a new endpoint shows that it wants what it gets, before its first delivery and again when its URL or the mode changes.
type VerifyMode string

// The ways to verify an endpoint.
const (
	VerifyPing      VerifyMode = "ping"      // it answers a signed event "webhook.verification" with a success
	VerifyChallenge VerifyMode = "challenge" // and with the text, in the body, that the event has as "challenge"
)

// FullPolicy says what happens when a backlog is full.
type FullPolicy int8

const (
	// RefuseWhenFull makes Send fail with [ErrBacklogFull]; nothing of the event is stored.
	RefuseWhenFull FullPolicy = iota
	// ExpireOldest lets Send go on, and ends the oldest that wait as expired.
	ExpireOldest
)

// State is where a delivery stands.
type State string

// The states of a delivery. The first three and Held are waiting or under way; the others are final.
const (
	Queued         State = "queued"          // accepted, no attempt yet
	Delivering     State = "delivering"      // claimed by a process
	RetryScheduled State = "retry_scheduled" // an attempt failed; the next is due at Delivery.DueAt
	Held           State = "held"            // kept: its endpoint or its key is on hold; derived when read, never stored
	Delivered      State = "delivered"       // an attempt succeeded
	DeadLetter     State = "dead_letter"     // gave up after the last attempt, or at once by the endpoint's rules
	Canceled       State = "canceled"        // will not be sent: its endpoint was deleted, or somebody said so
	Expired        State = "expired"         // its time ran out before it was delivered
)

// Final reports whether s is an end.
func (s State) Final() bool {
	return s == Delivered || s == DeadLetter || s == Canceled || s == Expired
}

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	ID          string
	EventID     string
	EndpointID  string
	OrderingKey string // "" when unordered
	Sequence    int64  // place within EndpointID and OrderingKey, from 1 without gaps; 0 when unordered
	State       State
	Reason      string    // why it is in that state, in words; "" while everything goes its way
	Attempts    int       // attempts that count, so far
	DueAt       time.Time // when it may be tried next, or when the lease on it ends; zero in a final state
	ExpiresAt   time.Time // when it is given up if it is not delivered by then; zero: never
	CreatedAt   time.Time
	FinishedAt  time.Time // zero until the state is final
	Replay      string    // ID of the [Replay] that made it, or [ManualReplay]; "" for what Send made
	ReplayOf    string    // ID of the delivery that it repeats; "" when it repeats none
}

// Attempt is one HTTP try of a delivery.
type Attempt struct {
	DeliveryID string
	Number     int           // 1 is the first try
	Token      int64         // of the claim it was made under; unique within the delivery
	StartedAt  time.Time     // on the store's clock
	Duration   time.Duration // until the answer was read or the attempt failed
	Status     int           // HTTP status, 0 when no answer came
	Error      string        // kind of failure without a whole answer: "dns", "refused", "timeout", … (see [NetErrorKind]; of an inbox's handler [RunErrorHandler] and its like); else "". An answer that breaks off has both
	Detail     string        // the error's text, without secrets; at most 512 bytes
	Response   []byte        // beginning of the answer's body, at most 4 KiB
	NextAt     time.Time     // when the next attempt is due; zero when there is none
	Late       bool          // came after its lease was taken over: recorded, but it changed nothing
}

// Rate limits how many attempts an endpoint gets, over all processes on one store together: Events each Per, with at most Burst
// at once. The zero Rate is no limit.
//
// It is kept by one bucket in the store, from which a claim takes a token for each delivery. In any window of t seconds at most
// Burst + Events/Per × t tokens are taken, as the processes' estimates of the store's clock go, which differ by some ms. An
// attempt begins after its token was taken. So a window in which attempts begin may have more of them by the tokens that were taken
// before it and not yet used: with free senders those of a claim just under way, and never more than MaxInFlight for each
// process and what the rate gives in a 50th of a second. A window after it then has as many less: the rate in the
// long run is never exceeded. Tokens of deliveries that go back unattempted, as when a process ends, are lost.
//
// To use the rate up, Burst should be at least what the rate gives in a 25th of a second: an endpoint is asked for every 20 ms.
type Rate struct {
	Events int           // attempts each Per; 0: no limit
	Per    time.Duration // zero: a second
	Burst  int           // zero: Events
}

// PerSecond is n attempts a second with a burst of n.
func PerSecond(n int) Rate { return Rate{Events: n, Per: time.Second, Burst: n} }

// OrderPolicy says what happens to the later deliveries of an ordering key when one of them becomes a dead letter.
type OrderPolicy int8

const (
	// BlockBehindDeadLetter keeps the key waiting until it is released ([Dispatcher.ReleaseKey]).
	BlockBehindDeadLetter OrderPolicy = iota
	// SkipDeadLetter goes on with the next of the key.
	SkipDeadLetter
	// HoldKey puts the key on hold until a person releases it ([HoldStore.ReleaseKey]); what waits reads as [Held].
	HoldKey
)
