package webhooktest

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// Change makes a [SignedRequest] another than the usual.
type Change func(*signing)

// signing is what a request is made of.
type signing struct {
	profile webhook.Profile
	secrets []webhook.Secret
	url     string
	id      string
	at      time.Time
	header  http.Header
	body    []byte
	outside int                                                   // -1: signed too long ago; 1: too far ahead
	after   []func(t testing.TB, req *http.Request, body *[]byte) // changes to what was signed
}

// SignedRequest is a POST of body as a system sends it: signed now by the profile under the secret, with the event ID "evt_test" where the format has
// one, and Content-Type application/json. It is a server's request, fit for a handler's ServeHTTP, and with [URL] for a client. It fails
// the test when it cannot be signed.
func SignedRequest(t testing.TB, p webhook.Profile, secret webhook.Secret, body []byte, changes ...Change) *http.Request {
	t.Helper()
	s := signing{
		profile: p, secrets: []webhook.Secret{secret}, url: "https://receiver.example/webhooks", id: "evt_test", at: time.Now(),
		header: http.Header{"Content-Type": {"application/json"}, "User-Agent": {"webhooktest"}}, body: bytes.Clone(body),
	}
	for _, change := range changes {
		change(&s)
	}
	u, err := url.Parse(s.url)
	if err != nil || u.Host == "" {
		t.Fatalf("webhooktest: %q is not an absolute URL", s.url)
	}
	if s.outside != 0 {
		s.at = s.at.Add(time.Duration(s.outside) * (tolerance(t, p) + time.Second))
	}
	signer, err := p.Signer(s.secrets...)
	if err != nil {
		t.Fatalf("webhooktest: %v", err)
	}
	m := &webhook.Message{Method: http.MethodPost, URL: u, Header: s.header, Body: s.body, EventID: s.id}
	if err := signer.SignMessage(m, s.at); err != nil {
		t.Fatalf("webhooktest: %v", err)
	}
	req := &http.Request{
		Method: m.Method, URL: u, Host: u.Host, RequestURI: "", Header: s.header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	sent := s.body
	for _, change := range s.after {
		change(t, req, &sent)
	}
	req.ContentLength = int64(len(sent))
	req.Body = io.NopCloser(bytes.NewReader(sent))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(sent)), nil }
	req.RemoteAddr = "93.184.214.1:1025"
	return req.WithContext(t.Context())
}

// tolerance is how far the profile lets a timestamp be off.
func tolerance(t testing.TB, p webhook.Profile) time.Duration {
	t.Helper()
	switch {
	case p.Tolerance < 0:
		t.Fatalf("webhooktest: profile %q has no freshness rule: no request is stale", p.Name)
	case p.Tolerance == 0:
		return webhook.DefaultTolerance
	}
	return p.Tolerance
}

// At signs at a time, instead of now.
func At(at time.Time) Change { return func(s *signing) { s.at = at } }

// Stale signs a second longer ago than the profile's tolerance: verifiers refuse it ([webhook.ErrTimestampTooOld]). It fails the test
// where the profile has no freshness rule.
func Stale() Change { return func(s *signing) { s.outside = -1 } }

// Ahead signs a second further in the future than the profile's tolerance ([webhook.ErrTimestampTooNew]).
func Ahead() Change { return func(s *signing) { s.outside = 1 } }

// ID is the event's ID, where the format has one.
func ID(id string) Change { return func(s *signing) { s.id = id } }

// URL is where the request goes; unless it is given, https://receiver.example/webhooks.
func URL(rawURL string) Change { return func(s *signing) { s.url = rawURL } }

// Also signs with more secrets after the first, as a sender does that changes over, where the format carries several signatures.
func Also(secrets ...webhook.Secret) Change {
	return func(s *signing) { s.secrets = append(s.secrets, secrets...) }
}

// Header sets a header after signing, over what the signature has set there.
func Header(name, value string) Change {
	return func(s *signing) {
		s.after = append(s.after, func(_ testing.TB, req *http.Request, _ *[]byte) { req.Header.Set(name, value) })
	}
}

// Tampered changes one byte of the body after signing, in its middle ([webhook.ErrSignatureMismatch]). It fails the test where there is no body.
func Tampered() Change {
	return func(s *signing) {
		s.after = append(s.after, func(t testing.TB, _ *http.Request, body *[]byte) {
			t.Helper()
			if len(*body) == 0 {
				t.Fatalf("webhooktest: there is no body to tamper with")
			}
			changed := bytes.Clone(*body)
			changed[len(changed)/2] ^= 1
			*body = changed
		})
	}
}

// Unsigned leaves out what signing has set ([webhook.ErrHeaderMissing]).
func Unsigned() Change {
	return func(s *signing) {
		before := s.header.Clone()
		s.after = append(s.after, func(_ testing.TB, req *http.Request, _ *[]byte) {
			for name := range req.Header {
				if _, ok := before[name]; !ok {
					delete(req.Header, name)
				}
			}
		})
	}
}

// Forged signs with a secret that nobody knows ([webhook.ErrSignatureMismatch]).
func Forged() Change {
	return func(s *signing) { s.secrets = []webhook.Secret{webhook.GenerateSecret()} }
}
