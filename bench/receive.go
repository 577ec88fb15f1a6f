package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// measureReceive measures the middleware alone, and then a whole receiver that remembers its keys in PostgreSQL.
func measureReceive(o *options) ([]*table, error) {
	alone := newTable(fmt.Sprintf("Receiving 1 KiB, the handler called directly: %d requests, each with a key of its own, %d rounds", o.n, o.rounds))
	served := newTable(fmt.Sprintf("Receiving with dedupe on PostgreSQL, one process: %d requests, %d rounds", o.n, o.rounds))
	tables := []*table{alone, served}
	alone.atMost(middlewareRow, overBareColumn, 4)
	alone.atMost(middlewareRow, overBareAllocs, 12)
	requests, err := signedRequests(o.n)
	if err != nil {
		return tables, err
	}
	for range o.rounds {
		if err := measureMiddleware(alone, requests); err != nil {
			return tables, err
		}
	}
	return tables, measureServed(o, served)
}

const (
	bareRow        = "bare handler"
	verifyRow      = "verify"
	middlewareRow  = "verify, dedupe in memory"
	byHeaderRow    = "verify, dedupe in memory, key from a header" // instead of from the body, which the default profile parses
	keyHeader      = "Idempotency-Key"
	overBareColumn = "µs over bare"
	overBareAllocs = "allocations over bare"
)

// answerOK is the handler: it reads its body and answers.
var answerOK = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	var body [payloadSize]byte
	if _, err := io.ReadFull(r.Body, body[:]); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write([]byte("ok"))
})

// signedRequests are n, each of another body, as sent now.
func signedRequests(n int) (requests []*http.Request, err error) {
	signer, _, err := benchKeys()
	if err != nil {
		return nil, err
	}
	for i := range n {
		body := makePayload(i)
		r, err := http.NewRequest("POST", "http://localhost/hook", bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(keyHeader, strconv.Itoa(i))
		if err := signer.Sign(r.Header, body); err != nil {
			return nil, err
		}
		requests = append(requests, r)
	}
	return requests, nil
}

// measureMiddleware calls the handler bare, verified, and verified with dedupe, with the same requests.
func measureMiddleware(t *table, requests []*http.Request) error {
	_, verifier, err := benchKeys()
	if err != nil {
		return err
	}
	verify := webhook.Middleware(verifier, nil)(answerOK)
	dedupe := webhook.Middleware(verifier, &webhook.ReceiveOptions{Dedupe: memstore.New()})(answerOK)
	byHeader := webhook.Middleware(verifier, &webhook.ReceiveOptions{Dedupe: memstore.New(), Key: webhook.KeyFromHeader(keyHeader)})(answerOK)
	var bare handlerCost
	for _, h := range []struct {
		row     string
		handler http.Handler
	}{{bareRow, answerOK}, {verifyRow, verify}, {middlewareRow, dedupe}, {byHeaderRow, byHeader}} {
		cost, err := timeHandler(h.handler, requests)
		if err != nil {
			return fmt.Errorf("%s: %w", h.row, err)
		}
		if h.row == bareRow {
			bare = cost
		}
		t.add(h.row, "µs", cost.us)
		t.add(h.row, overBareColumn, cost.us-bare.us)
		t.add(h.row, "allocations", cost.allocs)
		t.add(h.row, overBareAllocs, cost.allocs-bare.allocs)
		t.add(h.row, "bytes", cost.bytes)
	}
	return nil
}

// handlerCost is of one request.
type handlerCost struct{ us, allocs, bytes float64 }

// timeHandler calls h once with each request.
func timeHandler(h http.Handler, requests []*http.Request) (c handlerCost, err error) {
	bodies := make([]*bytes.Reader, len(requests))
	for i, r := range requests {
		body, err := r.GetBody()
		if err != nil {
			return c, err
		}
		text, err := io.ReadAll(body)
		if err != nil {
			return c, err
		}
		bodies[i] = bytes.NewReader(text)
		r.Body = io.NopCloser(bodies[i])
	}
	w := &quietWriter{header: make(http.Header)}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	for _, r := range requests {
		w.status = 0
		h.ServeHTTP(w, r)
		if w.status != http.StatusOK {
			return c, fmt.Errorf("answered %d", w.status)
		}
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	n := float64(len(requests))
	return handlerCost{
		us: float64(took) / float64(time.Microsecond) / n, allocs: float64(after.Mallocs-before.Mallocs) / n,
		bytes: float64(after.TotalAlloc-before.TotalAlloc) / n,
	}, nil
}

// quietWriter is a ResponseWriter that costs nothing.
type quietWriter struct {
	header http.Header
	status int
}

func (w *quietWriter) Header() http.Header { return w.header }

func (w *quietWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return len(p), nil
}

func (w *quietWriter) WriteHeader(status int) { w.status = status }

func (w *quietWriter) SetReadDeadline(time.Time) error { return nil }

// servedConnections are how many requests come at once, and servedPool how many connections to the database serve them.
var servedConnections = []int{16, 64, 256}

const servedPool = 32

// measureServed has this process serve and another one send.
func measureServed(o *options, t *table) error {
	backends, stop, err := openBackends("postgres")
	if err != nil {
		return err
	}
	defer stop()
	be := backends[0]
	// database/sql opens any number, and as many server processes on two cores would be what is measured.
	be.db.SetMaxOpenConns(servedPool)
	be.db.SetMaxIdleConns(servedPool)
	be.gauges = be.server.gauges("webhook", flushIdle(be.db, servedPool))
	s, err := serveDedupe(be)
	if err != nil {
		return err
	}
	defer s.server.Close()
	for range o.rounds {
		for _, connections := range servedConnections {
			rate, err := be.server.syncRate() // just before each: on a shared disk it moves by half
			if err != nil {
				return err
			}
			if rate > 0 {
				t.add("pg_test_fsync", syncColumn, rate)
			}
			if err := s.load(o.n, connections, rate, t); err != nil {
				return fmt.Errorf("%d connections: %w", connections, err)
			}
		}
	}
	return nil
}

// dedupeServer is a receiver that remembers its keys in PostgreSQL.
type dedupeServer struct {
	be      *backend
	server  *http.Server
	address string
	handled atomic.Int64
}

func serveDedupe(be *backend) (*dedupeServer, error) {
	_, verifier, err := benchKeys()
	if err != nil {
		return nil, err
	}
	store, ok := be.store.fullStore.(webhook.DedupeStore)
	if !ok {
		return nil, errors.New("the store remembers no keys")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &dedupeServer{be: be, address: l.Addr().String()}
	counting := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handled.Add(1)
		answerOK(w, r)
	})
	s.server = &http.Server{Handler: webhook.Middleware(verifier, &webhook.ReceiveOptions{Dedupe: store})(counting)}
	go s.server.Serve(l)
	return s, nil
}

// load measures n requests over so many connections.
func (s *dedupeServer) load(n, connections int, syncRate float64, t *table) error {
	loader, err := startLoader(loaderSettings{Address: s.address, N: n, Connections: connections})
	if err != nil {
		return err
	}
	defer loader.stop()
	s.handled.Store(0)
	runtime.GC()
	m, err := startMeter(s.be.gauges, nil)
	if err != nil {
		return err
	}
	took, err := loader.run()
	if err != nil {
		return err
	}
	if handled := s.handled.Load(); handled != int64(n) {
		return fmt.Errorf("%d of %d requests were handled", handled, n)
	}
	row := fmt.Sprintf("%d connections", connections)
	rate := float64(n) / took.Seconds()
	t.add(row, "requests/s", rate)
	if syncRate > 0 {
		t.add(row, "requests/s / fdatasync/s", rate/syncRate)
	}
	t.atLeast(row, "requests/s / fdatasync/s", 0.9)
	return m.read(t, row, n)
}
