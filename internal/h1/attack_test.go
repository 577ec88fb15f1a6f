package h1

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A second answer that nobody asked for must not become the answer to the next request, wherever it waits: in this package's buffer, in
// the socket, or decrypted or not in that of crypto/tls.
func TestUnaskedAnswersAreNotUsed(t *testing.T) {
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS()
	defer srv.Close()
	config := srv.Client().Transport.(*http.Transport).TLSClientConfig
	const first, second = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	for name, write := range map[string]func(raw net.Conn, c *tls.Conn){
		"one record":  func(_ net.Conn, c *tls.Conn) { io.WriteString(c, first+second) },
		"two records": func(_ net.Conn, c *tls.Conn) { io.WriteString(c, first); io.WriteString(c, second) },
		"two records in one segment": func(raw net.Conn, c *tls.Conn) {
			raw.(*gathering).hold()
			io.WriteString(c, first)
			io.WriteString(c, second)
			raw.(*gathering).flush()
		},
		"long body before": func(raw net.Conn, c *tls.Conn) {
			raw.(*gathering).hold()
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"+strings.Repeat("x", 9000))
			io.WriteString(c, second)
			raw.(*gathering).flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			var conns atomic.Int64
			written := make(chan struct{}, 9)
			go func() {
				for {
					raw, err := ln.Accept()
					if err != nil {
						return
					}
					n := conns.Add(1)
					go func() {
						defer raw.Close()
						g := &gathering{Conn: raw}
						c := tls.Server(g, srv.TLS)
						for r := bufio.NewReader(c); ; {
							req, err := http.ReadRequest(r)
							if err != nil {
								return
							}
							_, _ = io.Copy(io.Discard, req.Body)
							if n == 1 {
								write(g, c)
								written <- struct{}{}
							} else {
								io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue")
							}
						}
					}()
				}
			}()
			tr := newTransport(&peers{})
			tr.TLS = config
			tr.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, ln.Addr().String())
			}
			defer tr.CloseIdleConnections()
			if _, _, err := post(t.Context(), tr, "https://example.com/", "x"); err != nil {
				t.Fatal(err)
			}
			<-written // what comes only after the next request has begun is its answer, for all that anybody can tell
			if _, body, err := post(t.Context(), tr, "https://example.com/", "y"); err != nil || body != "true" {
				t.Errorf("the second request was answered %q, %v", body, err)
			}
		})
	}
}

// gathering puts several writes into one.
type gathering struct {
	net.Conn
	held bool
	buf  []byte
}

func (g *gathering) hold() { g.held = true }

func (g *gathering) flush() {
	g.held = false
	_, _ = g.Conn.Write(g.buf)
	g.buf = nil
}

func (g *gathering) Write(p []byte) (int, error) {
	if g.held {
		g.buf = append(g.buf, p...)
		return len(p), nil
	}
	return g.Conn.Write(p)
}

// TLS connections are used again all the same.
func TestTLSConnectionsAreKept(t *testing.T) {
	for _, most := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(body)
		}))
		srv.TLS = &tls.Config{MaxVersion: most}
		srv.StartTLS()
		defer srv.Close()
		var dials atomic.Int64
		tr := newTransport(&peers{})
		tr.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig
		tr.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
		}
		for i := range 20 {
			want := strings.Repeat("x", i*1000)
			if _, body, err := post(t.Context(), tr, "https://example.com/", want); err != nil || body != want {
				t.Fatalf("%d bytes, %v", len(body), err)
			}
		}
		if dials.Load() != 1 {
			t.Errorf("TLS %x: 20 requests took %d connections", most, dials.Load())
		}
		tr.CloseIdleConnections()
	}
}

// Nothing that a request is made of can become another request, or another line of its head.
func TestNothingIsSmuggled(t *testing.T) {
	heads := make(chan string, 1)
	p := &peers{serve: func(_ int64, c net.Conn) {
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		heads <- string(b[:n])
		_, _ = io.WriteString(c, empty)
	}}
	plain := &url.URL{Scheme: "http", Host: "h", Path: "/"}
	for name, req := range map[string]*http.Request{
		"query":           {Method: "POST", URL: &url.URL{Scheme: "http", Host: "h", Path: "/", RawQuery: "a HTTP/1.1\r\nX: y\r\n\r\n"}},
		"query, a space":  {Method: "POST", URL: &url.URL{Scheme: "http", Host: "h", Path: "/", RawQuery: "a b"}},
		"opaque":          {Method: "POST", URL: &url.URL{Scheme: "http", Host: "h", Opaque: "/x HTTP/1.1\r\nX: y\r\n"}},
		"host":            {Method: "POST", URL: &url.URL{Scheme: "http", Host: "h\r\nX: y", Path: "/"}},
		"other host":      {Method: "POST", URL: plain, Host: "h\r\nX: y"},
		"host, a space":   {Method: "POST", URL: plain, Host: "h x"},
		"host, a path":    {Method: "POST", URL: plain, Host: "h/x"},
		"host, user info": {Method: "POST", URL: plain, Host: "u@h"},
		"method":          {Method: "POST / HTTP/1.1\r\nX: y\r\n\r\nPOST", URL: plain},
		"no method":       {URL: plain},
		"name":            {Method: "POST", URL: plain, Header: http.Header{"X\r\nY": {"z"}}},
		"name, colon":     {Method: "POST", URL: plain, Header: http.Header{"X: y\r\nY": {"z"}}},
		"value":           {Method: "POST", URL: plain, Header: http.Header{"X": {"y\nZ: z"}}},
		"value, NUL":      {Method: "POST", URL: plain, Header: http.Header{"X": {"y\x00"}}},
		"folded":          {Method: "POST", URL: plain, Header: http.Header{"X": {"y\r\n z"}}},
		"unknown length":  {Method: "POST", URL: plain, ContentLength: -1, Body: io.NopCloser(strings.NewReader("x"))},
	} {
		if _, err := newTransport(p).RoundTrip(req); err == nil || !strings.Contains(err.Error(), "net/http: invalid") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p.dials.Load() != 0 {
		t.Error("a connection was made for a request that cannot be sent")
	}
	// Headers that frame the request are the transport's, in whatever spelling.
	req := &http.Request{Method: "POST", URL: plain, Body: io.NopCloser(strings.NewReader("body")), ContentLength: 4, Header: http.Header{
		"Content-Length": {"0"}, "cOntent-lEngth": {"9"}, "Transfer-Encoding": {"chunked"}, "TRANSFER-ENCODING": {"x"}, "host": {"evil"},
		"Trailer": {"X"}, "Connection": {"X-A, close"}, "keep-alive": {"1"}, "Upgrade": {"h2c"}, "Expect": {"100-continue"},
		"Te": {"trailers"}, "Proxy-Connection": {"x"}, "X-A": {"1"},
	}}
	resp, err := newTransport(p).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got, want := <-heads, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nX-A: 1\r\n\r\nbody"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A body that is not as long as was said is an error at once: nothing was sent, and no answer is waited for.
func TestBodyOfAnotherLength(t *testing.T) {
	for _, length := range []int64{3, 5} {
		p := &peers{serve: func(_ int64, c net.Conn) { _, _ = io.Copy(io.Discard, c) }}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "POST", "http://h/", strings.NewReader("body"))
		req.ContentLength = length
		began := time.Now()
		if _, err := newTransport(p).RoundTrip(req); err == nil || ctx.Err() != nil || time.Since(began) > time.Second {
			t.Errorf("length %d: %v after %v", length, err, time.Since(began))
		}
	}
}

// One who may keep nothing keeps nothing, and does not panic.
func TestNothingIsKept(t *testing.T) {
	p := &peers{serve: answer(empty)}
	tr := newTransport(p)
	tr.MaxIdle, tr.MaxIdlePerHost = 0, 1
	for range 2 {
		if _, _, err := post(t.Context(), tr, "http://h/", "x"); err != nil {
			t.Fatal(err)
		}
	}
	if p.dials.Load() != 2 {
		t.Errorf("%d connections", p.dials.Load())
	}
}

// What is under way while idle connections are closed is closed when it ends, until the next request: the pool may have no user any more.
func TestCloseIdleConnectionsReachesWhatIsUnderWay(t *testing.T) {
	gate := make(chan struct{})
	began := make(chan struct{}, 1)
	p := &peers{serve: func(_ int64, c net.Conn) {
		for r := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			began <- struct{}{}
			<-gate
			_, _ = io.WriteString(c, empty)
		}
	}}
	tr := newTransport(p)
	done := make(chan error)
	go func() {
		_, _, err := post(context.Background(), tr, "http://h/", "x")
		done <- err
	}()
	<-began
	tr.CloseIdleConnections()
	close(gate)
	if err := <-done; err != nil || tr.idle.Len() != 0 {
		t.Errorf("%v, %d kept", err, tr.idle.Len())
	}
	if _, _, err := post(context.Background(), tr, "http://h/", "x"); err != nil || tr.idle.Len() != 1 {
		t.Errorf("%v, %d kept of the next", err, tr.idle.Len())
	}
	tr.CloseIdleConnections()
}

// Slow and endless answers end with the context, and read no more than they may.
func TestSlowPeers(t *testing.T) {
	drip := func(first string, each string) func(int64, net.Conn) {
		return func(_ int64, c net.Conn) {
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			for _, err = io.WriteString(c, first); err == nil; _, err = io.WriteString(c, each) {
				time.Sleep(time.Millisecond)
			}
		}
	}
	for name, serve := range map[string]func(int64, net.Conn){
		"status":      drip("HTTP/1.1 200 ", "x"),
		"header":      drip("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
		"body":        drip("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "x"),
		"chunks":      drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
		"chunk sizes": drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0"),
		"trailers":    drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n"),
		"1xx":         drip("", "HTTP/1.1 103 x\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &peers{serve: serve}
			tr := newTransport(p)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			began := time.Now()
			if _, _, err := post(ctx, tr, "http://h/", "x"); err == nil || time.Since(began) > time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			if tr.idle.Len() != 0 {
				t.Error("the connection was kept")
			}
		})
	}
}

// Many at once on few connections, some of which end badly: no answer reaches another request. For the race detector.
func TestAnswersStayWithTheirRequests(t *testing.T) {
	p := &peers{serve: func(n int64, c net.Conn) {
		for i, r := int64(0), bufio.NewReader(c); ; i++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			text := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			switch (n + i) % 11 {
			case 3:
				text += "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
			case 5:
				text = text[:len(text)-1]
				_, _ = io.WriteString(c, text)
				return
			case 7:
				return
			}
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}}
	tr := newTransport(p)
	done := make(chan string)
	for g := range 8 {
		go func() {
			for i := range 200 {
				want := fmt.Sprintf("%d-%d-%s", g, i, strings.Repeat("x", i*37%5000))
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+i%7)*time.Second)
				_, got, err := post(ctx, tr, "http://h/", want)
				if cancel(); err == nil && got != want {
					done <- fmt.Sprintf("%.20q was answered with %.20q", want, got)
					return
				}
			}
			done <- ""
		}()
	}
	for range 8 {
		if text := <-done; text != "" {
			t.Error(text)
		}
	}
	tr.CloseIdleConnections()
}
