package webhook

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// benchWriter is a ResponseWriter that costs nothing.
type benchWriter struct{ header http.Header }

func (w *benchWriter) Header() http.Header               { return w.header }
func (w *benchWriter) Write(p []byte) (int, error)       { return len(p), nil }
func (w *benchWriter) WriteHeader(int)                   {}
func (w *benchWriter) SetReadDeadline(t time.Time) error { return nil }

// BenchmarkMiddleware measures a request of 1 KiB that runs the handler: "bare" is the handler, which reads its body and
// answers; "verify" has the middleware without a store, and "signed" with a real HMAC, before it.
func BenchmarkMiddleware(b *testing.B) {
	body := strings.Repeat("x", 1024)
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 1024)
		_, _ = io.ReadFull(r.Body, buf)
		_, _ = w.Write([]byte("ok"))
	})
	accept := func(*Message) (Verification, error) { return Verification{Scheme: "test"}, nil }
	quiet := slog.New(slog.DiscardHandler)
	for _, bb := range []struct {
		name string
		h    func() http.Handler
	}{
		{"bare", func() http.Handler { return bare }},
		{"accept", func() http.Handler {
			return newReceiver(accept, recvKey, nil, &ReceiveOptions{Logger: quiet})(bare)
		}},
		{"accept+dedupe", func() http.Handler {
			return newReceiver(accept, recvKey, nil, &ReceiveOptions{Dedupe: newBenchStore(), Logger: quiet})(bare)
		}},
		{"hmac+dedupe", func() http.Handler {
			return newReceiver(recvVerify, recvKey, nil, &ReceiveOptions{Dedupe: newBenchStore(), Logger: quiet})(bare)
		}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			h := bb.h()
			r := recvRequest("k", body)
			w := &benchWriter{header: http.Header{}}
			reader := strings.NewReader(body)
			key := r.Header["X-Key"]
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				reader.Reset(body)
				r.Body = io.NopCloser(reader)
				key[0] = strconv.Itoa(i)
				h.ServeHTTP(w, r)
			}
		})
	}
}

// benchStore is the least that a DedupeStore in memory can do.
type benchStore struct {
	mu   sync.Mutex
	rows map[keptKey]*BeginResult
}

func newBenchStore() DedupeStore { return &benchStore{rows: map[keptKey]*BeginResult{}} }

func (s *benchStore) Begin(_ context.Context, req *BeginRequest) (*BeginResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := keptKey{req.Scope, req.Key}
	if res := s.rows[k]; res != nil {
		return res, nil
	}
	if len(s.rows) > 10_000 { // the garbage collector's work on old keys is not what is measured
		clear(s.rows)
	}
	res := &BeginResult{Token: 1}
	s.rows[k] = res
	return res, nil
}

func (s *benchStore) Finish(_ context.Context, req *FinishRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := req.Response
	resp.Body = slices.Clone(resp.Body)
	s.rows[keptKey{req.Scope, req.Key}] = &BeginResult{Status: KeyDone, Response: &resp, DoneAt: req.Now}
	return nil
}

func (s *benchStore) Release(context.Context, *ReleaseRequest) error { return nil }
