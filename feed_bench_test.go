package webhook_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// instant answers at once and counts.
type instant struct {
	n    atomic.Int64
	want int64
	done chan struct{}
}

func (i *instant) RoundTrip(r *http.Request) (*http.Response, error) {
	if i.n.Add(1) == i.want {
		i.done <- struct{}{}
	}
	return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
}

// start runs a dispatcher with so many endpoints, of so many tenants.
func startBench(b *testing.B, transport http.RoundTripper, tenants, endpoints int) (*webhook.Dispatcher, *memstore.Store) {
	b.Helper()
	opts := &webhook.DispatcherOptions{Transport: transport, Logger: slog.New(slog.DiscardHandler)}
	for i := range endpoints {
		ep := endpoint(b, fmt.Sprintf("e%05d", i))
		ep.Tenant = fmt.Sprint("t", i%tenants)
		ep.Types = []string{fmt.Sprintf("x%05d", i)}
		opts.Endpoints = append(opts.Endpoints, ep)
	}
	limited := endpoint(b, "limited", "limited")
	limited.Rate = webhook.PerSecond(1_000_000) // never handed over in memory
	opts.Endpoints = append(opts.Endpoints, limited)
	store := memstore.New()
	d, err := webhook.NewDispatcher(store, opts)
	if err != nil {
		b.Fatal(err)
	}
	return d, store
}

func runBench(b *testing.B, d *webhook.Dispatcher) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-ended })
}

// A backlog drained from memory, by the number of endpoints that it is spread over and of tenants that they belong to.
func BenchmarkDrainBySpread(b *testing.B) {
	for _, tc := range []struct{ tenants, endpoints int }{{1, 16}, {1, 10_000}, {100, 10_000}, {10_000, 10_000}} {
		b.Run(fmt.Sprintf("%d endpoints of %d tenants", tc.endpoints, tc.tenants), func(b *testing.B) {
			tr := &instant{want: int64(b.N), done: make(chan struct{}, 1)}
			d, store := startBench(b, tr, tc.tenants, tc.endpoints)
			enqueue(b, store, b.N, tc.endpoints, nil, time.Now())
			b.ResetTimer()
			runBench(b, d)
			<-tr.done
		})
	}
}

// A backlog drained from memory over sockets, with all that an attempt costs.
func BenchmarkDrainOverSockets(b *testing.B) {
	url := webhook.CannedServer(b, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	store, payload := memstore.New(), make([]byte, 1024)
	opts := &webhook.DispatcherOptions{AllowPrivate: true, Logger: slog.New(slog.DiscardHandler)}
	for i := range 16 {
		opts.Endpoints = append(opts.Endpoints, webhook.Endpoint{ID: fmt.Sprintf("e%05d", i), URL: url, Secrets: []webhook.Secret{secret(b)}})
	}
	left := atomic.Int64{}
	left.Store(int64(b.N))
	done := make(chan struct{})
	opts.Trace = &webhook.Trace{AttemptDone: func(context.Context, webhook.AttemptDoneInfo) {
		if left.Add(-1) == 0 {
			close(done)
		}
	}}
	d, err := webhook.NewDispatcher(store, opts)
	if err != nil {
		b.Fatal(err)
	}
	enqueue(b, store, b.N, 16, payload, time.Now())
	b.ReportAllocs()
	b.ResetTimer()
	runBench(b, d)
	<-done
}

// One delivery at a time by way of the store, while so many other endpoints have deliveries that are due in an hour.
func BenchmarkClaimAmongEndpoints(b *testing.B) {
	for _, endpoints := range []int{1, 10_000} {
		b.Run(fmt.Sprint(endpoints), func(b *testing.B) {
			tr := &instant{want: 1, done: make(chan struct{}, 1)}
			d, store := startBench(b, tr, 1, endpoints)
			enqueue(b, store, endpoints, endpoints, nil, time.Now().Add(time.Hour))
			runBench(b, d)
			send := func(typ string) {
				tr.n.Store(0)
				if _, err := d.Send(b.Context(), webhook.Event{Type: typ}); err != nil {
					b.Fatal(err)
				}
				<-tr.done
			}
			send("limited")
			time.Sleep(2 * time.Second) // the lanes are walked
			b.ResetTimer()
			for range b.N {
				send("limited")
			}
		})
	}
}

// enqueue puts n deliveries into the store, spread over endpoints.
func enqueue(b *testing.B, store *memstore.Store, n, endpoints int, payload []byte, due time.Time) {
	b.Helper()
	for i := 0; i < n; {
		req := &webhook.EnqueueRequest{Now: time.Now()}
		for ; i < n && len(req.Events) < 500; i++ {
			id := fmt.Sprintf("evt_%d", i)
			req.Events = append(req.Events, webhook.NewEvent{
				Event:      webhook.Event{ID: id, Type: "x", Payload: payload},
				Deliveries: []webhook.NewDelivery{{ID: "dlv_" + id, EndpointID: fmt.Sprintf("e%05d", i%endpoints), DueAt: due}},
			})
		}
		if _, err := store.Enqueue(context.Background(), req); err != nil {
			b.Fatal(err)
		}
	}
}
