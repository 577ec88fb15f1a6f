package webhook

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// addressed is one end of a pipe that says where it leads.
type addressed struct {
	net.Conn
	to     net.Addr
	closed *bool
}

func (c addressed) RemoteAddr() net.Addr { return c.to }

func (c addressed) Close() error {
	*c.closed = true
	return c.Conn.Close()
}

type textAddr string

func (textAddr) Network() string  { return "tcp" }
func (a textAddr) String() string { return string(a) }

// Where a caller's own connection leads is judged like any other: by the address, before anything is sent, and none that cannot be told passes.
func TestDialIsGuarded(t *testing.T) {
	for _, tc := range []struct {
		to    net.Addr
		allow bool
		kind  string
	}{
		{textAddr("93.184.215.14:443"), false, ""},
		{textAddr("[2606:4700::1]:443"), false, ""},
		{textAddr("10.0.0.7:443"), false, NetErrorBlocked},
		{textAddr("[::ffff:10.0.0.7]:443"), false, NetErrorBlocked},
		{textAddr("169.254.169.254:80"), false, NetErrorBlocked},
		{textAddr("93.184.215.14"), false, NetErrorBlocked},
		{textAddr("pipe"), false, NetErrorBlocked},
		{&net.UnixAddr{Name: "/run/x", Net: "unix"}, false, NetErrorBlocked},
		{nil, false, NetErrorBlocked},
		{textAddr("10.0.0.7:443"), true, ""},
		{nil, true, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			closed := false
			var asked []string
			got := make(chan int64, 1)
			c := mustClient(t, &clientOptions{Dial: func(_ context.Context, network, address string) (net.Conn, error) {
				asked = append(asked, network+" "+address)
				near, far := net.Pipe()
				go func() {
					defer far.Close()
					count := &countedReader{r: far}
					if _, _, err := readRequest(bufio.NewReader(count)); err == nil {
						_, _ = io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
					got <- count.n
				}()
				return addressed{near, tc.to, &closed}, nil
			}})
			res := c.attempt(t.Context(), mustTarget(t, "http://hooks.example/a", target{allowPrivate: tc.allow}), &testEvent, nil)
			if res.Kind != tc.kind || tc.kind == "" && res.Status != 200 {
				t.Errorf("%v, allowed %t: %+v, want %q", tc.to, tc.allow, res, tc.kind)
			}
			if sent := <-got; tc.kind != "" && (!closed || sent > 0) {
				t.Errorf("%v: closed %t, %d bytes sent", tc.to, closed, sent)
			}
			if len(asked) != 1 || asked[0] != "tcp hooks.example:80" {
				t.Errorf("dialled %q", asked)
			}
		})
	}
}

type countedReader struct {
	r io.Reader
	n int64
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func TestDialThatFails(t *testing.T) {
	for name, tc := range map[string]struct {
		dial func(ctx context.Context) (net.Conn, error)
		kind string
		took time.Duration
	}{
		"an error":                 {func(context.Context) (net.Conn, error) { return nil, errors.New("no tunnel") }, NetErrorOther, 0},
		"neither conn nor error":   {func(context.Context) (net.Conn, error) { return nil, nil }, NetErrorOther, 0},
		"no end but its context's": {func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }, NetErrorTimeout, connectTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := mustClient(t, &clientOptions{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return tc.dial(ctx) }})
			res := c.attempt(t.Context(), mustTarget(t, "https://hooks.example", target{timeout: time.Minute}), &testEvent, nil)
			if res.Kind != tc.kind || res.Duration != tc.took || res.Detail == "" || res.Ours {
				t.Errorf("%s: %+v", name, res)
			}
		})
	}
}
