package webhook

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Profile is one system's whole behaviour, for both ends. [DefaultProfile] is Gett's; package profile has others. It is a
// plain value: change a field of your copy to change the rule, or fill one in for a system of your own. Only Scheme is needed to
// sign and verify.
type Profile struct {
	Name   string // as [Endpoint.Profile] names it
	Scheme Scheme

	// For sending.
	Schedule     Schedule      // retry delays
	Timeout      time.Duration // limit of one attempt
	Success      SuccessRule   // statuses that count as delivered
	Health       HealthPolicy  // what becomes of an endpoint that fails; zero: [Graduated]
	GoneDisables bool          // 410 puts the endpoint on hold and the delivery in dead_letter at once

	// For receiving.
	Tolerance time.Duration                // how far the signed timestamp may be off, both ways; zero: 300 s; negative: any
	Key       KeyFunc                      // idempotency key of a verified request; nil: [DefaultKey]
	Describe  func(m *Message) Description // reads what it can from a verified request; nil: nothing
}

// Description is what a verified request tells of its event. It is read only from what the signature covers, which in most formats is the body
// alone: no header that anybody could have changed decides where an event goes. Fields of which the signed part says nothing are empty.
type Description struct {
	ID   string // of the event
	Type string // as "order_create"

	// OrderingKey is what the event is about, as the order or the object: events that share it should be processed in the order of Time, or of
	// arrival where there is none. It is valid as [Event.OrderingKey].
	OrderingKey string

	Time time.Time // when it happened, not when it was sent
}

// Key is the idempotency key of a received request.
type Key struct {
	ID string // what must be processed once; build it of parts with [JoinKey]

	// Digest, when set, makes the key remember only the latest content: a request with the same ID and another digest
	// is new. Zero: the ID alone decides.
	Digest [32]byte
}

// KeyFunc derives the idempotency key of a verified request. An error refuses the request with 400.
type KeyFunc func(m *Message) (Key, error)

// DefaultProfile is the behaviour of Gett's order webhooks: the hex HMAC of the body, 2xx within 30 s, and five retries.
// Its key is [DefaultKey].
func DefaultProfile() Profile {
	return Profile{
		Name:   "gett",
		Scheme: gettScheme{},
		Schedule: Schedule{Kind: "list", List: []time.Duration{
			30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour,
		}},
		Timeout:   30 * time.Second,
		Success:   SuccessRule{From: 200, To: 299},
		Tolerance: DefaultTolerance,
		Key:       DefaultKey,
		Describe:  describeGett,
	}
}

// maxSecrets bounds what one request can make a verifier compute, and how long a header a signer writes.
const maxSecrets = 16

// Signer makes a [Signer] of the profile's scheme; the first of secrets is the current one. It fails with a [*FieldError]
// when there is no scheme, no secret or more than 16, or when the scheme cannot use one of them.
func (p Profile) Signer(secrets ...Secret) (*Signer, error) {
	if err := p.check("signer", secrets); err != nil {
		return nil, err
	}
	return &Signer{scheme: p.Scheme, secrets: slices.Clone(secrets)}, nil
}

// Verifier makes a [Verifier] of the profile's scheme, tolerance and key, which accepts what any of secrets signed.
// It fails as Signer does.
func (p Profile) Verifier(secrets ...Secret) (*Verifier, error) {
	if err := p.check("verifier", secrets); err != nil {
		return nil, err
	}
	v := &Verifier{
		scheme:    p.Scheme,
		secrets:   slices.Clone(secrets),
		tolerance: p.Tolerance,
		key:       p.Key,
		describe:  p.Describe,
		success:   p.Success,
	}
	if v.tolerance == 0 {
		v.tolerance = DefaultTolerance
	}
	if v.key == nil {
		v.key = DefaultKey
	}
	return v, nil
}

func (p Profile) check(op string, secrets []Secret) error {
	switch {
	case p.Scheme == nil:
		return &FieldError{Op: op, Field: "Scheme", Reason: "is nil"}
	case len(secrets) == 0:
		return &FieldError{Op: op, Field: "secrets", Reason: "are none, want at least one", Cause: ErrEmptySecret}
	case len(secrets) > maxSecrets:
		return &FieldError{Op: op, Field: "secrets", Reason: fmt.Sprintf("are %d, want at most %d", len(secrets), maxSecrets)}
	}
	var checks []func(Secret) error
	if c, ok := p.Scheme.(SecretChecker); ok {
		checks = append(checks, c.CheckSecret)
	}
	if c, ok := p.Scheme.(SigningSecretChecker); ok && op == "signer" {
		checks = append(checks, c.CheckSigningSecret)
	}
	for i, s := range secrets {
		field := fmt.Sprintf("secrets[%d]", i)
		if s.IsZero() {
			return &FieldError{Op: op, Field: field, Reason: "is empty", Cause: ErrEmptySecret}
		}
		for _, check := range checks {
			if err := check(s); err != nil {
				return &FieldError{Op: op, Field: field, Reason: strings.TrimPrefix(err.Error(), "webhook: "), Cause: err}
			}
		}
	}
	return nil
}
