package webhook_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// issued is a secret of any text.
func issued(t testing.TB, text string) webhook.Secret {
	t.Helper()
	s, err := webhook.IssuedSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// clientCert is a client certificate and its key, as PEM.
func clientCert(t testing.TB) (cert []byte, key webhook.Secret) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), issued(t, string(keyPEM))
}

// The door names the field and the reason, and shows no secret.
func TestEndpointPoliciesAreCheckedAtTheDoor(t *testing.T) {
	cert, key := clientCert(t)
	_, otherKey := clientCert(t)
	const password = "hunter2hunter2"
	pw := issued(t, password)
	for _, tt := range []struct {
		field, reason string // reason "": it is fine
		change        func(ep *webhook.Endpoint)
	}{
		{"Health", "", func(ep *webhook.Endpoint) { ep.Health = webhook.Graduated() }},
		{"Health", "Kind is", func(ep *webhook.Endpoint) { ep.Health.Kind = "strict" }},
		{"Health", "HoldAfter is 0s", func(ep *webhook.Endpoint) { ep.Health = webhook.FailingFor(0) }},
		{"Verify", "", func(ep *webhook.Endpoint) { ep.Verify = webhook.VerifyPing }},
		{"Verify", `is "pong"`, func(ep *webhook.Endpoint) { ep.Verify = "pong" }},
		{"MaxBacklog", "is -1", func(ep *webhook.Endpoint) { ep.MaxBacklog = -1 }},
		{"WhenFull", "2 is no FullPolicy", func(ep *webhook.Endpoint) { ep.WhenFull = 2 }},
		{"Header", "", func(ep *webhook.Endpoint) {
			ep.Header = http.Header{"content-type": {"text/plain"}, "User-Agent": {"shop/1"}}
		}},
		{"Header", "Content-Length frames the request", func(ep *webhook.Endpoint) { ep.Header = http.Header{"content-length": {password}} }},
		{"Header", "X-A contains control characters", func(ep *webhook.Endpoint) { ep.Header = http.Header{"X-A": {password + "\n"}} }},
		{"Header", "Authorization is set by Auth", func(ep *webhook.Endpoint) {
			ep.Header, ep.Auth = http.Header{"authorization": {password}}, webhook.Bearer(pw)
		}},
		{"Auth", "", func(ep *webhook.Endpoint) { ep.Auth = webhook.Basic("Jürg", issued(t, "pässword")) }},
		{"Auth", "", func(ep *webhook.Endpoint) { ep.Auth = webhook.HeaderAuth("X-Api-Key", pw) }},
		{"Auth", "Kind is", func(ep *webhook.Endpoint) { ep.Auth = webhook.Auth{Secret: pw} }},
		{"Auth", "Secret is empty", func(ep *webhook.Endpoint) { ep.Auth = webhook.Bearer(webhook.Secret{}) }},
		{"Auth", "Secret has a character at byte 14", func(ep *webhook.Endpoint) { ep.Auth = webhook.Bearer(issued(t, password+" ")) }},
		{"Auth", "Name has a colon", func(ep *webhook.Endpoint) { ep.Auth = webhook.Basic("a:b", pw) }},
		{"Auth", "Name Signature belongs to the signature", func(ep *webhook.Endpoint) { ep.Auth = webhook.HeaderAuth("signature", pw) }},
		{"Auth", "Secret contains control characters", func(ep *webhook.Endpoint) { ep.Auth = webhook.HeaderAuth("X-K", issued(t, password+"\r\nX-B: c")) }},
		{"TLS", "", func(ep *webhook.Endpoint) { ep.TLS = webhook.ClientTLS{Certificate: cert, Key: key, RootCAs: cert} }},
		{"TLS", "Certificate and Key are no pair", func(ep *webhook.Endpoint) { ep.TLS = webhook.ClientTLS{Certificate: cert, Key: otherKey} }},
		{"TLS", "Key is empty", func(ep *webhook.Endpoint) { ep.TLS.Certificate = cert }},
		{"TLS", "Certificate is empty", func(ep *webhook.Endpoint) { ep.TLS.Key = key }},
		{"TLS", "RootCAs has no certificate", func(ep *webhook.Endpoint) { ep.TLS.RootCAs = []byte(password) }},
		{"TLS", "RootCAs has 65537 bytes", func(ep *webhook.Endpoint) { ep.TLS.RootCAs = bytes.Repeat([]byte("\n"), 64<<10+1) }},
		{"TLS", "ServerName", func(ep *webhook.Endpoint) { ep.TLS.ServerName = "shop.example:443" }},
		{"Proxy", "", func(ep *webhook.Endpoint) { ep.Proxy = "http://user:" + password + "@proxy.example:3128" }},
		{"Proxy", "", func(ep *webhook.Endpoint) { ep.Proxy = webhook.DirectProxy }},
		{"Proxy", `has scheme "ftp"`, func(ep *webhook.Endpoint) { ep.Proxy = "ftp://user:" + password + "@proxy.example" }},
		{"Proxy", "is not a URL", func(ep *webhook.Endpoint) { ep.Proxy = "http://user:" + password + "@pro xy.example" }},
		{"Proxy", "has no host", func(ep *webhook.Endpoint) { ep.Proxy = "http://user:" + password + "@/" }},
		{"Proxy", "allow it with AllowPrivate", func(ep *webhook.Endpoint) { ep.Proxy = "socks5://user:" + password + "@10.0.0.1:1080" }},
		{"Proxy", "", func(ep *webhook.Endpoint) { ep.Proxy, ep.AllowPrivate = "socks5://10.0.0.1:1080", true }},
		{"SequenceHeader", "", func(ep *webhook.Endpoint) { ep.SequenceHeader = "Webhook-Sequence" }},
		{"SequenceHeader", "is not a header name", func(ep *webhook.Endpoint) { ep.SequenceHeader = "a b" }},
		{"SequenceHeader", "Webhook-Id belongs to the signature", func(ep *webhook.Endpoint) { ep.SequenceHeader = "webhook-id" }},
		{"SequenceHeader", "X-Key is set by Auth", func(ep *webhook.Endpoint) {
			ep.SequenceHeader, ep.Auth = "x-key", webhook.HeaderAuth("X-Key", pw)
		}},
		{"Header", "X-Seq is set by SequenceHeader", func(ep *webhook.Endpoint) {
			ep.SequenceHeader, ep.Header = "x-seq", http.Header{"X-SEQ": {"1"}}
		}},
	} {
		t.Run(tt.field+" "+tt.reason, func(t *testing.T) {
			ep := endpoint(t, "acme")
			tt.change(&ep)
			_, err := webhook.NewDispatcher(memstore.New(), &webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{ep}})
			checkFieldError(t, err, tt.field, tt.reason)
			if err != nil && strings.Contains(fmt.Sprintf("%v %+v", err, err), password) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// checkFieldError wants a FieldError of a field whose reason has a part, or none when that is "".
func checkFieldError(t *testing.T, err error, field, reason string) {
	t.Helper()
	if reason == "" {
		if err != nil {
			t.Errorf("got %v, want none", err)
		}
		return
	}
	fe, ok := errors.AsType[*webhook.FieldError](err)
	if !ok || !errors.Is(err, webhook.ErrInvalid) {
		t.Fatalf("got %v, want a FieldError", err)
	}
	if fe.Field != field || !strings.Contains(fe.Reason, reason) {
		t.Errorf("got field %s, reason %q, want %s, … %s …", fe.Field, fe.Reason, field, reason)
	}
}

func TestHealthPolicyIsChecked(t *testing.T) {
	with := func(p webhook.HealthPolicy, change func(p *webhook.HealthPolicy)) webhook.HealthPolicy {
		change(&p)
		return p
	}
	for _, tt := range []struct {
		p             webhook.HealthPolicy
		field, reason string
	}{
		{webhook.HealthPolicy{}, "", ""},
		{webhook.Graduated(), "", ""},
		{webhook.NoHealth(), "", ""},
		{webhook.FailingFor(72 * time.Hour), "", ""},
		{with(webhook.Graduated(), func(p *webhook.HealthPolicy) { p.HoldAfter, p.Notice = -1, -1 }), "", ""},
		{webhook.HealthPolicy{SlowAfter: time.Minute}, "Kind", `is ""`},
		{webhook.FailingFor(-time.Hour), "HoldAfter", "more than 0"},
		{with(webhook.FailingFor(time.Hour), func(p *webhook.HealthPolicy) { p.ProbeEvery = time.Minute }), "ProbeEvery", `"failing" has no such field`},
		{with(webhook.NoHealth(), func(p *webhook.HealthPolicy) { p.HoldAfter = time.Hour }), "HoldAfter", `"off" has no such field`},
		{with(webhook.NoHealth(), func(p *webhook.HealthPolicy) { p.KeepHeld = true }), "KeepHeld", "nothing on hold"},
		{with(webhook.Graduated(), func(p *webhook.HealthPolicy) { p.SlowAfter = -1 }), "SlowAfter", "want 0 to"},
		{with(webhook.Graduated(), func(p *webhook.HealthPolicy) { p.HoldAfter = 366 * 24 * time.Hour }), "HoldAfter", "want 0 to"},
		{with(webhook.Graduated(), func(p *webhook.HealthPolicy) { p.ProbeEvery = time.Millisecond }), "ProbeEvery", "at least 1s"},
		{with(webhook.Graduated(), func(p *webhook.HealthPolicy) { p.ProbeAfter = time.Second }), "ProbeAfter", "at least SlowAfter"},
		{with(webhook.Graduated(), func(p *webhook.HealthPolicy) { p.HoldAfter = time.Minute }), "HoldAfter", "at least ProbeAfter"},
		{with(webhook.Graduated(), func(p *webhook.HealthPolicy) { p.Gap = time.Minute }), "Gap", "more than ProbeEvery"},
		{with(webhook.FailingFor(time.Hour), func(p *webhook.HealthPolicy) { p.Warn = 31 * time.Minute }), "Warn", "at most half"},
	} {
		t.Run(fmt.Sprintf("%+v", tt.p), func(t *testing.T) {
			checkFieldError(t, tt.p.Validate(), tt.field, tt.reason)
		})
	}
	bad := webhook.DefaultProfile()
	bad.Health.Kind = "strict"
	if _, err := webhook.NewDispatcher(memstore.New(), &webhook.DispatcherOptions{Profiles: []webhook.Profile{bad}}); !errors.Is(err, webhook.ErrInvalid) {
		t.Errorf("a profile with a malformed policy: got %v, want ErrInvalid", err)
	}
}

// When an event is sent, and until when, is checked, and is no part of what is stored.
func TestEventTimesAreChecked(t *testing.T) {
	store := memstore.New()
	d, err := webhook.NewDispatcher(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, err = d.Send(ctx, webhook.Event{Type: "a", TTL: -1})
	checkFieldError(t, err, "TTL", "is -1ns")
	_, err = d.Send(ctx, webhook.Event{Type: "a", SendAt: time.Now().Add(366 * 24 * time.Hour)})
	checkFieldError(t, err, "SendAt", "ahead")

	ev := webhook.Event{ID: "e", Type: "a", Payload: []byte("x")}
	if _, err = d.Send(ctx, ev); err != nil {
		t.Fatal(err)
	}
	ev.SendAt, ev.TTL = time.Now().Add(time.Hour), time.Hour
	if _, err = d.Send(ctx, ev); err != nil {
		t.Errorf("a repeat with other times: %v", err)
	}
	ev.ID = "e2"
	if _, err = d.Send(ctx, ev); err != nil {
		t.Fatal(err)
	}
	rec, err := store.GetEvent(ctx, "e2")
	if err != nil || !rec.Event.SendAt.IsZero() || rec.Event.TTL != 0 {
		t.Errorf("got %+v (%v), want neither SendAt nor TTL", rec, err)
	}
}

// Header names are brought into canonical form in a copy.
func TestPutEndpointLeavesItsArgument(t *testing.T) {
	d, err := webhook.NewDispatcher(memstore.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ep := endpoint(t, "acme")
	ep.Header = http.Header{"x-shop": {"a"}}
	if err := d.PutEndpoint(context.Background(), ep); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(http.Header{"x-shop": {"a"}}, ep.Header); diff != "" {
		t.Errorf("PutEndpoint changed its argument (-want +got):\n%s", diff)
	}
}
