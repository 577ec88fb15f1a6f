package webhook

import (
	"encoding/json"
	"time"
)

// healthDoc is what all processes keep of an endpoint's health in [EndpointState].Doc, as JSON. Times are Unix µs by the store's
// clock; 0: none. The zero healthDoc is that of a healthy endpoint and is stored as no document at all.
type healthDoc struct {
	Stage        HealthStage `json:"s,omitempty"`  // "": HealthOK
	Since        int64       `json:"si,omitempty"` // of Stage
	At           int64       `json:"at,omitempty"` // when it was stored last
	FailingSince int64       `json:"f,omitempty"`  // first failure since the last success; 0: the last attempt succeeded
	LastSuccess  int64       `json:"ls,omitempty"`
	LastFailure  int64       `json:"lf,omitempty"`
	Failures     int64       `json:"n,omitempty"` // since FailingSince, at most 5 minutes late
	Reason       string      `json:"r,omitempty"` // of the last failure, at most 200 bytes

	Pace    float64 `json:"p,omitempty"`  // attempts a second over all processes; 0: as many as the endpoint's own rate
	Peak    float64 `json:"pk,omitempty"` // the pace at which it last was too much; 0 with a pace: the pace doubles with success
	PacedAt int64   `json:"pa,omitempty"` // when Pace was set; attempts begun earlier say nothing about it

	WarnedAt  int64 `json:"w,omitempty"`
	NoticedAt int64 `json:"nt,omitempty"` // the warning is a notice, too

	Verified    string `json:"v,omitempty"` // verification's, as in verifyDoc, and left as they are
	VerifyTries int    `json:"vt,omitempty"`
	VerifyAt    int64  `json:"va,omitempty"`
}

// stage is d.Stage by its name.
func (d *healthDoc) stage() HealthStage {
	if d.Stage == "" {
		return HealthOK
	}
	return d.Stage
}

// recovered is what is left of d when nothing is wrong any more.
func (d *healthDoc) recovered() healthDoc {
	return healthDoc{LastSuccess: d.LastSuccess, LastFailure: d.LastFailure, Verified: d.Verified, VerifyTries: d.VerifyTries, VerifyAt: d.VerifyAt}
}

// isIdle reports whether nothing is wrong.
func (d *healthDoc) isIdle() bool { return d.Stage == "" && d.FailingSince == 0 && d.Pace == 0 }

// encode is d as a store keeps it; nil when there is nothing to keep.
func (d *healthDoc) encode() []byte {
	if d.isIdle() && d.Verified == "" && d.VerifyTries == 0 && d.VerifyAt == 0 {
		return nil
	}
	doc, _ := json.Marshal(d) // of numbers and strings: cannot fail
	return doc
}

// healthState is an [EndpointState], read.
type healthState struct {
	version   int64
	doc       healthDoc
	notBefore int64 // Unix µs; 0: no bound
	hold      *HoldStatus
}

// readState reads a state. A document that cannot be read, as one of another version, counts as none.
func readState(in *EndpointState) healthState {
	s := healthState{version: in.Version, hold: in.Hold, notBefore: unixMicro(in.NotBefore)}
	if len(in.Doc) > 0 && json.Unmarshal(in.Doc, &s.doc) != nil {
		s.doc = healthDoc{}
	}
	return s
}

// onHold is the hold in force at now, or nil.
func (s *healthState) onHold(now int64) *HoldStatus {
	if s.hold == nil || !s.hold.Until.IsZero() && unixMicro(s.hold.Until) <= now {
		return nil
	}
	return s.hold
}

// isHealthHold reports whether health made a hold, and so may end it.
func (h *HoldStatus) isHealthHold() bool {
	return h != nil && (h.Kind == HoldGone || h.Kind == HoldDisabled)
}

// newState is s as it is to be stored.
func (s *healthState) newState(id string, hold *HoldRequest, unhold bool) NewState {
	return NewState{
		EndpointID: id, Version: s.version, Doc: s.doc.encode(), NotBefore: microTime(s.notBefore), Hold: hold, Unhold: unhold,
	}
}

// unixMicro is t in Unix µs, and microTime the reverse; 0 and the zero time are each other.
func unixMicro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func microTime(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
