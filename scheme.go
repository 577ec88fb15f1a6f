package webhook

import (
	"net/http"
	"net/url"
	"time"
)

// Scheme is one system's wire format of signing: header names, signed bytes, encoding. Implementations are stateless and
// safe for concurrent use. [DefaultProfile] has the default one, package profile those of other systems.
type Scheme interface {
	// Name identifies the scheme in errors and logs.
	Name() string

	// Sign sets the scheme's headers on m.Header for an attempt made at now. secrets has at least one element, the
	// current one first; a format that carries several signatures carries one per secret, others use the first.
	Sign(m *Message, secrets []Secret, now time.Time) error

	// Verify checks m's signature against all secrets. It does not judge the age of the timestamp: it returns it, and
	// the [Verifier] holds it against its tolerance. Its errors are causes of [VerifyError].
	Verify(m *Message, secrets []Secret) (Verification, error)
}

// Message is a request as a signature sees it.
type Message struct {
	Method  string
	URL     *url.URL
	Header  http.Header
	Body    []byte // exactly as on the wire
	EventID string // when signing: for formats that sign the event's ID
}

// Verification is what a valid signature tells.
type Verification struct {
	Scheme     string    // name of the scheme
	Secret     int       // index of the secret that matched
	Timestamp  time.Time // when it was signed; zero when the format does not say
	EventID    string    // from the format's headers; "" when it has none
	APIVersion string    // as received; "" when the format has none

	// UnknownVersion is set when APIVersion is not the one this library was written for. It is reported, not refused.
	UnknownVersion bool
}
