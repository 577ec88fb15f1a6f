// Package h1 posts over HTTP/1.1 in the goroutine that asks for it.
//
// [http.Transport] gives each connection two goroutines, and a request is handed to one and its answer back by the other. For many short
// requests at once that is more than half of their cost. Here the caller's goroutine writes, then reads, and between requests nothing
// runs and no buffer is kept for a connection. The wire is read by net/http all the same ([http.ReadResponse]), but for heads of the plainest form.
//
// What is left out: HTTP/2, proxies, redirects, Expect: 100-continue, cookies, compression and request trailers.
package h1

import (
	"bufio"
	"bytes"
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Transport is an [http.RoundTripper] that keeps connections. Its fields must be set before its first use; it is safe
// for concurrent use.
type Transport struct {
	Dial             func(ctx context.Context, network, address string) (net.Conn, error)
	TLS              *tls.Config   // for https; its ServerName is filled in, and its NextProtos replaced
	HandshakeTimeout time.Duration // of TLS, within the request's own limit
	IdleTimeout      time.Duration // how long a connection is kept unused
	MaxIdle          int           // connections kept unused; the one that waited longest goes first
	MaxIdlePerHost   int
	MaxHeader        int64 // bytes of all headers of an answer, those of 1xx answers included

	// Fields are the headers, canonical, that answers are read for: they may be without the others, and without the text of their status.
	// Empty: answers have all.
	Fields []string

	mu    sync.Mutex
	hosts map[host]*shelf // of idle ones; empty until the next sweep
	idle  list.List       // all idle ones, the latest first
	timer *time.Timer     // closes what was idle too long; nil: none is idle
	swept chan struct{}   // closed when the sweep under way has closed what it found; nil: none is under way
	ended bool            // CloseIdleConnections was called since the last request

	heads   sync.Pool // *bytes.Buffer
	readers sync.Pool // *bufio.Reader
}

// host is what connections are kept by. One that is written with the port it has anyway is another.
type host struct {
	scheme, name string // as in the URL
}

// address is what is dialled.
func (h host) address() string {
	u := url.URL{Host: h.name}
	port := u.Port()
	if port == "" {
		port = "80"
		if h.scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// conn is a connection, used by one request at a time.
type conn struct {
	net.Conn                // TLS, if there is any
	raw       net.Conn      // the socket
	peek      func() bool   // whether the socket is open and silent
	interrupt func()        // ends reads and writes under way and all later ones
	host      host          //
	left      int64         // bytes that may still be read
	used      bool          // for an earlier request
	since     time.Time     // idle since
	shelf     *shelf        // when idle: where it is …
	place     *list.Element // … and in Transport.idle
}

var errHeader = errors.New("response headers exceeded the limit")

// Read implements [io.Reader] with a limit.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHeader
	}
	p = p[:min(int64(len(p)), c.left)]
	n, err := c.Conn.Read(p)
	c.left -= int64(n)
	return n, err
}

// RoundTrip implements [http.RoundTripper]. The body of the answer must be closed; the connection is kept if it was read to its end.
//
// What was kept is looked at before it is used, and dropped if the other side has closed it or has said something unasked. When the
// other side closes it at that very moment, so that not one byte of an answer comes, the request goes out once more, over a new connection;
// a body of more than 64 KiB only with req.GetBody. So every request must be one that may arrive twice.
//
// When the request's context ends, reads and writes do, with its cause as the error.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.Do(req, &Limit{Context: req.Context()})
}

// Limit is how long an exchange may take, its answer's body included.
type Limit struct {
	Context context.Context // in place of the request's
	At      time.Time       // zero: only the context limits it. The connection keeps this time, so it needs no timer
	Why     error           // the error when At has come
}

// over is why the time is over; nil while it is not.
func (l *Limit) over() error {
	if l.Context.Err() != nil {
		return context.Cause(l.Context)
	}
	if !l.At.IsZero() && !time.Now().Before(l.At) {
		return l.Why
	}
	return nil
}

// Do is RoundTrip within a limit. The limit must not change before the answer's body is closed.
func (t *Transport) Do(req *http.Request, limit *Limit) (*http.Response, error) {
	body := req.Body
	defer func() {
		if body != nil {
			_ = body.Close()
		}
	}()
	head := t.takeHead()
	defer t.heads.Put(head)
	if err := writeHead(head, req); err != nil {
		return nil, err
	}
	c, err := t.connect(limit, host{req.URL.Scheme, req.URL.Host})
	if err != nil {
		return nil, err
	}
	resp, err := t.exchange(req, body, head.Bytes(), c, limit)
	if err == nil || !c.hungUp(t, limit) {
		return resp, err
	}
	if isLong(req) {
		if req.GetBody == nil {
			return nil, err
		}
		_ = body.Close()
		if body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	if c, err = t.dial(limit, c.host); err != nil {
		return nil, err
	}
	return t.exchange(req, body, head.Bytes(), c, limit)
}

// exchange sends a request over c and reads the head of the answer.
func (t *Transport) exchange(req *http.Request, body io.Reader, head []byte, c *conn, limit *Limit) (*http.Response, error) {
	x := &exchange{t: t, c: c, limit: limit}
	if !limit.At.IsZero() {
		_ = c.raw.SetDeadline(limit.At)
	}
	if w, ok := limit.Context.(*watchedContext); ok && w.enter(c) {
		x.watch = w
	} else {
		x.stop = context.AfterFunc(limit.Context, c.interrupt)
	}
	resp, err := x.do(req, body, head)
	if err != nil {
		x.end(false)
		return nil, x.explain(err)
	}
	return resp, nil
}

// hungUp reports whether a request failed because a connection that had been kept was closed before any of the answer came.
func (c *conn) hungUp(t *Transport, limit *Limit) bool {
	return c.used && c.left == t.MaxHeader && limit.over() == nil
}

func (t *Transport) takeHead() *bytes.Buffer {
	if b, ok := t.heads.Get().(*bytes.Buffer); ok {
		b.Reset()
		return b
	}
	return new(bytes.Buffer)
}

func (t *Transport) takeReader(c *conn) *bufio.Reader {
	if r, ok := t.readers.Get().(*bufio.Reader); ok {
		r.Reset(c)
		return r
	}
	return bufio.NewReader(c)
}

// connect takes a kept connection or makes one.
func (t *Transport) connect(limit *Limit, h host) (*conn, error) {
	if err := limit.over(); err != nil {
		return nil, err
	}
	for c := t.take(h); c != nil; c = t.take(h) {
		if c.peek() {
			return c, nil
		}
		_ = c.raw.Close()
	}
	return t.dial(limit, h)
}

// dial makes a connection.
func (t *Transport) dial(limit *Limit, h host) (*conn, error) {
	ctx := limit.Context
	if !limit.At.IsZero() {
		limited, cancel := context.WithDeadlineCause(ctx, limit.At, limit.Why)
		defer cancel()
		ctx = limited
	}
	raw, err := t.Dial(ctx, "tcp", h.address())
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, raw: raw, peek: peeker(raw), host: h}
	c.interrupt = func() { _ = raw.SetDeadline(time.Unix(1, 0)) }
	if h.scheme != "https" {
		return c, nil
	}
	if err := t.handshake(ctx, c); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}

type handshakeError struct{}

func (handshakeError) Error() string   { return "TLS handshake timeout" }
func (handshakeError) Timeout() bool   { return true }
func (handshakeError) Temporary() bool { return true } // of net.Error

func (t *Transport) handshake(ctx context.Context, c *conn) error {
	cfg := t.TLS.Clone()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(c.host.address())
	}
	cfg.NextProtos = []string{"http/1.1"}
	secured := tls.Client(c.raw, cfg)
	limited, cancel := context.WithTimeoutCause(ctx, t.HandshakeTimeout, handshakeError{})
	defer cancel()
	if err := secured.HandshakeContext(limited); err != nil {
		if ctx.Err() == nil && limited.Err() != nil {
			return handshakeError{}
		}
		return err
	}
	c.Conn = secured
	// What was read from the socket together with the last answer waits in secured, where a look at the socket does not find it.
	open := c.peek
	c.peek = func() bool { return open() && silent(secured) }
	return nil
}
