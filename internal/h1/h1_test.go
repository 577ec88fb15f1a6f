package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// peers counts connections and hands each to serve.
type peers struct {
	dials atomic.Int64
	serve func(n int64, c net.Conn)
}

func (p *peers) dial(_ context.Context, _, _ string) (net.Conn, error) {
	n := p.dials.Add(1)
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		p.serve(n, theirs)
	}()
	return ours, nil
}

// answer reads requests and answers each with text, until the connection ends.
func answer(text string) func(int64, net.Conn) {
	return func(_ int64, c net.Conn) {
		for r := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
}

func newTransport(p *peers) *Transport {
	return &Transport{Dial: p.dial, HandshakeTimeout: time.Second, IdleTimeout: time.Minute, MaxIdle: 8, MaxIdlePerHost: 4, MaxHeader: 1 << 10,
		Fields: wanted}
}

// post posts body and returns the status and what it read of the answer.
func post(ctx context.Context, t *Transport, url, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), errors.Join(err, resp.Body.Close())
}

const empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

func TestConnectionsAreKeptOrNot(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		body  string
		dials int64
	}{
		"no body":            {empty, "", 1},
		"204":                {"HTTP/1.1 204 No Content\r\n\r\n", "", 1},
		"length":             {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", 1},
		"chunked":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", 1},
		"interim answers":    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + empty, "", 1},
		"says close":         {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "ok", 3},
		"HTTP/1.0":           {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", 3},
		"more than promised": {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!!", "ok", 3},
		"two answers":        {empty + empty, "", 3},
	} {
		t.Run(name, func(t *testing.T) {
			p := &peers{serve: answer(c.text)}
			tr := newTransport(p)
			defer tr.CloseIdleConnections()
			for range 3 {
				status, body, err := post(context.Background(), tr, "http://h/", "x")
				if status/100 != 2 || body != c.body || err != nil {
					t.Fatalf("got %d %q %v", status, body, err)
				}
			}
			if n := p.dials.Load(); n != c.dials {
				t.Errorf("%d connections, want %d", n, c.dials)
			}
		})
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"other protocol": {"SSH-2.0-x\r\n", "malformed"},
		"hangs up":       {"", "EOF"},
		"breaks off":     {"HTTP/1.1 200 OK\r\nA: b\r\n", "EOF"},
		"status 000":     {"HTTP/1.1 000 x\r\n\r\n", "malformed"},
		"1xx for ever":   {strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 9), "interim"},
		"huge headers":   {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2000) + "\r\n\r\n", "limit"},
		"huge 1xx":       {"HTTP/1.1 103 x\r\nX: " + strings.Repeat("x", 900) + "\r\n\r\nHTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 900) + "\r\n\r\n", "limit"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &peers{serve: func(_ int64, conn net.Conn) {
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err == nil {
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = io.WriteString(conn, c.text)
				}
			}}
			tr := newTransport(p)
			if _, _, err := post(context.Background(), tr, "http://h/", "x"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if tr.idle.Len() != 0 {
				t.Error("the connection was kept")
			}
		})
	}
}

// A kept connection that the other side has closed, or on which it says something unasked, is not used, so nothing is sent twice.
func TestStaleConnections(t *testing.T) {
	for name, after := range map[string]func(net.Conn){
		"closed":      func(c net.Conn) { c.Close() },
		"unsolicited": func(c net.Conn) { _, _ = io.WriteString(c, empty) },
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			var requests atomic.Int64
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					go func() {
						for r := bufio.NewReader(c); ; {
							req, err := http.ReadRequest(r)
							if err != nil {
								c.Close()
								return
							}
							_, _ = io.Copy(io.Discard, req.Body)
							requests.Add(1)
							_, _ = io.WriteString(c, empty)
							after(c)
						}
					}()
				}
			}()
			tr := newTransport(&peers{})
			var dials atomic.Int64
			var last net.Conn
			tr.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				dials.Add(1)
				last, err = new(net.Dialer).DialContext(ctx, network, ln.Addr().String())
				return last, err
			}
			for range 3 {
				if status, _, err := post(context.Background(), tr, "http://h/", "x"); status != 200 || err != nil {
					t.Fatal(status, err)
				}
				// Until what the other side did has arrived, if the connection was kept at all.
				for quiet := peeker(last); quiet(); {
					time.Sleep(time.Millisecond)
				}
			}
			if dials.Load() != 3 || requests.Load() != 3 {
				t.Errorf("%d connections, %d requests", dials.Load(), requests.Load())
			}
		})
	}
}

func TestContextEndsEverything(t *testing.T) {
	why := errors.New("enough")
	for name, serve := range map[string]func(int64, net.Conn){
		"nothing is read": func(_ int64, c net.Conn) { select {} },
		"no answer":       answer(""),
		"no body":         answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"),
	} {
		t.Run(name, func(t *testing.T) {
			p := &peers{serve: serve}
			tr := newTransport(p)
			ctx, cancel := context.WithTimeoutCause(context.Background(), 50*time.Millisecond, why)
			defer cancel()
			if _, _, err := post(ctx, tr, "http://h/", "x"); !errors.Is(err, why) {
				t.Errorf("got %v", err)
			}
			if tr.idle.Len() != 0 {
				t.Error("the connection was kept")
			}
			if _, _, err := post(ctx, tr, "http://h/", "x"); !errors.Is(err, why) || p.dials.Load() != 1 {
				t.Errorf("afterwards: %v, %d connections", err, p.dials.Load())
			}
		})
	}
}

// A receiver may answer before it has read a long body. Its answer counts, and the connection is closed.
func TestEarlyAnswer(t *testing.T) {
	p := &peers{serve: func(_ int64, c net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
		select {}
	}}
	tr := newTransport(p)
	status, body, err := post(context.Background(), tr, "http://h/", strings.Repeat("x", 1<<20))
	if status != 413 || body != "no" || err != nil || tr.idle.Len() != 0 {
		t.Errorf("got %d %q %v, %d kept", status, body, err, tr.idle.Len())
	}
}

func TestLongBodyArrives(t *testing.T) {
	sums := make(chan int, 2)
	p := &peers{serve: func(_ int64, c net.Conn) {
		for r := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b, _ := io.ReadAll(req.Body)
			sums <- bytes.Count(b, []byte("x"))
			_, _ = io.WriteString(c, empty)
		}
	}}
	tr := newTransport(p)
	for _, n := range []int{inline, inline + 1, 3 << 20} {
		if status, _, err := post(context.Background(), tr, "http://h/", strings.Repeat("x", n)); status != 200 || err != nil {
			t.Fatal(status, err)
		}
		if got := <-sums; got != n {
			t.Errorf("%d bytes arrived of %d", got, n)
		}
	}
}

func TestWire(t *testing.T) {
	heads := make(chan string, 1)
	p := &peers{serve: func(_ int64, c net.Conn) {
		b := make([]byte, 4096)
		n, _ := c.Read(b) // all in one write
		heads <- string(b[:n])
		_, _ = io.WriteString(c, empty)
	}}
	req, _ := http.NewRequest(http.MethodPost, "http://[fe80::1%25eth0]:81/a%20b?c=d%0d%0a", strings.NewReader("body"))
	req.Header = http.Header{"X-One": {"1"}, "Content-Length": {"7"}, "Host": {"evil"}, "transfer-encoding": {"chunked"}}
	resp, err := newTransport(p).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	want := "POST /a%20b?c=d%0d%0a HTTP/1.1\r\nHost: [fe80::1]:81\r\nContent-Length: 4\r\nX-One: 1\r\n\r\nbody"
	if got := <-heads; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestBadRequests(t *testing.T) {
	p := &peers{}
	for _, h := range []http.Header{{"A b": {"x"}}, {"": {"x"}}, {"A:": {"x"}}, {"A": {"x\r\nB: y"}}, {"A": {"x\x00"}}} {
		req, _ := http.NewRequest(http.MethodPost, "http://h/", nil)
		req.Header = h
		if _, err := newTransport(p).RoundTrip(req); err == nil || !strings.Contains(err.Error(), "net/http: invalid header") {
			t.Errorf("%v: %v", h, err)
		}
	}
	if p.dials.Load() != 0 {
		t.Error("a connection was made for a bad request")
	}
}

func TestIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		open := map[int64]bool{}
		set := func(n int64, is bool) {
			mu.Lock()
			defer mu.Unlock()
			open[n] = is
		}
		serve := answer(empty)
		p := &peers{serve: func(n int64, c net.Conn) {
			set(n, true)
			serve(n, c)
			set(n, false)
		}}
		tr := newTransport(p)
		tr.MaxIdle = 3
		count := func() (n int) {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			for _, is := range open {
				if is {
					n++
				}
			}
			return n
		}
		for i := range 5 {
			if _, _, err := post(t.Context(), tr, fmt.Sprintf("http://h%d/", i), "x"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := count(); n != 3 || open[1] || open[2] {
			t.Errorf("%d connections are open, want 3, the two oldest closed: %v", n, open)
		}
		time.Sleep(tr.IdleTimeout - 4*time.Second) // since the fourth
		if _, _, err := post(t.Context(), tr, "http://h4/", "x"); err != nil || p.dials.Load() != 5 {
			t.Fatal(err, p.dials.Load())
		}
		time.Sleep(2500 * time.Millisecond)
		if n := count(); n != 1 {
			t.Errorf("%d connections are open, want the one used again: %v", n, open)
		}
		tr.CloseIdleConnections()
		if n := count(); n != 0 || len(tr.hosts) != 0 || tr.timer != nil {
			t.Errorf("%d connections are open after CloseIdleConnections", n)
		}
	})
}

func TestMaxIdlePerHost(t *testing.T) {
	p := &peers{}
	gate := make(chan struct{})
	p.serve = func(n int64, c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		<-gate
		_, _ = io.WriteString(c, empty)
		_, _ = c.Read(make([]byte, 1))
	}
	tr := newTransport(p)
	tr.MaxIdlePerHost = 2
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() { _, _, _ = post(context.Background(), tr, "http://h/", "x") })
	}
	for p.dials.Load() < 5 {
		time.Sleep(time.Millisecond)
	}
	close(gate)
	wg.Wait()
	if tr.idle.Len() != 2 {
		t.Errorf("%d connections are kept, want 2", tr.idle.Len())
	}
	tr.CloseIdleConnections()
}

func TestTLS(t *testing.T) {
	var protos sync.Map
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { protos.Store(r.Proto, r.Host) }))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	var dials atomic.Int64
	tr := newTransport(&peers{})
	tr.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig
	tr.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
	}
	for range 3 {
		if status, _, err := post(context.Background(), tr, "https://example.com/", "x"); status != 200 || err != nil {
			t.Fatal(status, err)
		}
	}
	if _, ok := protos.Load("HTTP/1.1"); !ok || dials.Load() != 1 {
		t.Errorf("%d connections", dials.Load())
	}
	if _, _, err := post(context.Background(), tr, "https://elsewhere.example/", "x"); err == nil || !strings.Contains(err.Error(), "elsewhere.example") {
		t.Errorf("a certificate for another name was taken: %v", err)
	}
	tr.CloseIdleConnections()
}

func TestHandshakeTimeout(t *testing.T) {
	p := &peers{serve: func(int64, net.Conn) { select {} }}
	tr := newTransport(p)
	tr.HandshakeTimeout = 20 * time.Millisecond
	_, _, err := post(context.Background(), tr, "https://h/", "x")
	if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
		t.Errorf("got %v", err)
	}
}
