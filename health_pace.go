package webhook

import "time"

// The pace of an endpoint that is slowed down, in attempts a second over all processes. It is halved when it is too much and grows with
// success: additive increase, multiplicative decrease, as TCP does it, and doubling like TCP's slow start after an outage.
const (
	paceFirst = 1.0  // after a hold or an outage, and at least when it is slowed down
	paceLeast = 0.1  // it sinks no further …
	paceMixed = 1.0  // … and with 503s, 429s and timeouts apart not below this while something succeeds
	paceMost  = 1024 // from here on there is none

	paceEpoch   = time.Second      // it changes at most so often
	paceRest    = 5 * time.Minute  // without attempts that say it is too much, it ends
	outageLeast = 10 * time.Second // only failures for so long are an outage

	throttledLeast = 3  // so many are needed to begin with
	throttledShare = 10 // and one in so many
)

// slow slows an endpoint down to half of what it gets.
func (s *stepping) slow(reason string) {
	s.setPace(max(s.rate/2, paceFirst), max(s.rate, 2*paceFirst))
	s.goTo(HealthSlowed, reason)
}

// setPace sets a pace that all attempts from now on are judged by.
func (s *stepping) setPace(pace, peak float64) {
	d := &s.next.doc
	d.Pace, d.Peak, d.PacedAt = pace, peak, s.now
	if pace == 0 {
		d.Peak, d.PacedAt = 0, 0
	}
	s.judged = true
}

// pace slows down an endpoint that is busy, and adapts the pace of one that is slowed down.
func (s *stepping) pace() {
	d, e := &s.next.doc, &s.epoch
	if s.policy.Kind == healthOff || d.Stage == HealthProbed || s.judged {
		return
	}
	if d.Pace == 0 {
		if e.throttled >= throttledLeast && e.throttled*throttledShare >= e.ok+e.failed {
			s.slow("it is busy: " + s.lastReason())
		}
		return
	}
	switch rest := micros(s.now - max(d.PacedAt, d.LastFailure)); {
	case micros(s.now-d.PacedAt) < paceEpoch:
	case s.isTooMuch():
		s.halve()
	case e.ok > 0:
		s.grow()
	case rest >= paceRest && d.FailingSince == 0:
		s.setPace(0, 0)
	}
}

// isTooMuch reports whether the attempts made at the pace call for a lower one.
func (s *stepping) isTooMuch() bool {
	e := &s.epoch
	if s.next.doc.Peak == 0 { // it only just answers again
		return e.failed > 0
	}
	return e.failed > 0 && (e.tooMany > 0 || e.throttled*throttledShare >= e.ok+e.failed || e.failed >= e.ok)
}

func (s *stepping) halve() {
	d := &s.next.doc
	least := paceLeast
	if s.epoch.ok > 0 && s.epoch.throttled == 0 {
		least = paceMixed
	}
	if d.Pace <= least {
		s.judged = true
		return
	}
	s.setPace(max(d.Pace/2, least), d.Pace)
}

func (s *stepping) grow() {
	d := &s.next.doc
	switch more := d.Pace + d.Peak/8; {
	case d.Peak > 0 && d.Pace < d.Peak/2:
		s.setPace(2*d.Pace, d.Peak)
	case d.Peak > 0 && more <= 2*d.Peak:
		s.setPace(more, d.Peak)
	case 2*d.Pace <= paceMost: // what was too much once is not any more
		s.setPace(2*d.Pace, 0)
	default:
		s.setPace(0, 0)
	}
}

// paceOf is what a document allows; nil: as many as the endpoint's own rate.
func (d *healthDoc) paceOf(p *HealthPolicy) *Rate {
	switch {
	case p.Kind == healthOff:
		return nil
	case d.Stage == HealthProbed:
		every := p.ProbeEvery
		if every <= 0 {
			every = probeEveryDefault
		}
		return &Rate{Events: 1, Per: every, Burst: 1}
	case d.Pace > 0:
		r := paceRate(d.Pace)
		return &r
	}
	return nil
}
