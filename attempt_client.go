package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/signalpost/webhook/internal/h1"
	"github.com/signalpost/webhook/internal/safedial"
)

const (
	connectTimeout       = 10 * time.Second // to resolve and connect: SYNs go out at 0, 1, 3 and 7 s
	handshakeTimeout     = 10 * time.Second
	idleTimeout          = 90 * time.Second // a connection is kept unused
	defaultMaxRetryAfter = 24 * time.Hour
	defaultSenders       = 256
	minIdleConns         = 1024 // over all hosts together
	defaultUserAgent     = "webhook-go/0 (+https://github.com/signalpost/webhook)"
)

// clientOptions is how attempts go out. The zero value is usable.
type clientOptions struct {
	// AllowPrivate lets all endpoints be at private, loopback and otherwise special addresses.
	AllowPrivate bool

	// Proxy, when set, is used for every request: http, https, socks5 or socks5h. The environment's is never used.
	// The proxy then resolves names and connects, so only it can refuse addresses: what is checked here is the host as it
	// is written in the endpoint's URL. The proxy itself may be at any address.
	Proxy *url.URL

	// TLS is the client configuration: root CAs, client certificates, versions. It is copied. nil: Go's defaults.
	TLS *tls.Config

	// Transport replaces the network, as for tests. Hosts are checked as they are written only; Proxy and TLS must be unset.
	Transport http.RoundTripper

	// Dial, when set, makes the connections, to the proxy if there is one. The guard judges where they lead.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Senders       int           // attempts under way at once; as many connections a host are kept. Zero: 256
	UserAgent     string        // zero: this library's name
	MaxRetryAfter time.Duration // no Retry-After counts for more; zero: 24 h

	guardProxy bool        // the proxy has to be at a public address
	proxyTLS   *tls.Config // for the connection to an https proxy; nil: Go's defaults
	names      *lately     // resolved by the process; nil: none
	works      *lately     // reached through Proxy; nil: none

	// For tests of this package.
	dial     func(ctx context.Context, network, address string) (net.Conn, error) // replaces sockets, and with them the guard
	resolver *net.Resolver
}

// httpClient makes attempts. It is safe for concurrent use.
type httpClient struct {
	options       *clientOptions
	allowPrivate  bool
	maxRetryAfter time.Duration
	userAgent     []string // header values, shared by all requests
	contentType   []string

	// Two pools of connections, so that a connection made for an endpoint that may be anywhere is never used for one that
	// must be public.
	guarded, open http.RoundTripper

	buffers sync.Pool // *[keptResponse]byte
}

// newHTTPClient makes a client, or returns a [*FieldError] that names the option that is unusable.
func newHTTPClient(o *clientOptions) (*httpClient, error) {
	if o == nil {
		o = &clientOptions{}
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	own := *o
	own.names, own.works, own.proxyTLS = &lately{}, &lately{}, o.TLS
	o = &own
	c := &httpClient{
		options:       o,
		allowPrivate:  o.AllowPrivate,
		maxRetryAfter: o.MaxRetryAfter,
		userAgent:     []string{o.UserAgent},
		contentType:   []string{"application/json"},
		guarded:       o.Transport,
		open:          o.Transport,
		buffers:       sync.Pool{New: func() any { return new([keptResponse]byte) }},
	}
	if c.maxRetryAfter == 0 {
		c.maxRetryAfter = defaultMaxRetryAfter
	}
	if o.UserAgent == "" {
		c.userAgent[0] = defaultUserAgent
	}
	if o.Transport == nil {
		c.guarded, c.open = newTransport(o, true), newTransport(o, false)
	}
	return c, nil
}

func (o *clientOptions) validate() error {
	bad := func(field, format string, args ...any) error {
		return &FieldError{Op: "dispatcher", Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	if o.Senders < 0 {
		return bad("Senders", "is %d, want 0 (default %d) or more", o.Senders, defaultSenders)
	}
	if o.MaxRetryAfter < 0 {
		return bad("MaxRetryAfter", "is %v, want 0 (default %v) or more", o.MaxRetryAfter, defaultMaxRetryAfter)
	}
	if !h1.ValidValue(o.UserAgent) {
		return bad("UserAgent", "contains control characters")
	}
	if o.Transport != nil && (o.Proxy != nil || o.TLS != nil || o.Dial != nil) {
		return bad("Transport", "excludes Proxy, TLS and Dial, which configure the transport it replaces")
	}
	if o.Proxy != nil {
		switch o.Proxy.Scheme {
		case "http", "https", "socks5", "socks5h":
		default:
			return bad("Proxy", "has scheme %q, want http, https, socks5 or socks5h", o.Proxy.Scheme)
		}
		if o.Proxy.Hostname() == "" {
			return bad("Proxy", "has no host")
		}
	}
	return nil
}

// newTransport makes one pool of connections. All attempts speak HTTP/1.1: every receiver does, and what an HTTP/2 peer may send unasked
// need not be bounded. Behind a proxy net/http makes them, else internal/h1, for half the processor time.
func newTransport(o *clientOptions, guarded bool) http.RoundTripper {
	senders := o.Senders
	if senders == 0 {
		senders = defaultSenders
	}
	config := o.TLS.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if config.ClientSessionCache == nil {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1024)
	}
	dial := o.dial
	if dial == nil {
		// Behind a proxy only the proxy is dialled, and the dispatcher's may be anywhere.
		held := guarded && (o.Proxy == nil || o.guardProxy)
		if dial = newDialer(o, held).dial; o.Dial != nil {
			dial = judged(o.Dial, held)
		}
	}
	idle := max(2*senders, minIdleConns)
	if o.Proxy == nil {
		return &h1.Transport{
			Dial: dial, TLS: config, HandshakeTimeout: handshakeTimeout,
			IdleTimeout: idleTimeout, MaxIdle: idle, MaxIdlePerHost: senders, MaxHeader: maxAnswerHeader,
			Fields: []string{"Retry-After"},
		}
	}
	return newProxied(o, config, dial, senders, idle)
}

// judged is a caller's dial function with the dispatcher's time limit and, if it is held to the guard, without connections that lead anywhere but
// to a public address: they are closed unused.
func judged(dial dialFunc, guarded bool) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		c, err := dial(ctx, network, address)
		switch {
		case err != nil:
			return nil, err
		case c == nil:
			return nil, errNoConn
		case !guarded:
			return c, nil
		}
		remote := ""
		if addr := c.RemoteAddr(); addr != nil {
			remote = addr.String()
		}
		if err := safedial.Control("tcp4", remote, nil); err != nil { // it judges both kinds of address
			_ = c.Close()
			return nil, err
		}
		return c, nil
	}
}

var errNoConn = errors.New("DispatcherOptions.Dial returned neither a connection nor an error")

func (c *httpClient) roundTripper(t *target, allowed bool) http.RoundTripper {
	if t.transport != nil {
		return t.transport
	}
	if allowed {
		return c.open
	}
	return c.guarded
}

// closeIdle closes the connections that no attempt uses. Call it again when the last attempts have ended.
func (c *httpClient) closeIdle() {
	closeIdle(c.guarded)
	closeIdle(c.open)
}

// door refuses what can be judged without resolving.
func (c *httpClient) door(t *target, allowed bool) error {
	if allowed {
		return nil
	}
	return t.blocked
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// maxURL is how long an endpoint's URL may be.
const maxURL = 2048

// parseEndpointURL checks the form of an endpoint's URL. op is for the [*FieldError], which never shows the URL: it may hold
// a password.
func parseEndpointURL(op, raw string) (*url.URL, error) {
	bad := func(reason string) (*url.URL, error) {
		return nil, &FieldError{Op: op, Field: "URL", Reason: reason}
	}
	if raw == "" {
		return bad("is empty")
	}
	if len(raw) > maxURL {
		return bad(fmt.Sprintf("has %d bytes, want at most %d", len(raw), maxURL))
	}
	u, err := url.Parse(raw)
	if err != nil || strings.ContainsAny(raw, " \t\r\n") {
		return bad("is not a URL")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return bad(fmt.Sprintf("has scheme %q, want https or http", u.Scheme))
	case u.User != nil:
		return bad("has user info; send credentials in a header")
	case u.Opaque != "" || u.Hostname() == "":
		return bad("has no host")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return bad("has a fragment, which is never sent")
	case !isASCII(u.Host): // who resolves such a name maps it in ways of its own, and nobody here sees to what
		return bad("has a host that is not ASCII; write it as xn--")
	case !validPort(u):
		return bad(fmt.Sprintf("has port %q, want 1 to 65535", u.Port()))
	}
	return u, nil
}

func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	port, err := net.LookupPort("tcp", u.Port())
	return err == nil && port > 0
}

// checkEndpointURL is parseEndpointURL and, unless allowed, refuses hosts that are written as an address which is not
// public. Names are judged when they are dialled.
func checkEndpointURL(op, raw string, allowPrivate bool) error {
	u, err := parseEndpointURL(op, raw)
	if err != nil || allowPrivate {
		return err
	}
	if err := checkHost(u); err != nil {
		return &FieldError{Op: op, Field: "URL", Reason: err.Error() + "; allow it with AllowPrivate", Cause: ErrBlockedAddress}
	}
	return nil
}

func checkHost(u *url.URL) error {
	host := u.Hostname()
	if strings.HasPrefix(u.Host, "[") {
		host = "[" + host + "]"
	}
	return safedial.CheckHost(host)
}
