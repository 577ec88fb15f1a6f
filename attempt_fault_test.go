package webhook

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// socksServer answers each SOCKS5 request with a reply code; over 255: it hangs up instead.
func socksServer(reply func(host string) int) func(net.Conn) {
	return func(c net.Conn) {
		head := make([]byte, 2)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		io.ReadFull(c, make([]byte, head[1]))
		c.Write([]byte{5, 0})
		req := make([]byte, 5)
		if _, err := io.ReadFull(c, req); err != nil {
			return
		}
		host := make([]byte, req[4])
		io.ReadFull(c, host)
		io.ReadFull(c, make([]byte, 2))
		code := reply(string(host))
		if code > 255 {
			return
		}
		c.Write([]byte{5, byte(code), 0, 1, 0, 0, 0, 0, 0, 0})
		if code == 0 {
			afterRequest(func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") })(c)
		}
	}
}

// connectServer answers each CONNECT with a status line, and other requests with 200. "" hangs up.
func connectServer(status func(host string) string) func(net.Conn) {
	return func(c net.Conn) {
		req, _, err := readRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		if line := status(req.URL.Hostname()); line != "" {
			fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", line)
		}
	}
}

func TestWhoseFaultIsAProxys(t *testing.T) {
	always := func(s string) func(string) string { return func(string) string { return s } }
	socks := func(code int) func(net.Conn) { return socksServer(func(string) int { return code }) }
	for _, c := range []struct {
		name   string
		scheme string // of the proxy
		serve  func(net.Conn)
		target string
		kind   string
		ours   bool
	}{
		{"wants a password", "http", connectServer(always("407 Proxy Authentication Required")), "https", NetErrorProxy, true},
		{"wants a password, no tunnel", "http", connectServer(always("407 Proxy Authentication Required")), "http", NetErrorProxy, true},
		{"forbids", "http", connectServer(always("403 Forbidden")), "https", NetErrorProxy, true},
		{"too much", "http", connectServer(always("429 Too Many Requests")), "https", NetErrorProxy, true},
		{"breaks", "http", connectServer(always("500 Oops")), "https", NetErrorProxy, true},
		{"overloaded", "http", connectServer(always("503 Service Unavailable")), "https", NetErrorProxy, true},
		{"hangs up", "http", connectServer(always("")), "https", NetErrorProxy, true},
		{"no proxy at all", "http", func(c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n") }, "https", NetErrorProxy, true},
		{"cannot reach the host", "http", connectServer(always("502 Bad Gateway")), "https", NetErrorUnreachable, false},
		{"waited for the host", "http", connectServer(always("504 Gateway Timeout")), "https", NetErrorUnreachable, false},
		{"answers for the host", "http", connectServer(always("503 Service Unavailable")), "http", "", false},
		{"speaks no TLS", "https", connectServer(always("200 OK")), "https", NetErrorProxy, true},
		{"never answers", "http", func(c net.Conn) { io.Copy(io.Discard, c) }, "https", NetErrorTimeout, false}, // the host may be slow
		{"endpoint speaks no TLS", "http", connectServer(always("200 OK")), "https", "eof tls reset", false},
		{"SOCKS", "socks5", socks(0), "http", "", false},
		{"SOCKS general failure", "socks5", socks(1), "http", NetErrorProxy, true},
		{"SOCKS not allowed", "socks5", socks(2), "http", NetErrorProxy, true},
		{"SOCKS network unreachable", "socks5", socks(3), "http", NetErrorUnreachable, false},
		{"SOCKS host unreachable", "socks5", socks(4), "https", NetErrorUnreachable, false},
		{"SOCKS refused", "socks5h", socks(5), "http", NetErrorUnreachable, false},
		{"SOCKS TTL", "socks5", socks(6), "http", NetErrorUnreachable, false},
		{"SOCKS wants a password", "socks5", func(c net.Conn) { c.Read(make([]byte, 9)); c.Write([]byte{5, 255}) }, "http", NetErrorProxy, true},
		{"SOCKS hangs up", "socks5", socks(256), "http", NetErrorProxy, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := newRawServer(t, c.serve)
			client := mustClient(t, &clientOptions{Proxy: &url.URL{Scheme: c.scheme, Host: srv.addr, User: url.UserPassword("u", "hunter2")}})
			timeout := 10 * time.Second
			if c.kind == NetErrorTimeout {
				timeout = 100 * time.Millisecond
			}
			res := client.attempt(context.Background(), mustTarget(t, c.target+"://hooks.example/", target{timeout: timeout}), &testEvent, nil)
			if !strings.Contains(" "+c.kind+" ", " "+res.Kind+" ") || res.Ours != c.ours || strings.Contains(res.Detail, "hunter2") {
				t.Errorf("got %q (%s), ours %v; want %q, ours %v", res.Kind, res.Detail, res.Ours, c.kind, c.ours)
			}
		})
	}
}

// Nobody listens, or nobody accepts: that is ours, also when the attempt's limit comes first.
func TestProxyAwayIsOurs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, scheme := range []string{"http", "https", "socks5"} {
		for _, to := range []string{"http", "https"} {
			c := mustClient(t, &clientOptions{Proxy: &url.URL{Scheme: scheme, Host: l.Addr().String()}})
			if res := c.attempt(context.Background(), mustTarget(t, to+"://hooks.example/", target{}), &testEvent, nil); res.Kind != NetErrorProxy || !res.Ours {
				t.Errorf("%s for %s: %+v", scheme, to, res)
			}
			hung := mustClient(t, &clientOptions{
				Proxy: &url.URL{Scheme: scheme, Host: "proxy.example:3128"},
				dial:  func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
			})
			res := hung.attempt(context.Background(), mustTarget(t, to+"://hooks.example/", target{timeout: 50 * time.Millisecond}), &testEvent, nil)
			if res.Kind != NetErrorProxy || !res.Ours {
				t.Errorf("%s for %s, hung: %+v", scheme, to, res)
			}
		}
	}
}

// A proxy that serves others and refuses one host has something against that one: its deliveries must come to an end.
func TestProxyThatServesOthers(t *testing.T) {
	for scheme, serve := range map[string]func(net.Conn){
		"http": connectServer(func(host string) string {
			if host == "bad.example" {
				return "407 Request rejected by proxy"
			}
			return "200 OK"
		}),
		"socks5": socksServer(func(host string) int {
			if host == "bad.example" {
				return 1
			}
			return 0
		}),
	} {
		srv := newRawServer(t, serve)
		c := mustClient(t, &clientOptions{Proxy: &url.URL{Scheme: scheme, Host: srv.addr}})
		try := func(url string) attemptResult {
			return c.attempt(context.Background(), mustTarget(t, url, target{}), &testEvent, nil)
		}
		if res := try("http://bad.example/"); res.Kind != NetErrorProxy || !res.Ours {
			t.Errorf("%s: %+v", scheme, res)
		}
		if res := try("http://good.example/"); !res.delivered(SuccessRule{}) {
			t.Errorf("%s: %+v", scheme, res)
		}
		if res := try("http://bad.example/"); res.Kind != NetErrorProxy || res.Ours {
			t.Errorf("%s, others served: %+v", scheme, res)
		}
	}
}

// failingResolver fails as dial says.
func failingResolver(dial func(ctx context.Context) (net.Conn, error)) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
}

func TestWhoseFaultIsAResolvers(t *testing.T) {
	silent := failingResolver(func(ctx context.Context) (net.Conn, error) {
		c, far := net.Pipe()
		go io.Copy(io.Discard, far)
		return c, nil
	})
	away := failingResolver(func(context.Context) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "udp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	})
	full := failingResolver(func(context.Context) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "udp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	})
	for _, c := range []struct {
		name     string
		resolver *net.Resolver
		others   bool // other names are resolved
		kind     string
		ours     bool
	}{
		{"no such name", fakeResolver(t), false, NetErrorDNS, false},
		{"silent", silent, false, NetErrorResolver, true},
		{"silent about this name", silent, true, "timeout", false},
		{"away", away, false, NetErrorResolver, true},
		{"away since", away, true, NetErrorDNS, false}, // the next tries will tell
		{"out of sockets", full, true, NetErrorLocal, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := mustClient(t, &clientOptions{resolver: c.resolver})
			if c.others {
				client.options.names.note("other.example")
			}
			client.options.names.note("hooks.example") // says nothing about now
			res := client.attempt(context.Background(), mustTarget(t, "https://hooks.example/", target{timeout: 300 * time.Millisecond}), &testEvent, nil)
			if res.Kind != c.kind || res.Ours != c.ours {
				t.Errorf("got %q (%s), ours %v; want %q, ours %v", res.Kind, res.Detail, res.Ours, c.kind, c.ours)
			}
		})
	}
}

// What was resolved shows that the resolver works, for a while.
func TestResolvedNamesAreRemembered(t *testing.T) {
	c := mustClient(t, &clientOptions{resolver: fakeResolver(t, "127.0.0.1")})
	res := c.attempt(context.Background(), mustTarget(t, "https://inside.example/", target{}), &testEvent, nil)
	if res.Kind != NetErrorBlocked || !c.options.names.other("x.example") || c.options.names.other("inside.example") {
		t.Errorf("%+v, %+v", res, c.options.names.host)
	}
	names := &lately{}
	names.note("a")
	names.note("b")
	names.note("b")
	if !names.other("a") || !names.other("b") {
		t.Error("two names do not show each other")
	}
	names.at[0] = time.Now().Add(-evidenceFor - time.Second)
	if names.other("a") || !names.other("b") {
		t.Error("what is long ago counts")
	}
}

func TestOutOfSocketsIsOurs(t *testing.T) {
	var dials atomic.Int64
	full := func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	}
	for _, o := range []*clientOptions{{dial: full}, {dial: full, Proxy: &url.URL{Scheme: "http", Host: "p:1"}}, {dial: full, Proxy: &url.URL{Scheme: "socks5", Host: "p:1"}}} {
		for _, to := range []string{"http://hooks.example/", "https://hooks.example/"} {
			res := mustClient(t, o).attempt(context.Background(), mustTarget(t, to, target{}), &testEvent, nil)
			if res.Kind != NetErrorLocal || !res.Ours {
				t.Errorf("%s, proxy %v: %+v", to, o.Proxy, res)
			}
		}
	}
	if dials.Load() != 6 {
		t.Errorf("%d dials", dials.Load())
	}
}
