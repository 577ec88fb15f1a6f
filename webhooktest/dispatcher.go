package webhooktest

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// Dispatcher makes a dispatcher on a store, such as memstore.New(), that sends over the network, and runs it until the test ends. Each
// receiver that is on the network gets an endpoint ([Receiver.Endpoint]), unless opts.Endpoints has one of its ID or URL, and checks
// the signatures of the profile that the endpoint uses. opts may be nil. Unless it has a Logger, warnings go to the test's output. A zero
// Grace is a second here. A zero Poll, which bounds how fast virtual time passes, is 10 s while nothing happens: what is sent and retried is on
// time all the same, but what other dispatchers or the clock alone change, as when an event expires, is noticed up to 10 s later.
func Dispatcher(t testing.TB, n *Network, store webhook.Store, opts *webhook.DispatcherOptions) *webhook.Dispatcher {
	t.Helper()
	o := n.Options(opts)
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	var d *webhook.Dispatcher
	if o.Poll == 0 {
		o.Poll = 10 * time.Second
		wakeAfterAttempts(o.Trace, func() { d.Wake() })
	}
	if o.Grace == 0 {
		o.Grace = time.Second
	}
	if len(o.Profiles) == 0 {
		o.Profiles = []webhook.Profile{webhook.DefaultProfile()}
	}
	for _, r := range n.receivers() {
		o.Endpoints = r.meet(t, o.Profiles, o.Endpoints)
	}
	var err error
	if d, err = webhook.NewDispatcher(store, o); err != nil {
		t.Fatalf("webhooktest: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("webhooktest: %v", err)
		}
	})
	return d
}

// wakeAfterAttempts has the dispatcher look for work soon after each attempt, since it forgets with a claim what else is due when.
func wakeAfterAttempts(trace *webhook.Trace, wake func()) {
	done := trace.AttemptDone
	var pending atomic.Bool
	trace.AttemptDone = func(ctx context.Context, info webhook.AttemptDoneInfo) {
		if pending.CompareAndSwap(false, true) {
			time.AfterFunc(200*time.Millisecond, func() { // by then the outcome is recorded
				pending.Store(false)
				wake()
			})
		}
		if done != nil {
			done(ctx, info)
		}
	}
}

// meet adds an endpoint for the receiver unless there is one, and has the receiver check what is signed for it, unless it was told what to check.
func (r *Receiver) meet(t testing.TB, profiles []webhook.Profile, endpoints []webhook.Endpoint) []webhook.Endpoint {
	t.Helper()
	own := r.Endpoint()
	at := slices.IndexFunc(endpoints, func(ep webhook.Endpoint) bool { return ep.ID == own.ID || ep.URL == r.url })
	if at < 0 {
		at = len(endpoints)
		endpoints = append(slices.Clip(endpoints), own)
	}
	ep := endpoints[at]
	r.mu.Lock()
	told := r.verifier != nil
	r.mu.Unlock()
	p := profiles[0]
	if i := slices.IndexFunc(profiles, func(p webhook.Profile) bool { return p.Name == ep.Profile }); i >= 0 {
		p = profiles[i]
	}
	if told || ep.URL != r.url || p.Scheme == nil {
		return endpoints
	}
	if !ep.Success.IsZero() {
		p.Success = ep.Success
	}
	var secrets []webhook.Secret // of all that lead here
	for _, other := range endpoints {
		if other.URL == r.url {
			secrets = append(secrets, other.Secrets...)
		}
	}
	if len(secrets) > 0 {
		r.Verify(t, p, secrets...)
	}
	return endpoints
}

// receivers are all on the network, in the order of their URLs.
func (n *Network) receivers() []*Receiver {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*Receiver
	for _, s := range n.sites {
		s.mu.Lock()
		for _, r := range s.receivers {
			all = append(all, r)
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b *Receiver) int {
		if a.url < b.url {
			return -1
		}
		return 1
	})
	return all
}

// Options is a copy of opts, which may be nil, with what a dispatcher needs to send over the network: for services that make their dispatcher
// themselves. It sets Dial, adds the network's certificate authority to TLS where that names none, and has Trace tell
// receivers which event a request is of. Transport must be nil.
func (n *Network) Options(opts *webhook.DispatcherOptions) *webhook.DispatcherOptions {
	var o webhook.DispatcherOptions
	if opts != nil {
		o = *opts
	}
	o.Dial = n.Dial
	if o.TLS = o.TLS.Clone(); o.TLS == nil {
		o.TLS = &tls.Config{}
	}
	if o.TLS.RootCAs == nil {
		o.TLS.RootCAs = n.ca.pool()
	}
	var trace webhook.Trace
	if o.Trace != nil {
		trace = *o.Trace
	}
	start := trace.AttemptStart
	trace.AttemptStart = func(ctx context.Context, info webhook.AttemptStartInfo) context.Context {
		info.Header.Set(eventHeader, info.Event.ID)
		if start != nil {
			return start(ctx, info)
		}
		return ctx
	}
	o.Trace = &trace
	return &o
}
