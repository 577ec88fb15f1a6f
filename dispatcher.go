package webhook

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalpost/webhook/internal/ids"
)

// DispatcherOptions configure a [Dispatcher]. The zero value is right for most services.
type DispatcherOptions struct {
	// Endpoints given in code, besides those in the store. Where both have an ID, the one given here counts. Processes that
	// run on one store should be given the same ones: what a process claims for an endpoint that it does not
	// know it gives back for a minute, and cancels when it is an hour old.
	Endpoints []Endpoint

	// Profiles that endpoints may name. The first is the default one; none means [DefaultProfile] alone. Package profile's
	// All has every one that the library knows.
	Profiles []Profile

	// Senders is how many attempts are under way at once in this process; zero: 256. Those that have lasted a second, and those
	// for endpoints that usually take that long, do not count, up to three times as many: they take no place
	// from the others.
	Senders int

	MaxInFlight int // attempts under way at once to one endpoint that does not say; zero: 16

	// Poll is how often the store is asked for work that this process was not told of; zero: 200 ms. Above half a second it slows down, up
	// to 10 s, what a running dispatcher else notices within a second: endpoints that others change, expiry, alarms, others' replays.
	Poll time.Duration

	Grace time.Duration // how long Run lets attempts under way finish when it is told to end; zero: 20 s

	// LeaseMargin is added to an endpoint's time limit to make the lease on a delivery. What a process that died was
	// sending is taken over by another after that limit, this margin and one poll; zero: 15 s.
	LeaseMargin time.Duration

	MaxPayload    int           // bytes; a larger payload is refused by Send; zero: 1 MiB
	MaxRetryAfter time.Duration // a receiver's Retry-After beyond this is cut to it; zero: 24 h

	// Tenants gives a tenant's share and bounds; nil: all are alike and unbounded. It must give the same in every process and
	// return quickly. It is asked about once a second for each tenant that has endpoints.
	Tenants func(tenant string) TenantPolicy

	Retention Retention // how long records are kept, those of inboxes on the store included; zero: for good

	Alarms Alarms // what [Trace.Alarm] tells of; zero: the defaults

	// AllowPrivate lets every endpoint be at a private, loopback, link-local or otherwise special address. Whoever
	// can register an endpoint can then make this process send requests into its own network: for tests, and for
	// services that register endpoints themselves.
	AllowPrivate bool

	Proxy     *url.URL    // egress proxy (http, https, socks5) for all requests; nil: none, whatever the environment says
	TLS       *tls.Config // for all requests, as for a private CA; nil: Go's defaults
	UserAgent string      // "": the library's name

	// Dial makes the connections instead of the dispatcher's own sockets, as over a tunnel or, in tests, in memory (package webhooktest). address is
	// the host as the endpoint's URL has it, and its port; network is "tcp". It must end with its context. The guard stays on: unless
	// private addresses are allowed, a connection whose RemoteAddr is not a public IP address is closed before anything is sent.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Transport sends the requests instead of the dispatcher's own, as in tests. It then has to guard addresses itself, and
	// Proxy, TLS and Dial must be unset.
	Transport http.RoundTripper

	Logger *slog.Logger // nil: slog.Default()
	Trace  *Trace       // nil: none
	Owner  string       // name of this process in leases, to be found when looking into the store; "": a random one
}

// Dispatcher takes events in and delivers them. Make it with [NewDispatcher]. All methods may be called
// by many goroutines at once.
//
// A process that only sends need not call Run: any process that runs a dispatcher on the same store delivers.
type Dispatcher struct {
	store    Store
	opts     DispatcherOptions
	only     string // the one endpoint that it serves, an inbox; "": all but inboxes
	log      *slog.Logger
	profiles map[string]*Profile
	unknown  *route

	clock     *storeClock
	client    *httpClient
	routes    *routes
	lanes     *lanes
	feed      *feed
	batcher   *batcher
	completer *completer
	running   atomic.Bool
	tests     chan struct{} // one for each test or verification under way

	statuses   statuses
	tenants    *tenants
	transports *transports
	health     *health
	verify     *verification
	life       *life
	backlogs   *backlogs
	alarms     *alarms
	replays    *replays
	retireAt   time.Time // when secrets that have ended are looked for again; upkeep's
}

// NewDispatcher returns a dispatcher on a store. It starts nothing. opts may be nil; it is copied. Endpoints in code and
// profiles are checked; the error is a [*FieldError].
func NewDispatcher(store Store, opts *DispatcherOptions) (*Dispatcher, error) {
	if store == nil {
		return nil, &FieldError{Op: "dispatcher", Field: "store", Reason: "is nil"}
	}
	d := &Dispatcher{store: store, clock: newStoreClock(store), tests: make(chan struct{}, testsMost)}
	if opts != nil {
		d.opts = *opts
	}
	if err := d.opts.setDefaults(); err != nil {
		return nil, err
	}
	d.log = d.opts.Logger
	d.profiles = make(map[string]*Profile)
	for i := range d.opts.Profiles {
		p := &d.opts.Profiles[i]
		if err := checkProfile(p); err != nil {
			return nil, err
		}
		if d.profiles[p.Name] != nil {
			return nil, &FieldError{Op: "dispatcher", Field: "Profiles", Reason: fmt.Sprintf("%q is given twice", p.Name)}
		}
		d.profiles[p.Name] = p
	}
	d.unknown = &route{status: &endpointStatus{}, inFlight: d.opts.MaxInFlight, lease: d.lease(d.opts.Profiles[0].Timeout)}
	client, err := newHTTPClient(&clientOptions{
		AllowPrivate: d.opts.AllowPrivate, Proxy: d.opts.Proxy, TLS: d.opts.TLS, Transport: d.opts.Transport, Dial: d.opts.Dial,
		Senders: d.opts.Senders, UserAgent: d.opts.UserAgent, MaxRetryAfter: d.opts.MaxRetryAfter,
	})
	if err != nil {
		return nil, err
	}
	d.client = client
	d.feed = newFeed(d)
	d.lanes = newLanes(d.opts.Senders, d.opts.MaxPayload, d.feed.kick)
	d.batcher = &batcher{d: d}
	d.completer = newCompleter(d)
	d.tenants, d.transports, d.health, d.verify = newTenants(d), newTransports(d), newHealth(d), newVerification(d)
	d.life, d.backlogs, d.alarms = newLife(d), newBacklogs(d), newAlarms(d)
	d.replays = newReplays(d)
	d.unknown.tenant = d.tenants.get("")
	if reason := d.backlogs.check(d.opts.Alarms.Backlog); reason != "" {
		return nil, &FieldError{Op: "dispatcher", Field: "Alarms", Reason: "Backlog " + reason}
	}
	if d.routes, err = newRoutes(d, store); err != nil {
		return nil, err
	}
	return d, nil
}

// setDefaults fills in what is zero and refuses what is out of range.
func (o *DispatcherOptions) setDefaults() error {
	for _, f := range []struct {
		name  string
		value *int
		def   int
	}{
		{"Senders", &o.Senders, 256},
		{"MaxInFlight", &o.MaxInFlight, 16},
		{"MaxPayload", &o.MaxPayload, 1 << 20},
	} {
		if *f.value < 0 {
			return &FieldError{Op: "dispatcher", Field: f.name, Reason: fmt.Sprintf("is %d, want 0 (default %d) or more", *f.value, f.def)}
		}
		*f.value = cmp.Or(*f.value, f.def)
	}
	for _, f := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"Poll", &o.Poll, 200 * time.Millisecond},
		{"Grace", &o.Grace, 20 * time.Second},
		{"LeaseMargin", &o.LeaseMargin, 15 * time.Second},
		{"MaxRetryAfter", &o.MaxRetryAfter, 24 * time.Hour},
	} {
		if *f.value < 0 {
			return &FieldError{Op: "dispatcher", Field: f.name, Reason: fmt.Sprintf("is %v, want 0 (default %v) or more", *f.value, f.def)}
		}
		*f.value = cmp.Or(*f.value, f.def)
	}
	if o.LeaseMargin < time.Second {
		return &FieldError{Op: "dispatcher", Field: "LeaseMargin", Reason: fmt.Sprintf("is %v, want at least 1s: an outcome must be recorded within it", o.LeaseMargin)}
	}
	if err := o.Retention.check(); err != nil {
		return err
	}
	if o.Alarms.Backlog < 0 {
		return &FieldError{Op: "dispatcher", Field: "Alarms", Reason: fmt.Sprintf("Backlog is %d, want 0 (none) or more", o.Alarms.Backlog)}
	}
	o.Alarms.OldestDue = cmp.Or(o.Alarms.OldestDue, oldestDueDefault)
	if len(o.Profiles) == 0 {
		o.Profiles = []Profile{DefaultProfile()}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Owner == "" {
		o.Owner = ids.New("run_")
	}
	trace := Trace{}
	if o.Trace != nil {
		trace = *o.Trace
	}
	o.Trace = &trace
	o.own()
	return nil
}

// own copies what o points to and a caller may change.
func (o *DispatcherOptions) own() {
	if o.Proxy != nil {
		proxy := *o.Proxy
		o.Proxy = &proxy
	}
	o.Profiles = slices.Clone(o.Profiles)
	o.Endpoints = slices.Clone(o.Endpoints)
	for i := range o.Endpoints {
		o.Endpoints[i] = cloneEndpoint(o.Endpoints[i])
	}
}

// cloneEndpoint copies all that ep points to.
func cloneEndpoint(ep Endpoint) Endpoint {
	ep.Types, ep.Secrets, ep.Schedule.List = slices.Clone(ep.Types), slices.Clone(ep.Secrets), slices.Clone(ep.Schedule.List)
	ep.Retiring = slices.Clone(ep.Retiring)
	ep.TLS.RootCAs, ep.TLS.Certificate = slices.Clone(ep.TLS.RootCAs), slices.Clone(ep.TLS.Certificate)
	ep.Header = canonicalHeader(ep.Header)
	return ep
}

// Run delivers until ctx ends, then drains and returns. It owns every goroutine that delivers; one Run at a time
// ([ErrRunning]). A store that is away does not end it: it tries again and logs.
//
// The drain goes in this order: no more claims and hand-overs; what is claimed but not started is given back; attempts under
// way may finish within DispatcherOptions.Grace, then they are cut off and given back; all outcomes are recorded. A drain takes at most
// the grace time and a second. The error tells of outcomes that could not be recorded: those deliveries will be sent again.
func (d *Dispatcher) Run(ctx context.Context) error {
	if !d.running.CompareAndSwap(false, true) {
		return fmt.Errorf("webhook: run: %w", ErrRunning)
	}
	defer d.running.Store(false)
	if !d.awaitStore(ctx) {
		return nil
	}
	// Work that outlives ctx: attempts until the grace time is over, records a little longer.
	attempts, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
	records, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()

	var feeders, senders, recorder sync.WaitGroup
	d.lanes.start(func() { senders.Go(func() { d.sendAll(ctx, attempts, records) }) })
	feeders.Go(func() { d.feed.run(ctx, attempts, records) })
	feeders.Go(func() { d.maintain(ctx) })
	feeders.Go(func() { d.upkeep(ctx) })
	feeders.Go(func() { d.health.run(ctx) })
	if d.only == "" { // an inbox knows no endpoint that a replay could go to
		feeders.Go(func() { d.replays.run(ctx) })
	}
	feeders.Go(func() { d.retain(ctx) })
	end := make(chan struct{})
	recorder.Go(func() { d.completer.run(records, end) })

	<-ctx.Done()
	grace := time.AfterFunc(d.opts.Grace, cutOff)
	defer grace.Stop()
	last := time.AfterFunc(d.opts.Grace+drainMargin, giveUp)
	defer last.Stop()
	for _, it := range d.lanes.stop() {
		d.giveBack(records, it)
	}
	feeders.Wait()
	d.lanes.settle(attempts)
	senders.Wait()
	d.health.flush(records)
	close(end)
	recorder.Wait()
	d.client.closeIdle()
	d.transports.closeIdle()
	if n := d.completer.abandon(); n > 0 {
		return fmt.Errorf("webhook: run: ended with %d outcomes not recorded; those deliveries will be sent again", n)
	}
	return nil
}

// drainMargin is what recording the last outcomes may take beyond the grace time.
const drainMargin = 750 * time.Millisecond

// awaitStore reads the store's clock and endpoints for the first time. It reports false when ctx ended first.
func (d *Dispatcher) awaitStore(ctx context.Context) bool {
	for {
		_, err := d.clock.now(ctx)
		if err == nil {
			_, err = d.routes.table(ctx, nil)
		}
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		d.log.Error("webhook: the store does not answer; trying again", slog.Any("error", err))
		if !sleep(ctx, time.Second) {
			return false
		}
	}
}

// Wake makes Run look for work now instead of at its next poll: call it after committing a transaction that SendTx was part
// of. It never blocks.
func (d *Dispatcher) Wake() { d.feed.wakeUp() }
