package webhook

import (
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var timestampCases = []struct {
	text string
	want error
}{
	{"1770000000", nil},
	{"0", nil},
	{"7", nil},
	{"99999999999", nil},
	{"100000000000", ErrTimestampMilliseconds},
	{"1770000000000", ErrTimestampMilliseconds},
	{"99999999999999", ErrTimestampMilliseconds},
	{"1770000000000000", ErrTimestampOverflow}, // microseconds
	{"9223372036854775807", ErrTimestampOverflow},
	{"9223372036854775808", ErrTimestampOverflow},
	{"18446744073709551617", ErrTimestampOverflow},
	{strings.Repeat("9", 64), ErrTimestampOverflow},
	{strings.Repeat("9", 65), ErrHeaderTooLong},
	{"-1", ErrTimestampNegative},
	{"-0", ErrTimestampNegative},
	{"-1770000000", ErrTimestampNegative},
	{"-9223372036854775809", ErrTimestampNegative},
	{"-1.5", ErrTimestampNegative},
	{"+1770000000", ErrTimestampSigned},
	{"+01", ErrTimestampSigned},
	{"1770000000.0", ErrTimestampFractional},
	{"1770000000.5", ErrTimestampFractional},
	{"1770000000.", ErrTimestampFractional},
	{".5", ErrTimestampFractional},
	{"1.77e9", ErrTimestampExponential},
	{"177E7", ErrTimestampExponential},
	{"1e+9", ErrTimestampExponential},
	{"1e-9", ErrTimestampExponential},
	{"1e309", ErrTimestampExponential},
	{"01770000000", ErrTimestampPadded},
	{"00", ErrTimestampPadded},
	{" 1770000000", ErrTimestampPadded},
	{"1770000000 ", ErrTimestampPadded},
	{"\t1770000000", ErrTimestampPadded},
	{"1770000000\n", ErrTimestampPadded},
	{"\u00a01770000000", ErrTimestampPadded},
	{" ", ErrTimestampPadded},
	{"", ErrTimestampMalformed},
	{"-", ErrTimestampMalformed},
	{"+", ErrTimestampMalformed},
	{"--1", ErrTimestampMalformed},
	{"+-1", ErrTimestampMalformed},
	{".", ErrTimestampMalformed},
	{"1.2.3", ErrTimestampMalformed},
	{"1e", ErrTimestampMalformed},
	{"e9", ErrTimestampMalformed},
	{"1e9x", ErrTimestampMalformed},
	{"1 770 000 000", ErrTimestampMalformed},
	{"1_770_000_000", ErrTimestampMalformed},
	{"1,770,000,000", ErrTimestampMalformed},
	{"1770000000\x00", ErrTimestampMalformed},
	{"1770000000,1770000000", ErrTimestampMalformed},
	{"0x6980", ErrTimestampMalformed},
	{"NaN", ErrTimestampMalformed},
	{"Inf", ErrTimestampMalformed},
	{"١٧٧٠٠٠٠٠٠٠", ErrTimestampMalformed},
	{"2026-02-02T02:40:00Z", ErrTimestampMalformed},
	{"\xff\xfe", ErrTimestampMalformed},
}

func TestParseTimestamp(t *testing.T) {
	for _, tc := range timestampCases {
		got, err := ParseTimestamp(tc.text)
		assertCause(t, strconv.Quote(tc.text), err, tc.want)
		if err == nil && strconv.FormatInt(got.Unix(), 10) != tc.text {
			t.Errorf("%q: read as %v", tc.text, got)
		}
		if err != nil && !got.IsZero() {
			t.Errorf("%q: time %v beside an error", tc.text, got)
		}
	}
}

var causes = []error{
	ErrHeaderMissing, ErrHeaderEmpty, ErrHeaderRepeated, ErrHeaderContradicts, ErrHeaderMalformed, ErrHeaderTooLong,
	ErrSignatureTruncated, ErrSignatureNotCanonical, ErrSignatureMismatch,
	ErrTimestampOverflow, ErrTimestampNegative, ErrTimestampFractional, ErrTimestampExponential, ErrTimestampPadded,
	ErrTimestampSigned, ErrTimestampMilliseconds, ErrTimestampMalformed, ErrTimestampTooOld, ErrTimestampTooNew,
}

// assertCause wants an error to be a *VerifyError with this cause and no other; none when want is nil.
func assertCause(t testing.TB, what string, err, want error) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("%s: %v, want no error", what, err)
		}
		return
	}
	ve, ok := errors.AsType[*VerifyError](err)
	if !ok {
		t.Errorf("%s: error %v (%T), want a *VerifyError of %q", what, err, err, want)
		return
	}
	for _, cause := range causes {
		if errors.Is(err, cause) != (cause == want) {
			t.Errorf("%s: error %q is %q, want only %q", what, err, cause, want)
		}
	}
	if ve.Unwrap() != want || !strings.HasPrefix(err.Error(), "webhook: verify: ") {
		t.Errorf("%s: error %q", what, err)
	}
}

func TestCheckAge(t *testing.T) {
	now := time.Unix(1770000412, 0)
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0) }
	for _, tc := range []struct {
		signed    time.Time
		tolerance time.Duration
		want      error
		text      string
	}{
		{at(1770000412), 0, nil, ""},
		{at(1770000411), 0, ErrTimestampTooOld, "webhook: verify: timestamp 1770000411 is 1 s old, allowed 0 s"},
		{at(1770000112), 300 * time.Second, nil, ""},
		{at(1770000712), 300 * time.Second, nil, ""},
		{at(1770000111), 300 * time.Second, ErrTimestampTooOld, "webhook: verify: timestamp 1770000111 is 301 s old, allowed 300 s"},
		{at(1770000713), 300 * time.Second, ErrTimestampTooNew, "webhook: verify: timestamp 1770000713 is 301 s ahead, allowed 300 s"},
		{at(1770000000), 300 * time.Second, ErrTimestampTooOld, "webhook: verify: timestamp 1770000000 is 412 s old, allowed 300 s"},
		{at(1770000000), 1500 * time.Millisecond, ErrTimestampTooOld, "webhook: verify: timestamp 1770000000 is 412 s old, allowed 1.5 s"},
		{at(1760000000), 30 * 24 * time.Hour, ErrTimestampTooOld, "webhook: verify: timestamp 1760000000 is 10000412 s old, allowed 2592000 s"},
		{at(1770000000), 412 * time.Second, nil, ""},
		{at(0), 300 * time.Second, ErrTimestampTooOld, ""},
		{at(maxTimestamp), 300 * time.Second, ErrTimestampTooNew, ""},
		{at(maxTimestamp), -1, nil, ""},
		{at(0), -1, nil, ""},
		{at(0), math.MaxInt64, nil, ""},
		{time.Time{}, time.Second, nil, ""}, // the format has no time
	} {
		err := checkAge(tc.signed, now, tc.tolerance)
		assertCause(t, tc.signed.String(), err, tc.want)
		if tc.text != "" && err != nil && err.Error() != tc.text {
			t.Errorf("reads %q, want %q", err, tc.text)
		}
		if err != nil && strings.Contains(err.Error(), " -") {
			t.Errorf("negative figure in %q", err)
		}
	}
	// A part of a second too much is too much, and never reads "300 s old, allowed 300 s".
	err := checkAge(at(1770000112), now.Add(time.Nanosecond), 300*time.Second)
	assertCause(t, "a nanosecond late", err, ErrTimestampTooOld)
	if err != nil && !strings.Contains(err.Error(), "is 301 s old") {
		t.Errorf("reads %q", err)
	}
}

func FuzzParseTimestamp(f *testing.F) {
	for _, tc := range timestampCases {
		f.Add(tc.text)
	}
	canonical := regexp.MustCompile(`^(0|[1-9][0-9]{0,10})$`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTimestamp(text)
		if canonical.MatchString(text) != (err == nil) {
			t.Fatalf("%q: %v", text, err)
		}
		if err == nil {
			if strconv.FormatInt(got.Unix(), 10) != text {
				t.Fatalf("%q read as %v", text, got)
			}
			return
		}
		if _, ok := errors.AsType[*VerifyError](err); !ok || len(err.Error()) > 500 {
			t.Fatalf("%q: error %q (%T)", text, err, err)
		}
	})
}
