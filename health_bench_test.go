package webhook

import (
	"testing"
	"time"
)

// What health costs an attempt of an endpoint that answers.
func BenchmarkObserve(b *testing.B) {
	d := &Dispatcher{}
	d.health = newHealth(d)
	rt := &route{status: &endpointStatus{id: "acme"}, health: Graduated().withDefaults(), success: SuccessRule{From: 200, To: 299}}
	a := &Attempt{Status: 200, StartedAt: time.Now(), Duration: time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		d.health.observe(rt, nil, a, 0)
	}
}

// What a step costs for an endpoint that fails.
func BenchmarkStep(b *testing.B) {
	tt := stepCase{doc: failing(HealthProbed, 2*day, 0), seen: observed{firstFailure: stepNow, lastFailure: stepNow, failed: 1, reason: "answered 500"}}
	tt.doc.NoticedAt = stepNow
	b.ReportAllocs()
	for b.Loop() {
		tt.step()
	}
}
