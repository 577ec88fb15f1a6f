package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/signalpost/webhook/internal/h1"
)

const bodySize = 1024

// CannedServer answers every request with a body of bodySize at once with the same bytes, and costs next to nothing itself, so that the
// benchmarks show the client.
func CannedServer(b testing.TB, answer string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 16<<10)
				for {
					for n, want := 0, 1<<30; n < want; {
						m, err := c.Read(buf[n:])
						if err != nil {
							return
						}
						n += m
						if i := bytes.Index(buf[:n], []byte("\r\n\r\n")); i >= 0 {
							want = i + 4 + bodySize
						}
					}
					if _, err := c.Write([]byte(answer)); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/hooks"
}

// headerSigner signs as cheaply as can be.
type headerSigner struct{ signature, timestamp []string }

func (s *headerSigner) SignMessage(m *Message, now time.Time) error {
	m.Header["Signature"], m.Header["Timestamp"] = s.signature, s.timestamp
	return nil
}

// BenchmarkAttempt is one attempt after another on a kept connection; "net/http" is the least that http.Client does for the same
// request, for comparison.
func BenchmarkAttempt(b *testing.B) {
	payload := []byte(strings.Repeat("x", bodySize))
	signer := &headerSigner{[]string{strings.Repeat("a", 64)}, []string{"1770000000"}}
	ev := &Event{ID: "evt_1", Type: "order_create", Payload: payload}
	const empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	const body = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}"
	for name, answer := range map[string]string{"empty answer": empty, "15 byte answer": body} {
		url := CannedServer(b, answer)
		c, err := newHTTPClient(&clientOptions{AllowPrivate: true})
		if err != nil {
			b.Fatal(err)
		}
		t, err := newTarget("bench", url, target{signer: signer, timeout: 30 * time.Second})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("webhook/%s", name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if res := c.attempt(context.Background(), t, ev, nil); !res.delivered(SuccessRule{}) {
					b.Fatal(res)
				}
			}
		})
		c.closeIdle()
		client := &http.Client{Transport: newTransport(&clientOptions{}, false), Timeout: 30 * time.Second}
		b.Run(fmt.Sprintf("net-http/%s", name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				naivePost(b, client, url, payload, signer)
			}
		})
		client.CloseIdleConnections()
	}
}

func naivePost(b *testing.B, client *http.Client, url string, payload []byte, signer *headerSigner) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(payload))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Signature", signer.signature[0])
	req.Header.Set("Timestamp", signer.timestamp[0])
	resp, err := client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
}

// BenchmarkAttemptParallel is as many attempts at once as there are senders, over TLS.
func BenchmarkAttemptParallel(b *testing.B) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})
	srv := httptest.NewUnstartedServer(ok)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	c, err := newHTTPClient(&clientOptions{AllowPrivate: true, TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig})
	if err != nil {
		b.Fatal(err)
	}
	defer c.closeIdle()
	t, err := newTarget("bench", srv.URL, target{timeout: 30 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	ev := &Event{ID: "evt_1", Payload: []byte(strings.Repeat("x", bodySize))}
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if res := c.attempt(context.Background(), t, ev, nil); !res.delivered(SuccessRule{}) {
				b.Error(res)
				return
			}
		}
	})
}

// What an attempt of a sender allocates, with the signature's map entries. Endpoints that have no headers, credentials and
// connections of their own pay nothing for them.
func TestAttemptAllocations(t *testing.T) {
	url := CannedServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	signer := &headerSigner{[]string{strings.Repeat("a", 64)}, []string{"1770000000"}}
	ev := &Event{ID: "evt_1", Payload: []byte(strings.Repeat("x", bodySize))}
	c := mustClient(t, &clientOptions{AllowPrivate: true})
	ctx, end := context.WithCancel(t.Context())
	defer end()
	ctx, unwatch := h1.Watch(ctx)
	defer unwatch()
	for name, c2 := range map[string]struct {
		target target
		most   float64
	}{
		"plain":       {target{signer: signer}, 8},
		"with header": {target{signer: signer, header: http.Header{"Authorization": {"Bearer x"}, "X-Own": {"1"}}}, 8},
	} {
		tg := mustTarget(t, url, c2.target)
		got := testing.AllocsPerRun(200, func() {
			if res := c.attempt(ctx, tg, ev, nil); !res.delivered(SuccessRule{}) {
				t.Fatal(res)
			}
		})
		if got > c2.most && !RaceDetector {
			t.Errorf("%s: %v allocations, want at most %v", name, got, c2.most)
		}
	}
}
