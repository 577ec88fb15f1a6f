package webhook

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Health is how an endpoint fares, as all processes on the store know it. Of a healthy one only this process's own attempts tell.
type Health struct {
	EndpointID   string
	Stage        HealthStage // never ""
	Since        time.Time   // of Stage; zero: it was never another, or of old
	FailingSince time.Time   // first failure since the last success; zero: the last attempt succeeded, as far as is known
	Failures     int64       // since then; up to five minutes old where other processes made them
	LastSuccess  time.Time   // zero: none is known
	LastFailure  time.Time   // zero: none is known
	Reason       string      // of the last failure, in words
	NotBefore    time.Time   // the endpoint asked for no request earlier (Retry-After); zero: it did not
	DisableAt    time.Time   // when it will be put on hold if nothing succeeds until then; zero: never
	Pace         Rate        // attempts allowed over all processes together; zero: as many as [Endpoint].Rate
	Hold         *HoldStatus // in force, whoever made it; nil: none
}

// Health tells how an endpoint fares. It asks the store for what has changed, which is one lookup when nothing has. The error wraps
// [ErrNotFound] when there is no such endpoint.
func (d *Dispatcher) Health(ctx context.Context, endpointID string) (Health, error) {
	rt, now, err := d.healthRoute(ctx, endpointID)
	if err != nil {
		return Health{}, opError(fmt.Sprintf("endpoint %q", endpointID), err)
	}
	return rt.healthNow(now), nil
}

func (d *Dispatcher) healthRoute(ctx context.Context, endpointID string) (*route, time.Time, error) {
	now, err := d.clock.now(ctx)
	if err != nil {
		return nil, now, err
	}
	if err := d.health.read(ctx); err != nil {
		return nil, now, err
	}
	rt, _, err := d.routes.resolve(ctx, endpointID, time.Time{})
	if err == nil && rt == nil {
		err = ErrNotFound
	}
	return rt, now, err
}

// Unhealthy returns the endpoints whose stage is not [HealthOK] and those that do nothing but fail, in ascending order of ID. It costs
// what Health costs, whatever their number.
func (d *Dispatcher) Unhealthy(ctx context.Context) ([]Health, error) {
	now, err := d.clock.now(ctx)
	if err == nil {
		err = d.health.read(ctx)
	}
	var table *routeTable
	if err == nil {
		table, err = d.routes.table(ctx, nil)
	}
	if err != nil {
		return nil, opError("unhealthy endpoints", err)
	}
	var list []Health
	for _, rt := range table.byID {
		if h := rt.healthNow(now); h.Stage != HealthOK || !h.FailingSince.IsZero() {
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b Health) int { return strings.Compare(a.EndpointID, b.EndpointID) })
	return list, nil
}

// healthNow is what is known of an endpoint, what this process has seen and not stored yet included.
func (rt *route) healthNow(now time.Time) Health {
	st, us := rt.status, now.UnixMicro()
	st.mu.Lock()
	s := stepping{policy: rt.health, now: us, was: st.known, next: st.known, seen: st.seen}
	lastSuccess, lastFailure := st.meter.lastSuccess, st.meter.lastFail
	st.mu.Unlock()
	s.merge()
	d := &s.was.doc
	if s.next.doc.Stage == s.was.doc.Stage { // else the next step will tell
		d = &s.next.doc
	}
	h := Health{
		EndpointID: rt.endpoint.ID, Stage: d.stage(), Since: microTime(d.Since), FailingSince: microTime(d.FailingSince),
		Failures: d.Failures, Reason: d.Reason, DisableAt: d.disableAt(&rt.health),
		LastSuccess: microTime(max(d.LastSuccess, lastSuccess)), LastFailure: microTime(max(d.LastFailure, lastFailure)),
	}
	if nb := st.notBefore.Load(); nb > us {
		h.NotBefore = microTime(nb)
	}
	if pace := d.paceOf(&rt.health); pace != nil {
		h.Pace = *pace
	}
	if hold := st.hold.Load(); hold != nil && (hold.Until.IsZero() || now.Before(hold.Until)) {
		held := *hold
		h.Hold = &held
		if hold.isHealthHold() {
			h.Stage, h.Reason = HealthHeld, cmp.Or(hold.Reason, h.Reason)
		}
	}
	return h
}
