package webhooktest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Step is a part of a receiver's script: how requests are answered, and for how long. Make one with [OK], [Fail], [Hang] and the others; the methods
// return changed copies.
//
// A step with [Step.For] begins when the step before it has ended, or with the receiver, and ends after that time, however many requests came. One with
// [Step.Times] ends with that many requests. One with neither takes one request, unless it is the last, which goes on for ever. After a last
// step that has ended everything is answered 200.
type Step struct {
	kind   string
	status int
	header http.Header
	body   []byte
	delay  time.Duration
	lasts  time.Duration // 0: not by time
	times  int           // 0: not by number

	act func(w http.ResponseWriter, req *http.Request) // after the delay, instead of a plain answer
	bad bool                                           // no whole answer comes of it, whatever its status
}

// OK answers 200.
func OK() Step { return Answer(http.StatusOK) }

// Fail answers with a status that is no success, as 503.
func Fail(status int) Step { return Answer(status) }

// Answer answers with a status.
func Answer(status int) Step { return Step{kind: strconv.Itoa(status), status: status} }

// Redirect answers 302 and where to go instead.
func Redirect(location string) Step {
	return Answer(http.StatusFound).Header("Location", location)
}

// Handle lets a handler answer, for example one of yours behind webhook.Middleware.
func Handle(h http.Handler) Step { return Step{kind: "handler", act: h.ServeHTTP} }

// Hang takes the request and never answers.
func Hang() Step {
	return Step{kind: "hang", bad: true, act: func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }}
}

// Drip answers 200 at once and then sends the body a byte each every, for ever.
func Drip(every time.Duration) Step {
	return Step{kind: "drip", bad: true, act: func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(http.StatusOK)
		for out := http.NewResponseController(w); ; {
			if _, err := w.Write([]byte{'.'}); err != nil || out.Flush() != nil || !pause(req.Context(), every) {
				return
			}
		}
	}}
}

// Huge answers 200 with a body of so many bytes.
func Huge(size int64) Step {
	return Step{kind: "huge", act: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		for part := bytes.Repeat([]byte("huge "), 4096); size > 0; size -= int64(len(part)) {
			if _, err := w.Write(part[:min(int64(len(part)), size)]); err != nil {
				return
			}
		}
	}}
}

// Reset takes the request and breaks the connection by RST.
func Reset() Step {
	return Step{kind: "reset", bad: true, act: func(_ http.ResponseWriter, req *http.Request) {
		if c, ok := req.Context().Value(connKey{}).(*conn); ok {
			c.reset()
		}
		panic(http.ErrAbortHandler)
	}}
}

// Close takes the request and closes the connection without an answer.
func Close() Step {
	return Step{kind: "close", bad: true, act: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }}
}

// Cut begins an answer with 200 and breaks off in the middle of its body.
func Cut() Step {
	return Step{kind: "cut", bad: true, act: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("begun"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}}
}

// Garbage answers with what is no HTTP.
func Garbage() Step {
	return Step{kind: "garbage", bad: true, act: func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = c.Write([]byte("220 smtp.example ESMTP\r\n"))
		_ = c.Close()
	}}
}

// Refuse lets nobody connect, as where no process listens; a request over a connection that was made before is cut off. Where receivers share a
// host, connections are refused while all of them are at such a step. With [Step.Times], what counts is each connection that is refused.
func Refuse() Step {
	return Step{kind: "refuse", bad: true, act: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }}
}

// For is the step for a time; see [Step].
func (s Step) For(d time.Duration) Step {
	s.lasts, s.times = d, 0
	return s
}

// Times is the step for a number of requests; see [Step].
func (s Step) Times(n int) Step {
	s.times, s.lasts = n, 0
	return s
}

// After is the step with a wait before it answers.
func (s Step) After(d time.Duration) Step {
	s.delay = d
	return s
}

// Header is the step with a header added to its answers.
func (s Step) Header(name, value string) Step {
	s.header = s.header.Clone()
	if s.header == nil {
		s.header = http.Header{}
	}
	s.header.Add(name, value)
	return s
}

// RetryAfter is the step with a Retry-After of so many whole seconds.
func (s Step) RetryAfter(d time.Duration) Step {
	return s.Header("Retry-After", strconv.FormatInt(int64(d/time.Second), 10))
}

// Body is the step with a text as the body of its answers.
func (s Step) Body(text string) Step {
	s.body = []byte(text)
	return s
}

// String describes the step, as in "503 for 72h0m0s".
func (s Step) String() string {
	var b strings.Builder
	b.WriteString(s.kind)
	switch {
	case s.lasts > 0:
		fmt.Fprintf(&b, " for %v", s.lasts)
	case s.times > 0:
		fmt.Fprintf(&b, " %d times", s.times)
	}
	return b.String()
}

// answer answers a request.
func (s Step) answer(w http.ResponseWriter, req *http.Request) {
	if s.delay > 0 && !pause(req.Context(), s.delay) {
		panic(http.ErrAbortHandler)
	}
	for name, values := range s.header {
		w.Header()[name] = values
	}
	if s.act != nil {
		s.act(w, req)
		return
	}
	w.WriteHeader(s.status)
	_, _ = w.Write(s.body)
}

// pause reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// connKey is where a request's context has its connection.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}
