package webhook

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	hostileLimit = 300 * time.Millisecond
	maxRead      = 1 << 20
)

// limitFor is short where the limit must be reached, and beyond what a busy machine needs where it must not.
func limitFor(kinds string) time.Duration {
	if strings.Contains(kinds, NetErrorTimeout) {
		return hostileLimit
	}
	return 20 * time.Second
}

func TestAttemptHostileReceivers(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\n"
	forever := func(c net.Conn, piece string) {
		for b := bytes.Repeat([]byte(piece), max(1, 4096/len(piece))); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
	drip := func(c net.Conn, text string) {
		for {
			for i := range len(text) {
				if _, err := c.Write([]byte{text[i]}); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}
	}
	say := func(text string) func(net.Conn) {
		return afterRequest(func(c net.Conn) { io.WriteString(c, text) })
	}
	sayReset := func(text string) func(net.Conn) {
		return afterRequest(func(c net.Conn) {
			io.WriteString(c, text)
			time.Sleep(20 * time.Millisecond) // let it arrive: a reset overtakes what is not yet read
			reset(c)
		})
	}
	hang := func(c net.Conn) { io.Copy(io.Discard, c) }
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(make([]byte, 32<<20))
	z.Close()

	for _, c := range []struct {
		name   string
		serve  func(net.Conn)
		kinds  string // those possible, separated by spaces; "" is none
		status int
		kept   int // bytes of response; -1: any
	}{
		{"never answers", hang, "timeout", 0, 0},
		{"answers headers, never the body", afterRequest(func(c net.Conn) { io.WriteString(c, ok+"Content-Length: 5\r\n\r\n"); hang(c) }), "timeout", 200, 0},
		{"drips its headers", afterRequest(func(c net.Conn) { io.WriteString(c, ok); drip(c, "X-A: b\r\n") }), "timeout", 0, 0},
		{"drips its body", afterRequest(func(c net.Conn) { io.WriteString(c, ok+"\r\n"); drip(c, "drip ") }), "timeout", 200, -1},
		{"drips its status", afterRequest(func(c net.Conn) { drip(c, "H") }), "timeout", 0, 0},
		{"endless body", afterRequest(func(c net.Conn) { io.WriteString(c, ok+"\r\n"); forever(c, "x") }), "", 200, keptResponse},
		{"endless chunks", afterRequest(func(c net.Conn) {
			io.WriteString(c, ok+"Transfer-Encoding: chunked\r\n\r\n")
			forever(c, "1000\r\n"+strings.Repeat("x", 4096)+"\r\n")
		}), "", 200, keptResponse},
		{"endless tiny chunks", afterRequest(func(c net.Conn) { io.WriteString(c, ok+"Transfer-Encoding: chunked\r\n\r\n"); forever(c, "1\r\nx\r\n") }), "protocol ", 200, -1},
		{"endless chunk extensions", afterRequest(func(c net.Conn) {
			io.WriteString(c, ok+"Transfer-Encoding: chunked\r\n\r\n1;")
			forever(c, "x")
		}), "protocol", 200, 0},
		{"endless headers", afterRequest(func(c net.Conn) { io.WriteString(c, ok); forever(c, "X-A: b\r\n") }), "protocol", 0, 0},
		{"endless header line", afterRequest(func(c net.Conn) { io.WriteString(c, ok+"X-A: "); forever(c, "b") }), "protocol", 0, 0},
		{"endless status line", afterRequest(func(c net.Conn) { forever(c, "H") }), "protocol", 0, 0},
		{"endless trailers", afterRequest(func(c net.Conn) {
			io.WriteString(c, ok+"Transfer-Encoding: chunked\r\n\r\n0\r\n")
			forever(c, "X-A: b\r\n")
		}), "protocol", 200, 0},
		{"1xx flood", afterRequest(func(c net.Conn) { forever(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") }), "protocol", 0, 0},
		{"100 flood", afterRequest(func(c net.Conn) { forever(c, "HTTP/1.1 100 Continue\r\n\r\n") }), "protocol", 0, 0},
		{"1xx drip", afterRequest(func(c net.Conn) { drip(c, "HTTP/1.1 102 Processing\r\n\r\n") }), "protocol", 0, 0},
		{"switches protocols unasked", afterRequest(func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
			hang(c)
		}), "", 101, 0},
		{"resets at once", reset, "reset eof", 0, 0},
		{"resets after the request", afterRequest(reset), "reset eof", 0, 0},
		{"resets in the status line", sayReset("HTTP/1.1 2"), "reset eof protocol", 0, 0},
		{"resets in the headers", sayReset(ok + "X-A:"), "reset eof", 0, 0},
		{"resets before the body", sayReset(ok + "Content-Length: 5\r\n\r\n"), "reset eof", 200, 0},
		{"resets in the body", sayReset(ok + "Content-Length: 5\r\n\r\nab"), "reset eof", 200, 2},
		{"resets in a chunk", sayReset(ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nab"), "reset eof", 200, 2},
		{"closes at once", func(c net.Conn) {}, "eof reset", 0, 0},
		{"closes after the request", afterRequest(func(net.Conn) {}), "eof", 0, 0},
		{"closes in the headers", say(ok + "X-A:"), "eof", 0, 0},
		{"closes in the body", say(ok + "Content-Length: 5\r\n\r\nab"), "eof", 200, 2},
		{"closes where the body may end", say(ok + "\r\nab"), "", 200, 2},
		{"answers before it reads", func(c net.Conn) { io.WriteString(c, ok+"Content-Length: 0\r\n\r\n"); hang(c) }, " protocol", -1, 0},
		{"gzip bomb", afterRequest(func(c net.Conn) {
			fmt.Fprintf(c, "%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", ok, bomb.Len())
			c.Write(bomb.Bytes())
		}), "", 200, -1},
		{"NUL bytes in the body", say(ok + "Content-Length: 3\r\n\r\na\x00b"), "", 200, 3},
		{"NUL bytes in a header", say(ok + "X-A: a\x00b\r\n\r\n"), "protocol", 0, 0},
		{"NUL bytes in the status", say("HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n"), " protocol", -1, 0},
		{"speaks SSH", say("SSH-2.0-OpenSSH_9.2\r\n"), "protocol", 0, 0},
		{"status 999", say("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"), "", 999, 0},
		{"status 000", say("HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n"), " protocol", 0, 0},
		{"status -20", say("HTTP/1.1 -20 Odd\r\nContent-Length: 0\r\n\r\n"), "protocol", 0, 0},
		{"contradicting lengths", say(ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), "protocol", 0, 0},
		{"negative length", say(ok + "Content-Length: -1\r\n\r\nab"), "protocol", 0, 0},
		{"huge length", say(ok + "Content-Length: 9223372036854775807\r\n\r\nab"), "eof", 200, 2},
		{"overflowing length", say(ok + "Content-Length: 92233720368547758070\r\n\r\nab"), "protocol", 0, 0},
		{"binary noise", say("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xff\xfe\r\n\r\n"), "protocol", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := newRawServer(t, c.serve)
			var n traffic
			client := mustClient(t, &clientOptions{AllowPrivate: true, dial: n.dial})
			limit := limitFor(c.kinds)
			tg := mustTarget(t, srv.url, target{timeout: limit})
			started := time.Now()
			res := client.attempt(context.Background(), tg, &testEvent, nil)
			if took := time.Since(started); took > limit+time.Second {
				t.Errorf("took %v, the limit is %v", took, limit)
			}
			if n.read.Load() > maxRead {
				t.Errorf("read %d bytes", n.read.Load())
			}
			if !slices.Contains(strings.Split(c.kinds, " "), res.Kind) || c.status >= 0 && res.Status != c.status || c.kept >= 0 && len(res.Response) != c.kept {
				t.Errorf("got %d %q (%s) and %d bytes, want %d %q and %d", res.Status, res.Kind, res.Detail, len(res.Response), c.status, c.kinds, c.kept)
			}
			if (res.Kind == "") != (res.Detail == "") || len(res.Detail) > maxDetail || strings.ContainsAny(res.Detail, "\x00\r\n") || len(res.Response) > keptResponse {
				t.Errorf("kind %q, detail %q, %d bytes", res.Kind, res.Detail, len(res.Response))
			}
			if want := res.Kind == "" && res.Status == 200; res.delivered(SuccessRule{}) != want {
				t.Errorf("delivered is %v", !want)
			}
		})
	}
}

// A receiver that does not read a large payload.
func TestAttemptReceiverDoesNotRead(t *testing.T) {
	srv := newRawServer(t, func(c net.Conn) { time.Sleep(4 * hostileLimit) })
	c := mustClient(t, &clientOptions{AllowPrivate: true})
	ev := Event{ID: "evt_1", Payload: make([]byte, 32<<20)}
	started := time.Now()
	res := c.attempt(context.Background(), mustTarget(t, srv.url, target{timeout: hostileLimit}), &ev, nil)
	if took := time.Since(started); res.Kind != NetErrorTimeout || took > hostileLimit+time.Second {
		t.Errorf("got %+v after %v", res, took)
	}
}

// The receiver answers early and hangs up while the payload is still being written: the answer may be lost, the attempt is not.
func TestAttemptReceiverAnswersEarly(t *testing.T) {
	srv := newRawServer(t, func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		time.Sleep(50 * time.Millisecond)
	})
	c := mustClient(t, &clientOptions{AllowPrivate: true})
	ev := Event{ID: "evt_1", Payload: make([]byte, 8<<20)}
	res := c.attempt(context.Background(), mustTarget(t, srv.url, target{timeout: 5 * time.Second}), &ev, nil)
	if res.Status != 413 && res.Kind != NetErrorReset {
		t.Errorf("got %+v", res)
	}
}

func TestAttemptHostileHTTPS(t *testing.T) {
	body := make([]byte, 64<<10)
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		kinds  string
		status int
	}{
		"never answers": {func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "timeout", 0},
		"never ends its body": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "timeout", 200},
		"endless body": {func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(body); err != nil {
					return
				}
			}
		}, "", 200},
		"1xx flood": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", strings.Repeat("x", 1000))
			for r.Context().Err() == nil {
				w.WriteHeader(103)
			}
		}, "protocol", 0},
		"huge headers": {func(w http.ResponseWriter, r *http.Request) {
			for i := range 200 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
			}
		}, "protocol", 0},
		"panics": {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "eof", 0},
		"panics after its headers": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "eof", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // else the server does not see the client leave
				c.handle(w, r)
			}))
			defer srv.Close()
			defer srv.CloseClientConnections()
			var n traffic
			client := mustClient(t, &clientOptions{AllowPrivate: true, TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig, dial: n.dial})
			defer client.closeIdle()
			limit := limitFor(c.kinds)
			started := time.Now()
			res := client.attempt(context.Background(), mustTarget(t, srv.URL, target{timeout: limit}), &testEvent, nil)
			if took := time.Since(started); took > limit+time.Second {
				t.Errorf("took %v", took)
			}
			if n.read.Load() > maxRead {
				t.Errorf("read %d bytes", n.read.Load())
			}
			if !slices.Contains(strings.Split(c.kinds, " "), res.Kind) || res.Status != c.status {
				t.Errorf("got %d %q (%s), want %d %q", res.Status, res.Kind, res.Detail, c.status, c.kinds)
			}
		})
	}
}

// In virtual time and over pipes: limits are exact, and nothing is left running.
func TestAttemptTimesOutExactly(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"silent": func(c net.Conn) { io.Copy(io.Discard, c) },
		"drips a byte every second": afterRequest(func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			for {
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := mustClient(t, &clientOptions{AllowPrivate: true, dial: func(context.Context, string, string) (net.Conn, error) {
					client, server := net.Pipe()
					go func() {
						defer server.Close()
						serve(server)
					}()
					return client, nil
				}})
				tg := mustTarget(t, "http://shop.example/hooks", target{timeout: 30 * time.Second})
				started := time.Now()
				res := c.attempt(t.Context(), tg, &testEvent, nil)
				if took := time.Since(started); took != 30*time.Second || res.Duration != took || res.Kind != NetErrorTimeout {
					t.Errorf("took %v: %+v", took, res)
				}
				time.Sleep(2 * time.Second) // the receiver notices; synctest fails if anything stays
			})
		})
	}
}

// A dial that hangs ends with the attempt, and then by itself.
func TestAttemptDialHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := mustClient(t, &clientOptions{AllowPrivate: true, dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, connectTimeout)
			defer cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		tg := mustTarget(t, "http://shop.example/hooks", target{timeout: 3 * time.Second})
		started := time.Now()
		res := c.attempt(t.Context(), tg, &testEvent, nil)
		if took := time.Since(started); took != 3*time.Second || res.Kind != NetErrorTimeout {
			t.Errorf("took %v: %+v", took, res)
		}
	})
}

// 256 receivers that each send headers for ever as slowly as they can, all in flight at once: the heap stays small.
func TestAttemptHeapStaysSmall(t *testing.T) {
	const inFlight, sent = 256, maxAnswerHeader - 2048
	piece := []byte("HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("b", 93)+"\r\n", sent/100))
	srv := newRawServer(t, afterRequest(func(c net.Conn) {
		c.Write(piece)
		io.Copy(io.Discard, c)
	}))
	var n traffic
	c := mustClient(t, &clientOptions{AllowPrivate: true, dial: n.dial})
	tg := mustTarget(t, srv.url, target{timeout: time.Minute})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			if res := c.attempt(ctx, tg, &testEvent, nil); res.Kind != NetErrorCanceled {
				t.Errorf("got %+v", res)
			}
		})
	}
	for deadline := time.Now().Add(30 * time.Second); n.read.Load() < inFlight*int64(len(piece)); {
		if time.Now().After(deadline) {
			t.Fatalf("only %d bytes arrived", n.read.Load())
		}
		time.Sleep(10 * time.Millisecond)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	t.Logf("heap %d MiB with %d in flight", m.HeapAlloc>>20, inFlight)
	if m.HeapAlloc > 64<<20 {
		t.Errorf("heap is %d MiB with %d in flight", m.HeapAlloc>>20, inFlight)
	}
	cancel()
	wg.Wait()
}
