package webhook

import "time"

// Profile is one system's whole behaviour, for both ends. [DefaultProfile] is Gett's; package profile has others.
type Profile struct {
	Name   string // as [Endpoint.Profile] names it
	Scheme Scheme

	// For sending.
	Schedule     Schedule      // retry delays
	Timeout      time.Duration // limit of one attempt
	Success      SuccessRule   // statuses that count as delivered
	GoneDisables bool          // 410 puts the endpoint on hold and the delivery in dead_letter at once

	// For receiving.
	Tolerance time.Duration                           // how far the signed timestamp may be off, both ways; zero: 300 s; negative: any
	Key       KeyFunc                                 // idempotency key of a verified request
	Describe  func(m *Message) (id, eventType string) // reads what it can from a verified request; may be nil
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
