package webhook

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of what callers give, in bytes.
const (
	maxName  = 128 // IDs and types
	maxLabel = 255 // tenants and ordering keys
)

// checkEvent is the door of Send.
func (d *Dispatcher) checkEvent(ev *Event) error {
	bad := func(field, reason string) error { return &FieldError{Op: "send", Field: field, Reason: reason} }
	if ev.ID != "" {
		if reason := checkName(ev.ID, "."); reason != "" {
			return bad("ID", reason)
		}
	}
	if reason := checkName(ev.Type, "*,"); reason != "" {
		return bad("Type", reason)
	}
	if reason := checkLabel(ev.Tenant); reason != "" {
		return bad("Tenant", reason)
	}
	if reason := checkLabel(ev.OrderingKey); reason != "" {
		return bad("OrderingKey", reason)
	}
	if len(ev.Payload) > d.opts.MaxPayload {
		return bad("Payload", fmt.Sprintf("has %d bytes, allowed %d (DispatcherOptions.MaxPayload)", len(ev.Payload), d.opts.MaxPayload))
	}
	return validateHeader(ev.Header)
}

// checkName says what is wrong with an ID or a type: it is 1 to 128 visible ASCII characters, none of them in not.
func checkName(s, not string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > maxName:
		return fmt.Sprintf("has %d bytes, allowed %d", len(s), maxName)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || strings.IndexByte(not, s[i]) >= 0 {
			return fmt.Sprintf("%q has %q at byte %d; allowed are visible ASCII characters except %q", s, s[i], i, not)
		}
	}
	return ""
}

// checkLabel says what is wrong with a tenant or an ordering key.
func checkLabel(s string) string {
	switch {
	case len(s) > maxLabel:
		return fmt.Sprintf("has %d bytes, allowed %d", len(s), maxLabel)
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Sprintf("%q has a control character", s)
	}
	return ""
}

// checkEndpoint is the door of endpoints.
func (d *Dispatcher) checkEndpoint(ep *Endpoint) error {
	bad := func(field, reason string) error {
		return &FieldError{Op: fmt.Sprintf("endpoint %q", ep.ID), Field: field, Reason: reason}
	}
	if reason := checkName(ep.ID, ""); reason != "" {
		return &FieldError{Op: "endpoint", Field: "ID", Reason: reason}
	}
	if reason := checkLabel(ep.Tenant); reason != "" {
		return bad("Tenant", reason)
	}
	if err := checkEndpointURL(fmt.Sprintf("endpoint %q", ep.ID), ep.URL, d.opts.AllowPrivate || ep.AllowPrivate); err != nil {
		return err
	}
	for _, name := range ep.Types {
		if name != "*" && checkName(strings.TrimSuffix(name, "*"), "*,") != "" {
			return bad("Types", fmt.Sprintf("%q: want an event type, a prefix and *, or *", name))
		}
	}
	profile := d.profiles[cmpOr(ep.Profile, d.opts.Profiles[0].Name)]
	if profile == nil {
		return &FieldError{
			Op: fmt.Sprintf("endpoint %q", ep.ID), Field: "Profile", Cause: ErrUnknownProfile,
			Reason: fmt.Sprintf("%q is not one that DispatcherOptions.Profiles has", ep.Profile),
		}
	}
	if _, err := profile.Signer(ep.Secrets...); err != nil {
		return within(err, ep, "Secrets")
	}
	if err := ep.Schedule.Validate(); err != nil {
		return within(err, ep, "Schedule")
	}
	if err := ep.Success.Validate(); err != nil {
		return within(err, ep, "Success")
	}
	return checkLimits(ep, bad)
}

// within turns the error of a part of an endpoint into one of the endpoint.
func within(err error, ep *Endpoint, field string) error {
	out := &FieldError{Op: fmt.Sprintf("endpoint %q", ep.ID), Field: field, Reason: err.Error()}
	if fe, ok := errors.AsType[*FieldError](err); ok {
		out.Reason, out.Cause = fe.Field+" "+fe.Reason, fe.Cause
	}
	return out
}

func cmpOr(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// checkLimits checks the numbers of an endpoint.
func checkLimits(ep *Endpoint, bad func(field, reason string) error) error {
	switch {
	case ep.Timeout < 0:
		return bad("Timeout", fmt.Sprintf("is %v, want 0 (the profile's) or more", ep.Timeout))
	case ep.MaxInFlight < 0:
		return bad("MaxInFlight", fmt.Sprintf("is %d, want 0 (the dispatcher's) or more", ep.MaxInFlight))
	case ep.Rate.Events < 0 || ep.Rate.Per < 0 || ep.Rate.Burst < 0:
		return bad("Rate", "has a negative field")
	case ep.Rate.Events == 0 && (ep.Rate.Per != 0 || ep.Rate.Burst != 0):
		return bad("Rate", "has no Events: the zero Rate is no limit")
	case ep.Order < BlockBehindDeadLetter || ep.Order > HoldKey:
		return bad("Order", fmt.Sprintf("%d is no OrderPolicy", ep.Order))
	}
	return nil
}

// checkProfile refuses profiles that cannot be sent by.
func checkProfile(p *Profile) error {
	bad := func(field, reason string) error {
		return &FieldError{Op: fmt.Sprintf("profile %q", p.Name), Field: field, Reason: reason}
	}
	switch {
	case checkName(p.Name, "") != "":
		return bad("Name", checkName(p.Name, ""))
	case p.Scheme == nil:
		return bad("Scheme", "is nil")
	case p.Timeout <= 0:
		return bad("Timeout", fmt.Sprintf("is %v, want more than 0", p.Timeout))
	}
	if p.Schedule.IsZero() {
		return bad("Schedule", "is zero; NoRetry is one without retries")
	}
	if err := p.Schedule.Validate(); err != nil {
		return fmt.Errorf("webhook: profile %q: %w", p.Name, err)
	}
	if err := p.Success.Validate(); err != nil {
		return fmt.Errorf("webhook: profile %q: %w", p.Name, err)
	}
	return nil
}
