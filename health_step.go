package webhook

import (
	"cmp"
	"fmt"
	"time"
)

// Bounds of a step.
const (
	slowFailures   = 3                // a streak of only failures slows an endpoint down from so many on
	slowAttempts   = 10               // so do half of so many
	streakStored   = 30 * time.Second // a streak is stored when it is so old
	countersStored = 5 * time.Minute  // counters that change nothing are stored so often at most
)

// stepping is one step of an endpoint's health: what becomes of its stored state by what was seen since, under a policy. Nothing but
// its arguments decides, so that all processes come to the same result.
type stepping struct {
	policy  HealthPolicy // with its defaults
	now     int64        // Unix µs by the store's clock
	canHold bool         // the store keeps states, so all processes would know
	was     healthState
	seen    observed
	epoch   epoch
	window  window
	rate    float64 // attempts a second of this process, lately

	next      healthState
	news      []HealthInfo
	hold      string // why it is to be put on hold; "": it is not
	judged    bool   // epoch is used up
	windowEnd bool   // window is used up
}

// How much others need to know what a step came to.
const (
	rankNothing  = iota
	rankCounters // nothing hangs on it
	rankPace
	rankUrgent
)

// step does it all and returns how much that matters.
func (s *stepping) step() (rank int) {
	s.next = s.was
	if s.next.notBefore <= s.now {
		s.next.notBefore = 0
	}
	if s.seen.notBefore > s.now {
		s.next.notBefore = max(s.next.notBefore, s.seen.notBefore)
	}
	s.merge()
	switch hold := s.next.onHold(s.now); {
	case hold.isHealthHold():
		if s.next.doc.Stage != HealthHeld {
			s.goTo(HealthHeld, hold.Reason)
		}
	case hold != nil: // nobody sends, so nothing is to be learned
	case s.next.doc.Stage == HealthHeld, s.next.doc.Stage == HealthProbed && s.policy.Kind == healthFailing:
		s.drain("it may go on")
	case s.policy.Kind == healthOff:
		s.drain("its policy leaves it alone")
	default:
		s.pace()
		s.closeWindow()
		s.graduate()
		s.tell()
	}
	return s.rank()
}

// merge takes over what was seen.
func (s *stepping) merge() {
	d, o := &s.next.doc, &s.seen
	d.LastSuccess = max(d.LastSuccess, o.lastSuccess)
	if d.FailingSince > 0 && o.lastSuccess >= d.FailingSince {
		s.recover(o.lastSuccess)
	}
	if o.lastFailure == 0 {
		return
	}
	forgotten := s.gap() > 0 && d.LastFailure > 0 && o.firstFailure > 0 && micros(o.firstFailure-d.LastFailure) > s.gap()
	switch {
	case o.firstFailure == 0 || o.lastFailure <= max(d.LastSuccess, d.Since) && d.FailingSince == 0: // all has changed since
	case d.FailingSince == 0 || forgotten:
		d.FailingSince, d.Failures = max(o.firstFailure, d.LastSuccess, min(d.Since, o.lastFailure)), o.failed
		d.WarnedAt, d.NoticedAt = 0, 0
	default:
		d.Failures += o.failed
	}
	d.LastFailure, d.Reason = max(d.LastFailure, o.lastFailure), o.reason
}

// recover ends a streak of failures by a success at at.
func (s *stepping) recover(at int64) {
	d := &s.next.doc
	lasted := micros(at - d.FailingSince)
	d.FailingSince, d.Failures, d.WarnedAt, d.NoticedAt = 0, 0, 0, 0
	if s.next.onHold(s.now) != nil {
		return
	}
	switch {
	case d.Stage == HealthProbed:
		s.drain("it answers again")
	case d.Stage == HealthSlowed && lasted >= outageLeast:
		// It was away rather than busy: what it bore before is worth more than the floor that the pace has sunk to.
		s.setPace(max(d.Pace, paceFirst), 0)
	}
}

// drain lets what was kept go at a safe pace.
func (s *stepping) drain(reason string) {
	d := &s.next.doc
	d.FailingSince, d.Failures, d.WarnedAt, d.NoticedAt = 0, 0, 0, 0
	if s.policy.Kind == healthOff {
		s.setPace(0, 0)
		s.goTo(HealthOK, reason)
		return
	}
	s.setPace(paceFirst, 0)
	s.goTo(HealthSlowed, reason)
}

// closeWindow slows an endpoint down of which half of the attempts failed for a whole window.
func (s *stepping) closeWindow() {
	w := s.window
	after := s.policy.SlowAfter
	if after == 0 {
		after = slowAfterDefault
	}
	if w.at == 0 || micros(s.now-w.at) < after {
		return
	}
	s.windowEnd = true
	if s.policy.Kind == healthGraduated && s.next.doc.stage() == HealthOK && w.ok+w.failed >= slowAttempts && w.failed >= w.ok {
		s.slow(fmt.Sprintf("%d of %d attempts failed within %v; the last %s", w.failed, w.ok+w.failed, after, s.lastReason()))
	}
}

// graduate goes from stage to stage with time.
func (s *stepping) graduate() {
	d := &s.next.doc
	if d.Pace == 0 && d.Stage == HealthSlowed {
		s.goTo(HealthOK, "it keeps up")
	}
	if s.policy.Kind != healthGraduated || d.FailingSince == 0 {
		return
	}
	if idle := micros(s.now - d.LastFailure); idle > s.gap() {
		d.FailingSince, d.Failures, d.WarnedAt, d.NoticedAt = 0, 0, 0, 0
		s.setPace(0, 0)
		if d.stage() != HealthOK {
			s.goTo(HealthOK, fmt.Sprintf("nothing was sent for %v", idle.Truncate(time.Second)))
		}
		return
	}
	failing := micros(s.now - d.FailingSince)
	switch {
	case d.stage() == HealthOK && failing >= s.policy.SlowAfter && d.Failures >= slowFailures:
		s.slow(fmt.Sprintf("nothing but failures for %v; the last %s", failing.Truncate(time.Second), s.lastReason()))
	case d.Stage == HealthSlowed && failing >= s.policy.ProbeAfter && s.isAttested(s.policy.ProbeAfter):
		s.setPace(0, 0)
		s.goTo(HealthProbed, fmt.Sprintf("nothing but failures for %v; the last %s", failing.Truncate(time.Second), s.lastReason()))
	}
}

// isAttested reports whether failures were seen far enough into a time since the first: what is not tried says nothing.
func (s *stepping) isAttested(after time.Duration) bool {
	return micros(s.next.doc.LastFailure-s.next.doc.FailingSince) >= after/2
}

// tell warns, puts on hold and gives notice when the time has come.
func (s *stepping) tell() {
	d := &s.next.doc
	if s.policy.Kind == healthOff || d.FailingSince == 0 {
		return
	}
	failing := micros(s.now - d.FailingSince)
	if after := s.policy.HoldAfter; after > 0 && s.canHold {
		switch {
		case d.WarnedAt == 0 && failing >= after-s.policy.Warn && s.isAttested(after-s.policy.Warn):
			d.WarnedAt, d.NoticedAt = s.now, s.now
			s.addNews(HealthWarning, d.stage(), s.failingText(failing))
		case d.WarnedAt > 0 && failing >= after && s.isAttested(after) && micros(s.now-d.WarnedAt) >= s.policy.Warn-s.policy.Warn/64:
			s.hold = s.failingText(failing)
			s.setPace(0, 0)
			s.goTo(HealthHeld, s.hold)
			return
		}
	}
	last := max(d.FailingSince, d.NoticedAt)
	if every := s.policy.Notice; every > 0 && micros(s.now-last) >= every && d.LastFailure > last {
		d.NoticedAt = s.now
		s.addNews(HealthNotice, d.stage(), s.failingText(failing))
	}
}

func (s *stepping) failingText(failing time.Duration) string {
	return fmt.Sprintf("%s in %v and no success; the last %s",
		plural(int(s.next.doc.Failures), "failure"), failing.Truncate(time.Second), s.lastReason())
}

func (s *stepping) lastReason() string {
	return cmp.Or(s.next.doc.Reason, s.seen.reason, "failed")
}

// disableAt is when the endpoint will be put on hold if nothing succeeds until then; zero: never.
func (d *healthDoc) disableAt(p *HealthPolicy) time.Time {
	if d.FailingSince == 0 || p.HoldAfter <= 0 || p.Kind == healthOff || d.Stage == HealthHeld {
		return time.Time{}
	}
	at := d.FailingSince + p.HoldAfter.Microseconds()
	if d.WarnedAt > 0 {
		at = max(at, d.WarnedAt+p.Warn.Microseconds())
	}
	return microTime(at)
}

// goTo changes the stage.
func (s *stepping) goTo(to HealthStage, reason string) {
	d := &s.next.doc
	from := d.stage()
	if from == to {
		return
	}
	d.Stage, d.Since = to, s.now
	s.addNews(HealthChanged, from, reason)
	if to == HealthOK {
		d.Stage = ""
		if d.FailingSince == 0 {
			*d = d.recovered()
		}
	}
}

func (s *stepping) addNews(kind HealthKind, from HealthStage, reason string) {
	d := &s.next.doc
	info := HealthInfo{Kind: kind, From: from, To: d.stage(), Reason: reason, FailingSince: microTime(d.FailingSince), Failures: d.Failures}
	if s.canHold {
		info.DisableAt = d.disableAt(&s.policy)
	}
	s.news = append(s.news, info)
}

// rank tells how much what the step came to matters to others.
func (s *stepping) rank() int {
	was, next := &s.was.doc, &s.next.doc
	streakEnded := was.FailingSince > 0 && next.FailingSince != was.FailingSince
	switch {
	case s.hold != "" || len(s.news) > 0 || streakEnded || s.next.notBefore > max(s.was.notBefore, s.now+notBeforeLeast):
		return rankUrgent
	case next.Pace != was.Pace || next.Peak != was.Peak || next.PacedAt != was.PacedAt:
		return rankPace
	case was.FailingSince == 0 && next.FailingSince > 0 && micros(s.now-next.FailingSince) >= streakStored:
		return rankCounters
	case was.FailingSince > 0 && next.LastFailure > was.LastFailure && micros(s.now-was.At) >= countersStored:
		return rankCounters
	}
	return rankNothing
}

// notBeforeLeast is how far ahead, in µs, a Retry-After must lie to be told to others: a shorter one is over before they know.
const notBeforeLeast = int64(100 * time.Millisecond / time.Microsecond)

// gap is the longest time between failures that belong together; 0: any.
func (s *stepping) gap() time.Duration {
	if s.policy.Kind == healthGraduated {
		return s.policy.Gap
	}
	return 0
}

func micros(us int64) time.Duration { return time.Duration(us) * time.Microsecond }
