package webhook

import (
	"net/http"
	"testing"
	"time"
)

// What signing and verifying allocate: the header's values, and nothing.
func TestSigningAllocations(t *testing.T) {
	secret, body := GenerateSecret(), benchmarkBody(1<<10)
	signer, verifier := mustSigner(t, secret), mustVerifier(t, secret)
	m, now := &Message{Header: http.Header{}, Body: body}, time.Now()
	if got := testing.AllocsPerRun(500, func() {
		if err := signer.SignMessage(m, now); err != nil {
			t.Fatal(err)
		}
	}); got > 2 && !RaceDetector {
		t.Errorf("signing: %v allocations, want at most 2", got)
	}
	if got := testing.AllocsPerRun(500, func() {
		if _, err := verifier.VerifyMessage(m); err != nil {
			t.Fatal(err)
		}
	}); got > 0 && !RaceDetector {
		t.Errorf("verifying: %v allocations, want none", got)
	}
}
