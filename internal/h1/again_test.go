package h1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// scripted answers the requests of each connection by its lines, and hangs up after the last: on an empty one without an answer, and on
// "unread" before it has read the request.
func scripted(t *testing.T, got chan<- string, script [][]string) func(int64, net.Conn) {
	return func(n int64, c net.Conn) {
		if int(n) > len(script) {
			t.Errorf("connection %d was made, want %d", n, len(script))
			return
		}
		r := bufio.NewReader(c)
		for _, text := range script[n-1] {
			if text == "unread" {
				_, _ = r.ReadByte()
				return
			}
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			got <- string(body)
			_, _ = io.WriteString(c, text)
		}
	}
}

// A request that a kept connection swallowed is sent once more, over a new connection; no other is.
func TestKeptConnectionThatIsClosedMeanwhile(t *testing.T) {
	long := strings.Repeat("x", 2*inline)
	for name, tc := range map[string]struct {
		body     string
		script   [][]string // of each connection; the first request is answered on the first
		arrived  int        // requests
		want     string     // in the second request's error; "": it succeeds
		noGetter bool
	}{
		"no answer":                 {"x", [][]string{{empty, ""}, {empty}}, 3, "", false},
		"no answer, no GetBody":     {"x", [][]string{{empty, ""}, {empty}}, 3, "", true},
		"no body":                   {"", [][]string{{empty, ""}, {empty}}, 3, "", false},
		"half written":              {long, [][]string{{empty, "unread"}, {empty}}, 2, "", false},
		"long, no answer":           {long, [][]string{{empty, ""}, {empty}}, 3, "", false},
		"long, no GetBody":          {long, [][]string{{empty, ""}}, 2, "EOF", true},
		"twice":                     {"x", [][]string{{empty, ""}, {""}}, 3, "EOF", false},
		"the answer had begun":      {"x", [][]string{{empty, "H"}}, 2, "malformed", false},
		"an interim answer":         {"x", [][]string{{empty, "HTTP/1.1 102 Processing\r\n\r\n"}}, 2, "EOF", false},
		"the answer was not one":    {"x", [][]string{{empty, "oops\r\n\r\n"}}, 2, "malformed", false},
		"the body breaks off":       {"x", [][]string{{empty, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"}}, 2, "EOF", false},
		"answered, and then closed": {"x", [][]string{{empty, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}}, 2, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := make(chan string, 9)
				p := &peers{serve: scripted(t, got, tc.script)}
				tr := newTransport(p)
				defer tr.CloseIdleConnections()
				var err error
				for range 2 {
					req, bad := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/", strings.NewReader(tc.body))
					if bad != nil {
						t.Fatal(bad)
					}
					if tc.noGetter {
						req.GetBody = nil
					}
					if err = roundTrip(tr, req); err != nil {
						break
					}
				}
				synctest.Wait()
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				if int(p.dials.Load()) != len(tc.script) || len(got) != tc.arrived {
					t.Errorf("%d connections, %d requests, want %d and %d", p.dials.Load(), len(got), len(tc.script), tc.arrived)
				}
				for range len(got) {
					if body := <-got; body != tc.body {
						t.Errorf("a body of %d bytes arrived, want %d", len(body), len(tc.body))
					}
				}
			})
		})
	}
}

func roundTrip(tr *Transport, req *http.Request) error {
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// A new connection is not tried again, and nothing is once the request's time is over.
func TestNothingElseIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan string, 9)
		p := &peers{serve: scripted(t, got, [][]string{{""}})}
		if _, _, err := post(t.Context(), newTransport(p), "http://h/", "x"); err == nil || p.dials.Load() != 1 {
			t.Errorf("over a new connection: %v, %d connections", err, p.dials.Load())
		}
		why := errors.New("enough")
		p = &peers{serve: func(_ int64, c net.Conn) {
			r := bufio.NewReader(c)
			_, _ = http.ReadRequest(r)
			_, _ = io.WriteString(c, empty)
			_, _ = io.Copy(io.Discard, r)
		}}
		tr := newTransport(p)
		defer tr.CloseIdleConnections()
		if _, _, err := post(t.Context(), tr, "http://h/", ""); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		if _, _, err := post(ctx, tr, "http://h/", "x"); !errors.Is(err, why) || p.dials.Load() != 1 {
			t.Errorf("when its time is over: %v, %d connections", err, p.dials.Load())
		}
	})
}

// deaf is a connection that takes no more than what came before it was made deaf, as one whose other side does not read.
type deaf struct {
	net.Conn
	on     chan struct{}
	closed chan struct{}
}

func (d *deaf) Write(p []byte) (int, error) {
	select {
	case <-d.on:
		<-d.closed
		return 0, net.ErrClosed
	default:
		return d.Conn.Write(p)
	}
}

func (d *deaf) Close() error {
	err := d.Conn.Close()
	select {
	case <-d.closed:
	default:
		close(d.closed)
	}
	return err
}

// Connections are closed when the call that closes them returns, even where the other side does not take a goodbye.
func TestClosingIsWaitedFor(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	for name, closing := range map[string]func(tr *Transport){
		"all idle ones": (*Transport).CloseIdleConnections,
		"old ones":      func(tr *Transport) { tr.IdleTimeout = 0; tr.sweep() },
		"surplus ones":  func(tr *Transport) { tr.keep(tr.take(host{"https", "example.com"})) },
	} {
		t.Run(name, func(t *testing.T) {
			var d *deaf
			tr := newTransport(&peers{})
			tr.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig
			tr.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
				d = &deaf{Conn: c, on: make(chan struct{}), closed: make(chan struct{})}
				return d, err
			}
			if _, _, err := post(t.Context(), tr, "https://example.com/", "x"); err != nil {
				t.Fatal(err)
			}
			tr.mu.Lock()
			if tr.idle.Len() != 1 {
				t.Error("the connection was not kept")
			}
			tr.MaxIdle = 0
			tr.mu.Unlock()
			close(d.on)
			began := time.Now()
			closing(tr)
			select {
			case <-d.closed:
			default:
				t.Error("the connection is still open")
			}
			if took := time.Since(began); took > 20*goodbye {
				t.Errorf("that took %v", took)
			}
		})
	}
}

// lingering takes a while to close.
type lingering struct {
	net.Conn
	closed atomic.Bool
}

func (l *lingering) Close() error {
	time.Sleep(goodbye / 2) // virtual
	l.closed.Store(true)
	return l.Conn.Close()
}

// CloseIdleConnections waits for a sweep, too.
func TestClosingWaitsForASweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peers{serve: answer(empty)}
		tr := newTransport(p)
		var d *lingering
		tr.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := p.dial(ctx, network, address)
			d = &lingering{Conn: c}
			return d, err
		}
		if _, _, err := post(t.Context(), tr, "http://h/", "x"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(tr.IdleTimeout + time.Millisecond) // the sweep is closing it now
		tr.CloseIdleConnections()
		if !d.closed.Load() {
			t.Error("it is still being closed")
		}
	})
}
