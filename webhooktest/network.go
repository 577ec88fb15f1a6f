package webhooktest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Network is a network in memory, with names, ports, TLS and HTTP/1.1 servers. What is not on it does not exist: looking up a name
// fails as DNS does, and a port without a [Receiver] refuses connections. Make it with [NewNetwork]; safe for concurrent use.
type Network struct {
	t     testing.TB
	ca    *authority
	ended chan struct{}

	mu      sync.Mutex
	sites   map[string]*site // by host and port
	addrs   map[string]netip.Addr
	clients int // that have dialled
	work    sync.WaitGroup
}

// NewNetwork makes a network that ends with the test t, which is that of the synctest bubble where there is one: its connections are closed then
// and its servers stopped.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	ca, err := newAuthority()
	if err != nil {
		t.Fatalf("webhooktest: making a certificate authority: %v", err)
	}
	n := &Network{t: t, ca: ca, ended: make(chan struct{}), sites: map[string]*site{}, addrs: map[string]netip.Addr{}}
	t.Cleanup(n.end)
	return n
}

func (n *Network) end() {
	close(n.ended)
	n.mu.Lock()
	sites := n.sites
	n.sites = map[string]*site{}
	n.mu.Unlock()
	for _, s := range sites {
		_ = s.server.Close()
	}
	n.work.Wait()
}

// Receiver puts a receiver on the network: what is sent to this URL, which must be http or https, with whatever query, is answered by the script, and
// recorded. See [Step] for how a script goes on; none means 200 for everything. Receivers may share a host, but no path of it.
func (n *Network) Receiver(rawURL string, script ...Step) *Receiver {
	n.t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		n.t.Fatalf("webhooktest: %q is not an absolute http or https URL", rawURL)
	}
	for _, s := range script {
		if s.act == nil && (s.status < 200 || s.status > 999) {
			n.t.Fatalf("webhooktest: %s answers %d, want a status of 200 or more", rawURL, s.status)
		}
	}
	r := newReceiver(n, u, script)
	path := cleanPath(u)
	n.mu.Lock()
	defer n.mu.Unlock()
	address := net.JoinHostPort(strings.ToLower(u.Hostname()), port(u))
	s := n.sites[address]
	if s == nil {
		s = n.listen(address, u.Scheme == "https")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.secure != (u.Scheme == "https"):
		n.t.Fatalf("webhooktest: %s speaks both http and https", address)
	case s.receivers[path] != nil:
		n.t.Fatalf("webhooktest: there is a receiver at %s already", rawURL)
	}
	s.receivers[path] = r
	return r
}

// Resolve says at which address a host is, instead of at a public one of the network's choice: at a private one, to see that the dispatcher does
// not go there.
func (n *Network) Resolve(host, address string) {
	n.t.Helper()
	addr, err := netip.ParseAddr(address)
	if err != nil {
		n.t.Fatalf("webhooktest: %q is not an IP address", address)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs[strings.ToLower(host)] = addr
}

// Dial connects to a host and port of the network, as [webhook.DispatcherOptions].Dial and [net/http.Transport].DialContext take it.
func (n *Network) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(strings.ToLower(address))
	if err != nil {
		return nil, err
	}
	s, server, client, err := n.find(host, port)
	if err != nil {
		return nil, err
	}
	if s == nil || s.refuses() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: server, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	near, far := newConns(client, server)
	select {
	case s.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: server, Err: context.Cause(ctx)}
	case <-n.ended:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: server, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
}

// find looks a host up. There may be no site at its port.
func (n *Network) find(host, port string) (s *site, server, client *net.TCPAddr, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	known := false
	for address := range n.sites {
		h, _, _ := net.SplitHostPort(address)
		known = known || h == host
	}
	addr, literal := netip.ParseAddr(host)
	switch {
	case literal == nil:
	case !known:
		return nil, nil, nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	case n.addrs[host].IsValid():
		addr = n.addrs[host]
	default: // public ones, which are example.com's or were; nothing is sent there
		addr = netip.AddrFrom4([4]byte{93, 184, 215, byte(len(n.addrs)%254 + 1)})
		n.addrs[host] = addr
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, nil, nil, err
	}
	n.clients++
	server = net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, uint16(number)))
	client = &net.TCPAddr{IP: net.IPv4(93, 184, 214, 1), Port: 1024 + n.clients%60000}
	return n.sites[net.JoinHostPort(host, port)], server, client, nil
}

// Client is an HTTP client on the network, for posting a [SignedRequest] to a handler that stands there (see [Handle]). It follows no redirect.
func (n *Network) Client() *http.Client {
	transport := &http.Transport{DialContext: n.Dial, TLSClientConfig: n.TLS()}
	n.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// TLS is a client configuration that trusts the network's own certificate authority, and no other.
func (n *Network) TLS() *tls.Config { return &tls.Config{RootCAs: n.ca.pool()} }

// site is a host and port with its server.
type site struct {
	secure bool
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	server *http.Server

	mu        sync.Mutex
	receivers map[string]*Receiver // by path
}

// listen starts a server. The caller holds n.mu.
func (n *Network) listen(address string, secure bool) *site {
	s := &site{
		secure: secure, addr: hostPort(address), conns: make(chan net.Conn), closed: make(chan struct{}), receivers: map[string]*Receiver{},
	}
	s.server = &http.Server{Handler: s, ErrorLog: log.New(discard{}, "", 0), ConnContext: withConn}
	var l net.Listener = s
	if secure {
		host, _, _ := net.SplitHostPort(address)
		l = tls.NewListener(s, n.ca.config(host))
	}
	n.sites[address] = s
	n.work.Go(func() { _ = s.server.Serve(l) })
	return s
}

// ServeHTTP implements [http.Handler].
func (s *site) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	r := s.receivers[cleanPath(req.URL)]
	s.mu.Unlock()
	if r == nil {
		http.NotFound(w, req)
		return
	}
	r.serve(w, req)
}

// refuses reports whether nobody listens at the moment: each receiver here is at such a step of its script.
func (s *site) refuses() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.receivers {
		if !r.refuses() {
			return false
		}
	}
	return true
}

// Accept implements [net.Listener].
func (s *site) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (s *site) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements [net.Listener].
func (s *site) Addr() net.Addr { return s.addr }

type hostPort string

func (hostPort) Network() string  { return "tcp" }
func (h hostPort) String() string { return string(h) }

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func cleanPath(u *url.URL) string {
	if u.EscapedPath() == "" {
		return "/"
	}
	return u.EscapedPath()
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// authority signs certificates for the network's hosts.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// The certificates hold for any time that a test may have; a synctest bubble begins in 2000.
func validity() (from, to time.Time) {
	return time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	from, to := validity()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "webhooktest"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{key, cert}, err
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// config is a server's, with a certificate for one host.
func (a *authority) config(host string) *tls.Config {
	from, to := validity()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	var once sync.Once
	var cert tls.Certificate
	var err error
	return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		once.Do(func() {
			var der []byte
			der, err = x509.CreateCertificate(rand.Reader, template, a.cert, &a.key.PublicKey, a.key)
			cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
		})
		return &cert, err
	}}
}
