package h1

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	inline     = 64 << 10 // bodies up to here go out in one piece with the head
	maxInterim = 5        // 1xx answers before the answer
	sentWait   = 50 * time.Millisecond
)

// exchange is a request and its answer, whose body it is.
type exchange struct {
	t      *Transport
	c      *conn
	limit  *Limit
	watch  *watchedContext // of limit.Context; nil: none, then
	stop   func() bool     // the end of limit.Context interrupts no longer; false: it has
	reader *bufio.Reader
	answer http.Response // when it was plain
	plain  bounded       // its body
	body   io.Reader
	whole  bool       // the answer has been read to its end
	close  bool       // the connection cannot be used again
	sent   chan error // gets one value when a long body is written, and is closed then; nil: there is none
	ended  bool
}

// do writes the request and reads the head of the answer.
func (x *exchange) do(req *http.Request, body io.Reader, head []byte) (*http.Response, error) {
	x.c.left = x.t.MaxHeader
	x.reader = x.t.takeReader(x.c)
	failed := x.write(req, body, head)
	resp, err := x.read(req) // also when writing failed: the receiver may have answered before it hung up
	if err != nil {
		if failed != nil {
			err = failed
		}
		return nil, err
	}
	x.c.left = math.MaxInt64
	x.close = failed != nil || resp.Close || resp.StatusCode == http.StatusSwitchingProtocols
	if resp == &x.answer {
		x.body, x.whole = &x.plain, x.plain.left == 0
	} else {
		x.body, x.whole = resp.Body, resp.Body == http.NoBody
	}
	resp.Body = x
	return resp, nil
}

// write sends the head, with what fits in one piece with it, and leaves a long body to a goroutine that ends with it or with the connection:
// the receiver may answer before it has read all.
func (x *exchange) write(req *http.Request, body io.Reader, head []byte) error {
	if _, err := x.c.Write(head); err != nil || !isLong(req) {
		return err
	}
	x.sent = make(chan error, 1)
	go func() {
		defer close(x.sent)
		_, err := io.CopyN(x.c.Conn, body, req.ContentLength)
		x.sent <- err
	}()
	return nil
}

// isLong reports whether a request's body does not go out in one piece with the head.
func isLong(req *http.Request) bool { return req.ContentLength > inline }

// read reads the head of the answer, past interim ones.
func (x *exchange) read(req *http.Request) (*http.Response, error) {
	if _, err := x.reader.Peek(1); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if x.readPlain(req) {
		return &x.answer, nil
	}
	for range maxInterim + 1 {
		resp, err := http.ReadResponse(x.reader, req)
		if err != nil {
			return nil, err
		}
		switch {
		case resp.StatusCode < 100:
			return nil, fmt.Errorf("malformed HTTP status code %d", resp.StatusCode)
		case resp.StatusCode >= 200, resp.StatusCode == http.StatusSwitchingProtocols:
			return resp, nil
		}
	}
	return nil, fmt.Errorf("malformed HTTP response: more than %d interim answers", maxInterim)
}

// readPlain reads the head of the answer if that is plain and all of it has come, for a fifth of what net/http takes for it.
func (x *exchange) readPlain(req *http.Request) bool {
	if len(x.t.Fields) == 0 || req.Method == http.MethodHead {
		return false
	}
	text, _ := x.reader.Peek(x.reader.Buffered())
	p, ok := parsePlain(text, x.t.Fields)
	if !ok {
		return false
	}
	_, _ = x.reader.Discard(p.size)
	x.plain = bounded{from: x.reader, left: p.length}
	x.answer = http.Response{
		StatusCode: p.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: p.header, ContentLength: p.length, Request: req,
	}
	return true
}

// Read reads the answer's body.
func (x *exchange) Read(p []byte) (int, error) {
	if x.ended {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := x.body.Read(p)
	switch err {
	case nil:
	case io.EOF:
		x.whole = true
	default:
		x.close = true
		err = x.explain(err)
	}
	return n, err
}

// Close ends the exchange. An answer that has not been read to its end takes the connection with it.
func (x *exchange) Close() error {
	if !x.ended {
		x.end(x.whole && !x.close && x.reader.Buffered() == 0)
	}
	return nil
}

// end gives the connection back or closes it.
func (x *exchange) end(keep bool) {
	x.ended = true
	keep = x.unwatch() && keep && x.isSent()
	if x.reader != nil {
		x.reader.Reset(nil)
		x.t.readers.Put(x.reader)
		x.reader = nil
	}
	if keep && !x.limit.At.IsZero() {
		keep = x.c.raw.SetDeadline(time.Time{}) == nil
	}
	if keep {
		x.t.keep(x.c)
		return
	}
	_ = x.c.raw.Close()
	if x.sent != nil {
		<-x.sent // which ends with the connection
	}
}

// unwatch lets the end of limit.Context interrupt no longer, and reports false when it has.
func (x *exchange) unwatch() bool {
	if x.watch != nil {
		return x.watch.leave()
	}
	return x.stop()
}

// isSent reports whether the request has gone out whole. The answer to it can arrive before its writer learns that the last byte is gone,
// so a writer gets a moment to say so: else a connection in good order would be thrown away.
func (x *exchange) isSent() bool {
	if x.sent == nil {
		return true
	}
	moment := time.NewTimer(sentWait)
	defer moment.Stop()
	select {
	case err := <-x.sent:
		return err == nil
	case <-moment.C:
		return false
	}
}

// explain gives the end of the time as the reason for what it caused.
func (x *exchange) explain(err error) error {
	return cmp.Or(x.limit.over(), err)
}

// errRequest marks requests that cannot be sent as they are.
var errRequest = errors.New("net/http: invalid header or body")

// writeHead writes the request line and the headers, and a body that is not long. Names and values that would not arrive as they are given
// are an error.
func writeHead(b *bytes.Buffer, req *http.Request) error {
	target, host := req.URL.RequestURI(), hostHeader(req.Host, req.URL)
	switch {
	case !ValidName(req.Method):
		return fmt.Errorf("net/http: invalid method %.40q", req.Method)
	case !visible(target, ""):
		return fmt.Errorf("net/http: invalid header: request target with a control character or a space")
	case host == "" || !visible(host, "/?#@\\"):
		return fmt.Errorf("net/http: invalid header: Host %.40q", host)
	case req.ContentLength < 0:
		return fmt.Errorf("net/http: invalid header: body of unknown length")
	}
	b.WriteString(req.Method)
	b.WriteByte(' ')
	b.WriteString(target)
	b.WriteString(" HTTP/1.1\r\nHost: ")
	b.WriteString(host)
	b.WriteString("\r\nContent-Length: ")
	b.Write(strconv.AppendInt(b.AvailableBuffer(), req.ContentLength, 10))
	b.WriteString("\r\n")
	for name, values := range req.Header {
		if !ValidName(name) {
			return fmt.Errorf("net/http: invalid header field name %.40q", name)
		}
		switch http.CanonicalHeaderKey(name) {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer",
			"Connection", "Keep-Alive", "Proxy-Connection", "Upgrade", "Te", "Expect":
			continue // said by the request itself, or about a connection that is this package's
		}
		for _, v := range values {
			if !ValidValue(v) {
				return fmt.Errorf("net/http: invalid header field value for %.40q", name)
			}
			b.WriteString(name)
			b.WriteString(": ")
			b.WriteString(v)
			b.WriteString("\r\n")
		}
	}
	b.WriteString("\r\n")
	if req.ContentLength > 0 && !isLong(req) {
		want := int(req.ContentLength)
		b.Grow(want + 1) // one more, to see that there is no more
		n, err := io.ReadFull(req.Body, b.AvailableBuffer()[:want+1])
		if n != want || err != io.EOF && err != io.ErrUnexpectedEOF {
			return fmt.Errorf("h1: request body has %d bytes, want Content-Length %d: %w", n, want, errors.Join(err, errRequest))
		}
		b.Write(b.AvailableBuffer()[:want])
	}
	return nil
}

// hostHeader is the host without an IPv6 zone, which means nothing to others (RFC 6874, 1).
func hostHeader(host string, u *url.URL) string {
	if host == "" {
		host = u.Host
	}
	if from := strings.IndexByte(host, '%'); from > 0 && host[0] == '[' {
		if to := strings.IndexByte(host, ']'); to > from {
			return host[:from] + host[to:]
		}
	}
	return host
}

// visible reports whether s has no control characters, no space and none of not.
func visible(s, not string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || strings.IndexByte(not, c) >= 0 {
			return false
		}
	}
	return true
}

// ValidName reports whether s can be a header's name: a token (RFC 9110, 5.6.2) of at most 256 bytes.
func ValidName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

// ValidValue reports whether s has no control characters but tabs.
func ValidValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
