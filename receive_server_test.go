package webhook

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func recvClientRequest(t *testing.T, url, key, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Signature", recvSign(body))
	r.Header.Set("X-Key", key)
	return r
}

func recvDo(t *testing.T, url, key, body string) *http.Response {
	t.Helper()
	resp, err := http.DefaultClient.Do(recvClientRequest(t, url, key, body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// A client that hangs up in the middle of the handler does not undo the record.
func TestServerClientHangsUp(t *testing.T) {
	store := newRecvStore()
	entered, gone, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	handler := &recvCounter{then: func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-gone
		if err := r.Context().Err(); err != nil {
			t.Errorf("handler's context: %v", err)
		}
		w.WriteHeader(202)
		_, _ = io.WriteString(w, "kept")
	}}
	h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
	first := true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			go func() { <-r.Context().Done(); close(gone) }() // the server has noticed
			defer close(done)
		}
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if resp, err := http.DefaultClient.Do(recvClientRequest(t, srv.URL, "k", "x").WithContext(ctx)); err == nil {
		_ = resp.Body.Close()
		t.Fatal("the client got an answer")
	}
	<-done
	resp := recvDo(t, srv.URL, "k", "x")
	recvWant(t, resp, 202, true)
	if got := recvText(t, resp); got != "kept" {
		t.Errorf("body %q", got)
	}
	handler.wantRuns(t, 1)
}

// A panic is a 500 to the client; ErrAbortHandler breaks the connection, as it should.
func TestServerPanics(t *testing.T) {
	handler := &recvCounter{then: func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Key") == "abort" {
			panic(http.ErrAbortHandler)
		}
		panic("bug")
	}}
	srv := httptest.NewServer(recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore()})(handler))
	defer srv.Close()
	recvWant(t, recvDo(t, srv.URL, "k", "x"), 500, false)
	if resp, err := http.DefaultClient.Do(recvClientRequest(t, srv.URL, "abort", "x")); err == nil {
		_ = resp.Body.Close()
		t.Errorf("abort was answered %d", resp.StatusCode)
	}
}

// A handler that does not read the body leaves a connection that can be used again.
func TestServerUnreadBody(t *testing.T) {
	handler := &recvCounter{then: func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) }}
	srv := httptest.NewServer(recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore()})(handler))
	defer srv.Close()
	body := strings.Repeat("x", 900<<10)
	a, b := recvText(t, recvDo(t, srv.URL, "1", body)), recvText(t, recvDo(t, srv.URL, "2", body))
	if a != b {
		t.Errorf("two connections: %s, %s", a, b)
	}
}

// recvRaw sends head and part of a body, does then, and returns the answer (nil: none came) and how long it took.
func recvRaw(t *testing.T, srv *httptest.Server, head, part string, then func(net.Conn)) (*http.Response, time.Duration) {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	start := time.Now()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nSignature: 00\r\nX-Key: k\r\n"+head+"\r\n\r\n"+part); err != nil {
		t.Fatal(err)
	}
	if then != nil {
		then(conn)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, time.Since(start)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp, time.Since(start)
}

func recvDrip(c net.Conn) {
	go func() {
		for {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
}

func recvHalfClose(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite() }

// Bodies that never come, drip, stop short or are too large end soon, with a clear status, and the connection ends with them.
func TestServerHostileBodies(t *testing.T) {
	tests := []struct {
		name, head, part string
		then             func(net.Conn)
		status           int
		quick            bool // before the body's time is up; else the server drains what may still come, until then
	}{
		{"never comes", "Content-Length: 10", "", nil, 408, false},
		{"stops", "Content-Length: 10", "abc", nil, 408, false},
		{"drips", "Content-Length: 1000", "", recvDrip, 408, false},
		{"chunks never end", "Transfer-Encoding: chunked", "3\r\nabc\r\n", nil, 408, false},
		{"cut", "Content-Length: 10", "abc", recvHalfClose, 400, true},
		{"chunks cut", "Transfer-Encoding: chunked", "3\r\nabc\r\n", recvHalfClose, 400, true},
		{"bad chunk", "Transfer-Encoding: chunked", "zz\r\n", nil, 400, true},
		{"too large, announced", "Content-Length: 100000000", "abc", nil, 413, true},
		{"too large, in chunks", "Transfer-Encoding: chunked", "400\r\n" + strings.Repeat("x", 1024) + "\r\n", nil, 413, false},
		{"compressed and slow", "Content-Encoding: gzip\r\nContent-Length: 100", "abc", nil, 415, false},
		{"announced too large, waits for 100", "Expect: 100-continue\r\nContent-Length: 100000000", "", nil, 413, true},
	}
	for _, tt := range tests {
		limit := 300 * time.Millisecond
		if tt.quick {
			limit = 10 * time.Second
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			recvHostile(t, &ReceiveOptions{BodyTimeout: limit}, 0, tt.head, tt.part, tt.then, tt.status, limit)
		})
		t.Run(tt.name+", the server's limit", func(t *testing.T) {
			t.Parallel()
			recvHostile(t, &ReceiveOptions{BodyTimeout: time.Hour}, limit, tt.head, tt.part, tt.then, tt.status, limit)
		})
	}
}

func recvHostile(
	t *testing.T, o *ReceiveOptions, readTimeout time.Duration,
	head, part string, then func(net.Conn), status int, limit time.Duration,
) {
	store, handler := newRecvStore(), &recvCounter{}
	o.Dedupe, o.MaxBody = store, 1000
	srv := httptest.NewUnstartedServer(recvMiddleware(o)(handler))
	srv.Config.ReadTimeout = readTimeout
	srv.Start()
	defer srv.Close()
	resp, took := recvRaw(t, srv, head, part, then)
	if resp == nil {
		t.Fatalf("no answer after %s", took)
	}
	recvWant(t, resp, status, false)
	if !resp.Close {
		t.Error("the connection goes on")
	}
	if took > max(limit/2, 5*time.Second) {
		t.Errorf("took %s", took)
	}
	handler.wantRuns(t, 0)
	if store.count("begin") != 0 {
		t.Error("a key was taken")
	}
}

// The deadline of the body does not reach into the handler.
func TestServerBodyTimeoutEndsWithBody(t *testing.T) {
	const limit = 150 * time.Millisecond
	handler := &recvCounter{then: func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(2 * limit) // real time: the connection's deadline is the kernel's business
		_, _ = io.WriteString(w, r.RemoteAddr)
	}}
	h := recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore(), BodyTimeout: limit})(handler)
	clientSeenGone := make(chan error, 2)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		clientSeenGone <- r.Context().Err()
	}))
	defer srv.Close()
	a, b := recvText(t, recvDo(t, srv.URL, "1", "x")), recvText(t, recvDo(t, srv.URL, "2", "x"))
	if a != b || a == "" {
		t.Errorf("the connection was not used again: %s, %s", a, b)
	}
	for range 2 {
		if err := <-clientSeenGone; err != nil {
			t.Errorf("the client seemed to hang up: %v", err)
		}
	}
}

// recvDeadlines is a ResponseWriter that keeps the read deadlines it is given.
type recvDeadlines struct {
	*httptest.ResponseRecorder
	set []time.Duration // from when it was set; 0: taken away
}

func (w *recvDeadlines) SetReadDeadline(t time.Time) error {
	if t.IsZero() {
		w.set = append(w.set, 0)
	} else {
		w.set = append(w.set, time.Until(t))
	}
	return nil
}

// The deadline is taken away once the body is read, and stays on what is left of a body that is refused.
func TestReceiveBodyDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := recvMiddleware(&ReceiveOptions{MaxBody: 10})(&recvCounter{})
		for _, tt := range []struct {
			body string
			want []time.Duration
		}{
			{"", nil},
			{"x", []time.Duration{10 * time.Second, 0}},
			{strings.Repeat("x", 11), []time.Duration{10 * time.Second}},
		} {
			w := &recvDeadlines{ResponseRecorder: httptest.NewRecorder()}
			h.ServeHTTP(w, recvRequest("k", tt.body))
			if !slices.Equal(w.set, tt.want) {
				t.Errorf("body of %d bytes: deadlines %v, want %v", len(tt.body), w.set, tt.want)
			}
		}
	})
}

// HTTP/2 behaves alike.
func TestServerHTTP2(t *testing.T) {
	store, handler := newRecvStore(), &recvCounter{}
	srv := httptest.NewUnstartedServer(recvMiddleware(&ReceiveOptions{Dedupe: store, MaxBody: 10})(handler))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	do := func(body string) *http.Response {
		resp, err := srv.Client().Do(recvClientRequest(t, srv.URL, "k", body))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		if resp.ProtoMajor != 2 {
			t.Fatalf("HTTP/%d", resp.ProtoMajor)
		}
		return resp
	}
	recvWant(t, do("x"), 200, false)
	recvWant(t, do("x"), 200, true)
	recvWant(t, do(strings.Repeat("x", 11)), 413, false)
	recvWant(t, do("x"), 200, true)
	handler.wantRuns(t, 1)
}
