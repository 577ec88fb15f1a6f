package webhooktest

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// Dispatcher makes a dispatcher on a store, such as memstore.New(), that sends over the network, and runs it until the test ends. Each
// receiver that is on the network gets an endpoint ([Receiver.Endpoint]), unless opts.Endpoints or the store has one of its ID, and checks
// the signatures of the profile that the endpoint uses. opts may be nil. Unless it has a Logger, warnings go to the test's output. A zero
// Grace is a second here, and a zero Poll, which bounds how fast virtual time passes, 10 s: what this dispatcher itself is sent or retries is
// not late for that.
func Dispatcher(t testing.TB, n *Network, store webhook.Store, opts *webhook.DispatcherOptions) *webhook.Dispatcher {
	t.Helper()
	o := n.Options(opts)
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	if o.Poll == 0 {
		o.Poll = 10 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = time.Second
	}
	if len(o.Profiles) == 0 {
		o.Profiles = []webhook.Profile{webhook.DefaultProfile()}
	}
	for _, r := range n.receivers() {
		ep := r.Endpoint()
		i := slices.IndexFunc(o.Endpoints, func(other webhook.Endpoint) bool { return other.ID == ep.ID })
		if i < 0 {
			i = len(o.Endpoints)
			o.Endpoints = append(slices.Clip(o.Endpoints), ep)
		}
		r.expect(t, o.Profiles, o.Endpoints[i])
	}
	d, err := webhook.NewDispatcher(store, o)
	if err != nil {
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

// expect has the receiver check what the endpoint signs, unless it was told what to check.
func (r *Receiver) expect(t testing.TB, profiles []webhook.Profile, ep webhook.Endpoint) {
	t.Helper()
	r.mu.Lock()
	told := r.verifier != nil
	r.mu.Unlock()
	p := profiles[0]
	if i := slices.IndexFunc(profiles, func(p webhook.Profile) bool { return p.Name == ep.Profile }); i >= 0 {
		p = profiles[i]
	}
	if told || ep.URL != r.url || p.Scheme == nil || len(ep.Secrets) == 0 {
		return
	}
	if !ep.Success.IsZero() {
		p.Success = ep.Success
	}
	r.Verify(t, p, ep.Secrets...)
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
