// Package interop tests our formats against other implementations of them, in a module of its own so that nobody who imports
// the library downloads those.
package interop

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/profile"
)

var bodies = []string{
	"",
	`{"test": 2432232314}`,
	"{\n\t\"type\" : \"order.paid\" }\r\n",
	"%d %s %!",
	"\x00\xff\xfe",
	"žluťoučký kůň 世界",
	strings.Repeat("0123456789abcdef", 1<<14),
}

func parse(t *testing.T, text string) webhook.Secret {
	t.Helper()
	s, err := webhook.ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func peer(t *testing.T, secret webhook.Secret) *standardwebhooks.Webhook {
	t.Helper()
	wh, err := standardwebhooks.NewWebhook(secret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return wh
}

func signer(t *testing.T, secrets ...webhook.Secret) *webhook.Signer {
	t.Helper()
	s, err := profile.StandardWebhooks().Signer(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verifier(t *testing.T, secrets ...webhook.Secret) *webhook.Verifier {
	t.Helper()
	v, err := profile.StandardWebhooks().Verifier(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// secrets are the forms in which users hold them.
func secrets(t *testing.T) []webhook.Secret {
	return []webhook.Secret{
		webhook.GenerateSecret(),
		parse(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
		parse(t, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
		parse(t, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD+/8="),
	}
}

func TestTheyAcceptWhatWeSign(t *testing.T) {
	for _, secret := range secrets(t) {
		ours, theirs := signer(t, secret), peer(t, secret)
		for i, body := range bodies {
			m := &webhook.Message{Header: http.Header{}, Body: []byte(body), EventID: fmt.Sprint("evt_", i)}
			if err := ours.SignMessage(m, time.Now()); err != nil {
				t.Fatal(err)
			}
			if err := theirs.Verify(m.Body, m.Header); err != nil {
				t.Errorf("body %d: %v", i, err)
			}
			if err := theirs.Verify([]byte(body+" "), m.Header); !errors.Is(err, standardwebhooks.ErrNoMatchingSignature) {
				t.Errorf("changed body %d: %v", i, err)
			}
			m.Header.Set("webhook-id", "evt_other")
			if err := theirs.Verify(m.Body, m.Header); !errors.Is(err, standardwebhooks.ErrNoMatchingSignature) {
				t.Errorf("changed id: %v", err)
			}
		}
	}
}

func theirHeader(t *testing.T, secret webhook.Secret, id string, at time.Time, body string) http.Header {
	t.Helper()
	signature, err := peer(t, secret).Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	h.Set(standardwebhooks.HeaderWebhookID, id)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, fmt.Sprint(at.Unix()))
	h.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return h
}

func TestWeAcceptWhatTheySign(t *testing.T) {
	for _, secret := range secrets(t) {
		ours := verifier(t, secret)
		for i, body := range bodies {
			now := time.Now()
			header := theirHeader(t, secret, "msg_1", now, body)
			got, err := ours.Verify(header, []byte(body))
			if err != nil || got.EventID != "msg_1" || got.Timestamp.Unix() != now.Unix() {
				t.Errorf("body %d: %+v, %v", i, got, err)
			}
			if _, err := ours.Verify(header, []byte(body+" ")); !errors.Is(err, webhook.ErrSignatureMismatch) {
				t.Errorf("changed body %d: %v", i, err)
			}
		}
	}
}

// Both sides sign alike, byte for byte.
func TestSameSignatures(t *testing.T) {
	at := time.Unix(1614265330, 0)
	for _, secret := range secrets(t) {
		for i, body := range bodies {
			m := &webhook.Message{Header: http.Header{}, Body: []byte(body), EventID: "msg_1"}
			if err := signer(t, secret).SignMessage(m, at); err != nil {
				t.Fatal(err)
			}
			want := theirHeader(t, secret, "msg_1", at, body)
			for name := range want {
				if got := m.Header.Get(name); got != want.Get(name) || len(m.Header) != len(want) {
					t.Errorf("body %d: %s is %q, theirs %q", i, name, got, want.Get(name))
				}
			}
		}
	}
}

func TestRotation(t *testing.T) {
	oldSecret, newSecret, other := webhook.GenerateSecret(), webhook.GenerateSecret(), webhook.GenerateSecret()
	body := bodies[1]
	m := &webhook.Message{Header: http.Header{}, Body: []byte(body), EventID: "msg_1"}
	if err := signer(t, newSecret, oldSecret).SignMessage(m, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []webhook.Secret{oldSecret, newSecret} { // receivers may change over at any time
		if err := peer(t, secret).Verify(m.Body, m.Header); err != nil {
			t.Errorf("our two signatures: %v", err)
		}
	}
	if err := peer(t, other).Verify(m.Body, m.Header); !errors.Is(err, standardwebhooks.ErrNoMatchingSignature) {
		t.Errorf("another secret: %v", err)
	}
	for i, secret := range []webhook.Secret{newSecret, oldSecret} { // and so may senders
		got, err := verifier(t, newSecret, oldSecret).Verify(theirHeader(t, secret, "msg_1", time.Now(), body), []byte(body))
		if err != nil || got.Secret != i {
			t.Errorf("their signature with secret %d: %+v, %v", i, got, err)
		}
	}
	two := theirHeader(t, oldSecret, "msg_1", time.Now(), body)
	two.Set("webhook-signature", two.Get("webhook-signature")+" "+theirHeader(t, newSecret, "msg_1", time.Now(), body).Get("webhook-signature"))
	two.Set("webhook-signature", "v1a,c2lnbmF0dXJl "+two.Get("webhook-signature"))
	if got, err := verifier(t, newSecret).Verify(two, []byte(body)); err != nil {
		t.Errorf("a list of theirs: %+v, %v", got, err)
	}
}

// What one side refuses, the other does too, and for the same reason.
func TestBothRefuse(t *testing.T) {
	secret := webhook.GenerateSecret()
	body := bodies[1]
	for _, tc := range []struct {
		name         string
		age          time.Duration
		change       func(http.Header)
		ours, theirs error
	}{
		{"no id", 0, func(h http.Header) { h.Del("webhook-id") }, webhook.ErrHeaderMissing, standardwebhooks.ErrRequiredHeaders},
		{"no timestamp", 0, func(h http.Header) { h.Del("webhook-timestamp") }, webhook.ErrHeaderMissing, standardwebhooks.ErrRequiredHeaders},
		{"no signature", 0, func(h http.Header) { h.Del("webhook-signature") }, webhook.ErrHeaderMissing, standardwebhooks.ErrRequiredHeaders},
		{"empty signature", 0, func(h http.Header) { h.Set("webhook-signature", "") }, webhook.ErrHeaderEmpty, standardwebhooks.ErrRequiredHeaders},
		{"timestamp no number", 0, func(h http.Header) { h.Set("webhook-timestamp", "now") }, webhook.ErrTimestampMalformed, standardwebhooks.ErrInvalidHeaders},
		{"old", 310 * time.Second, func(http.Header) {}, webhook.ErrTimestampTooOld, standardwebhooks.ErrMessageTooOld},
		{"ahead", -310 * time.Second, func(http.Header) {}, webhook.ErrTimestampTooNew, standardwebhooks.ErrMessageTooNew},
		{"other version", 0, func(h http.Header) {
			h.Set("webhook-signature", strings.Replace(h.Get("webhook-signature"), "v1,", "v2,", 1))
		}, webhook.ErrSignatureMismatch, standardwebhooks.ErrNoMatchingSignature},
	} {
		header := theirHeader(t, secret, "msg_1", time.Now().Add(-tc.age), body)
		tc.change(header)
		if _, err := verifier(t, secret).Verify(header, []byte(body)); !errors.Is(err, tc.ours) {
			t.Errorf("%s: we say %v, want %v", tc.name, err, tc.ours)
		}
		if err := peer(t, secret).Verify([]byte(body), header); !errors.Is(err, tc.theirs) {
			t.Errorf("%s: they say %v, want %v", tc.name, err, tc.theirs)
		}
	}
}

// Where we are stricter on purpose: each of these passes the library.
func TestWeRefuseMore(t *testing.T) {
	secret := webhook.GenerateSecret()
	body := bodies[1]
	for _, tc := range []struct {
		name   string
		id     string
		change func(http.Header)
		want   error
	}{
		{"id with a dot", "msg.1", func(http.Header) {}, webhook.ErrHeaderMalformed},
		{"timestamp with a plus", "msg_1", func(h http.Header) { h.Set("webhook-timestamp", "+"+h.Get("webhook-timestamp")) }, webhook.ErrTimestampSigned},
		{"timestamp padded", "msg_1", func(h http.Header) { h.Set("webhook-timestamp", "0"+h.Get("webhook-timestamp")) }, webhook.ErrTimestampPadded},
		{"second id", "msg_1", func(h http.Header) { h.Add("webhook-id", "msg_2") }, webhook.ErrHeaderContradicts},
		{"second timestamp", "msg_1", func(h http.Header) { h.Add("webhook-timestamp", "1") }, webhook.ErrHeaderContradicts},
		{"second signature header", "msg_1", func(h http.Header) { h.Add("webhook-signature", "v1,x") }, webhook.ErrHeaderContradicts},
		{"third part", "msg_1", func(h http.Header) { h.Set("webhook-signature", h.Get("webhook-signature")+",x") }, webhook.ErrHeaderMalformed},
		{"junk beside it", "msg_1", func(h http.Header) { h.Set("webhook-signature", "junk "+h.Get("webhook-signature")) }, webhook.ErrHeaderMalformed},
		{"1,000 signatures", "msg_1", func(h http.Header) {
			h.Set("webhook-signature", strings.Repeat("v1,x ", 1000)+h.Get("webhook-signature"))
		}, webhook.ErrHeaderTooLong},
	} {
		header := theirHeader(t, secret, tc.id, time.Now(), body)
		tc.change(header)
		if _, err := verifier(t, secret).Verify(header, []byte(body)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
		if err := peer(t, secret).Verify([]byte(body), header); err != nil {
			t.Errorf("%s: the library refuses it too now: %v; move the case to TestBothRefuse", tc.name, err)
		}
	}
}

// The library knows v1 alone: it takes the v1 of a header that has v1a too, which is how senders change over.
func TestTheyAcceptOursBesideV1a(t *testing.T) {
	secret := webhook.GenerateSecret()
	ours := signer(t, profile.GenerateStandardKey(), secret)
	m := &webhook.Message{Header: http.Header{}, Body: []byte(bodies[1]), EventID: "evt_1"}
	if err := ours.SignMessage(m, time.Now()); err != nil {
		t.Fatal(err)
	}
	if value := m.Header.Get("webhook-signature"); !strings.HasPrefix(value, "v1a,") || !strings.Contains(value, " v1,") {
		t.Fatalf("signed %s", value)
	}
	if err := peer(t, secret).Verify(m.Body, m.Header); err != nil {
		t.Error(err)
	}
}
