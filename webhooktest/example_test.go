package webhooktest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/profile"
	"github.com/signalpost/webhook/webhooktest"
)

// A receiver is down for three days. What was sent at its beginning arrives when it is back: 90 hours pass in a third of a second.
func Example_outage() {
	testOutage := func(t *testing.T) { // in your code: func TestOutage(t *testing.T)
		synctest.Test(t, func(t *testing.T) {
			net := webhooktest.NewNetwork(t)
			shop := net.Receiver("https://shop.example/hooks", webhooktest.Fail(503).For(72*time.Hour), webhooktest.OK())
			patient := profile.StandardWebhooks() // the last retry comes after 75 h
			patient.Schedule.Jitter = 0
			hooks := webhooktest.Dispatcher(t, net, memstore.New(), &webhook.DispatcherOptions{Profiles: []webhook.Profile{patient}})

			id, err := hooks.Send(t.Context(), webhook.Event{Type: "order.paid", Payload: []byte(`{"order":42}`)})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(90 * time.Hour)

			shop.RequireOnce(t, id)
			tries := shop.RequestsOf(id)
			last := tries[len(tries)-1]
			fmt.Printf("accepted at try %d, more than 72 h later: %t\n", len(tries), last.At.Sub(tries[0].At) > 72*time.Hour)
		})
	}
	fmt.Println("passed:", run(testOutage))
	// Output:
	// accepted at try 10, more than 72 h later: true
	// passed: true
}

// A handler gets what a system sends, and what it must refuse.
func ExampleSignedRequest() {
	testHandler := func(t *testing.T) {
		secret := webhook.GenerateSecret()
		verifier, err := webhook.NewVerifier(secret)
		if err != nil {
			t.Fatal(err)
		}
		handler := webhook.Middleware(verifier, nil)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			fmt.Println("got", webhook.FromContext(r.Context()).Type)
		}))
		body := []byte(`{"type":"order_create"}`)
		post := func(changes ...webhooktest.Change) int {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, webhooktest.SignedRequest(t, profile.Gett(), secret, body, changes...))
			return w.Code
		}
		fmt.Println(post(), post(webhooktest.Stale()), post(webhooktest.Tampered()), post(webhooktest.Forged()), post(webhooktest.Unsigned()))
	}
	run(testHandler)
	// Output:
	// got order_create
	// 200 401 401 401 401
}
