package webhook

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// traffic counts what a client does on its connections.
type traffic struct {
	dials, read, writes atomic.Int64
}

type countedConn struct {
	net.Conn
	n *traffic
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.read.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.n.writes.Add(1)
	return c.Conn.Write(p)
}

// dial makes counted connections without the guard.
func (n *traffic) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.dials.Add(1)
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &countedConn{c, n}, nil
}

func mustClient(t testing.TB, o *clientOptions) *httpClient {
	t.Helper()
	c, err := newHTTPClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.closeIdle)
	return c
}

func mustTarget(t testing.TB, url string, tg target) *target {
	t.Helper()
	if tg.timeout == 0 {
		tg.timeout = 10 * time.Second
	}
	made, err := newTarget("test", url, tg)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// rawServer runs serve for every connection, on loopback. accepted counts them.
type rawServer struct {
	url      string
	addr     string
	accepted atomic.Int64
}

func newRawServer(t testing.TB, serve func(c net.Conn)) *rawServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{url: "http://" + l.Addr().String() + "/hooks", addr: l.Addr().String()}
	var conns sync.Map
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			conns.Store(c, nil)
			wg.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	return s
}

// readRequest reads one request with its body from c.
func readRequest(r *bufio.Reader) (*http.Request, []byte, error) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(req.Body)
	return req, body, err
}

// afterRequest makes a server that reads one request and then does as then says.
func afterRequest(then func(c net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		if _, _, err := readRequest(bufio.NewReader(c)); err == nil {
			then(c)
		}
	}
}

// reset closes with RST instead of FIN.
func reset(c net.Conn) {
	if tc, ok := c.(*net.TCPConn); ok {
		tc.SetLinger(0)
	}
	c.Close()
}

// signerFunc is a messageSigner.
type signerFunc func(m *Message, now time.Time) error

func (f signerFunc) SignMessage(m *Message, now time.Time) error { return f(m, now) }

var testEvent = Event{ID: "evt_1", Type: "order_create", Payload: []byte(`{"order":1}`)}
