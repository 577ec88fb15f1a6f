package webhook

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// stepNow is when the steps of these tests take place.
var stepNow = time.Unix(1_770_000_000, 0).UnixMicro()

// ago is a time before stepNow.
func ago(d time.Duration) int64 { return stepNow - d.Microseconds() }

// failing is the document of an endpoint that has failed since and until these times ago.
func failing(stage HealthStage, since, last time.Duration) healthDoc {
	d := healthDoc{Stage: stage, FailingSince: ago(since), LastFailure: ago(last), Failures: 100, Reason: "answered 500", At: ago(last)}
	if stage == HealthOK {
		d.Stage = ""
	}
	if stage == HealthSlowed {
		d.Pace, d.Peak, d.PacedAt = paceLeast, 2*paceLeast, ago(last)
	}
	return d
}

const (
	day  = 24 * time.Hour
	hour = time.Hour
	min5 = 5 * time.Minute
)

// stepCase is one row of TestStep.
type stepCase struct {
	name   string
	policy HealthPolicy
	doc    healthDoc
	seen   observed
	epoch  epoch
	window window
	rate   float64
	hold   *HoldStatus
	before int64 // NotBefore
	alone  bool  // the store keeps no states

	stage HealthStage // wanted
	pace  float64
	news  string // kinds, and of changes the stages
	held  bool
	rank  int
}

func (tt *stepCase) step() stepping {
	s := stepping{
		policy: tt.policy.withDefaults(), now: stepNow, canHold: !tt.alone, seen: tt.seen, epoch: tt.epoch, window: tt.window, rate: tt.rate,
		was: healthState{version: 1, doc: tt.doc, hold: tt.hold, notBefore: tt.before},
	}
	s.step()
	return s
}

func told(news []HealthInfo) string {
	var parts []string
	for _, n := range news {
		if n.Kind == HealthChanged {
			parts = append(parts, fmt.Sprintf("%s>%s", n.From, n.To))
		} else {
			parts = append(parts, string(n.Kind))
		}
	}
	return strings.Join(parts, " ")
}

func warned(d healthDoc, at time.Duration) healthDoc {
	d.WarnedAt, d.NoticedAt = ago(at), ago(at)
	return d
}

func noticed(d healthDoc, at time.Duration) healthDoc {
	d.NoticedAt = ago(at)
	return d
}

func paced(pace, peak float64, at time.Duration) healthDoc {
	return healthDoc{Stage: HealthSlowed, Since: ago(hour), Pace: pace, Peak: peak, PacedAt: ago(at)}
}

func (p HealthPolicy) with(f func(p *HealthPolicy)) HealthPolicy { f(&p); return p }

func TestStep(t *testing.T) {
	tick := 100 * time.Microsecond
	failed := func(at time.Duration) observed {
		return observed{firstFailure: ago(at), lastFailure: ago(at), failed: 1, reason: "answered 503"}
	}
	succeeded := func(at time.Duration) observed { return observed{lastSuccess: ago(at)} }
	g, f3, off := Graduated(), FailingFor(72*hour), NoHealth()
	pause := &HoldStatus{Kind: HoldPaused}
	disabled := &HoldStatus{Kind: HoldDisabled, Reason: "failed"}
	for _, tt := range []stepCase{
		{name: "nothing", stage: HealthOK},
		{name: "a success", seen: succeeded(0), stage: HealthOK},
		{name: "a failure", seen: failed(0), stage: HealthOK},
		{name: "a failure half a minute ago", seen: failed(30 * time.Second), stage: HealthOK, rank: rankCounters},
		{name: "a failure just less long ago", seen: failed(30*time.Second - tick), stage: HealthOK},
		{name: "counters of a streak", doc: failing(HealthOK, 40*time.Second, 40*time.Second), seen: failed(0), stage: HealthOK},
		{name: "a streak ends", doc: failing(HealthOK, 40*time.Second, tick), seen: succeeded(0), stage: HealthOK, rank: rankUrgent},
		{name: "a success before the streak", doc: failing(HealthOK, 40*time.Second, 0), seen: succeeded(41 * time.Second), stage: HealthOK},

		{name: "slowed by time", doc: failing(HealthOK, time.Minute, 0), stage: HealthSlowed, pace: 1, news: "ok>slowed", rank: rankUrgent},
		{name: "not yet slowed by time", doc: failing(HealthOK, time.Minute-tick, 0), stage: HealthOK},
		{name: "two failures slow nothing", doc: healthDoc{FailingSince: ago(hour), LastFailure: ago(0), Failures: 2, At: ago(0)}, stage: HealthOK},
		{name: "slowed to half of what it got", doc: failing(HealthOK, time.Minute, 0), rate: 40, stage: HealthSlowed, pace: 20, news: "ok>slowed", rank: rankUrgent},
		{name: "slowed by its share", window: window{at: ago(time.Minute), ok: 5, failed: 5}, stage: HealthSlowed, pace: 1, news: "ok>slowed", rank: rankUrgent},
		{name: "a smaller share", window: window{at: ago(time.Minute), ok: 6, failed: 5}, stage: HealthOK},
		{name: "too few for a share", window: window{at: ago(time.Minute), ok: 4, failed: 5}, stage: HealthOK},
		{name: "a share for too short a time", window: window{at: ago(time.Minute - tick), failed: 5000}, stage: HealthOK},
		{name: "own SlowAfter", policy: g.with(func(p *HealthPolicy) { p.SlowAfter = 2 * time.Minute }), window: window{at: ago(time.Minute), failed: 50},
			doc: failing(HealthOK, time.Minute, 0), stage: HealthOK},
		{name: "failing is not slowed by time", policy: f3, doc: failing(HealthOK, hour, 0), window: window{at: ago(hour), failed: 5000}, stage: HealthOK},

		{name: "busy", epoch: epoch{ok: 20, failed: 3, throttled: 3}, rate: 30, stage: HealthSlowed, pace: 15, news: "ok>slowed", rank: rankUrgent},
		{name: "busy, failing policy", policy: f3, epoch: epoch{failed: 3, throttled: 3}, rate: 30, stage: HealthSlowed, pace: 15, news: "ok>slowed", rank: rankUrgent},
		{name: "busy, no health", policy: off, epoch: epoch{failed: 30, throttled: 30}, rate: 30, stage: HealthOK},
		{name: "busy too seldom", epoch: epoch{ok: 28, failed: 3, throttled: 3}, rate: 30, stage: HealthOK},
		{name: "too few to tell", epoch: epoch{failed: 2, throttled: 2}, rate: 30, stage: HealthOK},
		{name: "other failures are not busy", epoch: epoch{failed: 30}, rate: 30, stage: HealthOK},

		{name: "halved by a 429", doc: paced(20, 40, time.Second), epoch: epoch{ok: 50, failed: 1, throttled: 1, tooMany: 1}, stage: HealthSlowed, pace: 10, rank: rankPace},
		{name: "not within a second", doc: paced(20, 40, time.Second-tick), epoch: epoch{ok: 5, failed: 1, throttled: 1, tooMany: 1}, stage: HealthSlowed, pace: 20},
		{name: "halved by 503s", doc: paced(20, 40, time.Second), epoch: epoch{ok: 9, failed: 1, throttled: 1}, stage: HealthSlowed, pace: 10, rank: rankPace},
		{name: "a few 503s", doc: paced(20, 40, time.Second), epoch: epoch{ok: 10, failed: 1, throttled: 1}, stage: HealthSlowed, pace: 25, rank: rankPace},
		{name: "halved by failures", doc: paced(20, 40, time.Second), epoch: epoch{ok: 4, failed: 4}, stage: HealthSlowed, pace: 10, rank: rankPace},
		{name: "the least while something succeeds", doc: paced(1, 2, time.Second), epoch: epoch{ok: 4, failed: 4}, stage: HealthSlowed, pace: 1},
		{name: "the least", doc: paced(0.15, 2, time.Second), epoch: epoch{failed: 4, throttled: 4}, stage: HealthSlowed, pace: 0.1, rank: rankPace},
		{name: "grows", doc: paced(20, 32, time.Second), epoch: epoch{ok: 1}, stage: HealthSlowed, pace: 24, rank: rankPace},
		{name: "doubles below half of the peak", doc: paced(10, 32, time.Second), epoch: epoch{ok: 1}, stage: HealthSlowed, pace: 20, rank: rankPace},
		{name: "doubles beyond twice the peak", doc: paced(63, 32, time.Second), epoch: epoch{ok: 1}, stage: HealthSlowed, pace: 126, rank: rankPace},
		{name: "ends after a rest", doc: paced(1, 32, 5*time.Minute), stage: HealthOK, news: "slowed>ok", rank: rankUrgent},
		{name: "not yet", doc: paced(1, 32, 5*time.Minute-tick), stage: HealthSlowed, pace: 1},
		{name: "drains", doc: paced(4, 0, time.Second), epoch: epoch{ok: 1}, stage: HealthSlowed, pace: 8, rank: rankPace},
		{name: "drained", doc: paced(1024, 0, time.Second), epoch: epoch{ok: 1}, stage: HealthOK, news: "slowed>ok", rank: rankUrgent},
		{name: "a failure while draining", doc: paced(8, 0, time.Second), epoch: epoch{ok: 7, failed: 1}, stage: HealthSlowed, pace: 4, rank: rankPace},

		{name: "probed", doc: failing(HealthSlowed, 10*time.Minute, 0), stage: HealthProbed, news: "slowed>probed", rank: rankUrgent},
		{name: "not yet probed", doc: failing(HealthSlowed, 10*time.Minute-tick, 0), stage: HealthSlowed, pace: 0.1},
		{name: "not tried is not probed", doc: failing(HealthSlowed, 10*time.Minute, 6*time.Minute), stage: HealthSlowed, pace: 0.1},
		{name: "a probe succeeds", doc: failing(HealthProbed, day, min5), seen: succeeded(0), stage: HealthSlowed, pace: 1, news: "probed>slowed", rank: rankUrgent},
		{name: "an outage is over", doc: failing(HealthSlowed, 5*time.Minute, 0), seen: succeeded(0), stage: HealthSlowed, pace: 1, rank: rankUrgent},
		{name: "nothing tried for long", doc: noticed(failing(HealthProbed, 2*day, 36*hour+tick), day), stage: HealthOK, news: "probed>ok", rank: rankUrgent},
		{name: "a failure after the gap", doc: failing(HealthOK, 4*day, 37*hour), seen: failed(0), stage: HealthOK, rank: rankUrgent},

		{name: "a notice", doc: failing(HealthProbed, day, 0), stage: HealthProbed, news: "notice", rank: rankUrgent},
		{name: "not yet a notice", doc: failing(HealthProbed, day-tick, 0), stage: HealthProbed},
		{name: "the next notice", doc: noticed(failing(HealthProbed, 2*day, 0), day), stage: HealthProbed, news: "notice", rank: rankUrgent},
		{name: "no notice without failures", policy: f3, doc: noticed(failing(HealthOK, 2*day, 25*hour), day), stage: HealthOK},
		{name: "no notices wanted", policy: g.with(func(p *HealthPolicy) { p.Notice = -1 }), doc: failing(HealthProbed, day, 0), stage: HealthProbed},
		{name: "the warning", doc: noticed(failing(HealthProbed, 4*day, 0), day), stage: HealthProbed, news: "warning", rank: rankUrgent},
		{name: "not yet the warning", doc: noticed(failing(HealthProbed, 4*day-tick, 0), hour), stage: HealthProbed},
		{name: "held", doc: warned(failing(HealthProbed, 5*day, 0), day), stage: HealthHeld, news: "probed>held", held: true, rank: rankUrgent},
		{name: "not yet held", doc: warned(failing(HealthProbed, 5*day-tick, 0), day-tick), stage: HealthProbed},
		{name: "not held before the warning", doc: failing(HealthProbed, 9*day, 0), stage: HealthProbed, news: "warning", rank: rankUrgent},
		{name: "not held so soon after it", doc: warned(failing(HealthProbed, 9*day, 0), 23*hour), stage: HealthProbed},
		{name: "never held", policy: g.with(func(p *HealthPolicy) { p.HoldAfter = -1 }), doc: noticed(failing(HealthProbed, 90*day, 0), hour), stage: HealthProbed},
		{name: "held by nobody alone", alone: true, doc: warned(failing(HealthProbed, 5*day, 0), hour), stage: HealthProbed},

		{name: "failing: warning", policy: f3, doc: noticed(failing(HealthOK, 48*hour, 0), day), stage: HealthOK, news: "warning", rank: rankUrgent},
		{name: "failing: held", policy: f3, doc: warned(failing(HealthOK, 72*hour, hour), day), stage: HealthHeld, news: "ok>held", held: true, rank: rankUrgent},
		{name: "failing: not yet", policy: f3, doc: warned(failing(HealthOK, 72*hour-tick, hour), day-tick), stage: HealthOK},
		{name: "failing: one failure is no streak", policy: f3, doc: failing(HealthOK, 72*hour, 72*hour), stage: HealthOK},
		{name: "failing: a success", policy: f3, doc: warned(failing(HealthOK, 72*hour-tick, hour), day), seen: succeeded(0), stage: HealthOK, rank: rankUrgent},

		{name: "paused by a person", hold: pause, doc: warned(failing(HealthProbed, 9*day, 0), 2*day), epoch: epoch{failed: 9, throttled: 9}, stage: HealthProbed},
		{name: "held by its failures", hold: disabled, doc: failing(HealthHeld, 9*day, 0), stage: HealthHeld},
		{name: "disabled by another hand", hold: disabled, stage: HealthHeld, news: "ok>held", rank: rankUrgent},
		{name: "its hold was ended", doc: failing(HealthHeld, 9*day, 0), stage: HealthSlowed, pace: 1, news: "held>slowed", rank: rankUrgent},
		{name: "its hold is over", hold: &HoldStatus{Kind: HoldDisabled, Until: time.UnixMicro(stepNow)}, doc: failing(HealthHeld, 9*day, 0), stage: HealthSlowed, pace: 1, news: "held>slowed", rank: rankUrgent},
		{name: "left alone from now on", policy: off, doc: failing(HealthProbed, 9*day, 0), stage: HealthOK, news: "probed>ok", rank: rankUrgent},
		{name: "probed no more", policy: f3, doc: failing(HealthProbed, hour, 0), stage: HealthSlowed, pace: 1, news: "probed>slowed", rank: rankUrgent},

		{name: "Retry-After", seen: observed{notBefore: stepNow + 60e6}, stage: HealthOK, rank: rankUrgent},
		{name: "an earlier Retry-After", before: stepNow + 61e6, seen: observed{notBefore: stepNow + 60e6}, stage: HealthOK},
		{name: "a Retry-After that is over", seen: observed{notBefore: stepNow - 1}, stage: HealthOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.step()
			got := stepCase{stage: s.next.doc.stage(), pace: s.next.doc.Pace, news: told(s.news), held: s.hold != "", rank: s.rank()}
			want := stepCase{stage: tt.stage, pace: tt.pace, news: tt.news, held: tt.held, rank: tt.rank}
			if got != want {
				t.Errorf("got  stage %s, pace %v, news %q, held %t, rank %d\nwant stage %s, pace %v, news %q, held %t, rank %d", got.stage, got.pace,
					got.news, got.held, got.rank, want.stage, want.pace, want.news, want.held, want.rank)
			}
		})
	}
}
