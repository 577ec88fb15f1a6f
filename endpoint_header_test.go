package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/profile"
)

// Library default < event < hook < endpoint < credentials < signature; a receiver sees one value of each.
func TestEndpointHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := endpoint(t, "acme", "a")
		ep.Header = http.Header{"x-both": {"endpoint"}, "X-Own": {"1", "2"}, "user-agent": {"shop/3"}, "Traceparent": {"endpoint"}}
		ep.Auth = webhook.Bearer(issued(t, "tok3n"))
		other := endpoint(t, "other", "a")
		var seen http.Header
		r := run(t, webhook.DispatcherOptions{UserAgent: "dispatcher/1", Trace: &webhook.Trace{
			AttemptStart: func(ctx context.Context, info webhook.AttemptStartInfo) context.Context {
				if info.Delivery.EndpointID == "acme" {
					seen = info.Header.Clone()
				}
				info.Header.Set("Traceparent", "hook")
				info.Header.Set("Authorization", "hook")
				info.Header.Set("Signature", "hook")
				return ctx
			},
		}}, ep, other)
		r.send(t, webhook.Event{Type: "a", Header: http.Header{
			"X-Both": {"event"}, "X-Event": {"e"}, "Content-Type": {"text/plain"}, "Authorization": {"event"}, "X_Own": {"event"}, // which servers may take for X-Own
		}})
		time.Sleep(time.Second)
		r.stop()
		for _, got := range r.rc.requests() {
			want := http.Header{
				"X-Both": {"endpoint"}, "X-Own": {"1", "2"}, "User-Agent": {"shop/3"}, "Traceparent": {"endpoint"},
				"X-Event": {"e"}, "Content-Type": {"text/plain"}, "Authorization": {"Bearer tok3n"},
			}
			if strings.Contains(got.url, "other") {
				want = http.Header{
					"X-Both": {"event"}, "User-Agent": {"dispatcher/1"}, "Traceparent": {"hook"}, "X-Event": {"e"},
					"Content-Type": {"text/plain"}, "Authorization": {"hook"}, "X_own": {"event"},
				}
			}
			if s := got.header.Get("Signature"); len(s) != 64 {
				t.Errorf("signature %q", s)
			}
			for _, name := range []string{"Signature", "Timestamp", "Api-Version"} {
				got.header.Del(name)
			}
			if diff := cmp.Diff(want, got.header); diff != "" {
				t.Errorf("%s (-want +got):\n%s", got.url, diff)
			}
		}
		if n := len(r.rc.requests()); n != 2 {
			t.Fatalf("%d requests", n)
		}
		// Hooks write headers to traces: they see no credentials.
		if seen.Get("Authorization") != "event" || seen.Get("X-Own") != "" {
			t.Errorf("the hook saw %v", seen)
		}
	})
}

func TestAuth(t *testing.T) {
	for _, tc := range []struct {
		name   string
		auth   webhook.Auth
		header string
		want   string
	}{
		{"none", webhook.Auth{}, "Authorization", ""},
		{"bearer", webhook.Bearer(issued(t, "abc.def")), "Authorization", "Bearer abc.def"},
		{"basic", webhook.Basic("Aladdin", issued(t, "open sesame")), "Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}, // RFC 7617, 2
		{"basic, UTF-8", webhook.Basic("test", issued(t, "123£")), "Authorization", "Basic dGVzdDoxMjPCow=="},                // RFC 7617, 2.1
		{"header", webhook.HeaderAuth("x-api-key", issued(t, "k3y")), "X-Api-Key", "k3y"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ep := endpoint(t, "acme")
				ep.Auth = tc.auth
				r := run(t, webhook.DispatcherOptions{}, ep)
				res, err := r.SendTest(t.Context(), "acme", nil)
				if err != nil || !res.Delivered {
					t.Fatal(res, err)
				}
				if got := r.rc.requests()[0].header.Get(tc.header); got != tc.want {
					t.Errorf("%s: %q, want %q", tc.header, got, tc.want)
				}
			})
		})
	}
}

// What frames or signs a request is refused wherever an endpoint may name a header, with the field's name.
func TestReservedHeadersOfEndpoints(t *testing.T) {
	r := run(t, webhook.DispatcherOptions{Profiles: []webhook.Profile{ownProfile(), profile.GettBusiness("X-Sig")}})
	key := issued(t, "k3y")
	for _, tc := range []struct {
		field string
		set   func(ep *webhook.Endpoint)
	}{
		{"Header", func(ep *webhook.Endpoint) { ep.Header = http.Header{"Host": {"x"}} }},
		{"Header", func(ep *webhook.Endpoint) { ep.Header = http.Header{"content-length": {"0"}} }},
		{"Header", func(ep *webhook.Endpoint) { ep.Header = http.Header{"Content_Length": {"0"}} }},
		{"Header", func(ep *webhook.Endpoint) { ep.Header = http.Header{"Transfer-Encoding": {"chunked"}} }},
		{"Header", func(ep *webhook.Endpoint) { ep.Header = http.Header{"Webhook_Signature": {"x"}} }},
		{"Header", func(ep *webhook.Endpoint) { ep.Header = http.Header{"X-A": {"a\r\nX-B: b"}} }},
		{"Header", func(ep *webhook.Endpoint) { ep.Header = http.Header{"Own-Signature": {"x"}} }},
		{"Header", func(ep *webhook.Endpoint) { ep.Header = http.Header{"own_signature": {"x"}} }},
		{"Header", func(ep *webhook.Endpoint) { ep.Header, ep.SequenceHeader = http.Header{"X_Seq": {"x"}}, "X-Seq" }},
		{"Header", func(ep *webhook.Endpoint) {
			ep.Header, ep.Auth = http.Header{"authorization": {"x"}}, webhook.Bearer(key)
		}},
		{"Header", func(ep *webhook.Endpoint) { ep.Profile, ep.Header = "gettbusiness", http.Header{"x-sig": {"x"}} }},
		{"Auth", func(ep *webhook.Endpoint) { ep.Auth = webhook.HeaderAuth("Signature", key) }},
		{"Auth", func(ep *webhook.Endpoint) { ep.Auth = webhook.HeaderAuth("Host", key) }},
		{"Auth", func(ep *webhook.Endpoint) { ep.Auth = webhook.HeaderAuth("Proxy-Authorization", key) }},
		{"Auth", func(ep *webhook.Endpoint) { ep.Auth = webhook.HeaderAuth("own-signature", key) }},
		{"Auth", func(ep *webhook.Endpoint) { ep.Auth = webhook.Bearer(issued(t, "a b")) }},
		{"Auth", func(ep *webhook.Endpoint) { ep.Auth = webhook.Bearer(issued(t, "a\r\nX: b")) }},
		{"Auth", func(ep *webhook.Endpoint) { ep.Auth = webhook.Basic("a:b", key) }},
		{"Auth", func(ep *webhook.Endpoint) { ep.Auth = webhook.Auth{Kind: "digest", Secret: key} }},
		{"SequenceHeader", func(ep *webhook.Endpoint) { ep.SequenceHeader = "Timestamp" }},
		{"SequenceHeader", func(ep *webhook.Endpoint) { ep.SequenceHeader = "Own-Signature" }},
		{"SequenceHeader", func(ep *webhook.Endpoint) { ep.SequenceHeader, ep.Auth = "X-Seq", webhook.HeaderAuth("x-seq", key) }},
	} {
		ep := endpoint(t, "acme")
		ep.Profile = "own"
		tc.set(&ep)
		err := r.PutEndpoint(t.Context(), ep)
		var fe *webhook.FieldError
		if !errors.As(err, &fe) || fe.Field != tc.field || !strings.Contains(fe.Op, "acme") {
			t.Errorf("%s %v %v: error %v", tc.field, ep.Header, ep.Auth, err)
		}
		if err != nil && (strings.Contains(err.Error(), "k3y") || strings.Contains(err.Error(), "X: b")) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

// ownScheme is one of a user, which signs nothing on some requests.
type ownScheme struct{ webhook.Scheme }

func (ownScheme) Name() string          { return "own" }
func (ownScheme) HeaderNames() []string { return []string{"own-signature"} }
func (ownScheme) Sign(m *webhook.Message, _ []webhook.Secret, _ time.Time) error {
	if len(m.Body) > 0 {
		m.Header.Set("Own-Signature", "signed")
	}
	return nil
}

func ownProfile() webhook.Profile {
	p := webhook.DefaultProfile()
	p.Name, p.Scheme = "own", ownScheme{p.Scheme}
	return p
}

// Neither an event nor a hook forges the header of a user's own scheme.
func TestSchemeOfAUserKeepsItsHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := endpoint(t, "acme")
		ep.Profile = "own"
		r := run(t, webhook.DispatcherOptions{Profiles: []webhook.Profile{ownProfile()}, Trace: &webhook.Trace{
			AttemptStart: func(ctx context.Context, info webhook.AttemptStartInfo) context.Context {
				info.Header.Add("Own-Signature", "forged by a hook")
				info.Header.Add("Own_Signature", "forged by a hook")
				return ctx
			},
		}}, ep)
		for _, body := range []string{"", "x"} {
			r.send(t, webhook.Event{Type: "a", Payload: []byte(body), Header: http.Header{"Own-Signature": {"forged"}, "own_Signature": {"forged"}}})
			time.Sleep(time.Second)
		}
		r.stop()
		got := r.rc.requests()
		for _, g := range got {
			for name := range g.header {
				if strings.Contains(name, "_") {
					t.Errorf("%s was sent", name)
				}
			}
		}
		if len(got) != 2 || got[0].header["Own-Signature"] != nil || !cmp.Equal(got[1].header["Own-Signature"], []string{"signed"}) {
			t.Errorf("got %v", got)
		}
	})
}
