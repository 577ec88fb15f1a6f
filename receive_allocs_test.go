//go:build !race

package webhook_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// costlessWriter is a ResponseWriter that allocates nothing.
type costlessWriter struct {
	header http.Header
	status int
}

func (w *costlessWriter) Header() http.Header             { return w.header }
func (w *costlessWriter) Write(p []byte) (int, error)     { return len(p), nil }
func (w *costlessWriter) WriteHeader(status int)          { w.status = status }
func (w *costlessWriter) SetReadDeadline(time.Time) error { return nil }

// received1K calls a handler with signed requests of 1 KiB, each with a body of its own.
type received1K struct {
	signer *webhook.Signer
	format string
	w      costlessWriter
	r      *http.Request
	reader *bytes.Reader
	n      int
}

func newReceived1K(t testing.TB, format string) (*received1K, *webhook.Verifier) {
	secret := webhook.GenerateSecret()
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	c := &received1K{format: format, w: costlessWriter{header: http.Header{}}, reader: bytes.NewReader(nil)}
	c.n = 1000 // fmt allocates for larger numbers than 255, which must not count for those who come later
	if c.signer, err = webhook.NewSigner(secret); err != nil {
		t.Fatal(err)
	}
	if c.r, err = http.NewRequest(http.MethodPost, "http://localhost/hook", nil); err != nil {
		t.Fatal(err)
	}
	c.r.Body = io.NopCloser(c.reader)
	return c, verifier
}

// next makes the next request, which call sends.
func (c *received1K) next(t testing.TB) {
	c.n++
	body := fmt.Appendf(nil, c.format, c.n)
	body = append(body, strings.Repeat(" ", 1024-len(body))...)
	c.reader.Reset(body)
	c.r.ContentLength = int64(len(body))
	if err := c.signer.Sign(c.r.Header, body); err != nil {
		t.Fatal(err)
	}
}

func (c *received1K) call(t testing.TB, h http.Handler) {
	h.ServeHTTP(&c.w, c.r)
	if c.w.status > http.StatusOK {
		t.Fatalf("answered %d", c.w.status)
	}
}

var bodyText = strings.Repeat("the quick brown fox jumps over the lazy dog ", 20)

// most is what the middleware with a memory may allocate for one. Of an order the key is made of several strings and a parsed link.
var formats1K = []struct {
	name, format string
	most         float64
}{
	{"other", `{"n":"%08d","text":"` + bodyText + `"}`, 8},
	{"order_update", `{"type":"order_update","data":{"type":"order","text":"` + bodyText + `","permalink_url":"https://gett.com/orders/o-%d"}}`, 11},
}

// readAndAnswer is a handler.
func readAndAnswer(w http.ResponseWriter, r *http.Request) {
	var body [1024]byte
	_, _ = io.ReadFull(r.Body, body[:])
	_, _ = w.Write([]byte("ok"))
}

// What the middleware allocates in memory more than the handler alone.
func TestMiddlewareAllocations(t *testing.T) {
	for _, tc := range formats1K {
		c, verifier := newReceived1K(t, tc.format)
		quiet := slog.New(slog.DiscardHandler)
		all := func(h http.Handler) float64 {
			return testing.AllocsPerRun(500, func() { c.next(t); c.call(t, h) })
		}
		bare := all(http.HandlerFunc(readAndAnswer))
		store := memstore.New()
		dedupe := all(webhook.Middleware(verifier, &webhook.ReceiveOptions{Dedupe: store, Logger: quiet})(http.HandlerFunc(readAndAnswer)))
		verify := all(webhook.Middleware(verifier, &webhook.ReceiveOptions{Logger: quiet})(http.HandlerFunc(readAndAnswer)))
		t.Logf("%s: verify %v, dedupe %v", tc.name, verify-bare, dedupe-bare)
		if got := verify - bare; got > 4 {
			t.Errorf("%s: verify: %v allocations, want at most 4", tc.name, got)
		}
		if got := dedupe - bare; got > tc.most {
			t.Errorf("%s: dedupe in memory: %v allocations, want at most %v", tc.name, got, tc.most)
		}
	}
}

// BenchmarkReceive1K measures requests that are verified and remembered in memory, without making them.
func BenchmarkReceive1K(b *testing.B) {
	for _, bb := range formats1K {
		b.Run(bb.name, func(b *testing.B) {
			c, verifier := newReceived1K(b, bb.format)
			h := webhook.Middleware(verifier, &webhook.ReceiveOptions{Dedupe: memstore.New()})(http.HandlerFunc(readAndAnswer))
			type request struct {
				header http.Header
				body   []byte
			}
			var requests []request
			for range 20_000 {
				c.next(b)
				body, _ := io.ReadAll(c.reader)
				requests = append(requests, request{c.r.Header.Clone(), body})
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%len(requests) == 0 {
					h = webhook.Middleware(verifier, &webhook.ReceiveOptions{Dedupe: memstore.New()})(http.HandlerFunc(readAndAnswer))
				}
				q := &requests[i%len(requests)]
				c.reader.Reset(q.body)
				c.r.Header = q.header
				c.call(b, h)
			}
		})
	}
}
