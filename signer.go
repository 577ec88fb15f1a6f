package webhook

import (
	"net/http"
	"time"
)

// Signer makes signatures. Safe for concurrent use; keep and reuse one.
type Signer struct {
	scheme  Scheme
	secrets []Secret
}

// NewSigner makes a Signer of the default scheme, Gett's, which signs with the first of secrets. Formats that carry several
// signatures (see [Profile.Signer]) carry one per secret, so that receivers can change over at any time between.
// It fails without a secret ([ErrEmptySecret]).
func NewSigner(secrets ...Secret) (*Signer, error) {
	return DefaultProfile().Signer(secrets...)
}

// Sign sets the signature headers for a request that goes out now with exactly this body. Sign each attempt anew: the
// time is part of it. Formats that carry an event's ID take it from its header, if that is set; else use SignMessage.
func (s *Signer) Sign(header http.Header, body []byte) error {
	return s.SignMessage(&Message{Header: header, Body: body}, time.Now())
}

// SignMessage sets the signature headers on m.Header, which must not be nil, for an attempt made at now. It replaces those
// of an earlier attempt. An error is a [*FieldError].
func (s *Signer) SignMessage(m *Message, now time.Time) error {
	switch {
	case s.scheme == nil:
		return &FieldError{Op: "sign", Field: "Signer", Reason: "is not made with NewSigner or Profile.Signer"}
	case m == nil || m.Header == nil:
		return &FieldError{Op: "sign", Field: "Header", Reason: "is nil"}
	}
	return s.scheme.Sign(m, s.secrets, now)
}
