package webhooktest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// window is how much a stream holds that nobody has read: a writer that is further ahead waits, as over TCP.
const window = 64 << 10

// stream is one direction of a connection. Whoever waits does so on a sync.Cond, which synctest knows.
type stream struct {
	mu      sync.Mutex
	changed *sync.Cond
	buf     []byte
	ended   bool // the writer has closed
	deaf    bool // the reader has
	broken  bool // reset by either
	readBy  deadline
	writeBy deadline
}

// deadline wakes up who waits when its time comes.
type deadline struct {
	at    time.Time // zero: none
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newStream() *stream {
	s := &stream{}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// change runs f and wakes up everybody.
func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.changed.Broadcast()
}

func (s *stream) set(d *deadline, at time.Time) {
	s.change(func() {
		if d.timer != nil {
			d.timer.Stop()
			d.timer = nil
		}
		d.at = at
		if wait := time.Until(at); !at.IsZero() && wait > 0 {
			d.timer = time.AfterFunc(wait, func() { s.change(func() {}) })
		}
	})
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.deaf:
			return 0, net.ErrClosed
		case s.broken:
			return 0, syscall.ECONNRESET
		case s.readBy.passed() && !s.ended:
			return 0, os.ErrDeadlineExceeded
		case s.readBy.passed(): // who looks without waiting sees that the other side is gone
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		case len(s.buf) > 0:
			n := copy(p, s.buf)
			s.buf = s.buf[n:]
			s.changed.Broadcast()
			return n, nil
		case s.ended:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.ended:
			return n, net.ErrClosed
		case s.broken:
			return n, syscall.ECONNRESET
		case s.deaf:
			return n, syscall.EPIPE
		case s.writeBy.passed():
			return n, os.ErrDeadlineExceeded
		}
		if some := min(len(p), window-len(s.buf)); some > 0 {
			s.buf = append(s.buf, p[:some]...)
			n, p = n+some, p[some:]
			s.changed.Broadcast()
		}
		if len(p) == 0 {
			return n, nil
		}
		s.changed.Wait()
	}
}

// conn is one end of a connection in memory.
type conn struct {
	in, out       *stream
	local, remote net.Addr
}

// newConns makes a connection: the end of who dialled and that of who listens.
func newConns(client, server net.Addr) (*conn, *conn) {
	a, b := newStream(), newStream()
	return &conn{in: a, out: b, local: client, remote: server}, &conn{in: b, out: a, local: server, remote: client}
}

func (c *conn) fail(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if no, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, no)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.fail("read", err)
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.fail("write", err)
}

// Close lets the other end read what was written before.
func (c *conn) Close() error {
	c.out.change(func() { c.out.ended = true })
	c.in.change(func() { c.in.deaf, c.in.buf = true, nil })
	_ = c.SetDeadline(time.Time{}) // no timer outlives it
	return nil
}

// reset is Close by RST: what was not read is lost, and the other end's next read fails.
func (c *conn) reset() {
	for _, s := range []*stream{c.in, c.out} {
		s.change(func() { s.broken, s.buf = true, nil })
	}
	_ = c.Close()
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.set(&c.in.readBy, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.set(&c.out.writeBy, t)
	return nil
}
