package webhook

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

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

// An endpoint's own proxy, by a name, is judged when it is dialled; the dispatcher's may be anywhere.
func TestProxyNameIsGuarded(t *testing.T) {
	for _, tc := range []struct {
		proxy          string // %s: host and port
		own            bool   // of the endpoint
		allow, reached bool
	}{
		{"http://%s", true, false, false}, {"https://%s", true, false, false}, {"socks5://%s", true, false, false},
		{"http://%s", true, true, true}, {"http://%s", false, false, true},
	} {
		srv := newRawServer(t, func(net.Conn) {})
		_, port, _ := net.SplitHostPort(srv.addr)
		proxy := fmt.Sprintf(tc.proxy, "proxy.example:"+port)
		o, ep := &clientOptions{resolver: fakeResolver(t, "127.0.0.1")}, &Endpoint{AllowPrivate: tc.allow}
		if ep.Proxy = proxy; !tc.own {
			ep.Proxy = ""
			o.Proxy, _ = url.Parse(proxy)
		}
		c := mustClient(t, o)
		pools := &transports{base: c.options}
		rt, err := pools.get(ep)
		if err != nil {
			t.Fatal(err)
		}
		res := c.attempt(t.Context(), mustTarget(t, "http://hooks.example/", target{transport: rt, allowPrivate: tc.allow}), &testEvent, nil)
		if blocked := res.Kind == NetErrorBlocked; blocked == tc.reached || (srv.accepted.Load() > 0) != tc.reached {
			t.Errorf("%+v: %+v, %d connections", tc, res, srv.accepted.Load())
		}
		pools.closeIdle()
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
		"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]",
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
