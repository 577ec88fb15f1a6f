package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"time"
)

type clientOptions struct {
	AllowPrivate  bool
	Proxy         *url.URL
	TLS           *tls.Config
	Transport     http.RoundTripper
	Senders       int
	MaxRetryAfter time.Duration
}
type httpClient struct{ c *http.Client }
type target struct {
	url          *url.URL
	signer       *Signer
	timeout      time.Duration
	allowPrivate bool
}
type attemptResult struct {
	Context      context.Context
	Status       int
	Kind, Detail string
	Response     []byte
	RetryAfter   time.Duration
	Duration     time.Duration
	Canceled     bool
}

func newHTTPClient(o clientOptions) *httpClient {
	tr := o.Transport
	if tr == nil {
		tr = &http.Transport{MaxIdleConnsPerHost: o.Senders}
	}
	return &httpClient{&http.Client{Transport: tr}}
}
func (c *httpClient) closeIdle() { c.c.CloseIdleConnections() }
func (c *httpClient) attempt(ctx context.Context, t *target, ev *Event, prep func(context.Context, http.Header) context.Context) *attemptResult {
	began := time.Now()
	ctx2, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx2, "POST", t.url.String(), bytes.NewReader(ev.Payload))
	res := &attemptResult{Context: prep(ctx2, req.Header)}
	resp, err := c.c.Do(req)
	if err != nil {
		res.Kind, res.Detail = "other", err.Error()
		res.Canceled = ctx.Err() != nil
	} else {
		res.Status = resp.StatusCode
		res.Response, _ = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	res.Duration = time.Since(began)
	return res
}
func validateHeader(h http.Header) error      { return nil }
func (s Schedule) Validate() error            { return nil }
func (s Schedule) IsZero() bool               { return s.Kind == "" }
func (s SuccessRule) Validate() error         { return nil }
func (s SuccessRule) Accepts(status int) bool { return status >= s.From && status <= s.To }
func (s Schedule) Next(n int, r float64) (time.Duration, bool) {
	if n > len(s.List) {
		return 0, false
	}
	return s.List[n-1], true
}
