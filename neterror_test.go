package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/signalpost/webhook/internal/safedial"
)

func dialError(err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
}

func TestNetErrorKind(t *testing.T) {
	blocked := safedial.Check(netip.MustParseAddr("10.0.0.7"))
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{&net.DNSError{Err: "no such host", Name: "x.example", IsNotFound: true}, NetErrorDNS},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "i/o timeout", IsTimeout: true}}, NetErrorDNS},
		{dialError(syscall.ECONNREFUSED), NetErrorRefused},
		{dialError(syscall.ECONNRESET), NetErrorReset},
		{dialError(syscall.EPIPE), NetErrorReset},
		{dialError(syscall.EHOSTUNREACH), NetErrorUnreachable},
		{dialError(syscall.ENETUNREACH), NetErrorUnreachable},
		{dialError(syscall.ETIMEDOUT), NetErrorTimeout},
		{dialError(syscall.EMFILE), NetErrorLocal},
		{dialError(syscall.EADDRNOTAVAIL), NetErrorLocal},
		{dialError(syscall.ENOTDIR), NetErrorOther},
		{dialError(os.ErrDeadlineExceeded), NetErrorTimeout},
		{context.DeadlineExceeded, NetErrorTimeout},
		{errAttemptTimeout, NetErrorTimeout},
		{fmt.Errorf("x: %w", errAttemptTimeout), NetErrorTimeout},
		{context.Canceled, NetErrorCanceled},
		{&net.OpError{Op: "dial", Net: "tcp", Err: blocked}, NetErrorBlocked},
		{fmt.Errorf("x: %w", ErrBlockedAddress), NetErrorBlocked},
		{&net.OpError{Op: "proxyconnect", Net: "tcp", Err: dialError(syscall.ECONNREFUSED)}, NetErrorProxy},
		{&net.OpError{Op: "socks connect", Net: "tcp", Err: errors.New("general SOCKS server failure")}, NetErrorProxy},
		{&proxyError{407, "407 Proxy Authentication Required"}, NetErrorProxy},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, NetErrorTLS},
		{x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"}, NetErrorTLS},
		{x509.CertificateInvalidError{Reason: x509.Expired}, NetErrorTLS},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, NetErrorTLS},
		{&net.OpError{Op: "remote error", Err: tls.AlertError(40)}, NetErrorTLS},
		{errors.New("tls: server selected unsupported protocol version 301"), NetErrorTLS},
		{io.EOF, NetErrorEOF},
		{fmt.Errorf("read: %w", io.ErrUnexpectedEOF), NetErrorEOF},
		{errors.New("http: server closed idle connection"), NetErrorEOF},
		{io.ErrClosedPipe, NetErrorReset},
		{textproto.ProtocolError("malformed MIME header line: x"), NetErrorProtocol},
		{errors.New("net/http: server response headers exceeded 65536 bytes; aborted"), NetErrorProtocol},
		{errors.New(`net/http: HTTP/1.x transport connection broken: malformed HTTP response "SSH-2.0"`), NetErrorProtocol},
		{errors.New("stream error: stream ID 1; PROTOCOL_ERROR"), NetErrorProtocol},
		{errors.New("stream error: stream ID 1; INTERNAL_ERROR; received from peer"), NetErrorReset},
		{errors.New("http2: server sent GOAWAY and closed the connection; LastStreamID=1"), NetErrorReset},
		{errors.New(`net/http: invalid header field name "a b"`), NetErrorRequest},
		{&requestError{ErrWeakSecret}, NetErrorRequest},
		{errors.New("something else"), NetErrorOther},
	} {
		if got := NetErrorKind(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}

func TestErrorDetail(t *testing.T) {
	long := strings.Repeat("é", 1000)
	for _, c := range []struct{ in, want string }{
		{"plain text", "plain text"},
		{`Post "https://user:hunter2@shop.example/hook?token=s3cret&x=1": EOF`, `Post "https://shop.example/hook?token=…&x=…": EOF`},
		{"proxy http://u:p@w@10.0.0.1:3128 refused", "proxy http://10.0.0.1:3128 refused"},
		{"GET /hook?key=s3cret#frag=s3cret failed", "GET /hook?key=… failed"},
		{"https://h/p?s3cret", "https://h/p?…"},
		{"is that so? yes, a=b", "is that so? yes, a=b"},
		{"a\x00b\r\nc\td\x7f\u0085\u2028", "a b  c d   "},
		{"bad \xff\xfe utf8", "bad \uFFFD utf8"},
		{"mail to a@b.example", "mail to a@b.example"},
		{long, strings.Repeat("é", (512-3)/2) + "…"},
	} {
		if got := cleanDetail(c.in); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
	mismatch := tls.RecordHeaderError{Msg: "first record", RecordHeader: [5]byte([]byte("HTTP/"))}
	if got := errorDetail(mismatch); !strings.Contains(got, "HTTP response to HTTPS client") {
		t.Errorf("plain HTTP on a TLS port reads %q", got)
	}
}

func FuzzErrorDetail(f *testing.F) {
	f.Add("Post https://u:p@h/p?a=b&c: x", "hunter2hunter2")
	f.Add("\xff\x00?=&://@", "topsecret")
	f.Fuzz(func(t *testing.T, noise, secret string) {
		got := cleanDetail(noise)
		if len(got) > maxDetail || !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\r\n") {
			t.Errorf("%q gives %q", noise, got)
		}
		if again := cleanDetail(got); len(again) > maxDetail {
			t.Errorf("%q gives %q", got, again)
		}
		if len(secret) < 8 || strings.ContainsAny(secret, " \"'<>`@/?#&=") || strings.Contains(noise, secret) || strings.Contains("https://h.example/p", secret) {
			return
		}
		for _, form := range []string{"https://u:%s@h.example/p", "https://%s@h.example", "https://h.example/p?k=%s", "/p?a=1&k=%s#x", "https://h.example?%s"} {
			if got := cleanDetail("Post \"" + fmt.Sprintf(form, secret) + "\": " + noise); strings.Contains(got, secret) {
				t.Errorf("%q shows the secret %q", got, secret)
			}
		}
	})
}
