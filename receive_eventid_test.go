package webhook_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/profile"
)

// Gett Business has the event's ID in the body: it is a key as well as one in a header is.
func TestKeyFromEventIDInTheBody(t *testing.T) {
	p := profile.GettBusiness("")
	verifier, err := p.Verifier(secret(t))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := p.Signer(secret(t))
	if err != nil {
		t.Fatal(err)
	}
	runs := 0
	handler := webhook.Middleware(verifier, &webhook.ReceiveOptions{Dedupe: memstore.New(), Key: webhook.KeyFromEventID()})(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { runs++ }))
	for _, body := range []string{`{"id":"a","event_type":"x"}`, `{"id":"a","event_type":"y"}`, `{"id":"b","event_type":"x"}`} {
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		if err := signer.Sign(req.Header, []byte(body)); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: answered %d %s", body, w.Code, w.Body)
		}
	}
	if runs != 2 {
		t.Errorf("the handler ran %d times for two event IDs", runs)
	}
}
