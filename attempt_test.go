package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAttemptSendsWhatWasSigned(t *testing.T) {
	var got http.Header
	var body []byte
	var method, path, host string
	var length int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, method, path, host, length = r.Header, r.Method, r.URL.String(), r.Host, r.ContentLength
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write([]byte("busy\x00\xff"))
	}))
	defer srv.Close()

	ev := Event{
		ID: "evt_1", Payload: []byte("{\"a\": 1}\r\n\x00\xff <&>"),
		Header: http.Header{
			"X-Tenant": {"acme", "two"}, "content-type": {"application/cloudevents+json"},
			"Signature": {"forged"}, "Connection": {"upgrade"}, "content-length": {"3"}, // as from a store that another version wrote
		},
	}
	var seen Message
	c := mustClient(t, &clientOptions{AllowPrivate: true})
	tg := mustTarget(t, srv.URL+"/hooks?k=v", target{signer: signerFunc(func(m *Message, now time.Time) error {
		seen = *m
		seen.Header = m.Header.Clone()
		m.Header.Set("Signature", "signed")
		if d := time.Since(now); d < 0 || d > time.Minute {
			t.Errorf("signed for %v", now)
		}
		return nil
	})})
	res := c.attempt(context.Background(), tg, &ev, func(ctx context.Context, h http.Header) context.Context {
		h.Set("Traceparent", "00-1")
		h.Add("X-Tenant", "three")
		h.Set("Host", "evil.example")
		h.Set("Transfer-Encoding", "chunked")
		h["upgrade"] = []string{"h2c"}
		return ctx
	})

	want := attemptResult{Status: 503, Response: []byte("busy\x00\xff"), RetryAfter: 2 * time.Minute, StartedAt: res.StartedAt, Duration: res.Duration}
	if diff := cmp.Diff(want, res); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if res.Duration <= 0 || res.StartedAt.IsZero() {
		t.Errorf("started %v, took %v", res.StartedAt, res.Duration)
	}
	wantHeader := http.Header{
		"X-Tenant": {"acme", "two", "three"}, "Content-Type": {"application/cloudevents+json"}, "Signature": {"signed"},
		"Traceparent": {"00-1"}, "User-Agent": {defaultUserAgent}, "Content-Length": {fmt.Sprint(len(ev.Payload))},
	}
	if diff := cmp.Diff(wantHeader, got); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if !bytes.Equal(body, ev.Payload) || !bytes.Equal(seen.Body, ev.Payload) || length != int64(len(ev.Payload)) {
		t.Errorf("sent %q (length %d), signed %q, want %q", body, length, seen.Body, ev.Payload)
	}
	if method != "POST" || path != "/hooks?k=v" || host != strings.TrimPrefix(srv.URL, "http://") {
		t.Errorf("%s %s to %s", method, path, host)
	}
	if seen.Method != "POST" || seen.URL.String() != srv.URL+"/hooks?k=v" || seen.EventID != "evt_1" || seen.Header.Get("Traceparent") == "" ||
		seen.Header.Get("Signature") != "" {
		t.Errorf("signer saw %+v", seen)
	}
	if len(ev.Header["X-Tenant"]) != 2 || ev.Header["Signature"][0] != "forged" {
		t.Errorf("the event's header was changed: %v", ev.Header)
	}
}

func TestAttemptDefaults(t *testing.T) {
	var got http.Header
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }))
	defer srv.Close()
	c := mustClient(t, &clientOptions{AllowPrivate: true, UserAgent: "shop/2"})
	res := c.attempt(context.Background(), mustTarget(t, srv.URL, target{}), &Event{ID: "evt_1"}, nil)
	if !res.delivered(SuccessRule{}) || res.Response != nil || res.RetryAfter != 0 {
		t.Errorf("got %+v", res)
	}
	// No Accept-Encoding: a compressed answer was not asked for.
	want := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"shop/2"}, "Content-Length": {"0"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func TestAttemptSignerFails(t *testing.T) {
	srv := newRawServer(t, func(net.Conn) {})
	c := mustClient(t, &clientOptions{AllowPrivate: true})
	tg := mustTarget(t, srv.url, target{signer: signerFunc(func(*Message, time.Time) error { return ErrWeakSecret })})
	res := c.attempt(context.Background(), tg, &testEvent, nil)
	if res.Kind != NetErrorRequest || res.Detail != "secret is too weak" || srv.accepted.Load() != 0 {
		t.Errorf("got %+v, %d connections", res, srv.accepted.Load())
	}
}

// A request goes out in one system call, headers and body: two would cost a fifth more.
func TestAttemptIsOneWrite(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer srv.Close()
	var n traffic
	c := mustClient(t, &clientOptions{AllowPrivate: true, dial: n.dial})
	tg := mustTarget(t, srv.URL, target{})
	ev := Event{ID: "evt_1", Payload: bytes.Repeat([]byte("x"), 2048)}
	for range 10 {
		if res := c.attempt(context.Background(), tg, &ev, nil); !res.delivered(SuccessRule{}) {
			t.Fatalf("got %+v", res)
		}
	}
	if n.writes.Load() != 10 || n.dials.Load() != 1 {
		t.Errorf("10 requests took %d writes on %d connections, want 10 on 1", n.writes.Load(), n.dials.Load())
	}
}

// Connections are used again for answers up to what is drained, and kept for as many senders as there are.
func TestAttemptReusesConnections(t *testing.T) {
	for _, c := range []struct {
		name  string
		body  int
		chunk bool
		conns int64 // for 20 attempts one after another
	}{
		{"empty", 0, false, 1}, {"short", 10, false, 1}, {"kept in full", keptResponse, false, 1}, {"one more", keptResponse + 1, false, 1},
		{"drained in full", keptResponse + drainedResponse - 1, false, 1}, {"chunked", 30000, true, 1}, {"too long", keptResponse + drainedResponse + 1, false, 20},
		{"chunked too long", keptResponse + 2*drainedResponse, true, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !c.chunk {
					w.Header().Set("Content-Length", fmt.Sprint(c.body))
				}
				w.Write(bytes.Repeat([]byte("y"), c.body))
			}))
			defer srv.Close()
			var n traffic
			client := mustClient(t, &clientOptions{AllowPrivate: true, dial: n.dial})
			tg := mustTarget(t, srv.URL, target{})
			for range 20 {
				res := client.attempt(context.Background(), tg, &testEvent, nil)
				if !res.delivered(SuccessRule{}) || len(res.Response) != min(c.body, keptResponse) {
					t.Fatalf("got %d %s %s, %d bytes", res.Status, res.Kind, res.Detail, len(res.Response))
				}
			}
			if n.dials.Load() != c.conns {
				t.Errorf("20 attempts took %d connections, want %d", n.dials.Load(), c.conns)
			}
		})
	}
}

func TestAttemptKeepsAConnectionPerSender(t *testing.T) {
	const senders = 50
	var gate sync.WaitGroup
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gate.Done()
		gate.Wait() // all at once
	}))
	defer srv.Close()
	var n traffic
	c := mustClient(t, &clientOptions{AllowPrivate: true, dial: n.dial, Senders: senders})
	tg := mustTarget(t, srv.URL, target{})
	for range 3 {
		gate.Add(senders)
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				if res := c.attempt(context.Background(), tg, &testEvent, nil); !res.delivered(SuccessRule{}) {
					t.Errorf("got %+v", res)
				}
			})
		}
		wg.Wait()
	}
	if n.dials.Load() != senders {
		t.Errorf("%d senders, three times, took %d connections", senders, n.dials.Load())
	}
}

// Also where the receiver would rather speak HTTP/2.
func TestAttemptHTTPS(t *testing.T) {
	var proto atomic.Value
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto.Store(r.Proto)
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	var n traffic
	c := mustClient(t, &clientOptions{AllowPrivate: true, TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig, dial: n.dial})
	ev := Event{ID: "evt_1", Payload: bytes.Repeat([]byte("z"), 60_000)}
	for range 5 {
		res := c.attempt(context.Background(), mustTarget(t, srv.URL, target{}), &ev, nil)
		if !res.delivered(SuccessRule{}) || !bytes.Equal(res.Response, ev.Payload[:keptResponse]) {
			t.Fatalf("got %d %s %s, %d bytes", res.Status, res.Kind, res.Detail, len(res.Response))
		}
	}
	if proto.Load() != "HTTP/1.1" || n.dials.Load() != 1 {
		t.Errorf("%v over %d connections", proto.Load(), n.dials.Load())
	}
}

func TestAttemptFollowsNoRedirect(t *testing.T) {
	var visited atomic.Int64
	aim := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visited.Add(1) }))
	defer aim.Close()
	for _, status := range []int{300, 301, 302, 303, 304, 307, 308} {
		var requests atomic.Int64
		var srv *httptest.Server
		srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			to := aim.URL
			if requests.Add(1)%2 == 0 {
				to = srv.URL // a loop
			}
			w.Header().Set("Location", to)
			w.WriteHeader(status)
		}))
		c := mustClient(t, &clientOptions{AllowPrivate: true})
		tg := mustTarget(t, srv.URL, target{})
		for range 2 {
			res := c.attempt(context.Background(), tg, &testEvent, nil)
			if res.Status != status || res.Kind != "" || res.delivered(SuccessRule{}) || !res.delivered(SuccessRule{200, 399}) {
				t.Errorf("%d: got %+v", status, res)
			}
		}
		if requests.Load() != 2 || visited.Load() != 0 {
			t.Errorf("%d: %d requests, target visited %d times", status, requests.Load(), visited.Load())
		}
		srv.Close()
	}
}

func TestAttemptIgnoresEnvironmentProxy(t *testing.T) {
	proxy := newRawServer(t, func(net.Conn) {})
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, "http://"+proxy.addr)
	}
	c := mustClient(t, &clientOptions{AllowPrivate: true})
	// hooks.invalid never resolves; a proxy would be asked for it.
	res := c.attempt(context.Background(), mustTarget(t, "http://hooks.invalid/", target{timeout: 5 * time.Second}), &testEvent, nil)
	if res.Kind == "" || res.Kind == NetErrorProxy || proxy.accepted.Load() != 0 {
		t.Errorf("got %+v, proxy saw %d connections", res, proxy.accepted.Load())
	}
}

func TestAttemptThroughProxy(t *testing.T) {
	var asked []string
	var refuse atomic.Bool
	backend := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer backend.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.RequestURI)
		if refuse.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.Method != http.MethodConnect {
			return
		}
		up, err := net.Dial("tcp", backend.Listener.Addr().String())
		if err != nil {
			panic(err)
		}
		down, _, _ := http.NewResponseController(w).Hijack()
		io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(up, down); up.Close() }()
		go func() { io.Copy(down, up); down.Close() }()
	}))
	defer proxy.Close()
	u, _ := url.Parse(proxy.URL)
	tlsConfig := backend.Client().Transport.(*http.Transport).TLSClientConfig
	c := mustClient(t, &clientOptions{Proxy: u, TLS: tlsConfig})
	try := func(to string) attemptResult {
		return c.attempt(context.Background(), mustTarget(t, to, target{}), &testEvent, nil)
	}
	if res := try("http://shop.example/hooks"); !res.delivered(SuccessRule{}) {
		t.Errorf("http: %+v", res)
	}
	if res := try("https://example.com/hooks"); !res.delivered(SuccessRule{}) {
		t.Errorf("https: %+v", res)
	}
	want := []string{"POST http://shop.example/hooks", "CONNECT example.com:443"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	// Hosts that are plainly not public never reach the proxy.
	for _, to := range []string{"http://169.254.169.254/latest", "https://[::1]/", "http://127.1/", "http://localhost/"} {
		if res := try(to); res.Kind != NetErrorBlocked {
			t.Errorf("%s: %+v", to, res)
		}
	}
	if len(asked) != 2 {
		t.Errorf("proxy was asked for %v", asked[2:])
	}
	refuse.Store(true)
	if res := try("https://other.example/hooks"); res.Kind != NetErrorProxy || res.Status != 0 || !strings.Contains(res.Detail, "403") {
		t.Errorf("refused: %+v", res)
	}
	proxy.Close()
	if res := try("https://third.example/hooks"); res.Kind != NetErrorProxy {
		t.Errorf("proxy gone: %+v", res)
	}
}

// The guarded and the open pool never share a connection.
func TestAttemptKeepsPoolsApart(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	addr := strings.Replace(srv.URL, "127.0.0.1", "hooks.example", 1)
	c := mustClient(t, &clientOptions{resolver: fakeResolver(t, "127.0.0.1")})
	open, guarded := mustTarget(t, addr, target{allowPrivate: true}), mustTarget(t, addr, target{})
	if res := c.attempt(context.Background(), open, &testEvent, nil); !res.delivered(SuccessRule{}) {
		t.Fatalf("allowed: %+v", res)
	}
	if res := c.attempt(context.Background(), guarded, &testEvent, nil); res.Kind != NetErrorBlocked {
		t.Errorf("guarded endpoint got %+v over a connection of the allowed one", res)
	}
}

func TestAttemptCanceled(t *testing.T) {
	started := make(chan struct{}, 1)
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { started <- struct{}{}; <-release }))
	defer srv.Close()
	defer close(release)
	c := mustClient(t, &clientOptions{AllowPrivate: true})
	tg := mustTarget(t, srv.URL, target{})

	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { <-started; cancel(errors.New("shutting down")) }()
	if res := c.attempt(ctx, tg, &testEvent, nil); res.Kind != NetErrorCanceled || res.Status != 0 || res.Detail != "shutting down" {
		t.Errorf("cancelled: %+v", res)
	}
	ctx2, cancel2 := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel2()
	if res := c.attempt(ctx2, tg, &testEvent, nil); res.Kind != NetErrorCanceled {
		t.Errorf("the caller's deadline: %+v", res)
	}
	<-started
	short := mustTarget(t, srv.URL, target{timeout: 50 * time.Millisecond})
	if res := c.attempt(context.Background(), short, &testEvent, nil); res.Kind != NetErrorTimeout ||
		res.Detail != "no complete answer within the time limit of 50ms" {
		t.Errorf("the attempt's limit: %+v", res)
	}
	<-started
}

func TestAttemptRoundTripper(t *testing.T) {
	rt := roundTripFunc(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 202, Body: io.NopCloser(strings.NewReader(r.URL.Host)), ContentLength: -1}, nil
	})
	c := mustClient(t, &clientOptions{Transport: rt})
	if res := c.attempt(context.Background(), mustTarget(t, "https://shop.example/", target{}), &testEvent, nil); string(res.Response) != "shop.example" || res.Status != 202 {
		t.Errorf("got %+v", res)
	}
	if res := c.attempt(context.Background(), mustTarget(t, "https://10.0.0.1/", target{}), &testEvent, nil); res.Kind != NetErrorBlocked {
		t.Errorf("got %+v", res)
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestClientOptions(t *testing.T) {
	for field, o := range map[string]*clientOptions{
		"Senders":       {Senders: -1},
		"MaxRetryAfter": {MaxRetryAfter: -1},
		"UserAgent":     {UserAgent: "a\r\nX: y"},
		"Proxy":         {Proxy: &url.URL{Scheme: "ftp", Host: "h"}},
		"Transport":     {Transport: http.DefaultTransport, TLS: &tls.Config{}},
	} {
		_, err := newHTTPClient(o)
		wantFieldError(t, err, field)
	}
	_, err := newHTTPClient(&clientOptions{Proxy: &url.URL{Scheme: "http"}})
	wantFieldError(t, err, "Proxy")
	if _, err := newHTTPClient(nil); err != nil {
		t.Error(err)
	}
	_, err = newTarget("x", "https://shop.example", target{})
	wantFieldError(t, err, "Timeout")
}

func TestCheckEndpointURL(t *testing.T) {
	for _, raw := range []string{"https://shop.example/hooks", "http://shop.example:8080", "https://8.8.8.8/x?y=z", "https://[2606:4700:4700::1111]:8443/", "https://xn--bcher-kva.example/"} {
		if err := checkEndpointURL("x", raw, false); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, raw := range []string{
		"", "shop.example/hooks", "/hooks", "ftp://shop.example", "javascript:alert(1)", "https:shop.example", "https://", "https:///x", "https://:443/",
		"https://user:hunter2@shop.example/", "https://user@shop.example/", "https://shop.example/#x", "https://shop.example/#", "https://shop.example:0/",
		"https://shop.example:65536/", "https://shop.example:/", "https://shop.example:http/", "https://shop example/", "https://shop.example/\n", " https://shop.example",
		"https://%31%32%37.0.0.1/", "https://bücher.example/", "http://１２７.0.0.1/", "http://①②⑦.0.0.1/", "https://ℓocalhost/", "https://user:hunt/er2@shop.example/", "https://shop.example/" + strings.Repeat("x", maxURL),
	} {
		err := checkEndpointURL("x", raw, true)
		wantFieldError(t, err, "URL")
		if err != nil && strings.Contains(err.Error(), "hunt") {
			t.Errorf("shows the password: %v", err)
		}
	}
	for _, raw := range []string{"http://10.0.0.7/", "http://[::1]:8080/", "http://127.1/", "http://localhost/", "http://[fe80::1%25eth0]/", "http://2130706433/"} {
		err := checkEndpointURL(`endpoint "acme"`, raw, false)
		wantFieldError(t, err, "URL")
		if !errors.Is(err, ErrBlockedAddress) {
			t.Errorf("%s: %v", raw, err)
		}
		if err := checkEndpointURL("x", raw, true); err != nil {
			t.Errorf("%s, allowed: %v", raw, err)
		}
	}
	want := `webhook: endpoint "acme": URL: host 10.0.0.7 is private (RFC 1918); allow it with AllowPrivate`
	if err := checkEndpointURL(`endpoint "acme"`, "http://10.0.0.7/", false); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestValidateHeader(t *testing.T) {
	for _, h := range []http.Header{nil, {}, {"X-Tenant": {"a", "b"}, "authorization": {"Bearer x"}, "Content-Type": {"text/plain"}, "User-Agent": {"x"}, "Traceparent": {"00\t1 é"}}} {
		if err := validateHeader(h); err != nil {
			t.Errorf("%v: %v", h, err)
		}
	}
	many := http.Header{"X-A": make([]string, maxHeaderValues+1)}
	for _, name := range []string{
		"Host", "Content-Length", "content-length", "CONNECTION", "Transfer-Encoding", "Trailer", "Upgrade", "TE", "te", "Keep-Alive", "Expect",
		"Proxy-Authorization", "proxy-connection", "Signature", "Timestamp", "API-Version", "Api-Version", "X-Gecko-Signature", "Webhook-Signature", "webhook-id",
		"Stripe-Signature", "X-Hub-Signature-256", "", "a b", "a:b", "é", "a\r\nb", "a\x00", strings.Repeat("a", 300),
	} {
		wantFieldError(t, validateHeader(http.Header{name: {"v"}}), "Header")
	}
	for _, v := range []string{"a\r\nX: y", "a\nb", "a\x00b", "\x7f", "\x1b[31m"} {
		err := validateHeader(http.Header{"X-A": {"fine", v + "s3cret"}})
		wantFieldError(t, err, "Header")
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("shows the value: %v", err)
		}
	}
	for _, h := range []http.Header{many, {"X-A": {strings.Repeat("v", maxEventHeader)}}, {"X-A": {"1"}, "x-a": {"2"}}} {
		wantFieldError(t, validateHeader(h), "Header")
	}
}

// A receiver that closes a kept connection just as the next request comes over it costs no attempt: the request goes out once more.
func TestAttemptOverAClosingConnection(t *testing.T) {
	ids := make(chan string, 9)
	srv := newRawServer(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for n := range 2 {
			req, _, err := readRequest(r)
			if err != nil {
				return
			}
			if ids <- req.Header.Get("X-Id"); n == 0 {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}
	})
	c := mustClient(t, &clientOptions{AllowPrivate: true})
	tg := mustTarget(t, srv.url, target{})
	for n := 1; n <= 4; n++ {
		ev := Event{Payload: []byte("x"), Header: http.Header{"X-Id": {strconv.Itoa(n)}}}
		if res := c.attempt(t.Context(), tg, &ev, nil); res.Status != 200 || res.Kind != "" {
			t.Errorf("attempt %d: %+v", n, res)
		}
	}
	var got []string
	for range len(ids) {
		got = append(got, <-ids)
	}
	if diff := cmp.Diff([]string{"1", "2", "2", "3", "3", "4", "4"}, got); diff != "" || srv.accepted.Load() != 4 {
		t.Errorf("%d connections; requests (-want +got):\n%s", srv.accepted.Load(), diff)
	}
}
