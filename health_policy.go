package webhook

import (
	"cmp"
	"fmt"
	"time"
)

// Kinds of [HealthPolicy].
const (
	healthGraduated = "graduated"
	healthFailing   = "failing"
	healthOff       = "off"
)

// The defaults of a [HealthPolicy].
const (
	slowAfterDefault  = time.Minute
	probeAfterDefault = 10 * time.Minute
	probeEveryDefault = 5 * time.Minute
	holdAfterDefault  = 5 * 24 * time.Hour
	gapDefault        = 36 * time.Hour
	warnDefault       = 24 * time.Hour
	noticeDefault     = 24 * time.Hour
)

// HealthPolicy says what becomes of an endpoint that fails: by time and by the share of failures, never by a count alone. The zero
// HealthPolicy means "as the profile says"; make one with [Graduated], [FailingFor] or [NoHealth] and change its fields.
// The fields are exported so that a store can keep it as JSON. Durations are at most 365 days, and a zero one is its default.
//
// Whatever the policy, a test ([Dispatcher.SendTest]) does not count, nor does a failure of our own (proxy, resolver, this machine, the
// database), and nothing that waits for an endpoint on hold is lost: it reads as [Held] until the hold ends.
type HealthPolicy struct {
	// Kind is "graduated", "failing" or "off"; "" is the zero HealthPolicy.
	//
	// "graduated": an endpoint is slowed, then only probed, then put on hold; each success leads back.
	// "failing": it is slowed only when it asks for that (429, 503) or times out, and put on hold after HoldAfter.
	// "off": failures change nothing but their own deliveries' schedules.
	Kind string

	SlowAfter  time.Duration // "graduated": at least half of the attempts fail for so long; default 1 min
	ProbeAfter time.Duration // "graduated": nothing but failures for so long; default 10 min
	ProbeEvery time.Duration // "graduated": from then on one attempt each, over all processes together; at least 1 s, default 5 min

	// HoldAfter is how long there is nothing but failures before the endpoint is put on hold; "graduated": default 5 days, negative
	// never; "failing": required.
	HoldAfter time.Duration

	// Gap is, with "graduated", the longest time between two failures that belong together: one that comes later begins
	// anew, as what is not tried says nothing. Default 36 h. "failing" knows no such limit.
	Gap time.Duration

	Warn     time.Duration // the warning comes so long before the hold; default 24 h, at most half of HoldAfter
	Notice   time.Duration // between notices while it fails; default 24 h, negative none
	KeepHeld bool          // a successful test does not end a hold that failures made
}

// Graduated is the default policy: slowed after a minute in which half of the attempts fail, probed every 5 minutes after 10
// minutes of only failures, put on hold after 5 days of only failures with a warning a day before.
func Graduated() HealthPolicy { return HealthPolicy{Kind: healthGraduated} }

// FailingFor is the policy of systems that switch an endpoint off after nothing but failures for d, with a notice each day. Any
// success begins anew.
func FailingFor(d time.Duration) HealthPolicy { return HealthPolicy{Kind: healthFailing, HoldAfter: d} }

// NoHealth is the policy of leaving endpoints alone: each delivery goes by its own schedule, however many fail.
func NoHealth() HealthPolicy { return HealthPolicy{Kind: healthOff} }

// IsZero reports whether p is the zero HealthPolicy, which leaves the choice to the profile.
func (p HealthPolicy) IsZero() bool { return p == HealthPolicy{} }

// Validate returns a [*FieldError] that names the first field that is out of range. The zero HealthPolicy is valid.
func (p HealthPolicy) Validate() error {
	if p.IsZero() {
		return nil
	}
	bad := func(field, format string, args ...any) error {
		return &FieldError{Op: "health policy", Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	if p.Kind != healthGraduated && p.Kind != healthFailing && p.Kind != healthOff {
		return bad("Kind", "is %q, want graduated, failing or off", p.Kind)
	}
	for _, f := range []struct {
		name  string
		value time.Duration
		least time.Duration
		kinds string // that have it
	}{
		{"SlowAfter", p.SlowAfter, 0, healthGraduated},
		{"ProbeAfter", p.ProbeAfter, 0, healthGraduated},
		{"ProbeEvery", p.ProbeEvery, 0, healthGraduated},
		{"HoldAfter", p.HoldAfter, -maxDelay, healthGraduated + healthFailing},
		{"Gap", p.Gap, 0, healthGraduated},
		{"Warn", p.Warn, 0, healthGraduated + healthFailing},
		{"Notice", p.Notice, -maxDelay, healthGraduated + healthFailing},
	} {
		switch {
		case f.value == 0:
		case !isKindIn(f.kinds, p.Kind):
			return bad(f.name, "is %v, but %q has no such field", f.value, p.Kind)
		case f.value < f.least || f.value > maxDelay:
			return bad(f.name, "is %v, want 0 to %v", f.value, time.Duration(maxDelay))
		}
	}
	return p.validateSteps(bad)
}

// validateSteps checks how the fields go together.
func (p HealthPolicy) validateSteps(bad func(field, format string, args ...any) error) error {
	full := p.withDefaults()
	switch {
	case p.Kind == healthOff && p.KeepHeld:
		return bad("KeepHeld", "is set, but %q puts nothing on hold", p.Kind)
	case p.Kind == healthFailing && p.HoldAfter <= 0:
		return bad("HoldAfter", "is %v, want more than 0", p.HoldAfter)
	case p.ProbeEvery != 0 && p.ProbeEvery < time.Second:
		return bad("ProbeEvery", "is %v, want at least 1s", p.ProbeEvery)
	case p.Kind == healthGraduated && full.ProbeAfter < full.SlowAfter:
		return bad("ProbeAfter", "is %v, want at least SlowAfter (%v)", full.ProbeAfter, full.SlowAfter)
	case p.Kind == healthGraduated && full.HoldAfter > 0 && full.HoldAfter < full.ProbeAfter:
		return bad("HoldAfter", "is %v, want at least ProbeAfter (%v)", full.HoldAfter, full.ProbeAfter)
	case p.Kind == healthGraduated && full.ProbeEvery >= full.Gap:
		return bad("Gap", "is %v, want more than ProbeEvery (%v)", full.Gap, full.ProbeEvery)
	case full.HoldAfter > 0 && p.Warn > full.HoldAfter/2:
		return bad("Warn", "is %v, want at most half of HoldAfter (%v)", p.Warn, full.HoldAfter)
	}
	return nil
}

// isKindIn reports whether kind is one of kinds; no name of a kind is within another.
func isKindIn(kinds, kind string) bool {
	return kinds == kind || kinds == healthGraduated+healthFailing && kind != healthOff
}

// withDefaults is p with the defaults of its kind for what is zero. HoldAfter stays negative where it is, and is zero with "off":
// both mean never.
func (p HealthPolicy) withDefaults() HealthPolicy {
	if p.IsZero() {
		p = Graduated()
	}
	if p.Kind == healthOff {
		return p
	}
	if p.Kind == healthGraduated {
		p.SlowAfter = cmp.Or(p.SlowAfter, slowAfterDefault)
		p.ProbeAfter = cmp.Or(p.ProbeAfter, probeAfterDefault)
		p.ProbeEvery = cmp.Or(p.ProbeEvery, probeEveryDefault)
		p.HoldAfter = cmp.Or(p.HoldAfter, holdAfterDefault)
		p.Gap = cmp.Or(p.Gap, gapDefault)
	}
	if p.Warn == 0 && p.HoldAfter > 0 {
		p.Warn = min(warnDefault, p.HoldAfter/2)
	}
	p.Notice = cmp.Or(p.Notice, noticeDefault)
	return p
}

// HealthStage is where an endpoint stands.
type HealthStage string

// The stages, from well to switched off.
const (
	HealthOK     HealthStage = "ok"
	HealthSlowed HealthStage = "slowed" // gets fewer attempts than wait for it, and more with each success
	HealthProbed HealthStage = "probed" // gets one attempt each ProbeEvery
	HealthHeld   HealthStage = "held"   // is on hold, by this policy or by its own 410
)
