package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// The kinds of failure of an attempt that got no answer, or no whole one, as [NetErrorKind] names them and [Attempt.Error]
// records them.
const (
	NetErrorDNS         = "dns"         // the host name could not be resolved
	NetErrorRefused     = "refused"     // nothing listens there
	NetErrorUnreachable = "unreachable" // no route to the address
	NetErrorTimeout     = "timeout"     // the limit of the attempt, of connecting or of the TLS handshake was reached
	NetErrorTLS         = "tls"         // the certificate is not trusted, or the handshake failed
	NetErrorReset       = "reset"       // the connection was reset
	NetErrorEOF         = "eof"         // the connection ended before the answer did
	NetErrorProtocol    = "protocol"    // what was answered is not HTTP, or more than is read
	NetErrorBlocked     = "blocked"     // the address is not public and not allowed; nothing was sent
	NetErrorProxy       = "proxy"       // the caller's own proxy failed or refused
	NetErrorLocal       = "local"       // this machine is out of sockets, ports or memory; the receiver is not to blame
	NetErrorResolver    = "resolver"    // our own resolver does not answer; the receiver is not to blame
	NetErrorCanceled    = "canceled"    // the caller ended the attempt; the receiver is not to blame
	NetErrorRequest     = "request"     // the request could not be made or signed; nothing was sent
	NetErrorOther       = "other"       // none of these
)

// errAttemptTimeout is the cause with which an attempt's own time limit ends its context.
var errAttemptTimeout = errors.New("no complete answer within the time limit")

// requestError is a failure to make the request.
type requestError struct{ err error }

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

// proxyError is a proxy's refusal to connect.
type proxyError struct {
	status int
	text   string // with the status
}

func (e *proxyError) Error() string { return "proxy answered " + e.text }

// NetErrorKind names what went wrong with a request, from the error that net/http returned: one of the NetError constants,
// or "" for nil.
func NetErrorKind(err error) string {
	if err == nil {
		return ""
	}
	for _, kind := range []func(error) string{causeKind, timeoutKind, tlsKind, syscallKind, protocolKind} {
		if k := kind(err); k != "" {
			return k
		}
	}
	return NetErrorOther
}

// causeKind knows the errors that say themselves whose fault they are, whatever they wrap.
func causeKind(err error) string {
	if errors.Is(err, errAttemptTimeout) {
		return NetErrorTimeout
	}
	if errors.Is(err, ErrBlockedAddress) {
		return NetErrorBlocked
	}
	if fe, ok := errors.AsType[*faultError](err); ok {
		return fe.kind
	}
	if isAny[x509.SystemRootsError](err) {
		return NetErrorLocal
	}
	if _, ok := errors.AsType[*requestError](err); ok {
		return NetErrorRequest
	}
	if _, ok := errors.AsType[*proxyError](err); ok {
		return NetErrorProxy
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "proxyconnect" || op.Op == "socks connect") {
		return NetErrorProxy
	}
	if errors.Is(err, context.Canceled) {
		return NetErrorCanceled
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return NetErrorDNS
	}
	if _, ok := errors.AsType[*net.AddrError](err); ok {
		return NetErrorDNS
	}
	return ""
}

func timeoutKind(err error) string {
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return NetErrorTimeout
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return NetErrorTimeout
	}
	return ""
}

func tlsKind(err error) string {
	if isAny[*tls.CertificateVerificationError](err) || isAny[tls.RecordHeaderError](err) || isAny[tls.AlertError](err) ||
		isAny[*tls.ECHRejectionError](err) || isAny[x509.UnknownAuthorityError](err) || isAny[x509.HostnameError](err) ||
		isAny[x509.CertificateInvalidError](err) || errors.Is(err, http.ErrSchemeMismatch) {
		return NetErrorTLS
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "remote error" || op.Op == "local error") {
		return NetErrorTLS // alerts, whose type crypto/tls keeps to itself
	}
	for e := err; e != nil; e = errors.Unwrap(e) { // the rest of its errors has no type at all
		if text := e.Error(); strings.HasPrefix(text, "tls: ") || strings.HasPrefix(text, "x509: ") {
			return NetErrorTLS
		}
	}
	return ""
}

func isAny[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// syscallKinds is in the order of asking.
var syscallKinds = []struct {
	kind string
	errs []error
}{
	{NetErrorRefused, []error{syscall.ECONNREFUSED}},
	{NetErrorReset, []error{syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, io.ErrClosedPipe}},
	{NetErrorUnreachable, []error{syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EAFNOSUPPORT}},
	{NetErrorLocal, []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM}},
}

func syscallKind(err error) string {
	// With IPv6 the network may say EACCES (ICMPv6: prohibited), and a machine without it says EADDRNOTAVAIL.
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			if to, ok := op.Addr.(*net.TCPAddr); ok && to.IP.To4() == nil {
				return NetErrorUnreachable
			}
		}
	}
	for _, k := range syscallKinds {
		for _, e := range k.errs {
			if errors.Is(err, e) {
				return k.kind
			}
		}
	}
	return ""
}

// protocolKind knows net/http's own errors, most of which have no type, by their text.
func protocolKind(err error) string {
	if isAny[textproto.ProtocolError](err) {
		return NetErrorProtocol
	}
	text := err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(text, "server closed idle connection") {
		return NetErrorEOF
	}
	switch {
	case strings.Contains(text, "received from peer"), strings.Contains(text, "server sent GOAWAY"),
		strings.Contains(text, "client connection lost"):
		return NetErrorReset // HTTP/2's ways to hang up
	case strings.Contains(text, "net/http: invalid header"), strings.Contains(text, "net/http: invalid method"):
		return NetErrorRequest
	}
	for _, part := range protocolTexts {
		if strings.Contains(text, part) {
			return NetErrorProtocol
		}
	}
	return ""
}

var protocolTexts = []string{
	"transport connection broken", "malformed", "response headers exceeded", "http2: ", "stream error: ", "connection error: ",
	"chunk", "transfer encoding", "Content-Length", "suspiciously long trailer", "header line too long",
	unsolicited,
}

// unsolicited is in net/http's error for an answer that came before the request. It has no words for people.
const unsolicited = "readLoopPeekFailLocked"

// maxDetail is how many bytes of an error's text are recorded.
const maxDetail = 512

// errorDetail is the text of an error as it may be recorded and shown: without user info and query values of URLs, on one
// line of valid UTF-8, at most maxDetail bytes.
func errorDetail(err error) string {
	text := err.Error()
	if re, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(re.RecordHeader[:]) == "HTTP/" {
		text = http.ErrSchemeMismatch.Error()
	}
	if _, cause, ok := strings.Cut(text, unsolicited); ok {
		text = strings.TrimPrefix(cause, ": ")
		if strings.HasPrefix(text, "%!w") {
			text = "answered before the request was sent"
		}
	}
	return cleanDetail(text)
}

func cleanDetail(text string) string {
	text = text[:min(len(text), 16*maxDetail)] // the work is bounded too
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	text = redactURLs(text)
	if len(text) <= maxDetail {
		return text
	}
	const more = "…"
	cut := maxDetail - len(more)
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + more
}
