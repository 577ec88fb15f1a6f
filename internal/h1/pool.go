package h1

import (
	"maps"
	"net"
	"slices"
	"time"
)

// shelf has the idle connections of a host, the latest last.
type shelf struct{ conns []*conn }

// take takes the connection that was used last, nil when none is kept.
func (t *Transport) take(h host) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = false
	s := t.hosts[h]
	if s == nil || len(s.conns) == 0 {
		return nil
	}
	c := s.conns[len(s.conns)-1]
	t.drop(c)
	return c
}

// goodbye is how long connections that are closed together may take: with TLS each says so to the other side, which may not listen.
const goodbye = 100 * time.Millisecond

// shut closes connections and returns when they are closed. The caller does not hold t.mu.
func shut(conns ...*conn) {
	if len(conns) == 0 {
		return
	}
	done := make(chan struct{})
	late := time.AfterFunc(goodbye, func() {
		defer close(done)
		for _, c := range conns {
			_ = c.raw.Close()
		}
	})
	for _, c := range conns {
		_ = c.Close()
	}
	if !late.Stop() {
		<-done
	}
}

// keep keeps a connection for the next request, or closes it. When there are too many, another is closed.
func (t *Transport) keep(c *conn) {
	if c = t.put(c); c != nil {
		shut(c)
	}
}

// put is keep, but returns the connection that is to be closed; nil: none.
func (t *Transport) put(c *conn) (surplus *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, known := t.hosts[c.host]
	if !known {
		s = &shelf{}
	}
	if t.ended || t.MaxIdle <= 0 || len(s.conns) >= t.MaxIdlePerHost {
		return c
	}
	if t.idle.Len() >= t.MaxIdle {
		surplus = t.idle.Back().Value.(*conn)
		t.drop(surplus)
	}
	if t.hosts == nil {
		t.hosts = make(map[host]*shelf)
	}
	if !known {
		t.hosts[c.host] = s
	}
	c.used, c.since = true, time.Now()
	c.place, c.shelf = t.idle.PushFront(c), s
	s.conns = append(s.conns, c)
	if t.timer == nil {
		t.timer = time.AfterFunc(t.IdleTimeout, t.sweep)
	}
	return surplus
}

// drop forgets a kept connection. The caller holds t.mu.
func (t *Transport) drop(c *conn) {
	t.idle.Remove(c.place)
	s := c.shelf
	at := len(s.conns) - 1 // mostly
	for s.conns[at] != c {
		at--
	}
	s.conns = slices.Delete(s.conns, at, at+1)
}

// sweep closes what was idle too long.
func (t *Transport) sweep() {
	t.mu.Lock()
	var old []*conn
	for e := t.idle.Back(); e != nil; e = t.idle.Back() {
		c := e.Value.(*conn)
		if time.Since(c.since) < t.IdleTimeout {
			break
		}
		t.drop(c)
		old = append(old, c)
	}
	maps.DeleteFunc(t.hosts, func(_ host, s *shelf) bool { return len(s.conns) == 0 })
	done := make(chan struct{})
	defer close(done)
	t.swept = done
	t.mu.Unlock()
	shut(old...)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.swept = nil
	if t.timer != nil { // this sweep's, unless CloseIdleConnections came between
		t.timer.Stop()
		t.timer = nil
	}
	if e := t.idle.Back(); e != nil {
		t.timer = time.AfterFunc(max(t.IdleTimeout-time.Since(e.Value.(*conn).since), 0), t.sweep)
	}
}

// CloseIdleConnections closes the connections that no request uses, and returns when that is done. Those that are in use are closed when they
// are not any more, unless another request begins before.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	t.ended = true
	var all []*conn
	for e := t.idle.Back(); e != nil; e = t.idle.Back() {
		c := e.Value.(*conn)
		t.drop(c)
		all = append(all, c)
	}
	clear(t.hosts)
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	swept := t.swept
	t.mu.Unlock()
	shut(all...)
	if swept != nil {
		<-swept
	}
}

// silent tells by a read that may not wait whether a connection is open and silent. It works for connections in memory; those of
// the net package do not look when their time is up already.
func silent(c net.Conn) bool {
	if c.SetReadDeadline(time.Unix(1, 0)) != nil {
		return false
	}
	var one [1]byte
	n, err := c.Read(one[:])
	ne, ok := err.(net.Error)
	return n == 0 && ok && ne.Timeout() && c.SetReadDeadline(time.Time{}) == nil
}
