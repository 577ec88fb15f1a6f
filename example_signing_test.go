package webhook_test

import (
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

func ExampleSigner() {
	secret, err := webhook.IssuedSecret("test_secret") // as the receiver gave it; for one of your own, GenerateSecret
	if err != nil {
		log.Fatal(err)
	}
	signer, err := webhook.NewSigner(secret)
	if err != nil {
		log.Fatal(err)
	}

	header := http.Header{}
	if err := signer.Sign(header, []byte(`{"type":"order_create"}`)); err != nil {
		log.Fatal(err)
	}
	fmt.Println("Signature:", header.Get("Signature"))
	fmt.Println("API-Version:", header.Get("API-Version"))
	fmt.Println("the secret prints as", secret)
	// Output:
	// Signature: daf3d1878090f78b73b4dcb0981916cc0b05390f093c665f68bc8cec81c837a4
	// API-Version: 2026-01-30
	// the secret prints as [redacted]
}

func ExampleVerifier() {
	current, previous := webhook.GenerateSecret(), webhook.GenerateSecret()
	verifier, err := webhook.NewVerifier(current, previous) // both are good while the sender changes over
	if err != nil {
		log.Fatal(err)
	}

	body := []byte(`{"type":"order_create"}`)
	header := http.Header{}
	sender, err := webhook.NewSigner(previous)
	if err != nil {
		log.Fatal(err)
	}
	if err := sender.Sign(header, body); err != nil {
		log.Fatal(err)
	}

	v, err := verifier.Verify(header, body)
	fmt.Println("matched secret", v.Secret, "of API", v.APIVersion, err)

	_, err = verifier.Verify(header, []byte(`{"type":"order_cancel"}`))
	fmt.Println(err)
	fmt.Println("forged:", errors.Is(err, webhook.ErrSignatureMismatch))

	header.Set("Timestamp", "1770000000000")
	_, err = verifier.Verify(header, body)
	fmt.Println(err)
	// Output:
	// matched secret 1 of API 2026-01-30 <nil>
	// webhook: verify: signature matches under none of 2 secrets
	// forged: true
	// webhook: verify: timestamp 1770000000000 looks like milliseconds, want seconds
}

// github is a scheme of one's own, GitHub's: X-Hub-Signature-256 is "sha256=" and the hex HMAC of the body.
type github struct{}

func (github) Name() string { return "github" }

func (github) Sign(m *webhook.Message, secrets []webhook.Secret, _ time.Time) error {
	m.Header.Set("X-Hub-Signature-256", fmt.Sprintf("sha256=%x", secrets[0].HMAC(m.Body)))
	return nil
}

func (github) Verify(m *webhook.Message, secrets []webhook.Secret) (webhook.Verification, error) {
	value, err := webhook.OneHeader(m.Header, "X-Hub-Signature-256")
	if err != nil {
		return webhook.Verification{}, err
	}
	mac, err := webhook.DecodeHex(strings.TrimPrefix(value, "sha256="))
	if err != nil {
		return webhook.Verification{}, err
	}
	matched, err := webhook.MatchHMAC(secrets, [][32]byte{mac}, m.Body)
	return webhook.Verification{Secret: matched}, err
}

func ExampleScheme() {
	profile := webhook.Profile{Scheme: github{}, Key: webhook.KeyFromHeader("X-GitHub-Delivery")}
	secret, err := webhook.IssuedSecret("It's a Secret to Everybody")
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := profile.Verifier(secret)
	if err != nil {
		log.Fatal(err)
	}
	header := http.Header{}
	header.Set("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
	_, err = verifier.Verify(header, []byte("Hello, World!"))
	fmt.Println(err)
	_, err = verifier.Verify(header, []byte("Hello, world!"))
	fmt.Println(err)
	// Output:
	// <nil>
	// webhook: verify: signature does not match under the secret
}
