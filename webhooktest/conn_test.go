package webhooktest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

func TestConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newConns(hostPort("a"), hostPort("b"))
		big := make([]byte, 3*window)
		for i := range big {
			big[i] = byte(i * 7)
		}
		go func() {
			if n, err := a.Write(big); n != len(big) || err != nil {
				t.Error(n, err)
			}
			a.Close()
		}()
		got, err := io.ReadAll(b)
		if err != nil || string(got) != string(big) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("writing to who has closed: %v", err)
		}
		if _, err := a.Read(got); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading after Close: %v", err)
		}
		if _, err := a.Write(got); !errors.Is(err, net.ErrClosed) {
			t.Errorf("writing after Close: %v", err)
		}
	})
}

func TestConnDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newConns(hostPort("a"), hostPort("b"))
		defer a.Close()
		began := time.Now()
		a.SetReadDeadline(began.Add(time.Hour))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		a.SetReadDeadline(time.Time{})
		b.Write([]byte("x"))
		if n, err := a.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Error(n, err)
		}
		a.SetWriteDeadline(time.Now().Add(time.Minute))
		if n, err := a.Write(make([]byte, 2*window)); n != window || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("writing to who does not read: %d, %v", n, err)
		}
		done := make(chan error)
		go func() { _, err := a.Read(make([]byte, 1)); done <- err }()
		synctest.Wait()
		a.SetDeadline(time.Unix(1, 0)) // ends what waits
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		b.Close()
		if _, err := a.Read(make([]byte, 1)); err != io.EOF { // whoever looks without waiting sees it
			t.Errorf("a look at what is closed: %v", err)
		}
	})
}

func TestConnReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newConns(hostPort("a"), hostPort("b"))
		done := make(chan error)
		go func() { _, err := a.Read(make([]byte, 1)); done <- err }()
		synctest.Wait()
		b.reset()
		var op *net.OpError
		if err := <-done; !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &op) {
			t.Error(err)
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		a.Close()
	})
}

func TestDialEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(t)
		n.Receiver("http://shop.example")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if c, err := n.Dial(ctx, "tcp", "shop.example:80"); err == nil {
			c.Close() // both were ready
		} else if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := n.Dial(t.Context(), "tcp", "shop.example"); err == nil {
			t.Error("connected without a port")
		}
		n.end()
		n.ended = make(chan struct{}) // the test ends it again
		if _, err := n.Dial(t.Context(), "tcp", "shop.example:80"); err == nil {
			t.Error("connected to a network that has ended")
		}
	})
}

// Requests share connections as they do over TCP, with and without TLS, until those were idle for too long or the receiver has hung up.
func TestConnectionsAreKept(t *testing.T) {
	for _, url := range []string{"http://shop.example/hooks", "https://shop.example/hooks"} {
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork(t)
			shop := n.Receiver(url)
			hooks := Dispatcher(t, n, memstore.New(), nil)
			send := func() {
				t.Helper()
				id, err := hooks.Send(t.Context(), webhook.Event{Type: "a", Payload: make([]byte, 3000)})
				if err != nil {
					t.Fatal(err)
				}
				shop.WaitFor(t, time.Minute, id)
				time.Sleep(time.Second)
			}
			for range 5 {
				send()
			}
			if n.clients != 1 {
				t.Errorf("%s: %d connections for 5 requests, want 1", url, n.clients)
			}
			time.Sleep(2 * time.Minute)
			if send(); n.clients != 2 {
				t.Errorf("%s: %d connections after a long pause, want 2", url, n.clients)
			}
			n.mu.Lock()
			for _, s := range n.sites {
				s.server.SetKeepAlivesEnabled(false) // closes what is idle
			}
			n.mu.Unlock()
			time.Sleep(time.Second)
			if send(); n.clients != 3 {
				t.Errorf("%s: %d connections after the receiver hung up, want 3", url, n.clients)
			}
			if got := len(shop.Requests()); got != 7 {
				t.Errorf("%s: %d requests, want 7", url, got)
			}
		})
	}
}
