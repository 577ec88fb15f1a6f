package webhook_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// tlsServer is a server that notes which client certificate each request came with, and counts connections.
type tlsServer struct {
	*httptest.Server
	ca    []byte // PEM
	opens atomic.Int64
	mu    sync.Mutex
	names []string // of the clients, "" for none
	open  map[net.Conn]bool
}

func newTLSServer(t *testing.T, require bool, clients ...[]byte) *tlsServer {
	t.Helper()
	s := &tlsServer{open: make(map[net.Conn]bool)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := ""
		if len(r.TLS.PeerCertificates) > 0 {
			name = fmt.Sprint(r.TLS.PeerCertificates[0].SerialNumber, r.TLS.PeerCertificates[0].NotAfter.UnixNano(), r.TLS.PeerCertificates[0].PublicKey)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.names = append(s.names, name)
	}))
	s.Config.ErrorLog = quietLog()
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.opens.Add(1)
			s.open[c] = true
		case http.StateClosed:
			delete(s.open, c)
		}
	}
	pool := x509.NewCertPool()
	for _, c := range clients {
		pool.AppendCertsFromPEM(c)
	}
	s.TLS = &tls.Config{ClientCAs: pool, ClientAuth: tls.RequestClientCert}
	if require {
		s.TLS.ClientAuth = tls.RequireAnyClientCert
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	s.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return s
}

// stillOpen waits for connections to be closed and returns how many are not.
func (s *tlsServer) stillOpen(want int) (n int) {
	for range 200 {
		s.mu.Lock()
		n = len(s.open)
		s.mu.Unlock()
		if n <= want {
			return n
		}
		time.Sleep(5 * time.Millisecond)
	}
	return n
}

func (s *tlsServer) clients() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.names...)
}

func netDispatcher(t *testing.T, opts webhook.DispatcherOptions) *webhook.Dispatcher {
	t.Helper()
	opts.Logger = quiet()
	d, err := webhook.NewDispatcher(memstore.New(), &opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func put(t *testing.T, d *webhook.Dispatcher, ep webhook.Endpoint) {
	t.Helper()
	if err := d.PutEndpoint(t.Context(), ep); err != nil {
		t.Fatal(err)
	}
}

func sendTest(t *testing.T, d *webhook.Dispatcher, id string) *webhook.TestResult {
	t.Helper()
	res, err := d.SendTest(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// at is an endpoint at a URL that may be private.
func at(t *testing.T, id, url string, with webhook.ClientTLS) webhook.Endpoint {
	ep := endpoint(t, id)
	ep.URL, ep.AllowPrivate, ep.TLS = url, true, with
	return ep
}

// Two endpoints of one host, of which one has a certificate: neither uses the other's connection, nor its TLS session, even where the
// caller's own TLS configuration has a shared cache of sessions.
func TestClientCertificate(t *testing.T) {
	cert, key := clientCert(t)
	cert2, key2 := clientCert(t)
	srv := newTLSServer(t, false)
	d := netDispatcher(t, webhook.DispatcherOptions{TLS: &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(8)}})
	put(t, d, at(t, "mine", srv.URL, webhook.ClientTLS{RootCAs: srv.ca, Certificate: cert, Key: key}))
	put(t, d, at(t, "none", srv.URL, webhook.ClientTLS{RootCAs: srv.ca}))
	put(t, d, at(t, "second", srv.URL, webhook.ClientTLS{RootCAs: srv.ca, Certificate: cert2, Key: key2}))
	put(t, d, at(t, "same", srv.URL, webhook.ClientTLS{RootCAs: srv.ca, Certificate: cert, Key: key}))
	for range 3 {
		for _, id := range []string{"mine", "none", "second", "same"} {
			if res := sendTest(t, d, id); !res.Delivered {
				t.Fatalf("%s: %+v", id, res)
			}
		}
	}
	got := srv.clients()
	for i, name := range got {
		mine, none, second, same := got[0], "", got[2], got[0]
		if want := []string{mine, none, second, same}[i%4]; name != want || mine == "" || second == "" || mine == second {
			t.Errorf("request %d came as %q, want %q", i, name, want)
		}
	}
	if n := srv.opens.Load(); n != 3 {
		t.Errorf("%d connections, want 3: one for each identity", n)
	}
}

func TestClientCertificateIsRequired(t *testing.T) {
	cert, key := clientCert(t)
	srv := newTLSServer(t, true)
	d := netDispatcher(t, webhook.DispatcherOptions{})
	put(t, d, at(t, "mine", srv.URL, webhook.ClientTLS{RootCAs: srv.ca, Certificate: cert, Key: key}))
	put(t, d, at(t, "none", srv.URL, webhook.ClientTLS{RootCAs: srv.ca}))
	if res := sendTest(t, d, "mine"); !res.Delivered {
		t.Errorf("with: %+v", res)
	}
	if res := sendTest(t, d, "none"); res.Error != webhook.NetErrorTLS {
		t.Errorf("without: %+v", res)
	}
}

// An endpoint's CAs are trusted instead of the dispatcher's, by it alone; its server name is what the certificate must be for.
func TestOwnCA(t *testing.T) {
	srv, other := newTLSServer(t, false), newTLSServer(t, false)
	_ = other
	d := netDispatcher(t, webhook.DispatcherOptions{})
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	stranger, _ := clientCert(t)
	for _, tc := range []struct {
		id  string
		url string
		tls webhook.ClientTLS
		ok  bool
	}{
		{"own", srv.URL, webhook.ClientTLS{RootCAs: srv.ca}, true},
		{"system", srv.URL, webhook.ClientTLS{}, false},
		{"stranger", srv.URL, webhook.ClientTLS{RootCAs: stranger}, false},
		{"name", "https://localhost:" + port, webhook.ClientTLS{RootCAs: srv.ca, ServerName: "example.com"}, true},
		{"wrong name", srv.URL, webhook.ClientTLS{RootCAs: srv.ca, ServerName: "elsewhere.example"}, false},
	} {
		ep := at(t, strings.ReplaceAll(tc.id, " ", "-"), tc.url, tc.tls)
		put(t, d, ep)
		res := sendTest(t, d, ep.ID)
		if res.Delivered != tc.ok || !tc.ok && res.Error != webhook.NetErrorTLS {
			t.Errorf("%s: %+v", tc.id, res)
		}
	}
}

// Connections of an identity go when no endpoint has it any more; those of others stay, and so do the endpoint's own when something else
// of it changes.
func TestTransportsAreForgotten(t *testing.T) {
	cert, key := clientCert(t)
	srv := newTLSServer(t, false)
	d := netDispatcher(t, webhook.DispatcherOptions{})
	with := webhook.ClientTLS{RootCAs: srv.ca, Certificate: cert, Key: key}
	put(t, d, at(t, "a", srv.URL, with))
	put(t, d, at(t, "b", srv.URL, with))
	put(t, d, at(t, "plain", srv.URL, webhook.ClientTLS{RootCAs: srv.ca}))
	sendTest(t, d, "a")
	sendTest(t, d, "plain")
	changed := at(t, "a", srv.URL, with)
	changed.MaxInFlight = 3
	put(t, d, changed)
	sendTest(t, d, "a")
	if srv.opens.Load() != 2 || srv.stillOpen(2) != 2 {
		t.Fatalf("%d connections made, %d open; want 2", srv.opens.Load(), srv.stillOpen(2))
	}
	if err := d.DeleteEndpoint(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if sendTest(t, d, "b"); srv.opens.Load() != 2 {
		t.Error("the connection went with the first of two endpoints that share it")
	}
	if err := d.DeleteEndpoint(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if n := srv.stillOpen(1); n != 1 {
		t.Errorf("%d connections open, want 1", n)
	}
	if sendTest(t, d, "plain"); srv.opens.Load() != 2 {
		t.Error("another identity's connection was closed")
	}
}

// forward is an egress proxy, and counts what it is asked for. It resolves every name to one address.
type forward struct {
	*httptest.Server
	asked atomic.Int64
	auth  atomic.Value
}

func newForward(t *testing.T, to string, overTLS bool) *forward {
	f := &forward{}
	f.auth.Store("")
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		f.auth.Store(r.Header.Get("Proxy-Authorization"))
		if r.Method != http.MethodConnect {
			return
		}
		up, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		down, _, _ := http.NewResponseController(w).Hijack()
		io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(up, down); up.Close() }()
		go func() { io.Copy(down, up); down.Close() }()
	}))
	f.Config.ErrorLog = quietLog()
	if overTLS {
		f.StartTLS()
	} else {
		f.Start()
	}
	t.Cleanup(f.Close)
	return f
}

// Each endpoint takes its own proxy, the dispatcher's or none, with the user info that its URL has.
func TestEndpointProxy(t *testing.T) {
	srv := newTLSServer(t, false)
	common, own := newForward(t, srv.Listener.Addr().String(), false), newForward(t, srv.Listener.Addr().String(), false)
	u, _ := url.Parse(common.URL)
	d := netDispatcher(t, webhook.DispatcherOptions{Proxy: u})
	with := webhook.ClientTLS{RootCAs: srv.ca, ServerName: "example.com"}
	for id, proxy := range map[string]string{
		"common": "", "own": strings.Replace(own.URL, "//", "//user:hunter2@", 1), "direct": webhook.DirectProxy,
	} {
		ep := at(t, id, srv.URL, with)
		ep.Proxy = proxy
		put(t, d, ep)
		for range 2 {
			if res := sendTest(t, d, id); !res.Delivered {
				t.Errorf("%s: %+v", id, res)
			}
		}
	}
	if common.asked.Load() != 1 || own.asked.Load() != 1 || srv.opens.Load() != 3 {
		t.Errorf("common proxy asked %d times, own %d, %d connections; want 1, 1, 3", common.asked.Load(), own.asked.Load(), srv.opens.Load())
	}
	if got := own.auth.Load(); got != "Basic dXNlcjpodW50ZXIy" {
		t.Errorf("Proxy-Authorization %q", got)
	}
	if got := common.auth.Load(); got != "" {
		t.Errorf("the other proxy was told %q", got)
	}
}

// The certificates, CAs and server name of an endpoint are for the endpoint, not for a proxy before it.
func TestProxyOverTLS(t *testing.T) {
	cert, key := clientCert(t)
	srv := newTLSServer(t, true)
	p := newForward(t, srv.Listener.Addr().String(), true)
	pool := x509.NewCertPool()
	pool.AddCert(p.Certificate())
	u, _ := url.Parse(p.URL)
	d := netDispatcher(t, webhook.DispatcherOptions{Proxy: u, TLS: &tls.Config{RootCAs: pool}})
	put(t, d, at(t, "acme", "https://shop.example/", webhook.ClientTLS{RootCAs: srv.ca, Certificate: cert, Key: key, ServerName: "example.com"}))
	if res := sendTest(t, d, "acme"); !res.Delivered || p.asked.Load() != 1 || srv.clients()[0] == "" {
		t.Errorf("%+v, proxy asked %d times", res, p.asked.Load())
	}
}

// An endpoint's own proxy must be public, as its URL must be. What only shows when it is dialled: TestProxyNameIsGuarded.
func TestEndpointProxyIsGuarded(t *testing.T) {
	p := newForward(t, "127.0.0.1:1", false)
	d := netDispatcher(t, webhook.DispatcherOptions{})
	ep := endpoint(t, "acme")
	for _, proxy := range []string{p.URL, "socks5://10.0.0.1:1080", "http://localhost:3128", "http://[::1]:1", "http://169.254.169.254"} {
		ep.Proxy = proxy
		if err := d.PutEndpoint(t.Context(), ep); err == nil || !strings.Contains(err.Error(), "Proxy: ") {
			t.Errorf("%s: %v", proxy, err)
		}
	}
	if p.asked.Load() != 0 {
		t.Errorf("the proxy was asked %d times", p.asked.Load())
	}
}
