package webhook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/signalpost/webhook/internal/h1"
)

// Bounds of what is read of an answer.
const (
	keptResponse    = 4 << 10  // bytes of the body that are recorded
	drainedResponse = 64 << 10 // bytes more that are read, so that the connection can be used again
	maxAnswerHeader = 64 << 10 // bytes of all headers, those of 1xx answers included
)

// messageSigner is what an attempt needs of a [Signer].
type messageSigner interface {
	SignMessage(m *Message, now time.Time) error
}

// target is where and how attempts for an endpoint go. It is made by newTarget, shared by many attempts at once and never changed.
type target struct {
	url            *url.URL
	signer         messageSigner // nil: nothing is signed
	timeout        time.Duration // over connect, TLS, headers and body
	allowPrivate   bool
	sequenceHeader string            // canonical; "": the delivery's sequence is not sent
	header         http.Header       // what the endpoint adds to each request, canonical; nil: nothing
	secrets        []string          // that the answer may echo, and that are not to be recorded
	taken          []string          // headers, by alias, that neither an event nor a hook sets: the scheme's, and by newTarget those of header
	transport      http.RoundTripper // nil: the client's own
	blocked        error             // of the host as it is written; nil when that alone does not refuse it
}

// newTarget makes a target. op is for the [*FieldError] when the URL or the timeout is unusable. A host that is written as
// an address which is not public is no error here: the attempt records it.
func newTarget(op, rawURL string, t target) (*target, error) {
	u, err := parseEndpointURL(op, rawURL)
	if err != nil {
		return nil, err
	}
	if t.timeout <= 0 {
		return nil, &FieldError{Op: op, Field: "Timeout", Reason: "is " + t.timeout.String() + ", want more than 0"}
	}
	t.url, t.blocked, t.taken = u, checkHost(u), slices.Clip(t.taken)
	for name := range t.header {
		t.taken = append(t.taken, alias(name))
	}
	return &t, nil
}

// setSequence sets the header for a delivery's place in its ordering key, or removes what an event or a hook has there.
func (t *target) setSequence(header http.Header, sequence int64) {
	if t.sequenceHeader == "" {
		return
	}
	own := alias(t.sequenceHeader)
	maps.DeleteFunc(header, func(name string, _ []string) bool { return alias(name) == own })
	if sequence > 0 {
		header[t.sequenceHeader] = []string{strconv.FormatInt(sequence, 10)}
	}
}

// attemptResult is how an attempt ended.
type attemptResult struct {
	StartedAt  time.Time // local clock, with monotonic reading
	Duration   time.Duration
	Status     int           // 0: no answer came
	Kind       string        // a NetError constant when no whole answer came; else ""
	Detail     string        // the error's text, fit for showing; at most 512 bytes
	Response   []byte        // beginning of the answer's body, at most 4 KiB
	RetryAfter time.Duration // what the answer asks for, bounded; 0: nothing
	Ours       bool          // it failed by a fault of our own: this machine, its resolver, its egress proxy
	Panicked   bool          // the caller's transport or scheme did
}

// delivered reports whether the attempt succeeded: the answer came whole, as far as it is read, and its status is one of rule.
// An answer that breaks off is none: net/http's server, for one, cuts the answer of a handler that panics after its first
// lines, and a retry too many is better than an event lost.
func (r *attemptResult) delivered(rule SuccessRule) bool {
	return r.Kind == "" && rule.Accepts(r.Status)
}

// attempt makes one HTTP try: it builds the request, signs it last, sends it and reads a bounded part of the
// answer, all before t.timeout or the end of ctx, whichever comes first. Redirects are not followed: a 3xx is a status like any other.
// The request goes out twice only where a kept connection ended before any of the answer came.
//
// prepare, which may be nil, is given the header before it is signed, may add to it, and returns the context that the
// request is made with.
//
// The end of ctx gives NetErrorCanceled, even when it was a deadline of ctx's; the attempt's own limit NetErrorTimeout.
func (c *httpClient) attempt(ctx context.Context, t *target, ev *Event, prepare func(context.Context, http.Header) context.Context) attemptResult {
	return c.attemptIn(ctx, t, ev, 0, prepare)
}

// attemptIn is attempt for a delivery that has a place in an ordering key; 0: none.
func (c *httpClient) attemptIn(ctx context.Context, t *target, ev *Event, sequence int64, prepare func(context.Context, http.Header) context.Context) attemptResult {
	res := attemptResult{StartedAt: time.Now()}
	caller := ctx
	header := c.requestHeader(t, ev)
	if prepare != nil {
		if own := prepare(ctx, header); own != nil {
			ctx = own
		}
		dropReserved(header)
	}
	t.complete(header)
	t.setSequence(header, sequence)
	limit := h1.Limit{Context: ctx, At: time.Now().Add(t.timeout), Why: errAttemptTimeout}
	allowed := c.allowPrivate || t.allowPrivate
	rt := c.roundTripper(t, allowed)
	if _, ours := rt.(*h1.Transport); !ours { // which keeps the limit for less than such a context costs
		limited, cancel := context.WithDeadlineCause(ctx, limit.At, limit.Why)
		defer cancel()
		limit.Context = limited
	}
	err := c.door(t, allowed)
	if err == nil {
		err = c.send(limit, rt, t, ev, header, &res)
	}
	res.Duration = time.Since(res.StartedAt)
	if err != nil {
		res.Kind, res.Detail, res.Ours = failure(caller, limit, t, err)
		if len(t.secrets) > 0 { // what is no answer may be quoted in the error
			res.Detail = cleanDetail(string(t.hide([]byte(res.Detail))))
		}
	}
	return res
}

// failure names why an attempt failed. What ended the context explains every other error, which it caused.
// But what it was waiting for then may have been ours.
func failure(caller context.Context, limit h1.Limit, t *target, err error) (kind, detail string, ours bool) {
	ctx := limit.Context
	if err == errAttemptTimeout || context.Cause(ctx) == errAttemptTimeout || ctx.Err() == nil && !time.Now().Before(limit.At) {
		if fe, ok := errors.AsType[*faultError](err); ok && fe.ours {
			return fe.kind, errorDetail(err), true
		}
		return NetErrorTimeout, errAttemptTimeout.Error() + " of " + t.timeout.String(), false
	}
	if ctx.Err() != nil {
		if cause := context.Cause(caller); cause != nil {
			err = cause
		}
		return NetErrorCanceled, errorDetail(err), false
	}
	kind = NetErrorKind(err)
	return kind, errorDetail(err), isOurs(kind, err)
}

// outgoing keeps a request and what it points to in one allocation. It is not reused: net/http may read the body even after it has
// returned an answer.
type outgoing struct {
	limit   h1.Limit
	request http.Request
	message Message
	payload []byte
	body    bytes.Reader
}

// roundTrip sends the request. Its context is not in it yet.
func (o *outgoing) roundTrip(rt http.RoundTripper) (*http.Response, error) {
	if own, ok := rt.(*h1.Transport); ok {
		return own.Do(&o.request, &o.limit)
	}
	return rt.RoundTrip(o.request.WithContext(o.limit.Context))
}

// again is an http.Request's GetBody, for when a kept connection turns out closed.
func (o *outgoing) again() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(o.payload)), nil
}

// send makes the request and fills res with the answer. Its error says that no whole answer came.
func (c *httpClient) send(limit h1.Limit, rt http.RoundTripper, t *target, ev *Event, header http.Header, res *attemptResult) error {
	o := &outgoing{
		limit:   limit,
		message: Message{Method: http.MethodPost, URL: t.url, Header: header, Body: ev.Payload, EventID: ev.ID},
		payload: ev.Payload,
	}
	if t.signer != nil {
		if err := t.signer.SignMessage(&o.message, res.StartedAt); err != nil {
			return &requestError{err}
		}
	}
	o.request = http.Request{
		Method: http.MethodPost, URL: t.url, Host: t.url.Host, Header: o.message.Header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
	}
	req := &o.request
	if len(ev.Payload) > 0 {
		o.body.Reset(ev.Payload)
		// net/http knows this form to be in memory and sends it in one piece with the headers; any other costs a system call.
		req.Body, req.GetBody, req.ContentLength = io.NopCloser(&o.body), o.again, int64(len(ev.Payload))
	}
	resp, err := o.roundTrip(rt)
	if err != nil {
		return err
	}
	res.Status = resp.StatusCode
	if len(resp.Header["Retry-After"]) > 0 {
		res.RetryAfter = retryAfter(resp.Header, time.Now(), c.maxRetryAfter)
	}
	res.Response, err = c.readAnswer(resp)
	res.Response = t.hide(res.Response)
	return err
}

// readAnswer returns the beginning of the body and reads somewhat on, so that the connection can be used again. A body
// that is longer than that is no error: the rest is not wanted, and the connection is closed.
func (c *httpClient) readAnswer(resp *http.Response) (kept []byte, err error) {
	defer resp.Body.Close()
	if resp.ContentLength == 0 { // also of 101, which nobody asked for and whose body would be the bare connection
		return nil, nil
	}
	buf := c.buffers.Get().(*[keptResponse]byte)
	defer c.buffers.Put(buf)
	n := 0
	for n < len(buf) && err == nil {
		var m int
		m, err = resp.Body.Read(buf[n:])
		n += m
	}
	if n > 0 {
		kept = append(make([]byte, 0, n), buf[:n]...)
	}
	if err == nil && !resp.Close && resp.ContentLength <= keptResponse+drainedResponse {
		err = drain(resp.Body, buf[:])
	}
	if err == io.EOF {
		err = nil
	}
	return kept, err
}

// drain reads at most drainedResponse bytes of body and drops them.
func drain(body io.Reader, buf []byte) (err error) {
	for n := 0; n < drainedResponse && err == nil; {
		var m int
		m, err = body.Read(buf)
		n += m
	}
	return err
}
