package webhook

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	hostileLimit = 300 * time.Millisecond
	maxRead      = 1 << 20
)

// limitFor is short where the limit must be reached, and beyond what a busy machine needs where it must not.
func limitFor(kinds string) time.Duration {
	if strings.Contains(kinds, NetErrorTimeout) {
		return hostileLimit
	}
	return 20 * time.Second
}

func TestAttemptHostileReceivers(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\n"
	forever := func(c net.Conn, piece string) {
		for b := bytes.Repeat([]byte(piece), max(1, 4096/len(piece))); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
	drip := func(c net.Conn, text string) {
		for {
			for i := range len(text) {
				if _, err := c.Write([]byte{text[i]}); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}
	}
	say := func(text string) func(net.Conn) {
		return afterRequest(func(c net.Conn) { io.WriteString(c, text) })
	}
	sayReset := func(text string) func(net.Conn) {
		return afterRequest(func(c net.Conn) {
			io.WriteString(c, text)
			time.Sleep(20 * time.Millisecond) // let it arrive: a reset overtakes what is not yet read
			reset(c)
		})
	}
	hang := func(c net.Conn) { io.Copy(io.Discard, c) }
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(make([]byte, 32<<20))
	z.Close()

	for _, c := range []struct {
		name   string
		serve  func(net.Conn)
		kinds  string // those possible, separated by spaces; "" is none
		status int
		kept   int // bytes of response; -1: any
	}{
		{"never answers", hang, "timeout", 0, 0},
		{"answers headers, never the body", afterRequest(func(c net.Conn) { io.WriteString(c, ok+"Content-Length: 5\r\n\r\n"); hang(c) }), "timeout", 200, 0},
		{"drips its headers", afterRequest(func(c net.Conn) { io.WriteString(c, ok); drip(c, "X-A: b\r\n") }), "timeout", 0, 0},
		{"drips its body", afterRequest(func(c net.Conn) { io.WriteString(c, ok+"\r\n"); drip(c, "drip ") }), "timeout", 200, -1},
		{"drips its status", afterRequest(func(c net.Conn) { drip(c, "H") }), "timeout", 0, 0},
		{"endless body", afterRequest(func(c net.Conn) { io.WriteString(c, ok+"\r\n"); forever(c, "x") }), "", 200, keptResponse},
		{"endless chunks", afterRequest(func(c net.Conn) {
			io.WriteString(c, ok+"Transfer-Encoding: chunked\r\n\r\n")
			forever(c, "1000\r\n"+strings.Repeat("x", 4096)+"\r\n")
		}), "", 200, keptResponse},
		{"endless tiny chunks", afterRequest(func(c net.Conn) { io.WriteString(c, ok+"Transfer-Encoding: chunked\r\n\r\n"); forever(c, "1\r\nx\r\n") }), "protocol ", 200, -1},
		{"endless chunk extensions", afterRequest(func(c net.Conn) {
			io.WriteString(c, ok+"Transfer-Encoding: chunked\r\n\r\n1;")
			forever(c, "x")
		}), "protocol", 200, 0},
		{"endless headers", afterRequest(func(c net.Conn) { io.WriteString(c, ok); forever(c, "X-A: b\r\n") }), "protocol", 0, 0},
		{"endless header line", afterRequest(func(c net.Conn) { io.WriteString(c, ok+"X-A: "); forever(c, "b") }), "protocol", 0, 0},
		{"endless status line", afterRequest(func(c net.Conn) { forever(c, "H") }), "protocol", 0, 0},
		{"endless trailers", afterRequest(func(c net.Conn) {
			io.WriteString(c, ok+"Transfer-Encoding: chunked\r\n\r\n0\r\n")
			forever(c, "X-A: b\r\n")
		}), "protocol", 200, 0},
		{"1xx flood", afterRequest(func(c net.Conn) { forever(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") }), "protocol", 0, 0},
		{"100 flood", afterRequest(func(c net.Conn) { forever(c, "HTTP/1.1 100 Continue\r\n\r\n") }), "protocol", 0, 0},
		{"1xx drip", afterRequest(func(c net.Conn) { drip(c, "HTTP/1.1 102 Processing\r\n\r\n") }), "timeout", 0, 0},
		{"switches protocols unasked", afterRequest(func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
			hang(c)
		}), "", 101, 0},
		{"resets at once", reset, "reset eof", 0, 0},
		{"resets after the request", afterRequest(reset), "reset eof", 0, 0},
		{"resets in the status line", sayReset("HTTP/1.1 2"), "reset eof protocol", 0, 0},
		{"resets in the headers", sayReset(ok + "X-A:"), "reset eof", 0, 0},
		{"resets before the body", sayReset(ok + "Content-Length: 5\r\n\r\n"), "reset eof", 200, 0},
		{"resets in the body", sayReset(ok + "Content-Length: 5\r\n\r\nab"), "reset eof", 200, 2},
		{"resets in a chunk", sayReset(ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nab"), "reset eof", 200, 2},
		{"closes at once", func(c net.Conn) {}, "eof reset", 0, 0},
		{"closes after the request", afterRequest(func(net.Conn) {}), "eof", 0, 0},
		{"closes in the headers", say(ok + "X-A:"), "eof", 0, 0},
		{"closes in the body", say(ok + "Content-Length: 5\r\n\r\nab"), "eof", 200, 2},
		{"closes where the body may end", say(ok + "\r\nab"), "", 200, 2},
		{"answers before it reads", func(c net.Conn) { io.WriteString(c, ok+"Content-Length: 0\r\n\r\n"); hang(c) }, " protocol", -1, 0},
		{"gzip bomb", afterRequest(func(c net.Conn) {
			fmt.Fprintf(c, "%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", ok, bomb.Len())
			c.Write(bomb.Bytes())
		}), "", 200, -1},
		{"NUL bytes in the body", say(ok + "Content-Length: 3\r\n\r\na\x00b"), "", 200, 3},
		{"NUL bytes in a header", say(ok + "X-A: a\x00b\r\n\r\n"), "protocol", 0, 0},
		{"NUL bytes in the status", say("HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n"), " protocol", -1, 0},
		{"speaks SSH", say("SSH-2.0-OpenSSH_9.2\r\n"), "protocol", 0, 0},
		{"status 999", say("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"), "", 999, 0},
		{"status 000", say("HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n"), " protocol", 0, 0},
		{"status -20", say("HTTP/1.1 -20 Odd\r\nContent-Length: 0\r\n\r\n"), "protocol", 0, 0},
		{"contradicting lengths", say(ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), "protocol", 0, 0},
		{"negative length", say(ok + "Content-Length: -1\r\n\r\nab"), "protocol", 0, 0},
		{"huge length", say(ok + "Content-Length: 9223372036854775807\r\n\r\nab"), "eof", 200, 2},
		{"overflowing length", say(ok + "Content-Length: 92233720368547758070\r\n\r\nab"), "protocol", 0, 0},
		{"binary noise", say("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xff\xfe\r\n\r\n"), "protocol", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := newRawServer(t, c.serve)
			var n traffic
			client := mustClient(t, &clientOptions{AllowPrivate: true, dial: n.dial})
			limit := limitFor(c.kinds)
			tg := mustTarget(t, srv.url, target{timeout: limit})
			started := time.Now()
			res := client.attempt(context.Background(), tg, &testEvent, nil)
			if took := time.Since(started); took > limit+time.Second {
				t.Errorf("took %v, the limit is %v", took, limit)
			}
			if n.read.Load() > maxRead {
				t.Errorf("read %d bytes", n.read.Load())
			}
			if !slices.Contains(strings.Split(c.kinds, " "), res.Kind) || c.status >= 0 && res.Status != c.status || c.kept >= 0 && len(res.Response) != c.kept {
				t.Errorf("got %d %q (%s) and %d bytes, want %d %q and %d", res.Status, res.Kind, res.Detail, len(res.Response), c.status, c.kinds, c.kept)
			}
			if (res.Kind == "") != (res.Detail == "") || len(res.Detail) > maxDetail || strings.ContainsAny(res.Detail, "\x00\r\n") || len(res.Response) > keptResponse {
				t.Errorf("kind %q, detail %q, %d bytes", res.Kind, res.Detail, len(res.Response))
			}
			if want := res.Kind == "" && res.Status == 200; res.delivered(SuccessRule{}) != want {
				t.Errorf("delivered is %v", !want)
			}
		})
	}
}

// A receiver that does not read a large payload.
func TestAttemptReceiverDoesNotRead(t *testing.T) {
	srv := newRawServer(t, func(c net.Conn) { time.Sleep(4 * hostileLimit) })
	c := mustClient(t, &clientOptions{AllowPrivate: true})
	ev := Event{ID: "evt_1", Payload: make([]byte, 32<<20)}
	started := time.Now()
	res := c.attempt(context.Background(), mustTarget(t, srv.url, target{timeout: hostileLimit}), &ev, nil)
	if took := time.Since(started); res.Kind != NetErrorTimeout || took > hostileLimit+time.Second {
		t.Errorf("got %+v after %v", res, took)
	}
}

// The receiver answers early and hangs up while the payload is still being written: the answer may be lost, the attempt is not.
func TestAttemptReceiverAnswersEarly(t *testing.T) {
	srv := newRawServer(t, func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		time.Sleep(50 * time.Millisecond)
	})
	c := mustClient(t, &clientOptions{AllowPrivate: true})
	ev := Event{ID: "evt_1", Payload: make([]byte, 8<<20)}
	res := c.attempt(context.Background(), mustTarget(t, srv.url, target{timeout: 5 * time.Second}), &ev, nil)
	if res.Status != 413 && res.Kind != NetErrorReset {
		t.Errorf("got %+v", res)
	}
}

func TestAttemptHostileHTTP2(t *testing.T) {
	body := make([]byte, 64<<10)
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		kinds  string
		status int
	}{
		"never answers": {func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "timeout", 0},
		"never ends its body": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "timeout", 200},
		"endless body": {func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(body); err != nil {
					return
				}
			}
		}, "", 200},
		"1xx flood": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", strings.Repeat("x", 1000))
			for r.Context().Err() == nil {
				w.WriteHeader(103)
			}
		}, "protocol reset", 0},
		"huge headers": {func(w http.ResponseWriter, r *http.Request) {
			for i := range 200 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
			}
		}, "protocol", 0},
		"panics": {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "reset", 0},
		"panics after its headers": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "reset", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewUnstartedServer(c.handle)
			srv.EnableHTTP2 = true
			srv.StartTLS()
			defer srv.Close()
			defer srv.CloseClientConnections()
			var n traffic
			client := mustClient(t, &clientOptions{AllowPrivate: true, TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig, dial: n.dial})
			defer client.closeIdle()
			limit := limitFor(c.kinds)
			started := time.Now()
			res := client.attempt(context.Background(), mustTarget(t, srv.URL, target{timeout: limit}), &testEvent, nil)
			if took := time.Since(started); took > limit+time.Second {
				t.Errorf("took %v", took)
			}
			if n.read.Load() > maxRead {
				t.Errorf("read %d bytes", n.read.Load())
			}
			if !slices.Contains(strings.Split(c.kinds, " "), res.Kind) || res.Status != c.status {
				t.Errorf("got %d %q (%s), want %d %q", res.Status, res.Kind, res.Detail, c.status, c.kinds)
			}
		})
	}
}

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

func TestAttemptNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := mustClient(t, &clientOptions{AllowPrivate: true})
	if res := c.attempt(context.Background(), mustTarget(t, "http://"+l.Addr().String(), target{}), &testEvent, nil); res.Kind != NetErrorRefused {
		t.Errorf("got %+v", res)
	}
	c = mustClient(t, &clientOptions{resolver: fakeResolver(t)})
	if res := c.attempt(context.Background(), mustTarget(t, "http://hooks.example", target{}), &testEvent, nil); res.Kind != NetErrorDNS {
		t.Errorf("got %+v", res)
	}
}

// fakeResolver answers the n-th question for IPv4 addresses with the n-th of answers, and the last for ever; several in one,
// separated by spaces. No answers: the name does not exist.
func fakeResolver(t testing.TB, answers ...string) *net.Resolver {
	var asked atomic.Int64
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			for {
				var size [2]byte // over a pipe the resolver speaks DNS as on TCP
				if _, err := io.ReadFull(server, size[:]); err != nil {
					return
				}
				question := make([]byte, int(size[0])<<8|int(size[1]))
				if _, err := io.ReadFull(server, question); err != nil {
					return
				}
				answer := answerDNS(question, func() []string {
					if len(answers) == 0 {
						return nil
					}
					i := min(int(asked.Add(1)), len(answers)) - 1
					return strings.Fields(answers[i])
				})
				server.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
			}
		}()
		return client, nil
	}}
}

// answerDNS makes the answer to a question of one name: addresses() for A, nothing for others.
func answerDNS(question []byte, addresses func() []string) []byte {
	end := 12
	for question[end] != 0 {
		end += 1 + int(question[end])
	}
	end += 5 // root label, type, class
	var found []string
	if question[end-3] == 1 { // A
		found = addresses()
	}
	flags := byte(0x80)
	if found == nil {
		flags = 0x83 // no such name
	}
	out := append([]byte{question[0], question[1], 0x85, flags, 0, 1, 0, byte(len(found)), 0, 0, 0, 0}, question[12:end]...)
	for _, a := range found {
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		out = append(out, net.ParseIP(a).To4()...)
	}
	return out
}

// A name that turns to an address which is not public is refused when it is dialled, whatever it was before; no socket is opened.
func TestAttemptDNSRebinding(t *testing.T) {
	srv := newRawServer(t, func(net.Conn) {})
	_, port, _ := net.SplitHostPort(srv.addr)
	for _, answers := range [][]string{
		{"127.0.0.1"}, {"198.51.100.1 127.0.0.1"}, {"127.0.0.1 10.0.0.1"}, {"169.254.169.254"}, {"0.0.0.0"},
	} {
		c := mustClient(t, &clientOptions{resolver: fakeResolver(t, answers...)})
		tg := mustTarget(t, "http://hooks.example:"+port+"/", target{})
		if tg.blocked != nil {
			t.Fatalf("judged before it is resolved: %v", tg.blocked)
		}
		res := c.attempt(context.Background(), tg, &testEvent, nil)
		if res.Kind != NetErrorBlocked {
			t.Errorf("%v: got %+v", answers, res)
		}
	}
	if n := srv.accepted.Load(); n != 0 {
		t.Errorf("%d connections to a refused address", n)
	}
	// Allowed, the same name reaches the listener: the test can fail.
	c := mustClient(t, &clientOptions{resolver: fakeResolver(t, "127.0.0.1"), AllowPrivate: true})
	c.attempt(context.Background(), mustTarget(t, "http://hooks.example:"+port+"/", target{}), &testEvent, nil)
	if srv.accepted.Load() != 1 {
		t.Error("the listener cannot be reached at all")
	}
}

// The first answer is public, the second is not: whoever resolves once to check and once more to dial is caught.
func TestAttemptDNSRebindingBetweenAttempts(t *testing.T) {
	srv := newRawServer(t, func(net.Conn) {})
	_, port, _ := net.SplitHostPort(srv.addr)
	c := mustClient(t, &clientOptions{resolver: fakeResolver(t, "8.8.8.8", "127.0.0.1")})
	tg := mustTarget(t, "http://hooks.example:"+port+"/", target{timeout: 200 * time.Millisecond})
	first := c.attempt(context.Background(), tg, &testEvent, nil)
	second := c.attempt(context.Background(), tg, &testEvent, nil)
	if first.Kind == NetErrorBlocked || first.Kind == "" || second.Kind != NetErrorBlocked || srv.accepted.Load() != 0 {
		t.Errorf("first %+v, second %+v, %d connections", first, second, srv.accepted.Load())
	}
}

// Whatever is written in a URL, nothing connects to this machine.
func TestAttemptRefusesLiterals(t *testing.T) {
	srv := newRawServer(t, func(net.Conn) {})
	_, port, _ := net.SplitHostPort(srv.addr)
	c := mustClient(t, nil)
	for _, host := range []string{
		"127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "localhost", "LOCALHOST.", "x.localhost", "0.0.0.0", "0",
		"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "１２７.0.0.1", "①②⑦.0.0.1",
	} {
		tg := mustTarget(t, "http://"+host+":"+port+"/", target{timeout: 5 * time.Second})
		for _, blocked := range []error{tg.blocked, nil} { // at the door, and when only the dialler is left
			tg.blocked = blocked
			res := c.attempt(context.Background(), tg, &testEvent, nil)
			if res.Kind != NetErrorBlocked && (blocked != nil || res.Kind != NetErrorDNS && res.Kind != NetErrorOther) {
				t.Errorf("%s: got %+v", host, res)
			}
		}
	}
	if n := srv.accepted.Load(); n != 0 {
		t.Errorf("%d connections to a refused address", n)
	}
}

// In virtual time and over pipes: limits are exact, and nothing is left running.
func TestAttemptTimesOutExactly(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"silent": func(c net.Conn) { io.Copy(io.Discard, c) },
		"drips a byte every second": afterRequest(func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			for {
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := mustClient(t, &clientOptions{AllowPrivate: true, dial: func(context.Context, string, string) (net.Conn, error) {
					client, server := net.Pipe()
					go func() {
						defer server.Close()
						serve(server)
					}()
					return client, nil
				}})
				tg := mustTarget(t, "http://shop.example/hooks", target{timeout: 30 * time.Second})
				started := time.Now()
				res := c.attempt(t.Context(), tg, &testEvent, nil)
				if took := time.Since(started); took != 30*time.Second || res.Duration != took || res.Kind != NetErrorTimeout {
					t.Errorf("took %v: %+v", took, res)
				}
				time.Sleep(2 * time.Second) // the receiver notices; synctest fails if anything stays
			})
		})
	}
}

// A dial that hangs ends with the attempt, and then by itself.
func TestAttemptDialHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := mustClient(t, &clientOptions{AllowPrivate: true, dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, connectTimeout)
			defer cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		tg := mustTarget(t, "http://shop.example/hooks", target{timeout: 3 * time.Second})
		started := time.Now()
		res := c.attempt(t.Context(), tg, &testEvent, nil)
		if took := time.Since(started); took != 3*time.Second || res.Kind != NetErrorTimeout {
			t.Errorf("took %v: %+v", took, res)
		}
	})
}
