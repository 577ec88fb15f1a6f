package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
)

// proxied sends requests through an egress proxy, and tells its failures from those of what lies behind it.
type proxied struct {
	*http.Transport
	works *lately // hosts that it got answers from
}

// proxyStage is how far one request got.
type proxyStage struct {
	connected atomic.Bool // to the proxy
	tunnel    atomic.Bool // the proxy connected to the host
}

type proxyStageKey struct{}

// newProxied makes a pool of connections to o.Proxy.
func newProxied(o *clientOptions, config *tls.Config, dial dialFunc, senders, idle int) *proxied {
	t := &http.Transport{
		Proxy:                  http.ProxyURL(o.Proxy),
		OnProxyConnectResponse: proxyAnswer,
		DialContext:            dial,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    handshakeTimeout,
		DisableCompression:     true, // the answer's bytes are kept as they come; nothing to blow up
		MaxIdleConns:           idle,
		MaxIdleConnsPerHost:    senders,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
	if o.Proxy.Scheme == "https" { // the endpoint's certificates, CAs and server name are for the endpoint
		t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialProxyTLS(ctx, dial, o.proxyTLS, network, address)
		}
	}
	return &proxied{Transport: t, works: o.works}
}

// dialFunc is what connects.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func dialProxyTLS(ctx context.Context, dial dialFunc, base *tls.Config, network, address string) (net.Conn, error) {
	raw, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	config := base.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	config.NextProtos = []string{"http/1.1"}
	secured := tls.Client(raw, config)
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return secured, nil
}

// proxyAnswer tells a proxy's own answer from the endpoint's.
func proxyAnswer(ctx context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return &proxyError{status: resp.StatusCode, text: resp.Status}
	}
	if stage, ok := ctx.Value(proxyStageKey{}).(*proxyStage); ok {
		stage.tunnel.Store(true)
	}
	return nil
}

// RoundTrip implements [http.RoundTripper].
func (p *proxied) RoundTrip(req *http.Request) (*http.Response, error) {
	stage := &proxyStage{}
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				stage.connected.Store(true)
			}
		},
		GotConn: func(httptrace.GotConnInfo) {
			stage.connected.Store(true)
			stage.tunnel.Store(true)
		},
	})
	resp, err := p.Transport.RoundTrip(req.WithContext(context.WithValue(ctx, proxyStageKey{}, stage)))
	if err == nil && resp.StatusCode == http.StatusProxyAuthRequired && req.URL.Scheme == "http" {
		_ = resp.Body.Close() // only a proxy says so; what else it says without a tunnel cannot be told from the endpoint's answer
		resp, err = nil, &proxyError{status: resp.StatusCode, text: resp.Status}
	}
	if err != nil {
		return nil, p.judge(req, stage, err)
	}
	if req.URL.Scheme == "https" || resp.StatusCode < 500 {
		p.works.note(req.URL.Host)
	}
	return resp, nil
}

// judge says whose fault an error is.
func (p *proxied) judge(req *http.Request, stage *proxyStage, err error) error {
	if errors.Is(err, ErrBlockedAddress) {
		return err
	}
	if req.Context().Err() != nil {
		if stage.connected.Load() {
			return err
		}
		return &faultError{kind: NetErrorProxy, ours: true, err: errors.New("the proxy took no connection within the time limit")}
	}
	if syscallKind(err) == NetErrorLocal {
		return &faultError{kind: NetErrorLocal, ours: true, err: err}
	}
	v := judgeProxy(err)
	switch {
	case v.far:
		return &faultError{kind: NetErrorUnreachable, err: fmt.Errorf("proxy: %w", err)}
	case v.ours:
		return &faultError{kind: NetErrorProxy, ours: true, err: err}
	case v.unsure, !stage.tunnel.Load() && req.URL.Scheme == "https" && tlsKind(err) == "": // it hung up instead of answering
		return &faultError{kind: NetErrorProxy, ours: !p.works.other(req.URL.Host), err: err}
	}
	return err
}

// proxyVerdict is what an error tells of a proxy: it could not reach the host (far), it does not work (ours), or it refused this
// request (unsure): that is ours unless it serves others.
type proxyVerdict struct{ far, ours, unsure bool }

func judgeProxy(err error) proxyVerdict {
	if pe, ok := errors.AsType[*proxyError](err); ok {
		if pe.status == http.StatusBadGateway || pe.status == http.StatusGatewayTimeout {
			return proxyVerdict{far: true}
		}
		return proxyVerdict{unsure: true}
	}
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case !ok:
		return proxyVerdict{}
	case op.Op == "proxyconnect":
		return proxyVerdict{ours: true}
	case op.Op != "socks connect":
		return proxyVerdict{}
	}
	reply, ok := strings.CutPrefix(op.Err.Error(), "unknown error ") // net/http's words, for want of a type
	switch reply {
	case "network unreachable", "host unreachable", "connection refused", "TTL expired":
		return proxyVerdict{far: true}
	}
	return proxyVerdict{ours: strings.Contains(reply, "authentication"), unsure: ok || !strings.Contains(reply, "authentication")}
}
