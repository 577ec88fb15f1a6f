package webhook

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// certificate makes a server certificate for host, signed by itself.
func certificate(t *testing.T, host string, notAfter time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, NotBefore: notAfter.Add(-24 * time.Hour), NotAfter: notAfter,
		DNSNames: []string{host}, IPAddresses: []net.IP{net.ParseIP(host)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestAttemptBadTLS(t *testing.T) {
	tomorrow, yesterday := time.Now().Add(24*time.Hour), time.Now().Add(-24*time.Hour)
	good, goodPool := certificate(t, "127.0.0.1", tomorrow)
	expired, expiredPool := certificate(t, "127.0.0.1", yesterday)
	other, otherPool := certificate(t, "10.11.12.13", tomorrow)
	overTLS := func(c *tls.Config) func(net.Conn) {
		return func(conn net.Conn) {
			tc := tls.Server(conn, c)
			if _, _, err := readRequest(bufio.NewReader(tc)); err != nil {
				return
			}
			io.WriteString(tc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			tc.Close()
		}
	}
	for _, c := range []struct {
		name   string
		serve  func(net.Conn)
		pool   *x509.CertPool
		kinds  string
		detail string
	}{
		{"good", overTLS(&tls.Config{Certificates: []tls.Certificate{good}}), goodPool, "", ""},
		{"self-signed", overTLS(&tls.Config{Certificates: []tls.Certificate{good}}), nil, "tls", "unknown authority"},
		{"expired", overTLS(&tls.Config{Certificates: []tls.Certificate{expired}}), expiredPool, "tls", "expired"},
		{"wrong host", overTLS(&tls.Config{Certificates: []tls.Certificate{other}}), otherPool, "tls", "10.11.12.13"},
		{"no certificate", overTLS(&tls.Config{}), goodPool, "tls", ""},
		{"old version", overTLS(&tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS11}), goodPool, "tls", ""},
		{"wants a client certificate", overTLS(&tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert}), goodPool, "tls", "certificate required"},
		{"plain HTTP", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, goodPool, "tls", "HTTP response to HTTPS client"},
		{"noise", func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH\r\n") }, goodPool, "tls", ""},
		{"never shakes hands", func(c net.Conn) { io.Copy(io.Discard, c) }, goodPool, "timeout", ""},
		{"hangs up in the handshake", func(c net.Conn) { c.Read(make([]byte, 100)) }, goodPool, "eof reset", ""},
		{"resets in the handshake", func(c net.Conn) { c.Read(make([]byte, 5000)); reset(c) }, goodPool, "reset", ""},
		{"endless handshake", func(c net.Conn) {
			record := append([]byte{22, 3, 3, 0x40, 0}, make([]byte, 0x4000)...)
			for {
				if _, err := c.Write(record); err != nil {
					return
				}
			}
		}, goodPool, "tls", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := newRawServer(t, c.serve)
			var n traffic
			client := mustClient(t, &clientOptions{AllowPrivate: true, TLS: &tls.Config{RootCAs: c.pool}, dial: n.dial})
			tg := mustTarget(t, strings.Replace(srv.url, "http:", "https:", 1), target{timeout: limitFor(c.kinds)})
			started := time.Now()
			res := client.attempt(context.Background(), tg, &testEvent, nil)
			if took := time.Since(started); took > limitFor(c.kinds)+time.Second {
				t.Errorf("took %v", took)
			}
			if !slices.Contains(strings.Split(c.kinds, " "), res.Kind) || !strings.Contains(res.Detail, c.detail) || n.read.Load() > maxRead {
				t.Errorf("got %d %q (%s), want %q (%s); %d bytes read", res.Status, res.Kind, res.Detail, c.kinds, c.detail, n.read.Load())
			}
		})
	}
}
