package webhook

import (
	"net/http"
	"net/url"
	"time"
)

// Scheme is one system's wire format of signing: header names, signed bytes, encoding. [DefaultProfile] has the default
// one, package profile those of other systems.
//
// Implementations are stateless and safe for concurrent use, keep nothing of what they are given, and never panic, whatever
// the headers hold. One of your own is short with [Secret.HMAC], [OneHeader], [ParseTimestamp], [DecodeHex] and
// [DecodeBase64], which return the right causes for bad input.
type Scheme interface {
	// Name identifies the scheme in errors and logs.
	Name() string

	// Sign sets the scheme's headers on m.Header, replacing those of an earlier attempt, for an attempt made at now.
	// secrets has at least one element, the current one first; a format that carries several signatures carries one
	// per secret, others use the first. It changes nothing else of m.
	Sign(m *Message, secrets []Secret, now time.Time) error

	// Verify checks m's signature against all secrets, comparing in constant time. It does not judge the age of the
	// timestamp: it returns it, and the [Verifier] holds it against its tolerance. Its errors are [*VerifyError]s, whose
	// Scheme may be left empty. It changes nothing of m.
	Verify(m *Message, secrets []Secret) (Verification, error)
}

// SecretChecker is what a [Scheme] also implements when not every text can be its secret. Making a [Signer] or [Verifier]
// fails with the error, which must not show the secret.
type SecretChecker interface {
	CheckSecret(s Secret) error
}

// SigningSecretChecker is what a [Scheme] also implements when not every secret that verifies can sign too, as a public key cannot.
// Making a [Signer] fails with the error, which must not show the secret, and so does an endpoint with such a secret.
type SigningSecretChecker interface {
	CheckSigningSecret(s Secret) error
}

// HeaderNamer is what a [Scheme] also implements to name the headers that it sets, in any case of letters. An endpoint that signs with it
// is refused if its Header, Auth or SequenceHeader sets one of them, and on attempts for such an endpoint what an event or a hook has set
// there is dropped before Sign is called. Other endpoints may use the names as they like.
//
// A scheme needs it only for names that no other endpoint has to leave alone: the fixed ones of this library's schemes are refused for
// all events and endpoints, whatever they sign with.
type HeaderNamer interface {
	HeaderNames() []string
}

// Message is a request as a signature sees it.
type Message struct {
	Method string
	URL    *url.URL
	Header http.Header
	Body   []byte // exactly as on the wire

	// EventID is, when signing, for formats that carry the event's ID. [Verifier.VerifyMessage] sets it to what the
	// format's headers say, for [KeyFunc]s.
	EventID string
}

// Verification is what a valid signature tells.
type Verification struct {
	Scheme     string    // name of the scheme
	Secret     int       // index of the secret that matched
	Timestamp  time.Time // when it was signed, to the second, in UTC; zero when the format does not say
	EventID    string    // from the format's headers, which TradeGecko does not sign; "" when it has none
	APIVersion string    // as received; "" when the format has none, or none came

	// UnknownVersion is set when APIVersion is not the one this library was written for. It is reported, not refused.
	UnknownVersion bool
}
