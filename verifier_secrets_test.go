package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/profile"
)

// signedBy is a request's headers, signed with secrets.
func signedBy(t *testing.T, p webhook.Profile, body string, secrets ...webhook.Secret) http.Header {
	t.Helper()
	s, err := p.Signer(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	if err := s.SignMessage(&webhook.Message{Header: header, Body: []byte(body), EventID: "evt_1"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	return header
}

// A verifier tells when each of its secrets was last needed, while secrets come and go.
func TestSecretUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, p := time.Now(), profile.GetHook()
		old, renewed, other := webhook.GenerateSecret(), webhook.GenerateSecret(), webhook.GenerateSecret()
		v, err := p.Verifier(old)
		if err != nil {
			t.Fatal(err)
		}
		verify := func(want int, signers ...webhook.Secret) {
			t.Helper()
			time.Sleep(time.Minute)
			got, err := v.Verify(signedBy(t, p, "{}", signers...), []byte("{}"))
			if err != nil || got.Secret != want {
				t.Errorf("matched secret %d, %v; want %d", got.Secret, err, want)
			}
		}
		want := func(want ...webhook.SecretUse) {
			t.Helper()
			if diff := cmp.Diff(want, v.SecretUses()); diff != "" {
				t.Errorf("uses (-want +got):\n%s", diff)
			}
		}
		at := func(minutes time.Duration) time.Time { return start.Add(minutes * time.Minute) }
		want(webhook.SecretUse{Fingerprint: old.Fingerprint()})
		verify(0, old)
		if err := v.SetSecrets(renewed, old); err != nil {
			t.Fatal(err)
		}
		want(webhook.SecretUse{Fingerprint: renewed.Fingerprint()}, webhook.SecretUse{Position: 1, Fingerprint: old.Fingerprint(), Count: 1, Last: at(1)})
		verify(1, old)
		verify(0, old, renewed) // which does not need the old one
		verify(0, renewed)
		for _, header := range []http.Header{signedBy(t, p, "{}", other), signedBy(t, p, "forged", old)} { // do not count
			if _, err := v.Verify(header, []byte("{}")); !errors.Is(err, webhook.ErrSignatureMismatch) {
				t.Errorf("a forged request: %v", err)
			}
		}
		stale := signedBy(t, p, "{}", old)
		time.Sleep(10 * time.Minute)
		if _, err := v.Verify(stale, []byte("{}")); !errors.Is(err, webhook.ErrTimestampTooOld) {
			t.Errorf("a stale request: %v", err)
		}
		uses := []webhook.SecretUse{
			{Fingerprint: renewed.Fingerprint(), Count: 2, Last: at(4)},
			{Position: 1, Fingerprint: old.Fingerprint(), Count: 2, Last: at(2)},
		}
		want(uses...)
		if err := v.SetSecrets(); !errors.Is(err, webhook.ErrEmptySecret) {
			t.Errorf("no secrets: %v", err)
		}
		if err := v.SetSecrets(renewed, webhook.Secret{}); !errors.Is(err, webhook.ErrEmptySecret) {
			t.Errorf("an empty secret: %v", err)
		}
		want(uses...)
		if err := v.SetSecrets(renewed); err != nil {
			t.Fatal(err)
		}
		want(uses[0])
		if _, err := v.Verify(signedBy(t, p, "{}", old), []byte("{}")); !errors.Is(err, webhook.ErrSignatureMismatch) {
			t.Errorf("the old secret after it was taken away: %v", err)
		}
	})
}

// Secrets change while requests are verified; run with -race.
func TestSetSecretsWhileVerifying(t *testing.T) {
	a, b := webhook.GenerateSecret(), webhook.GenerateSecret()
	p := webhook.DefaultProfile()
	v, err := p.Verifier(a, b)
	if err != nil {
		t.Fatal(err)
	}
	header := signedBy(t, p, "{}", a)
	const n = 200
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range n {
				if _, err := v.Verify(header, []byte("{}")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range n / 2 {
			if err := errors.Join(v.SetSecrets(b, a), v.SetSecrets(a, b)); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if uses := v.SecretUses(); uses[0].Count != 4*n || uses[1].Count != 0 {
		t.Errorf("counted %+v, want %d of the first", uses, 4*n)
	}
}

func TestOldSecretIsToldOf(t *testing.T) {
	old, renewed := webhook.GenerateSecret(), webhook.GenerateSecret()
	p := profile.StandardWebhooks()
	v, err := p.Verifier(renewed, old)
	if err != nil {
		t.Fatal(err)
	}
	var told []webhook.OldSecretInfo
	trace := &webhook.Trace{OldSecret: func(_ context.Context, info webhook.OldSecretInfo) {
		told = append(told, info)
		panic("in the hook")
	}}
	var log bytes.Buffer
	h := webhook.Middleware(v, &webhook.ReceiveOptions{Trace: trace, Scope: "shop", Logger: slog.New(slog.NewTextHandler(&log, nil))})(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	for _, signers := range [][]webhook.Secret{{renewed}, {old}, {old, renewed}, {webhook.GenerateSecret()}} {
		r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
		r.Header = signedBy(t, p, "{}", signers...)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	want := []webhook.OldSecretInfo{{Scheme: "standardwebhooks", Scope: "shop", Secret: 1, EventID: "evt_1"}}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
	if !strings.Contains(log.String(), "OldSecret") {
		t.Errorf("the panic is not logged: %s", &log)
	}
}

func TestFingerprint(t *testing.T) {
	a, b := webhook.GenerateSecret(), webhook.GenerateSecret()
	again, _ := webhook.IssuedSecret(a.Reveal())
	if f := a.Fingerprint(); len(f) != 8 || f != again.Fingerprint() || f == b.Fingerprint() || strings.Contains(a.Reveal(), f) || (webhook.Secret{}).Fingerprint() != "" {
		t.Errorf("fingerprints %q, %q", f, b.Fingerprint())
	}
}
