package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"
)

// InboxPrefix begins the endpoint IDs under which inboxes keep what they have received. No endpoint may have such an ID.
const InboxPrefix = "inbox:"

// Defaults and limits of [InboxOptions].
const (
	inboxTimeout   = time.Minute
	maxInboxName   = maxName - len(InboxPrefix)
	inboxFirst     = 5 * time.Second // of the default schedule: 5 s, 10 s, … an hour, over about half a day
	inboxLongest   = time.Hour
	inboxRetries   = 20
	inboxHeaderMax = 16 << 10 // bytes of kept headers; what comes beyond is left out
)

// InboxOptions configure an [Inbox]. The zero value is right for one inbox per format.
type InboxOptions struct {
	// Name tells the inboxes on a store apart: 1 to 122 visible ASCII characters. Processes that are to share the work of one give
	// the same name, and the same handler. Empty: the name of the verifier's scheme, as "gett".
	Name string

	// Receive says how requests are taken in. Of its fields Key, Scope, ScopeOf, MaxBody, BodyTimeout, Logger, Trace,
	// Repeats, Refused, Error and, for keys with a Digest, Keep apply; Dedupe must be nil, since the store remembers; the others are about a handler's answer and are ignored.
	// Trace and Logger are told of the runs too.
	Receive ReceiveOptions

	// Response is what is answered once an event is stored, and to its repeats. A Status of zero: 200. It must be 200 to 299.
	Response StoredResponse

	// Header names the request's headers that the handler gets. Nil: Content-Type alone. Credentials are refused. What exceeds
	// 16 KiB in all is left out.
	Header []string

	// OrderingKey, when set, makes events with the same result go one at a time, in the order in which they were stored; "" has none.
	// It gets the event as the handler will, with the OrderingKey that the verifier's profile reads: return that to go by it. What is no valid
	// [Event.OrderingKey] is replaced by its hash. Nil: each goes as soon as it can, whatever its OrderingKey.
	OrderingKey func(ev Event) string

	Order       OrderPolicy   // what happens to an ordering key behind a dead letter; zero: [BlockBehindDeadLetter]
	Schedule    Schedule      // delays between runs; zero: 5 s, then twice as long each time up to an hour, 20 in all
	Timeout     time.Duration // of one run, after which its context ends; zero: 1 min
	MaxInFlight int           // runs at once, per process; zero: 16
	Rate        Rate          // of runs, over all processes together; zero: no limit
	MaxBacklog  int           // events that may wait; beyond, requests are answered 503. Zero: any number. See [Endpoint.MaxBacklog]

	// Retention is as in [DispatcherOptions], for all that the store keeps. A repeat is known for as long as an event's ID is:
	// EventIDs should be longer than the sender's whole schedule.
	Retention Retention

	// Poll, Grace, LeaseMargin, Alarms and Owner are as in [DispatcherOptions].
	Poll        time.Duration
	Grace       time.Duration
	LeaseMargin time.Duration
	Alarms      Alarms
	Owner       string
}

// Inbox receives webhooks, stores them, answers, and processes them afterwards: as an http.Handler it takes requests in, and Run
// processes them, in this process or another one on the same store. Make one with [NewInbox]. All methods may be called by many
// goroutines at once.
//
// It works like sending does, with a handler in place of the receiver: what is stored is claimed under a lease by one of the processes
// that run, and run again by a schedule until it succeeds or ends in dead_letter. In the store an event of an inbox is a delivery to the
// endpoint [Inbox.EndpointID], which lists and filters understand.
type Inbox struct {
	opts   InboxOptions
	wrong  error
	recv   receiver
	handle func(ctx context.Context, ev Event) error
	d      *Dispatcher // nil when wrong
	rt     *route
}

// NewInbox returns an inbox on a store. It starts nothing; opts may be nil and is copied.
//
// As an http.Handler it does what [Middleware] does up to the idempotency key, and gives the same answers. What passed is
// stored together with the knowledge of its key, in one commit, and only then answered with [InboxOptions].Response; what has that key already is
// answered alike, with [ReplayedHeader], and changes nothing. A key is known as long as the ID of its event
// is: for good, unless [Retention].EventIDs says otherwise here or in a dispatcher on the store. Where [DefaultKey] takes an order's return to an earlier content
// for a repeat, [GettLatestKey] does not. Where the store does not take it, the
// answer is 503 with Retry-After. A client that hangs up changes nothing. A key that has a [Key].Digest remembers the latest content alone, for
// ReceiveOptions.Keep, in a store that is a [DedupeStore]; a crash while it is stored can make two events of one request then.
//
// handle runs in Run. Nil ends the event; an error, a panic or a run over the time limit makes it run again by the schedule,
// at least once in all: a crash between what handle did and its record repeats it. [ErrNoRetry] and [RetryAfter] say otherwise. Its context ends
// at the time limit, when Run's grace time is over, and when another process has taken the event over; handle must heed it, as
// its place is taken, and Run does not return, until it does. [FromContext], [KeyFromContext] and [DeliveryFromContext] tell more.
// The event is as FromContext gives it behind Middleware, with the headers that InboxOptions names and its OrderingKey.
//
// So that a route stays one line there is no error here: when something is wrong, every request is answered 500 and the error is logged, and
// [Inbox.Err] and Run return it.
func NewInbox(store Store, v *Verifier, handle func(ctx context.Context, ev Event) error, opts *InboxOptions) *Inbox {
	in := &Inbox{handle: handle}
	if opts != nil {
		in.opts = *opts
	}
	in.recv = receiver{keyed: true}
	if in.wrong = in.build(store, v); in.wrong != nil {
		in.d, in.recv.wrong = nil, in.wrong
	}
	return in
}

// build fills in defaults and checks.
func (in *Inbox) build(store Store, v *Verifier) (err error) {
	o := &in.opts
	if in.recv.opts, err = o.Receive.withDefaults(); err != nil {
		return err
	}
	switch {
	case store == nil:
		return inboxError("store", "is nil")
	case v == nil || v.scheme == nil:
		return inboxError("verifier", "is nil")
	case in.handle == nil:
		return inboxError("handle", "is nil")
	}
	o.Name = cmp.Or(o.Name, v.scheme.Name())
	if err := o.check(); err != nil {
		return err
	}
	if in.recv.opts.Key == nil {
		in.recv.opts.Key = v.key
	}
	in.recv.verify, in.recv.describe = v.VerifyMessage, v.describe
	o.Response = o.Response.clone()
	o.Timeout, o.MaxInFlight = cmp.Or(o.Timeout, inboxTimeout), cmp.Or(o.MaxInFlight, 16)
	if o.Schedule.IsZero() {
		o.Schedule = Exponential(inboxFirst, inboxLongest, inboxRetries).WithJitter(0.1)
	}
	if o.Header == nil {
		o.Header = []string{"Content-Type"}
	}
	o.Header = slices.Clone(o.Header)
	for i, name := range o.Header {
		o.Header[i] = textproto.CanonicalMIMEHeaderKey(name)
	}
	return in.connect(store)
}

func inboxError(field, format string, args ...any) error {
	return &FieldError{Op: "inbox", Field: field, Reason: fmt.Sprintf(format, args...)}
}

// check judges what has no default yet.
func (o *InboxOptions) check() error {
	switch {
	case len(o.Name) > maxInboxName:
		return inboxError("Name", "has %d bytes, allowed %d", len(o.Name), maxInboxName)
	case checkName(o.Name, "") != "":
		return inboxError("Name", "%s", checkName(o.Name, ""))
	case o.Receive.Dedupe != nil:
		return inboxError("Receive.Dedupe", "is set: an inbox remembers keys in its store")
	case o.Response.Status != 0 && (o.Response.Status < 200 || o.Response.Status > 299):
		return inboxError("Response.Status", "is %d, want 200 to 299: the sender has to stop", o.Response.Status)
	case o.Timeout < 0:
		return inboxError("Timeout", "is %s, want 0 (default 1 min) or more", o.Timeout)
	case o.MaxInFlight < 0:
		return inboxError("MaxInFlight", "is %d, want 0 (default 16) or more", o.MaxInFlight)
	}
	for _, name := range o.Header {
		if isCredential(name) {
			return inboxError("Header", "%q is never stored", name)
		}
	}
	ep := &Endpoint{ID: InboxPrefix + o.Name, Rate: o.Rate, Order: o.Order, MaxBacklog: o.MaxBacklog}
	if fe, ok := errors.AsType[*FieldError](o.Schedule.Validate()); ok {
		return inboxError("Schedule."+fe.Field, "%s", fe.Reason)
	}
	return checkLimits(ep, inboxErrorOf)
}

func inboxErrorOf(field, reason string) error { return inboxError(field, "%s", reason) }

// isCredential tells headers that let a client in.
func isCredential(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Authorization", "Proxy-Authorization", "Cookie":
		return true
	}
	return false
}

// connect makes the dispatcher that processes, with a route of its own in place of endpoints.
func (in *Inbox) connect(store Store) error {
	o, trace := &in.opts, in.recv.opts.Trace
	d, err := NewDispatcher(store, &DispatcherOptions{
		Senders: o.MaxInFlight, MaxInFlight: o.MaxInFlight, Poll: o.Poll, Grace: o.Grace, LeaseMargin: o.LeaseMargin,
		MaxPayload: int(in.recv.opts.MaxBody), Alarms: o.Alarms, Retention: o.Retention, Logger: in.recv.opts.Logger, Trace: trace, Owner: o.Owner,
	})
	if err != nil {
		return err
	}
	ep := Endpoint{ID: InboxPrefix + o.Name, Order: o.Order, MaxBacklog: o.MaxBacklog, Rate: o.Rate}
	if reason := d.backlogs.check(ep.MaxBacklog); reason != "" {
		return inboxError("MaxBacklog", "%s", reason)
	}
	in.d = d
	in.rt = &route{
		endpoint: ep, profile: &d.opts.Profiles[0], schedule: o.Schedule, target: &target{timeout: o.Timeout},
		inFlight: o.MaxInFlight, lease: d.lease(o.Timeout), rate: o.Rate, health: NoHealth().withDefaults(),
		status: d.statuses.get(ep.ID), tenant: d.tenants.get(""), run: in,
	}
	d.serveOnly(in.rt)
	return nil
}

// serveOnly makes the dispatcher know one route, whatever the store has. It must not have been used before.
func (d *Dispatcher) serveOnly(rt *route) {
	d.only = rt.endpoint.ID
	d.routes.store, d.routes.static = nil, []*route{rt}
	table := &routeTable{byID: map[string]*route{rt.endpoint.ID: rt}, deleted: make(map[string]time.Time)}
	table.subscribe()
	d.routes.current.Store(table)
}

// serves reports whether an endpoint's deliveries are this dispatcher's business: an inbox's are that inbox's alone, and it has no other.
func (d *Dispatcher) serves(endpointID string) bool {
	if d.only != "" {
		return endpointID == d.only
	}
	return !strings.HasPrefix(endpointID, InboxPrefix)
}

// Err is what is wrong with what the inbox was made of, as a [*FieldError]; nil: nothing.
func (in *Inbox) Err() error { return in.wrong }

// EndpointID is the endpoint ID under which the store keeps what the inbox has received: "inbox:" and its name.
func (in *Inbox) EndpointID() string { return InboxPrefix + in.opts.Name }

// Run processes until ctx ends, then drains and returns, as [Dispatcher.Run] does: handlers under way may finish within
// InboxOptions.Grace, then their contexts end, and what they have not finished is given back without counting as a run. It returns when all handlers have.
func (in *Inbox) Run(ctx context.Context) error {
	if in.wrong != nil {
		return in.wrong
	}
	return in.d.Run(ctx)
}
