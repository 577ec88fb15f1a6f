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

	// AttemptDone is called after each attempt, before its outcome is recorded. An attempt that the end of Run cut off has
	// Queued as Next: it does not count, and is not recorded.
	AttemptDone func(ctx context.Context, info AttemptDoneInfo)

	// Claim is called after each claim that asked the store.
	Claim func(ctx context.Context, info ClaimInfo)

	// StaleLease is called when an outcome came too late: another process had taken the delivery over.
	StaleLease func(ctx context.Context, info StaleLeaseInfo)

	// DeadLetter is called when a delivery has been given up, after that is recorded.
	DeadLetter func(ctx context.Context, info DeadLetterInfo)

	// SuppressedRepeat is called when a received request is answered from memory instead of by the handler.
	SuppressedRepeat func(ctx context.Context, info SuppressedRepeatInfo)
}

// AttemptStartInfo is what [Trace.AttemptStart] gets.
type AttemptStartInfo struct {
	Event    Event
	Delivery Delivery
	Number   int         // 1 is the first try
	Header   http.Header // of the request before it is signed; may be added to, as for trace propagation
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

// SuppressedRepeatInfo is what [Trace.SuppressedRepeat] gets.
type SuppressedRepeatInfo struct {
	Scope   string
	Key     string
	Running bool      // the first is still being processed, so the answer was 409
	DoneAt  time.Time // when the first was done; zero when Running
	Status  int       // what was answered
}
