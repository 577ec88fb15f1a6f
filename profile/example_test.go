package profile_test

import (
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/profile"
)

// With a key pair the receiver holds nothing that could sign. While receivers change over, one header carries both kinds of signature.
func ExampleStandardWebhooks_keyPair() {
	private, shared := profile.GenerateStandardKey(), webhook.GenerateSecret()
	signer, err := profile.StandardWebhooks().Signer(private, shared)
	if err != nil {
		log.Fatal(err)
	}
	m := &webhook.Message{Header: http.Header{}, Body: []byte(`{"type":"order.paid"}`), EventID: webhook.NewEventID()}
	if err := signer.SignMessage(m, time.Now()); err != nil {
		log.Fatal(err)
	}

	text, err := profile.StandardPublicKey(private) // for the receiver, or to publish
	if err != nil {
		log.Fatal(err)
	}
	public, err := webhook.IssuedSecret(text)
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := profile.StandardWebhooks().Verifier(public)
	if err != nil {
		log.Fatal(err)
	}
	_, err = verifier.VerifyMessage(m)
	fmt.Println("verified:", err)

	_, err = profile.StandardWebhooks().Signer(public)
	fmt.Println(err)
	// Output:
	// verified: <nil>
	// webhook: signer: secrets[0]: secret: text: is a public key (whpk_), which can verify but not sign
}
