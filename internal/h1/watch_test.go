package h1

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The end of a watched context ends all exchanges that have it, those that found its place taken too, and says why.
func TestWatchedContextEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(&peers{serve: answer("")})
		why := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		watched, stop := Watch(ctx)
		time.AfterFunc(time.Second, func() { cancel(why) })
		began, done := time.Now(), make(chan error)
		for range 3 {
			go func() { done <- within(watched, tr, "http://h/", "x", time.Minute) }()
		}
		for range 3 {
			if err := <-done; err != why || time.Since(began) != time.Second {
				t.Errorf("got %v after %v", err, time.Since(began))
			}
		}
		if err := within(watched, tr, "http://h/", "x", time.Minute); err != why {
			t.Errorf("then got %v", err)
		}
		if stop() {
			t.Error("the watch ended before its context")
		}
	})
}

// What a watched context's end interrupts is the exchange under way: a connection that was kept is as good as before.
func TestWatchedContextLeavesKeptConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peers{serve: answer(empty)}
		tr := newTransport(p)
		defer tr.CloseIdleConnections()
		ctx, cancel := context.WithCancel(t.Context())
		watched, stop := Watch(ctx)
		for range 2 {
			if err := within(watched, tr, "http://h/", "x", time.Second); err != nil {
				t.Error(err)
			}
		}
		cancel()
		synctest.Wait()
		if err := within(t.Context(), tr, "http://h/", "x", time.Second); err != nil || p.dials.Load() != 1 {
			t.Errorf("%v, %d connections", err, p.dials.Load())
		}
		if stop() {
			t.Error("the watch ended before its context")
		}
	})
}

// The place is free again after each exchange, also one that failed.
func TestWatchedPlaceIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		watched, stop := Watch(t.Context())
		defer stop()
		for _, serve := range []string{empty, "", "oops\r\n\r\n", empty} {
			tr := newTransport(&peers{serve: answer(serve)})
			_ = within(watched, tr, "http://h/", "x", time.Second)
			tr.CloseIdleConnections()
			if w := watched.(*watchedContext); w.conn != nil {
				t.Fatalf("after %.10q the place is taken", serve)
			}
		}
	})
}

// A context that ends while the connection is made, or while the answer is read, ends that exchange too, and its connection.
func TestWatchedContextEndsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peers{serve: answer("")}
		tr := newTransport(p)
		ctx, cancel := context.WithCancel(t.Context())
		watched, _ := Watch(ctx)
		tr.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			cancel()
			synctest.Wait()
			return p.dial(ctx, network, address)
		}
		began := time.Now()
		if err := within(watched, tr, "http://h/", "x", time.Minute); !errors.Is(err, context.Canceled) || time.Since(began) != 0 {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(&peers{serve: answer(empty)})
		ctx, cancel := context.WithCancel(t.Context())
		watched, _ := Watch(ctx)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.Do(req, &Limit{Context: watched})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		if err := resp.Body.Close(); err != nil || tr.idle.Len() != 0 {
			t.Errorf("%v, %d connections are kept", err, tr.idle.Len())
		}
	})
}
