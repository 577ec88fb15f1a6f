package webhook

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/signalpost/webhook/internal/safedial"
)

// How long an endpoint is not tried by this process after a failure that was ours: 5 s, then twice as long each time.
const (
	faultPause     = 5 * time.Second
	faultPauseMost = 5 * time.Minute
)

// ownFaults are those failures of ours in a row that one endpoint's attempts met in this process. Other processes, which may be better off,
// go on.
type ownFaults struct {
	until atomic.Int64 // no attempt earlier; Unix µs by the store's clock; 0: no bound
	mu    sync.Mutex
	n     int
	at    time.Time // of the last that counted, local clock
}

// next is when to try again after a failure of an attempt that began at began. Attempts that were under way together fail together,
// and count once. first says that this one did.
func (f *ownFaults) next(began, now time.Time) (until time.Time, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if us := f.until.Load(); us == 0 || !began.Before(f.at) {
		pause := faultPauseMost
		if f.n < 6 { // 5 s · 2⁶ is more than 5 min
			pause = min(faultPause<<f.n, faultPauseMost)
		}
		f.n++
		f.at, first = time.Now(), true
		f.until.Store(now.Add(pause).UnixMicro())
	}
	return time.UnixMicro(f.until.Load()), first
}

// over forgets them: an attempt got through.
func (f *ownFaults) over() {
	if f.until.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n, f.at = 0, time.Time{}
	f.until.Store(0)
}

// ownFault reports whether an attempt failed by our own fault (proxy, resolver, this machine), and then what becomes of the delivery:
// it is Queued with the attempt, which is recorded and not counted. The endpoint is left alone for a while, by this process: what
// would fail as well is neither tried nor recorded.
func (d *Dispatcher) ownFault(rt *route, it *item, a *Attempt, res *attemptResult) (o Outcome, ours bool) {
	if !res.Ours {
		if res.tells() {
			rt.status.own.over()
		}
		return Outcome{}, false
	}
	until, first := rt.status.own.next(res.StartedAt, d.clock.estimate())
	o = d.outcome(it, Queued, "ours: "+describeAnswer(a)+"; not counted")
	o.Attempt, o.DueAt = a, until
	a.NextAt = until
	if first {
		d.log.Warn("webhook: a failure of our own; it does not count against the endpoint", slog.String("endpoint", it.Delivery.EndpointID),
			slog.String("error", a.Error), slog.String("detail", a.Detail), slog.Time("next", until))
	}
	return o, true
}

// tells reports whether an attempt says anything about its endpoint: not if nothing was sent, or what failed is ours.
func (r *attemptResult) tells() bool {
	return !r.Ours && !r.Panicked && r.Kind != NetErrorRequest && r.Kind != NetErrorBlocked && r.Kind != NetErrorCanceled
}

// faultError is an error whose kind, and whose fault it is, was known where it came up.
type faultError struct {
	kind string // a NetError constant
	ours bool
	err  error
}

func (e *faultError) Error() string { return e.err.Error() }
func (e *faultError) Unwrap() error { return e.err }

// isOurs reports whether a failure of a kind is our own.
func isOurs(kind string, err error) bool {
	if fe, ok := errors.AsType[*faultError](err); ok {
		return fe.ours
	}
	switch kind {
	case NetErrorLocal, NetErrorResolver:
		return true
	case NetErrorProxy: // of a caller's own transport
		return !judgeProxy(err).far
	}
	return false
}

// evidenceFor is how long what worked shows that it still does.
const evidenceFor = 30 * time.Second

// lately remembers for which hosts something worked last: two, so that of any host it can tell whether it worked for another.
// A nil one remembers nothing.
type lately struct {
	mu   sync.Mutex
	host [2]string
	at   [2]time.Time
}

func (l *lately) note(host string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.host[0] != host {
		l.host[1], l.at[1] = l.host[0], l.at[0]
		l.host[0] = host
	}
	l.at[0] = time.Now()
}

// other reports whether it worked for another host within evidenceFor.
func (l *lately) other(host string) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.host {
		if l.host[i] != "" && l.host[i] != host && time.Since(l.at[i]) <= evidenceFor {
			return true
		}
	}
	return false
}

// dialer connects, and tells a resolver that does not answer from a name that does not exist.
type dialer struct {
	net.Dialer
	names *lately // resolved
}

func newDialer(o *clientOptions, guarded bool) *dialer {
	d := &dialer{Dialer: net.Dialer{Timeout: connectTimeout, Resolver: o.resolver}, names: o.names}
	if guarded {
		d.Control = safedial.Control
	}
	return d
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if _, notAddress := netip.ParseAddr(host); err != nil || notAddress == nil {
		return d.DialContext(ctx, network, address)
	}
	var resolved atomic.Bool
	named := d.Dialer
	named.Control = func(network, address string, c syscall.RawConn) error { // is called when there is an address
		resolved.Store(true)
		if d.Control != nil {
			return d.Control(network, address, c)
		}
		return nil
	}
	c, err := named.DialContext(ctx, network, address)
	if resolved.Load() {
		d.names.note(host)
	} else if err != nil {
		err = d.unresolved(host, err)
	}
	return c, err
}

// unresolved judges why a name could not be resolved. What answers, even that there is no such name, or that the name's own servers
// do not, works. Silence may be the fault of those as well, so it is ours only if no other name was resolved lately.
func (d *dialer) unresolved(host string, err error) error {
	de, ok := errors.AsType[*net.DNSError](err)
	if !ok || de.IsNotFound {
		return err
	}
	for _, no := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if strings.Contains(de.Err, no.Error()) { // net keeps the text of it only
			return &faultError{kind: NetErrorLocal, ours: true, err: err}
		}
	}
	const answered = "server misbehaving" // net's text for SERVFAIL and the like
	if (de.IsTimeout || de.IsTemporary && de.Err != answered) && !d.names.other(host) {
		return &faultError{kind: NetErrorResolver, ours: true, err: err}
	}
	return err
}
