package webhook

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/signalpost/webhook/internal/h1"
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
	switch {
	case ev.TTL < 0:
		return bad("TTL", fmt.Sprintf("is %v, want 0 (never) or more", ev.TTL))
	case time.Until(ev.SendAt) > maxDelay:
		return bad("SendAt", fmt.Sprintf("is %s, more than %v ahead", ev.SendAt.Format(time.RFC3339), time.Duration(maxDelay)))
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
	if strings.HasPrefix(ep.ID, InboxPrefix) {
		return bad("ID", fmt.Sprintf("begins with %q, as those of inboxes do", InboxPrefix))
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
	if _, err := profile.Signer(signing(ep, time.Time{})...); err != nil {
		return within(err, ep, "Retiring")
	}
	if err := ep.Schedule.Validate(); err != nil {
		return within(err, ep, "Schedule")
	}
	if err := ep.Success.Validate(); err != nil {
		return within(err, ep, "Success")
	}
	if err := checkLimits(ep, bad); err != nil {
		return err
	}
	if reason := d.backlogs.check(ep.MaxBacklog); reason != "" {
		return bad("MaxBacklog", reason)
	}
	return d.checkSending(ep, profile, bad)
}

// checkSending checks what goes into an endpoint's requests, and how they travel.
func (d *Dispatcher) checkSending(ep *Endpoint, profile *Profile, bad func(field, reason string) error) error {
	if err := validateHeader(ep.Header); err != nil {
		if fe, ok := errors.AsType[*FieldError](err); ok {
			return bad("Header", fe.Reason)
		}
		return bad("Header", err.Error())
	}
	if err := ep.Auth.Validate(); err != nil {
		return within(err, ep, "Auth")
	}
	if err := ep.TLS.Validate(); err != nil {
		return within(err, ep, "TLS")
	}
	allowed := d.opts.AllowPrivate || ep.AllowPrivate
	if reason, cause := checkProxy(ep.Proxy, allowed); reason != "" {
		return &FieldError{Op: fmt.Sprintf("endpoint %q", ep.ID), Field: "Proxy", Reason: reason, Cause: cause}
	}
	if d.opts.Transport != nil {
		switch {
		case !ep.TLS.IsZero():
			return bad("TLS", "is set, but DispatcherOptions.Transport replaces what it configures")
		case ep.Proxy != "":
			return bad("Proxy", "is set, but DispatcherOptions.Transport replaces what it configures")
		}
	}
	return checkOwnHeaders(ep, schemeHeaders(profile.Scheme), bad)
}

// checkOwnHeaders checks that no two of an endpoint's settings set one header, and none one that its scheme signs with. Names that servers
// may take for each other count as one.
func checkOwnHeaders(ep *Endpoint, signed []string, bad func(field, reason string) error) error {
	auth, sequence := alias(ep.Auth.headerName()), ""
	if ep.SequenceHeader != "" {
		if !h1.ValidName(ep.SequenceHeader) {
			return bad("SequenceHeader", fmt.Sprintf("%.40q is not a header name", ep.SequenceHeader))
		}
		sequence = alias(ep.SequenceHeader)
		if why := reserved(sequence); why != "" {
			return bad("SequenceHeader", sequence+" "+why)
		}
		if sequence == auth {
			return bad("SequenceHeader", sequence+" is set by Auth")
		}
	}
	switch {
	case slices.Contains(signed, auth):
		return bad("Auth", auth+" belongs to the signature")
	case slices.Contains(signed, sequence):
		return bad("SequenceHeader", sequence+" belongs to the signature")
	}
	for name := range ep.Header {
		switch name = alias(name); {
		case name == auth:
			return bad("Header", auth+" is set by Auth")
		case name == sequence:
			return bad("Header", sequence+" is set by SequenceHeader")
		case slices.Contains(signed, name):
			return bad("Header", name+" belongs to the signature")
		}
	}
	return nil
}

// checkProxy says what is wrong with an endpoint's own proxy, without showing its URL: it may hold a password.
func checkProxy(raw string, allowPrivate bool) (reason string, cause error) {
	if raw == "" || raw == DirectProxy {
		return "", nil
	}
	if len(raw) > maxURL {
		return fmt.Sprintf("has %d bytes, want at most %d", len(raw), maxURL), nil
	}
	u, err := url.Parse(raw)
	if err != nil || strings.ContainsAny(raw, " \t\r\n") {
		return "is not a URL", nil
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return fmt.Sprintf("has scheme %q, want http, https, socks5 or socks5h", u.Scheme), nil
	}
	switch {
	case u.Opaque != "" || u.Hostname() == "":
		return "has no host", nil
	case !isASCII(u.Host):
		return "has a host that is not ASCII; write it as xn--", nil
	case !validPort(u):
		return fmt.Sprintf("has port %q, want 1 to 65535", u.Port()), nil
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return "has more than scheme, user info, host and port", nil
	}
	if !allowPrivate {
		if err := checkHost(u); err != nil {
			return err.Error() + "; allow it with AllowPrivate", ErrBlockedAddress
		}
	}
	return "", nil
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
	case ep.MaxBacklog < 0:
		return bad("MaxBacklog", fmt.Sprintf("is %d, want 0 (any number) or more", ep.MaxBacklog))
	case ep.WhenFull < RefuseWhenFull || ep.WhenFull > ExpireOldest:
		return bad("WhenFull", fmt.Sprintf("%d is no FullPolicy", ep.WhenFull))
	case ep.Verify != "" && ep.Verify != VerifyPing && ep.Verify != VerifyChallenge:
		return bad("Verify", fmt.Sprintf("is %q, want %q, %q or nothing", ep.Verify, VerifyPing, VerifyChallenge))
	}
	if err := ep.Health.Validate(); err != nil {
		return within(err, ep, "Health")
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
		return opError(fmt.Sprintf("profile %q", p.Name), err)
	}
	if err := p.Success.Validate(); err != nil {
		return opError(fmt.Sprintf("profile %q", p.Name), err)
	}
	if err := p.Health.Validate(); err != nil {
		return opError(fmt.Sprintf("profile %q", p.Name), err)
	}
	return nil
}

// Validate returns a [*FieldError] when r does not say which deliveries, or is no way for them to end. A store calls it before anything else.
func (r *EndRequest) Validate() error {
	bad := func(field, format string, args ...any) error {
		return &FieldError{Op: "end", Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	named := 0
	for _, set := range []bool{r.EventID != "", r.DeliveryID != "", r.Expired, r.EndpointID != ""} {
		if set {
			named++
		}
	}
	switch {
	case named != 1:
		return bad("EndRequest", "has %d of EventID, DeliveryID, Expired and EndpointID, want 1", named)
	case r.EndpointID != "" && r.Oldest < 1:
		return bad("Oldest", "is %d, want 1 or more", r.Oldest)
	case r.Next != Canceled && r.Next != Expired:
		return bad("Next", "is %q, want %q or %q", r.Next, Canceled, Expired)
	}
	return nil
}

// Validate returns a [*FieldError] when r asks for a state that nobody may ask for. A store calls it before anything else.
func (r *ChangeReplayRequest) Validate() error {
	if r.State != ReplayRunning && r.State != ReplayPaused && r.State != ReplayCanceled {
		return &FieldError{Op: "change replay", Field: "State", Reason: fmt.Sprintf("is %q, want running, paused or canceled", r.State)}
	}
	return nil
}
