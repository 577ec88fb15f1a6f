package webhook

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Kinds of [Schedule].
const (
	scheduleList        = "list"
	scheduleExponential = "exponential"
	scheduleSidekiq     = "sidekiq"
)

const (
	maxDelay   = 365 * 24 * time.Hour // no retry is further away
	maxRetries = 1000
)

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

// Delays is a schedule of as many retries as there are delays, each counted from the end of the attempt before it.
func Delays(d ...time.Duration) Schedule {
	return Schedule{Kind: scheduleList, List: append([]time.Duration(nil), d...)}
}

// Exponential is a schedule whose first delay is first, each further one twice the one before it, and none longer than longest.
func Exponential(first, longest time.Duration, retries int) Schedule {
	return Schedule{Kind: scheduleExponential, First: first, Cap: longest, Retries: retries}
}

// Sidekiq is the schedule of the Ruby job system: count⁴ + 15 + rand(10)·(count+1) seconds, count being the retries made
// before, from 0. Sidekiq's own number of retries is 25, which takes about 20 days. The formula spreads the delays by itself.
func Sidekiq(retries int) Schedule {
	return Schedule{Kind: scheduleSidekiq, Retries: retries}
}

// NoRetry is the schedule of one attempt and no more.
func NoRetry() Schedule { return Schedule{Kind: scheduleList} }

// defaultSchedule is Gett's.
func defaultSchedule() Schedule {
	return Delays(30*time.Second, 2*time.Minute, 10*time.Minute, time.Hour, 6*time.Hour)
}

// WithJitter returns s with each delay spread evenly over ±f of itself, so that what failed together is not retried together.
// f is 0 to 1.
func (s Schedule) WithJitter(f float64) Schedule {
	s.Jitter = f
	return s
}

// IsZero reports whether s is the zero Schedule, which leaves the choice to the profile.
func (s Schedule) IsZero() bool {
	return s.Kind == "" && len(s.List) == 0 && s.First == 0 && s.Cap == 0 && s.Retries == 0 && s.Jitter == 0
}

// Validate returns a [*FieldError] that names the first field that is out of range. The zero Schedule is valid.
func (s Schedule) Validate() error {
	if s.IsZero() {
		return nil
	}
	bad := func(field, format string, args ...any) error {
		return &FieldError{Op: "schedule", Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	if !(s.Jitter >= 0 && s.Jitter <= 1) { // NaN is neither
		return bad("Jitter", "is %v, want 0 to 1", s.Jitter)
	}
	if s.Retries < 0 || s.Retries > maxRetries {
		return bad("Retries", "is %d, want 0 to %d", s.Retries, maxRetries)
	}
	switch s.Kind {
	case scheduleList:
		if len(s.List) > maxRetries {
			return bad("List", "has %d delays, want at most %d", len(s.List), maxRetries)
		}
		for i, d := range s.List {
			if d < 0 || d > maxDelay {
				return bad(fmt.Sprintf("List[%d]", i), "is %v, want 0 to %v", d, maxDelay)
			}
		}
	case scheduleExponential:
		if s.First <= 0 || s.First > maxDelay {
			return bad("First", "is %v, want more than 0 and at most %v", s.First, maxDelay)
		}
		if s.Cap < s.First || s.Cap > maxDelay {
			return bad("Cap", "is %v, want First (%v) to %v", s.Cap, s.First, maxDelay)
		}
	case scheduleSidekiq:
	default:
		return bad("Kind", "is %q, want list, exponential or sidekiq", s.Kind)
	}
	return nil
}

// Next returns the delay before a retry, 1 being the first, and false when there is none any more. random, from 0 up to
// but not including 1, places the delay within its spread: the same random gives the same delay. The delay is never
// negative and at most 365 days.
func (s Schedule) Next(retry int, random float64) (delay time.Duration, ok bool) {
	if retry < 1 {
		return 0, false
	}
	if !(random >= 0) {
		random = 0
	}
	random = min(random, math.Nextafter(1, 0))
	limit := time.Duration(maxDelay)
	switch {
	case s.Kind == scheduleList && retry <= len(s.List):
		delay = s.List[retry-1]
	case s.Kind == scheduleExponential && retry <= s.Retries:
		delay, limit = doubled(s.First, s.Cap, retry-1), max(s.Cap, 0)
	case s.Kind == scheduleSidekiq && retry <= s.Retries:
		delay = sidekiq(retry-1, random)
	default:
		return 0, false
	}
	delay = min(max(delay, 0), maxDelay)
	if s.Jitter > 0 {
		delay += time.Duration(float64(delay) * min(s.Jitter, 1) * (2*random - 1))
	}
	return min(max(delay, 0), limit, maxDelay), true
}

// doubled is first·2ⁿ, at most limit.
func doubled(first, limit time.Duration, n int) time.Duration {
	if n >= 63 || first > limit>>n {
		return limit
	}
	return first << n
}

// sidekiq is the formula of Sidekiq 6.2.2 and later.
func sidekiq(count int, random float64) time.Duration {
	const enough = 100 // 100⁴ s is more than three years
	if count >= enough {
		return maxDelay
	}
	seconds := count*count*count*count + 15 + int(random*10)*(count+1)
	return time.Duration(seconds) * time.Second
}

// SuccessRule is the range of statuses that count as delivered, both ends included. Zero: the profile's.
type SuccessRule struct {
	From, To int
}

// IsZero reports whether r is the zero SuccessRule, which leaves the choice to the profile.
func (r SuccessRule) IsZero() bool { return r == SuccessRule{} }

// Accepts reports whether status counts as delivered. The zero SuccessRule accepts 200 to 299.
func (r SuccessRule) Accepts(status int) bool {
	if r.IsZero() {
		r = SuccessRule{200, 299}
	}
	return r.From <= status && status <= r.To
}

// Validate returns a [*FieldError] that names the first field that is out of range. The zero SuccessRule is valid.
func (r SuccessRule) Validate() error {
	if r.IsZero() {
		return nil
	}
	if r.From < 200 || r.From > 599 {
		return &FieldError{Op: "success rule", Field: "From", Reason: fmt.Sprintf("is %d, want 200 to 599", r.From)}
	}
	if r.To < r.From || r.To > 599 {
		return &FieldError{Op: "success rule", Field: "To", Reason: fmt.Sprintf("is %d, want From (%d) to 599", r.To, r.From)}
	}
	return nil
}

// retryAfter is the longest wait that the Retry-After headers of an answer ask for, at most limit.
func retryAfter(h http.Header, now time.Time, limit time.Duration) time.Duration {
	var longest time.Duration
	for _, value := range h["Retry-After"] {
		if d, ok := parseRetryAfter(value, now, limit); ok {
			longest = max(longest, d)
		}
	}
	return longest
}

// parseRetryAfter reads one Retry-After header (RFC 9110, 10.2.3): seconds, or an HTTP date. The result is at least 0,
// which a date in the past gives too, and at most limit. It reports false for anything else.
func parseRetryAfter(value string, now time.Time, limit time.Duration) (time.Duration, bool) {
	value = strings.Trim(value, " \t")
	limit = max(limit, 0)
	if allDigits(value) {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(limit/time.Second) {
			return limit, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return min(max(date.Sub(now), 0), limit), true
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
