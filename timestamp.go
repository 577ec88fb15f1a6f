package webhook

import (
	"strconv"
	"strings"
	"time"
)

const (
	maxTimestamp      = 99_999_999_999 // unix seconds of the year 5138; what is greater is no seconds
	maxMilliseconds   = maxTimestamp*1000 + 999
	maxTimestampBytes = 64 // of the text, to bound the work and the error
)

// ParseTimestamp reads unix seconds in their one canonical form: decimal digits, no sign, no leading zero. Everything else is a
// [*VerifyError] with the cause that tells what is wrong ([ErrTimestampFractional], [ErrTimestampMilliseconds], …), so
// that a text has one meaning for everybody who reads it. For writers of a [Scheme].
func ParseTimestamp(text string) (time.Time, error) {
	if len(text) > maxTimestampBytes {
		return time.Time{}, verifyErrorf(ErrHeaderTooLong, "timestamp has %d bytes, want at most %d", len(text), maxTimestampBytes)
	}
	if cause := timestampForm(text); cause != nil {
		return time.Time{}, verifyErrorf(cause, "timestamp %q %s", text, timestampFault(cause))
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || seconds > maxMilliseconds:
		return time.Time{}, verifyErrorf(ErrTimestampOverflow, "timestamp %s %s", text, timestampFault(ErrTimestampOverflow))
	case seconds > maxTimestamp:
		return time.Time{}, verifyErrorf(ErrTimestampMilliseconds, "timestamp %s %s", text, timestampFault(ErrTimestampMilliseconds))
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// timestampForm tells what keeps text from being canonical digits; nil when it is that.
func timestampForm(text string) error {
	if text == "" {
		return ErrTimestampMalformed
	}
	if strings.TrimSpace(text) != text {
		return ErrTimestampPadded
	}
	number := text
	var sign error
	switch text[0] {
	case '-':
		number, sign = text[1:], ErrTimestampNegative
	case '+':
		number, sign = text[1:], ErrTimestampSigned
	}
	form := numberForm(number)
	if sign != nil && form != ErrTimestampMalformed {
		return sign
	}
	return form
}

// numberForm tells an unsigned number in plain digits (nil) from one written otherwise and from no number.
func numberForm(text string) error {
	whole, rest := cutDigits(text)
	if rest == "" {
		switch {
		case whole == "":
			return ErrTimestampMalformed
		case len(whole) > 1 && whole[0] == '0':
			return ErrTimestampPadded
		}
		return nil
	}
	fraction := ""
	pointed := rest[0] == '.'
	if pointed {
		fraction, rest = cutDigits(rest[1:])
	}
	if whole == "" && fraction == "" {
		return ErrTimestampMalformed
	}
	if rest == "" && pointed {
		return ErrTimestampFractional
	}
	if rest != "" && (rest[0] == 'e' || rest[0] == 'E') {
		exponent := strings.TrimPrefix(strings.TrimPrefix(rest[1:], "+"), "-")
		if digits, after := cutDigits(exponent); digits != "" && after == "" {
			return ErrTimestampExponential
		}
	}
	return ErrTimestampMalformed
}

// cutDigits splits off the ASCII digits that text begins with.
func cutDigits(text string) (digits, rest string) {
	i := 0
	for i < len(text) && text[i] >= '0' && text[i] <= '9' {
		i++
	}
	return text[:i], text[i:]
}

func timestampFault(cause error) string {
	switch cause {
	case ErrTimestampOverflow:
		return "is too large for unix seconds"
	case ErrTimestampNegative:
		return "is negative"
	case ErrTimestampFractional:
		return "has a fraction"
	case ErrTimestampExponential:
		return "has an exponent"
	case ErrTimestampPadded:
		return "is padded"
	case ErrTimestampSigned:
		return "has a sign"
	case ErrTimestampMilliseconds:
		return "looks like milliseconds, want seconds"
	default:
		return "is not unix seconds"
	}
}

// checkAge holds a signed timestamp against now, both ways. A negative tolerance allows any age.
func checkAge(signed, now time.Time, tolerance time.Duration) error {
	if tolerance < 0 || signed.IsZero() {
		return nil
	}
	age, ahead := now.Sub(signed), signed.Sub(now) // each ends at ±292 years, which is far enough
	if age <= tolerance && ahead <= tolerance {
		return nil
	}
	allowed := strconv.FormatFloat(tolerance.Seconds(), 'f', -1, 64)
	if age > 0 {
		return verifyErrorf(ErrTimestampTooOld, "timestamp %d is %d s old, allowed %s s", signed.Unix(), secondsUp(age), allowed)
	}
	return verifyErrorf(ErrTimestampTooNew, "timestamp %d is %d s ahead, allowed %s s", signed.Unix(), secondsUp(ahead), allowed)
}

// secondsUp rounds up, so that an error never reads "300 s old, allowed 300 s".
func secondsUp(d time.Duration) int64 {
	seconds := int64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}
	return seconds
}
