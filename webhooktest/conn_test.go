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
