package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// DefaultTolerance is how far a signed timestamp may be off, both ways, unless the [Profile] says otherwise.
const DefaultTolerance = 300 * time.Second

// Causes of a [VerifyError]. Each is for one fault alone.
var (
	ErrHeaderMissing     = errors.New("header is missing")
	ErrHeaderEmpty       = errors.New("header is empty")
	ErrHeaderRepeated    = errors.New("header is repeated")                       // with the same value
	ErrHeaderContradicts = errors.New("header is repeated with different values") // which of them holds is anybody's guess
	ErrHeaderMalformed   = errors.New("header is malformed")                      // characters or structure that the format has not
	ErrHeaderTooLong     = errors.New("header is too long")                       // or has too many elements

	ErrSignatureTruncated    = errors.New("signature is too short")
	ErrSignatureNotCanonical = errors.New("signature is not in canonical encoding") // base64 that decodes, but is not how it is encoded
	ErrSignatureMismatch     = errors.New("signature does not match")               // other body, other secret, or forged

	ErrTimestampOverflow     = errors.New("timestamp overflows")
	ErrTimestampNegative     = errors.New("timestamp is negative")
	ErrTimestampFractional   = errors.New("timestamp has a fraction")
	ErrTimestampExponential  = errors.New("timestamp has an exponent")
	ErrTimestampPadded       = errors.New("timestamp is padded") // with zeros or white space
	ErrTimestampSigned       = errors.New("timestamp has a plus sign")
	ErrTimestampMilliseconds = errors.New("timestamp is in milliseconds")
	ErrTimestampMalformed    = errors.New("timestamp is malformed")
	ErrTimestampTooOld       = errors.New("timestamp is too old")
	ErrTimestampTooNew       = errors.New("timestamp is too far ahead")
)

// VerifyError says why a request was not accepted. Its text holds no secret and no signature, neither the expected nor the
// received one, so it can be logged; do not send it to the other side, which learns from it what to try next.
type VerifyError struct {
	Scheme string // name of the scheme
	Err    error  // the cause, one of those above; a [Scheme] of your own may have others
	Detail string // in words, with the figures; "" when Err says it all
}

// Error reads like "webhook: verify: timestamp 1770000000 is 412 s old, allowed 300 s".
func (e *VerifyError) Error() string {
	switch {
	case e.Detail != "":
		return "webhook: verify: " + e.Detail
	case e.Err != nil:
		return "webhook: verify: " + e.Err.Error()
	}
	return "webhook: verify: failed"
}

// Unwrap gives the cause.
func (e *VerifyError) Unwrap() error { return e.Err }

func verifyErrorf(cause error, format string, args ...any) error {
	return &VerifyError{Err: cause, Detail: fmt.Sprintf(format, args...)}
}

// Verifier checks signatures, against any number of active secrets. Safe for concurrent use; keep and reuse one.
type Verifier struct {
	scheme    Scheme
	secrets   []Secret
	tolerance time.Duration
	messages  sync.Pool // of *Message, for Verify

	// For Middleware, from the profile.
	key      KeyFunc
	describe func(m *Message) Description
	success  SuccessRule
}

// NewVerifier makes a Verifier of the default scheme, Gett's: Signature is the hex HMAC-SHA256 of the raw body, Timestamp at
// most 300 s off. It accepts what any of secrets signed, so give the old one too while the sender changes over.
// It fails without a secret ([ErrEmptySecret]).
//
// For another system or tolerance, change a [Profile]:
//
//	p := webhook.DefaultProfile()
//	p.Tolerance = 10 * time.Minute
//	verifier, err := p.Verifier(secret)
func NewVerifier(secrets ...Secret) (*Verifier, error) {
	return DefaultProfile().Verifier(secrets...)
}

// Verify checks a request's headers and its raw body, as read from the wire and before any decoding. An error is a
// [*VerifyError]: answer 401. For schemes that sign method or URL, use VerifyMessage.
func (v *Verifier) Verify(header http.Header, body []byte) (Verification, error) {
	m, _ := v.messages.Get().(*Message)
	if m == nil {
		m = new(Message)
	}
	m.Header, m.Body = header, body
	verification, err := v.VerifyMessage(m)
	*m = Message{}
	v.messages.Put(m)
	return verification, err
}

// VerifyMessage checks a request. An error is a [*VerifyError]: answer 401. On success it sets m.EventID to what the
// format's headers say, "" included.
func (v *Verifier) VerifyMessage(m *Message) (Verification, error) {
	if v.scheme == nil || m == nil {
		reason := "is not made with NewVerifier or Profile.Verifier, or the message is nil"
		return Verification{}, &FieldError{Op: "verify", Field: "Verifier", Reason: reason}
	}
	verification, err := v.scheme.Verify(m, v.secrets)
	if err == nil {
		err = checkAge(verification.Timestamp, time.Now(), v.tolerance)
	}
	if err != nil {
		return Verification{}, v.verifyError(err)
	}
	verification.Scheme = v.scheme.Name()
	m.EventID = verification.EventID
	return verification, nil
}

// verifyError makes whatever a scheme returned a *VerifyError that names the scheme, without changing an error that the
// scheme may share.
func (v *Verifier) verifyError(err error) error {
	e := VerifyError{Err: err, Detail: err.Error()}
	if cause, ok := errors.AsType[*VerifyError](err); ok {
		e = *cause
	}
	e.Scheme = v.scheme.Name()
	return &e
}
