package webhook

import "time"

// observed is what attempts have shown since an endpoint's state was last stored. Times are Unix µs; 0: none.
type observed struct {
	firstFailure, lastFailure, lastSuccess int64
	failed                                 int64  // after lastSuccess, as firstFailure is
	reason                                 string // of the last failure
	notBefore                              int64  // an answer's Retry-After
}

// add takes over what was seen after o.
func (o *observed) add(later observed) {
	if later.lastSuccess > 0 {
		o.lastSuccess, o.firstFailure, o.failed = max(o.lastSuccess, later.lastSuccess), 0, 0
	}
	if o.firstFailure == 0 {
		o.firstFailure = later.firstFailure
	}
	o.failed += later.failed
	if later.lastFailure > 0 {
		o.lastFailure, o.reason = max(o.lastFailure, later.lastFailure), later.reason
	}
	o.notBefore = max(o.notBefore, later.notBefore)
}

// epoch counts attempts that were begun since the pace was set, or while there is none, within about epochMost.
type epoch struct {
	ok, failed int32
	throttled  int32 // of failed: 429, 503 and timeouts
	tooMany    int32 // of throttled: 429
}

const (
	epochMost   = int64(10 * time.Second / time.Microsecond)
	meterBucket = int64(5 * time.Second / time.Microsecond)
)

// window counts attempts from a failure on for as long as the policy says.
type window struct {
	at         int64 // 0: none is open
	ok, failed int32
}

// meter measures how many attempts an endpoint gets from this process, and keeps the counters that are nobody else's business.
type meter struct {
	at, first             int64 // when the bucket under way, and the first of an unbroken row, began
	count, before         int32 // attempts in the bucket under way, and in the one before
	epoch                 epoch
	epochAt               int64 // when epoch began
	from                  int64 // attempts begun earlier do not count in epoch
	window                window
	lastSuccess, lastFail int64
}

// tick counts an attempt that ended at at.
func (m *meter) tick(at int64) {
	switch since := at - m.at; {
	case m.at == 0 || since >= 2*meterBucket:
		m.at, m.first, m.count, m.before = at, at, 0, 0
	case since >= meterBucket:
		m.at, m.before, m.count = m.at+meterBucket, m.count, 0
	}
	m.count++
}

// perSecond is how many attempts a second there were lately.
func (m *meter) perSecond(now int64) float64 {
	if m.at == 0 || now-m.at >= 2*meterBucket {
		return 0
	}
	from := max(m.first, m.at-meterBucket)
	return float64(m.count+m.before) / max(float64(now-from)/1e6, 1)
}

// note counts an attempt that began and ended at these times.
func (m *meter) note(began, at int64, ok bool, status int, throttled bool) {
	m.tick(at)
	if ok {
		m.lastSuccess = max(m.lastSuccess, at)
	} else {
		m.lastFail = max(m.lastFail, at)
	}
	if m.from == 0 && at-m.epochAt > epochMost {
		m.epoch, m.epochAt = epoch{}, at
	}
	if began >= m.from {
		m.epoch.note(ok, status, throttled)
	}
	switch w := &m.window; {
	case !ok && w.at == 0:
		*w = window{at: at, failed: 1}
	case w.at == 0:
	case ok:
		w.ok++
	default:
		w.failed++
	}
}

// judge begins a new epoch when the pace was set at another time than it was, or the counters are used up.
func (m *meter) judge(from int64, used bool) {
	if used || from != m.from {
		m.epoch, m.from = epoch{}, from
	}
}

func (e *epoch) note(ok bool, status int, throttled bool) {
	if ok {
		e.ok++
		return
	}
	e.failed++
	if throttled {
		e.throttled++
		if status == 429 {
			e.tooMany++
		}
	}
}
