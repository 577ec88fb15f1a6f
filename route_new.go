package webhook

import (
	"cmp"
	"fmt"
	"net/http"
)

// newRoute resolves an endpoint for sending. What is wrong with it, as a profile that only other processes know, is kept
// in the route's err.
func (d *Dispatcher) newRoute(ep Endpoint) *route {
	rt := &route{
		endpoint: ep, aim: aim(&ep), inFlight: d.opts.MaxInFlight, lease: d.unknown.lease, rate: ep.Rate,
		status: d.statuses.get(ep.ID), tenant: d.tenants.get(ep.Tenant),
	}
	p := d.profiles[cmpOr(ep.Profile, d.opts.Profiles[0].Name)]
	if p == nil {
		rt.err = fmt.Errorf("%w %q", ErrUnknownProfile, ep.Profile)
		return rt
	}
	rt.profile, rt.schedule, rt.success = p, p.Schedule, p.Success
	rt.health = p.Health.withDefaults()
	if !ep.Health.IsZero() {
		rt.health = ep.Health.withDefaults()
	}
	timeout := p.Timeout
	if !ep.Schedule.IsZero() {
		rt.schedule = ep.Schedule
	}
	if !ep.Success.IsZero() {
		rt.success = ep.Success
	}
	if ep.Timeout > 0 {
		timeout = ep.Timeout
	}
	if ep.MaxInFlight > 0 {
		rt.inFlight = ep.MaxInFlight
	}
	rt.lease = d.lease(timeout)
	if rt.err = cmp.Or(ep.Health.Validate(), ep.Auth.Validate()); rt.err != nil { // another version may have let it in
		return rt
	}
	transport, err := d.transports.get(&rt.endpoint)
	if err != nil {
		rt.err = err
		return rt
	}
	signer, err := d.newSigner(p, &ep)
	if err != nil {
		rt.err = err
		return rt
	}
	signed := schemeHeaders(p.Scheme)
	rt.target, rt.err = newTarget("endpoint", ep.URL, target{
		signer: signer, timeout: timeout, allowPrivate: ep.AllowPrivate, sequenceHeader: http.CanonicalHeaderKey(ep.SequenceHeader),
		header: endpointHeader(&ep, signed), secrets: endpointSecrets(&ep), taken: signed, transport: transport,
	})
	return rt
}

// unknownRoute stands for an endpoint that is not known (yet).
func (d *Dispatcher) unknownRoute() *route { return d.unknown }
