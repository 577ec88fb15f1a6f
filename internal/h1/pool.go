package h1

import (
	"net"
	"slices"
	"time"
)

// take takes the connection that was used last, nil when none is kept.
func (t *Transport) take(h host) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = false
	kept := t.hosts[h]
	if len(kept) == 0 {
		return nil
	}
	c := kept[len(kept)-1]
	t.drop(c)
	return c
}

// keep keeps a connection for the next request.
func (t *Transport) keep(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || t.MaxIdle <= 0 || len(t.hosts[c.host]) >= t.MaxIdlePerHost {
		go c.Close()
		return
	}
	if t.idle.Len() >= t.MaxIdle {
		oldest := t.idle.Back().Value.(*conn)
		t.drop(oldest)
		go oldest.Close()
	}
	if t.hosts == nil {
		t.hosts = make(map[host][]*conn)
	}
	c.since = time.Now()
	c.place = t.idle.PushFront(c)
	t.hosts[c.host] = append(t.hosts[c.host], c)
	if t.timer == nil {
		t.timer = time.AfterFunc(t.IdleTimeout, t.sweep)
	}
}

// drop forgets a kept connection. The caller holds t.mu.
func (t *Transport) drop(c *conn) {
	t.idle.Remove(c.place)
	kept := t.hosts[c.host]
	at := len(kept) - 1 // mostly
	for kept[at] != c {
		at--
	}
	if kept = slices.Delete(kept, at, at+1); len(kept) == 0 {
		delete(t.hosts, c.host)
	} else {
		t.hosts[c.host] = kept
	}
}

// sweep closes what was idle too long.
func (t *Transport) sweep() {
	t.mu.Lock()
	var old []*conn
	for e := t.idle.Back(); e != nil; e = t.idle.Back() {
		c := e.Value.(*conn)
		if left := t.IdleTimeout - time.Since(c.since); left > 0 {
			t.timer = time.AfterFunc(left, t.sweep)
			break
		}
		t.drop(c)
		old = append(old, c)
	}
	if t.idle.Len() == 0 {
		t.timer = nil
	}
	t.mu.Unlock()
	for _, c := range old {
		_ = c.Close() // with TLS this says goodbye, which may take its time
	}
}

// CloseIdleConnections closes the connections that no request uses, and those that are in use when they are not any more, unless
// another request begins before.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	for e := t.idle.Back(); e != nil; e = t.idle.Back() {
		c := e.Value.(*conn)
		t.drop(c)
		go c.Close()
	}
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
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
