package webhook_test

import (
	"errors"
	"fmt"
	"log"
	"net/http"

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
