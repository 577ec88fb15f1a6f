package h1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errEnough = errors.New("enough")

// within posts within a limit that ends after d.
func within(ctx context.Context, tr *Transport, url, body string, d time.Duration) error {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := tr.Do(req, &Limit{Context: ctx, At: time.Now().Add(d), Why: errEnough})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// mute reads requests and answers the first of a connection only.
func mute(_ int64, c net.Conn) {
	r := bufio.NewReader(c)
	_, _ = http.ReadRequest(r)
	_, _ = io.WriteString(c, empty)
	_, _ = io.Copy(io.Discard, r)
}

func TestLimitEndsEverything(t *testing.T) {
	for name, serve := range map[string]func(int64, net.Conn){
		"nothing is read": func(_ int64, c net.Conn) { time.Sleep(2 * time.Second) },
		"no answer":       answer(""),
		"no body":         answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &peers{serve: serve}
				tr := newTransport(p)
				began := time.Now()
				if err := within(t.Context(), tr, "http://h/", "x", time.Second); err != errEnough || time.Since(began) != time.Second {
					t.Errorf("got %v after %v", err, time.Since(began))
				}
				if tr.idle.Len() != 0 {
					t.Error("the connection was kept")
				}
				if err := within(t.Context(), tr, "http://h/", "x", 0); err != errEnough || p.dials.Load() != 1 {
					t.Errorf("afterwards: %v, %d connections", err, p.dials.Load())
				}
				time.Sleep(time.Second) // until the other side has ended
			})
		})
	}
}

// The context ends what the limit would end later.
func TestContextEndsBeforeItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(&peers{serve: answer("")})
		why := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		began := time.Now()
		if err := within(ctx, tr, "http://h/", "x", time.Minute); err != why || time.Since(began) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}

// What connects sees the limit as that of its context.
func TestLimitEndsConnecting(t *testing.T) {
	for name, url := range map[string]string{"dial": "http://h/", "handshake": "https://h/"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &peers{serve: func(_ int64, c net.Conn) { _, _ = io.Copy(io.Discard, c) }}
				tr := newTransport(p)
				tr.HandshakeTimeout = time.Hour
				var cause error
				tr.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if name == "handshake" {
						return p.dial(ctx, network, address)
					}
					<-ctx.Done()
					cause = context.Cause(ctx)
					return nil, ctx.Err()
				}
				began := time.Now()
				err := within(t.Context(), tr, url, "x", time.Second)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
					t.Errorf("got %v after %v", err, time.Since(began))
				}
				if name == "dial" && cause != errEnough {
					t.Errorf("the cause was %v", cause)
				}
			})
		})
	}
}

// A limit is over with its request: the connection serves later ones, and a request that has run out of time is not sent again.
func TestLimitIsOfOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peers{serve: answer(empty)}
		tr := newTransport(p)
		defer tr.CloseIdleConnections()
		for i := range 3 {
			if err := within(t.Context(), tr, "http://h/", "x", time.Second); err != nil || p.dials.Load() != 1 {
				t.Errorf("request %d: %v, %d connections", i+1, err, p.dials.Load())
			}
			time.Sleep(2 * time.Second) // virtual
		}
		if _, _, err := post(t.Context(), tr, "http://h/", "x"); err != nil || p.dials.Load() != 1 {
			t.Errorf("without a limit: %v, %d connections", err, p.dials.Load())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := &peers{serve: mute}
		tr := newTransport(p)
		for _, want := range []error{nil, errEnough} {
			if err := within(t.Context(), tr, "http://h/", "x", time.Second); err != want || p.dials.Load() != 1 {
				t.Errorf("got %v, want %v; %d connections", err, want, p.dials.Load())
			}
		}
	})
}
