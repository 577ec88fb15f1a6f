package webhook

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
)

// transports are the pools of connections of endpoints whose TLS or proxy differ from the dispatcher's. Endpoints that agree in
// all that identifies a connection share a pool, and no others do.
type transports struct {
	base *clientOptions

	mu    sync.Mutex
	pools map[poolKey]http.RoundTripper
	works map[string]*lately // by proxy
	made  bool               // a pool was made since the last keep
	kept  int64              // version of the table that keep saw last
}

// poolKey is a digest of what a pool's connections are made with.
type poolKey [sha256.Size]byte

func newTransports(d *Dispatcher) *transports { return &transports{base: d.client.options} }

// get returns the transport for an endpoint's attempts, without connecting; nil: the dispatcher's own.
func (t *transports) get(ep *Endpoint) (http.RoundTripper, error) {
	if ep.TLS.IsZero() && (ep.Proxy == "" || ep.Proxy == DirectProxy && t.base.Proxy == nil) {
		return nil, nil
	}
	if t.base.Transport != nil {
		return nil, &FieldError{Op: "endpoint", Field: "TLS or Proxy", Reason: "is set, but DispatcherOptions.Transport replaces what it configures"}
	}
	guarded := !t.base.AllowPrivate && !ep.AllowPrivate
	key := keyOf(ep, guarded)
	t.mu.Lock()
	defer t.mu.Unlock()
	if rt := t.pools[key]; rt != nil {
		return rt, nil
	}
	o := *t.base
	var err error
	if !ep.TLS.IsZero() {
		if o.TLS, err = ep.TLS.config(t.base.TLS); err != nil {
			return nil, err
		}
	}
	switch ep.Proxy {
	case "":
	case DirectProxy:
		o.Proxy = nil
	default:
		if reason, cause := checkProxy(ep.Proxy, !guarded); reason != "" { // another version may have let it in
			return nil, &FieldError{Op: "endpoint", Field: "Proxy", Reason: reason, Cause: cause}
		}
		if o.Proxy, err = url.Parse(ep.Proxy); err != nil {
			return nil, &FieldError{Op: "endpoint", Field: "Proxy", Reason: "is not a URL"}
		}
		o.guardProxy, o.works = guarded, t.worksOf(ep.Proxy)
	}
	rt := newTransport(&o, guarded)
	if t.pools == nil {
		t.pools = make(map[poolKey]http.RoundTripper)
	}
	t.pools[key], t.made = rt, true
	return rt, nil
}

// worksOf is what is remembered of a proxy. The caller holds t.mu.
func (t *transports) worksOf(proxy string) *lately {
	if t.works == nil {
		t.works = make(map[string]*lately)
	}
	if t.works[proxy] == nil {
		t.works[proxy] = &lately{}
	}
	return t.works[proxy]
}

// keyOf has the length before each part, so that no two differ only in where one ends.
func keyOf(ep *Endpoint, guarded bool) (key poolKey) {
	h := sha256.New()
	part(h, string(ep.TLS.RootCAs))
	part(h, string(ep.TLS.Certificate))
	part(h, ep.TLS.Key.Reveal())
	part(h, ep.TLS.ServerName)
	part(h, ep.Proxy)
	if guarded {
		part(h, "guarded")
	}
	h.Sum(key[:0])
	return key
}

// config is base with what t says.
func (t ClientTLS) config(base *tls.Config) (*tls.Config, error) {
	c := base.Clone()
	if c == nil {
		c = &tls.Config{}
	}
	c.ClientSessionCache = nil // the caller's may be shared, and a session that is resumed has the identity it was made with
	if len(t.RootCAs) > 0 {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AppendCertsFromPEM(t.RootCAs)
	}
	if len(t.Certificate) > 0 {
		own, err := tls.X509KeyPair(t.Certificate, []byte(t.Key.Reveal()))
		if err != nil {
			return nil, t.Validate() // which says so without showing the key
		}
		c.Certificates, c.GetClientCertificate = []tls.Certificate{own}, nil
	}
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	return c, nil
}

// keep closes the pools that no route of a table uses any more. It is called when a table has become the current one.
func (t *transports) keep(table *routeTable) {
	t.mu.Lock()
	if len(t.pools) == 0 || !t.made && table.version == t.kept {
		t.mu.Unlock()
		return
	}
	t.made, t.kept = false, table.version
	used := make(map[http.RoundTripper]bool)
	proxies := make(map[string]bool)
	for _, rt := range table.byID {
		if rt.target != nil && rt.target.transport != nil {
			used[rt.target.transport], proxies[rt.endpoint.Proxy] = true, true
		}
	}
	var left []http.RoundTripper
	for key, rt := range t.pools {
		if !used[rt] {
			left = append(left, rt)
			delete(t.pools, key)
		}
	}
	for proxy := range t.works {
		if !proxies[proxy] {
			delete(t.works, proxy)
		}
	}
	t.mu.Unlock()
	for _, rt := range left {
		closeIdle(rt)
	}
}

// closeIdle closes connections that no attempt uses, at the end of Run.
func (t *transports) closeIdle() {
	t.mu.Lock()
	pools := slices.Collect(maps.Values(t.pools))
	t.mu.Unlock()
	for _, rt := range pools {
		closeIdle(rt)
	}
}

// closeIdle closes the connections of a pool that no attempt uses, and those that are in use when they are not any more, until the next
// request.
func closeIdle(rt http.RoundTripper) {
	if t, ok := rt.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
