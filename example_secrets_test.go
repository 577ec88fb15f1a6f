package webhook_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/profile"
)

// Keys come from wherever the service keeps its secrets, 32 random bytes each. The first seals, all open:
//
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL, &sqlstore.Options{Cipher: cipher})
//	n, err := store.Reseal(ctx) // once every process has the new key; then the old one can go
func ExampleNewAESGCM() {
	random := func() []byte { key := make([]byte, 32); rand.Read(key); return key }
	current, err := webhook.NewEncryptionKey("2026-11", random())
	if err != nil {
		fmt.Println(err)
		return
	}
	old, _ := webhook.NewEncryptionKey("2026-05", random())
	cipher, err := webhook.NewAESGCM(current, old)
	fmt.Println(current, err, cipher != nil)

	_, err = webhook.NewEncryptionKey("2027-05", []byte("too short"))
	fmt.Println(err)
	// Output:
	// 2026-11 [redacted] <nil> true
	// webhook: encryption key: key: has 9 bytes, want 32 random ones (decode base64 or hex first)
}

// The sender changes its secret: for a day both sign, then the new one alone.
func ExampleDispatcher_RotateSecret() {
	ctx := context.Background()
	hooks, err := webhook.NewDispatcher(memstore.New(), &webhook.DispatcherOptions{Profiles: profile.All()})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = hooks.PutEndpoint(ctx, webhook.Endpoint{
		ID: "acme", URL: "https://acme.example/hooks", Profile: "standardwebhooks", Secrets: []webhook.Secret{webhook.GenerateSecret()},
	})
	fmt.Println(err)

	err = hooks.RotateSecret(ctx, "acme", webhook.GenerateSecret(), 24*time.Hour) // and give the new one to acme
	fmt.Println(err)
	err = hooks.RotateSecret(ctx, "acme", webhook.Secret{}, 24*time.Hour)
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
	// webhook: endpoint "acme": secret: is empty
}

// The receiver takes both for a while. It sees when the old one is not needed any more, and needs no restart.
func ExampleVerifier_SetSecrets() {
	old, renewed := webhook.GenerateSecret(), webhook.GenerateSecret()
	verifier, err := webhook.NewVerifier(old)
	if err != nil {
		fmt.Println(err)
		return
	}
	signer, _ := webhook.NewSigner(old) // the sender has not changed over yet

	err = verifier.SetSecrets(renewed, old)
	header := http.Header{}
	_ = signer.Sign(header, []byte("{}"))
	verified, _ := verifier.Verify(header, []byte("{}"))
	fmt.Println(err, "verified under secret", verified.Secret)

	for _, use := range verifier.SecretUses() {
		fmt.Printf("secret %d: needed %d times, last: %v\n", use.Position, use.Count, since(use.Last))
	}
	// Output:
	// <nil> verified under secret 1
	// secret 0: needed 0 times, last: never
	// secret 1: needed 1 times, last: 0s ago
}

func since(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Truncate(time.Minute).String() + " ago"
}
