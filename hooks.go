package webhook

import (
	"context"
	"net/http"
	"time"
)

// Trace is a set of optional functions that are called as things happen: for metrics, traces and alarms. Any field may be
// nil. They are called in line by many goroutines at once, so they must be safe for that and return quickly.
// A panic in one is recovered and logged.
type Trace struct {
	// AttemptStart is called before each attempt. The context that it returns is the attempt's, and AttemptDone's.
	AttemptStart func(ctx context.Context, info AttemptStartInfo) context.Context

	// AttemptDone is called after each attempt, before its outcome is recorded. An attempt with Queued as Next does not count: its
	// failure was our own, or the end of Run cut it off, and then it is not recorded either.
	AttemptDone func(ctx context.Context, info AttemptDoneInfo)

	// Claim is called after each claim that asked the store.
	Claim func(ctx context.Context, info ClaimInfo)

	// StaleLease is called when an outcome came too late: another process had taken the delivery over.
	StaleLease func(ctx context.Context, info StaleLeaseInfo)

	// DeadLetter is called when a delivery has been given up, after that is recorded.
	DeadLetter func(ctx context.Context, info DeadLetterInfo)

	// Expired is called when a delivery has ended because its time ran out or a backlog was full, after that is recorded.
	Expired func(ctx context.Context, info ExpiredInfo)

	// Health is called when the health of an endpoint changes, before it is switched off, and daily while it fails: once for
	// all processes, by the one that noted it. A crash at that moment can lose the call, never the state.
	Health func(ctx context.Context, info HealthInfo)

	// Alarm is called by every running dispatcher when a bound of [DispatcherOptions].Alarms is passed, hourly while it is, and when it
	// is kept again.
	Alarm func(ctx context.Context, info AlarmInfo)

	// Replay is called when a replay has begun, was paused, resumed or canceled, by the process that asked for it, and when it is done, by
	// the one that did its last step. A crash at that moment loses the call, not the state.
	Replay func(ctx context.Context, info ReplayInfo)

	// SuppressedRepeat is called when a received request is answered from memory instead of by the handler.
	SuppressedRepeat func(ctx context.Context, info SuppressedRepeatInfo)
}

// AttemptStartInfo is what [Trace.AttemptStart] gets.
type AttemptStartInfo struct {
	Event    Event
	Delivery Delivery
	Number   int         // 1 is the first try
	Header   http.Header // before what the endpoint adds and the signature; may be added to, as for trace propagation
}

// AttemptDoneInfo is what [Trace.AttemptDone] gets.
type AttemptDoneInfo struct {
	Event    Event
	Delivery Delivery
	Attempt  Attempt
	Next     State // what the delivery becomes
}

// ClaimInfo is what [Trace.Claim] gets.
type ClaimInfo struct {
	Lanes      int // asked for
	Deliveries int // got
	Duration   time.Duration
	Err        error
}

// StaleLeaseInfo is what [Trace.StaleLease] gets.
type StaleLeaseInfo struct {
	Delivery Delivery
	Attempt  *Attempt // nil when none was made
}

// DeadLetterInfo is what [Trace.DeadLetter] gets.
type DeadLetterInfo struct {
	Event    Event
	Delivery Delivery
	Reason   string
}

// ExpiredInfo is what [Trace.Expired] gets.
type ExpiredInfo struct {
	Delivery Delivery
	Reason   string // in words
}

// ReplayInfo is what [Trace.Replay] gets.
type ReplayInfo struct {
	Replay Replay // as it is from now on
}

// HealthKind is what [Trace.Health] tells of.
type HealthKind string

// The kinds of news about an endpoint's health.
const (
	HealthChanged    HealthKind = "changed"    // From became To
	HealthWarning    HealthKind = "warning"    // it will be switched off at DisableAt if nothing succeeds until then
	HealthNotice     HealthKind = "notice"     // it still fails
	HealthVerified   HealthKind = "verified"   // it has shown that it wants what it gets
	HealthUnverified HealthKind = "unverified" // it has not, and is not asked any more
)

// HealthInfo is what [Trace.Health] gets.
type HealthInfo struct {
	Kind         HealthKind
	EndpointID   string
	Tenant       string
	URL          string // without query values
	From, To     HealthStage
	Reason       string    // in words
	FailingSince time.Time // zero: it does not fail
	DisableAt    time.Time // when it will be switched off if nothing succeeds; zero: never
	Failures     int64     // since FailingSince
}

// Alarms are the bounds that [Trace.Alarm] tells of.
type Alarms struct {
	OldestDue time.Duration // how long a delivery is due without being sent; zero: 15 min; negative: any time
	Backlog   int           // how many wait for one endpoint; zero: any number
}

// oldestDueDefault is the default of [Alarms].OldestDue.
const oldestDueDefault = 15 * time.Minute

// AlarmKind is which bound was passed.
type AlarmKind string

// The kinds of alarms.
const (
	AlarmOldestDue  AlarmKind = "oldest_due"  // a delivery is due for longer than Alarms.OldestDue
	AlarmBacklog    AlarmKind = "backlog"     // more than Alarms.Backlog wait for an endpoint
	AlarmBlockedKey AlarmKind = "blocked_key" // an ordering key waits behind a dead letter
)

// AlarmInfo is what [Trace.Alarm] gets.
type AlarmInfo struct {
	Kind       AlarmKind
	EndpointID string        // "": of all together
	Age        time.Duration // with AlarmOldestDue
	Waiting    int           // with AlarmBacklog; one more than the bound means as many or more. With AlarmBlockedKey, how many keys; at most 100
	Since      time.Time     // when the bound was passed, as far as this process saw
	Cleared    bool          // the bound is kept again
	Owner      string        // the dispatcher that tells
}

// SuppressedRepeatInfo is what [Trace.SuppressedRepeat] gets.
type SuppressedRepeatInfo struct {
	Scope   string
	Key     string
	Running bool      // the first is still being processed, so the answer was 409
	DoneAt  time.Time // when the first was done; zero when Running
	Status  int       // what was answered
}
