package webhook

import "time"

// Schedule is the delays between the attempts of a delivery. The zero Schedule means "as the profile says"; make one with
// [Delays], [Exponential], [Sidekiq] or [NoRetry]. The fields are exported so that a store can keep it as JSON.
type Schedule struct {
	Kind    string          // "list", "exponential" or "sidekiq"; "" is the zero Schedule
	List    []time.Duration // "list": the delay before each retry
	First   time.Duration   // "exponential": the delay before the first retry
	Cap     time.Duration   // "exponential": no delay is longer
	Retries int             // "exponential", "sidekiq": how many retries before giving up
	Jitter  float64         // each delay is spread evenly over ±Jitter of itself, 0 to 1
}

// SuccessRule is the range of statuses that count as delivered, both ends included. Zero: the profile's.
type SuccessRule struct {
	From, To int
}
