package webhook

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const never = time.Duration(-1) // in tables: no further retry

// delays lists what s.Next gives for retries 1 to n.
func delays(s Schedule, n int, random float64) []time.Duration {
	var ds []time.Duration
	for retry := 1; retry <= n; retry++ {
		d, ok := s.Next(retry, random)
		if !ok {
			d = never
		}
		ds = append(ds, d)
	}
	return ds
}

func TestScheduleNext(t *testing.T) {
	const s, m, h = time.Second, time.Minute, time.Hour
	for _, c := range []struct {
		name     string
		schedule Schedule
		random   float64
		want     []time.Duration
	}{
		{"Gett's default", defaultSchedule(), 0.7, []time.Duration{30 * s, 2 * m, 10 * m, h, 6 * h, never, never}},
		{"zero", Schedule{}, 0, []time.Duration{never}},
		{"none", NoRetry(), 0, []time.Duration{never}},
		{"no delays", Delays(), 0, []time.Duration{never}},
		{"at once", Delays(0, s), 0, []time.Duration{0, s, never}},
		{"exponential", Exponential(5*s, m, 6), 0.5, []time.Duration{5 * s, 10 * s, 20 * s, 40 * s, m, m, never}},
		{"exponential at its cap", Exponential(m, m, 2), 0, []time.Duration{m, m, never}},
		{"sidekiq, least", Sidekiq(25), 0, []time.Duration{15 * s, 16 * s, 31 * s, 96 * s, 271 * s, 640 * s, 1311 * s}},
		{"sidekiq, most", Sidekiq(4), 0.999, []time.Duration{24 * s, 34 * s, 58 * s, 132 * s, never}},
		{"sidekiq, middle", Sidekiq(2), 0.55, []time.Duration{20 * s, 26 * s, never}},
		{"jitter, least", Delays(100*s, h).WithJitter(0.2), 0, []time.Duration{80 * s, 48 * m, never}},
		{"jitter, middle", Delays(100 * s).WithJitter(0.2), 0.5, []time.Duration{100 * s, never}},
		{"jitter, three quarters", Delays(100 * s).WithJitter(0.2), 0.75, []time.Duration{110 * s, never}},
		{"jitter stays under the cap", Exponential(m, m, 1).WithJitter(1), 0.9, []time.Duration{m, never}},
		{"random out of range", Delays(100*s, 100*s).WithJitter(1), -5, []time.Duration{0, 0, never}},
		{"random is not a number", Delays(100 * s).WithJitter(1), math.NaN(), []time.Duration{0, never}},
		{"unknown kind", Schedule{Kind: "fibonacci", Retries: 3}, 0, []time.Duration{never}},
	} {
		if diff := cmp.Diff(c.want, delays(c.schedule, len(c.want), c.random)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	for _, retry := range []int{0, -1, math.MinInt} {
		if _, ok := defaultSchedule().Next(retry, 0); ok {
			t.Errorf("Next(%d) is a retry", retry)
		}
	}
}

// Sidekiq's published sums of 25 retries: 20.4 days without its random part.
func TestSidekiqElapsed(t *testing.T) {
	var sum time.Duration
	for _, d := range delays(Sidekiq(25), 25, 0) {
		sum += d
	}
	if days := sum.Hours() / 24; days < 20.3 || days > 20.5 {
		t.Errorf("25 retries take %.2f days, want 20.4", days)
	}
}

// No count, field or random makes a delay negative, longer than a year, or a panic.
func TestScheduleNextNeverOverflows(t *testing.T) {
	schedules := []Schedule{
		Exponential(1, maxDelay, math.MaxInt), Exponential(math.MaxInt64, math.MaxInt64, math.MaxInt), Exponential(-1, -1, 5),
		Sidekiq(math.MaxInt), Delays(math.MaxInt64, math.MinInt64, -1, maxDelay),
		Exponential(time.Second, 0, 5),
	}
	for _, s := range schedules {
		for _, jitter := range []float64{0, 0.5, 1, 1e300, math.Inf(1), math.NaN(), -1} {
			for _, retry := range []int{1, 2, 3, 4, 62, 63, 64, 65, 99, 100, 101, 102, 55109, math.MaxInt32, math.MaxInt - 1, math.MaxInt} {
				for _, random := range []float64{0, 0.3, math.Nextafter(1, 0), 1, 2, math.Inf(1), math.Inf(-1), math.NaN()} {
					if d, _ := s.WithJitter(jitter).Next(retry, random); d < 0 || d > maxDelay {
						t.Fatalf("%+v jitter %v: Next(%d, %v) = %v", s, jitter, retry, random, d)
					}
				}
			}
		}
	}
	last := time.Duration(0)
	for retry := 1; retry < 5000; retry++ {
		for _, s := range []Schedule{Sidekiq(math.MaxInt), Exponential(time.Second, maxDelay, math.MaxInt)} {
			if d, ok := s.Next(retry, 0.5); !ok || d == 0 {
				t.Fatalf("%s: Next(%d) = %v, %v", s.Kind, retry, d, ok)
			}
		}
		d, _ := Sidekiq(math.MaxInt).Next(retry, 0)
		if d < last {
			t.Fatalf("Next(%d) = %v, shorter than the one before, %v", retry, d, last)
		}
		last = d
	}
}

func TestDelaysCopies(t *testing.T) {
	list := []time.Duration{time.Second}
	s := Delays(list...)
	list[0] = time.Hour
	if d, _ := s.Next(1, 0); d != time.Second {
		t.Errorf("delay is %v after the caller changed its own list", d)
	}
}

func TestScheduleValidate(t *testing.T) {
	for _, s := range []Schedule{
		{}, NoRetry(), defaultSchedule(), Exponential(time.Second, time.Hour, 12), Exponential(time.Second, time.Second, 0), Sidekiq(25), Sidekiq(0),
		Delays(0, maxDelay).WithJitter(1),
	} {
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for field, bad := range map[string][]Schedule{
		"Kind":    {{Kind: "fibonacci"}, {Retries: 3}, {First: time.Second}, {List: []time.Duration{1}}, Schedule{}.WithJitter(0.5)},
		"List[1]": {Delays(time.Second, -1), Delays(0, maxDelay+1)},
		"List":    {Delays(make([]time.Duration, maxRetries+1)...)},
		"First":   {Exponential(0, time.Hour, 1), Exponential(-1, time.Hour, 1), Exponential(maxDelay+1, maxDelay+2, 1)},
		"Cap":     {Exponential(time.Hour, time.Minute, 1), Exponential(time.Hour, 0, 1), Exponential(time.Hour, maxDelay+1, 1)},
		"Retries": {Exponential(time.Second, time.Hour, -1), Sidekiq(-1), Sidekiq(maxRetries + 1)},
		"Jitter":  {NoRetry().WithJitter(-0.1), NoRetry().WithJitter(1.1), NoRetry().WithJitter(math.NaN()), NoRetry().WithJitter(math.Inf(1))},
	} {
		for _, s := range bad {
			wantFieldError(t, s.Validate(), field)
		}
	}
	want := "webhook: schedule: List[1]: is -5s, want 0 to 8760h0m0s"
	if err := Delays(0, -5*time.Second).Validate(); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func wantFieldError(t *testing.T, err error, field string) {
	t.Helper()
	var fe *FieldError
	if !errors.As(err, &fe) || fe.Field != field || !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v, want a *FieldError of ErrInvalid for %s", err, field)
	}
}

func TestScheduleIsJSON(t *testing.T) {
	for _, s := range []Schedule{{}, NoRetry(), defaultSchedule().WithJitter(0.2), Exponential(time.Second, time.Hour, 12), Sidekiq(25)} {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back Schedule
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, back); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
		if s.IsZero() != back.IsZero() || s.IsZero() != (s.Kind == "") {
			t.Errorf("%s: IsZero is %v, was %v", text, back.IsZero(), s.IsZero())
		}
	}
}

func TestSuccessRule(t *testing.T) {
	for _, c := range []struct {
		rule SuccessRule
		yes  []int
		no   []int
	}{
		{SuccessRule{}, []int{200, 202, 204, 299}, []int{0, -1, 100, 101, 199, 300, 301, 404, 410, 500, 999}},
		{SuccessRule{200, 399}, []int{200, 301, 399}, []int{199, 400, 410, 0}},
		{SuccessRule{204, 204}, []int{204}, []int{200, 203, 205, 0}},
	} {
		for _, status := range c.yes {
			if !c.rule.Accepts(status) {
				t.Errorf("%v refuses %d", c.rule, status)
			}
		}
		for _, status := range c.no {
			if c.rule.Accepts(status) {
				t.Errorf("%v accepts %d", c.rule, status)
			}
		}
		if err := c.rule.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, r := range []SuccessRule{{0, 299}, {100, 299}, {600, 700}, {-1, 299}} {
		wantFieldError(t, r.Validate(), "From")
	}
	for _, r := range []SuccessRule{{200, 0}, {300, 299}, {200, 600}} {
		wantFieldError(t, r.Validate(), "To")
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const limit = 6 * time.Hour
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		value string
		want  time.Duration
	}{
		{"120", 2 * time.Minute}, {"0", 0}, {"00", 0}, {"1", time.Second}, {"007", 7 * time.Second}, {" 5\t", 5 * time.Second},
		{"21600", limit}, {"21601", limit}, {"31536000", limit},
		{"9223372036", limit}, {"9223372037", limit}, {"9223372036854775807", limit}, {"9223372036854775808", limit},
		{"18446744073709551616", limit}, {"18446744073709551617", limit}, {strings.Repeat("9", 5000), limit}, // never zero by overflow
		{strings.Repeat("0", 5000) + "5", 5 * time.Second},
		{date(90 * time.Second), 90 * time.Second}, {date(0), 0}, {date(-time.Hour), 0}, {date(24 * time.Hour), limit},
		{"Sunday, 01-Mar-26 12:01:00 GMT", time.Minute}, {"Sun Mar  1 12:01:00 2026", time.Minute}, // the two old forms
		{"Fri, 31 Dec 9999 23:59:59 GMT", limit}, {"Mon, 01 Jan 0001 00:00:00 GMT", 0},
		// junk
		{"", never}, {" ", never}, {"-1", never}, {"-9223372036854775808", never}, {"+5", never}, {"1.5", never}, {"1e3", never}, {"0x10", never},
		{"1_000", never}, {"５", never}, {"5s", never}, {"5 5", never}, {"5,6", never}, {"NaN", never}, {"soon", never}, {"\x00", never},
		{"2026-03-01T13:00:00Z", never}, {"Sun, 32 Mar 2026 12:00:00 GMT", never}, {"\n5", never}, {strings.Repeat("x", 5000), never},
	} {
		got, ok := parseRetryAfter(c.value, now, limit)
		if !ok {
			got = never
		}
		if got != c.want {
			t.Errorf("%.60q: %v, want %v", c.value, got, c.want)
		}
	}
}

func TestRetryAfterRepeated(t *testing.T) {
	now := time.Now()
	h := http.Header{"Retry-After": {"junk", "10", "-5", "30", "20"}}
	if got := retryAfter(h, now, time.Hour); got != 30*time.Second {
		t.Errorf("of %v: %v, want the longest", h, got)
	}
	if got := retryAfter(http.Header{}, now, time.Hour); got != 0 {
		t.Errorf("without header: %v", got)
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	f.Add("120", int64(0), int64(3600))
	f.Add("Sun, 01 Mar 2026 12:00:00 GMT", int64(1772366400), int64(60))
	f.Add("99999999999999999999", int64(-1), int64(-5))
	f.Fuzz(func(t *testing.T, value string, unix, limitSeconds int64) {
		limit := time.Duration(limitSeconds)
		got, ok := parseRetryAfter(value, time.Unix(unix, 0), limit)
		if got < 0 || got > max(limit, 0) || (!ok && got != 0) {
			t.Errorf("parseRetryAfter(%q, %d, %v) = %v, %v", value, unix, limit, got, ok)
		}
		if trimmed := strings.Trim(value, " \t0"); ok && allDigits(trimmed) && limit >= time.Second && got < time.Second {
			t.Errorf("parseRetryAfter(%q) is %v, less than a second", value, got)
		}
	})
}
