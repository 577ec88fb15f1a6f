package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// An endpoint of a receiver that wants more than a signature: credentials, headers of its own and a client certificate.
func ExampleEndpoint_credentials() {
	token, _ := webhook.IssuedSecret("tok-from-the-receiver")
	ep := webhook.Endpoint{
		ID:      "acme",
		URL:     "https://acme.example/hooks?tenant=42",
		Secrets: []webhook.Secret{webhook.GenerateSecret()},
		Header:  http.Header{"X-Environment": {"production"}},
		Auth:    webhook.Bearer(token), // or Basic, or HeaderAuth("X-Api-Key", …)
	}
	hooks, err := webhook.NewDispatcher(memstore.New(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := hooks.PutEndpoint(context.Background(), ep); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ep) // shows no secret, whatever the verb
	ep.Header.Set("Content-Length", "0")
	fmt.Println(hooks.PutEndpoint(context.Background(), ep))
	// Output:
	// acme (https://acme.example/hooks?tenant=…)
	// webhook: endpoint "acme": Header: Content-Length frames the request
}

// A test event shows at once whether an endpoint works.
func ExampleDispatcher_SendTest() {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var event struct{ Type string }
		_ = json.Unmarshal(body, &event)
		fmt.Fprintf(w, "got a %s", event.Type)
	}))
	defer receiver.Close()
	hooks, err := webhook.NewDispatcher(memstore.New(), &webhook.DispatcherOptions{
		Logger: quiet(),
		Endpoints: []webhook.Endpoint{{
			ID: "acme", URL: receiver.URL, Secrets: []webhook.Secret{webhook.GenerateSecret()},
			AllowPrivate: true, // the receiver of this example is on this machine
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := hooks.SendTest(context.Background(), "acme", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(res.Delivered, res.Status, string(res.Response))
	// Output: true 200 got a webhook.test
}

// A new endpoint has to answer a challenge before anything is sent to it.
func ExampleDispatcher_VerifyEndpoint() {
	answers := false
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event struct{ Challenge string }
		_ = json.NewDecoder(r.Body).Decode(&event)
		if answers {
			fmt.Fprint(w, event.Challenge)
		}
	}))
	defer receiver.Close()
	hooks, err := webhook.NewDispatcher(memstore.New(), &webhook.DispatcherOptions{Logger: quiet()})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	err = hooks.PutEndpoint(ctx, webhook.Endpoint{
		ID: "acme", URL: receiver.URL, Secrets: []webhook.Secret{webhook.GenerateSecret()},
		Verify:       webhook.VerifyChallenge, // a running dispatcher asks by itself, too
		AllowPrivate: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(hooks.VerifyEndpoint(ctx, "acme"))
	answers = true
	fmt.Println(hooks.VerifyEndpoint(ctx, "acme"))
	// Output:
	// webhook: endpoint "acme": endpoint did not verify: answered 200, but without the challenge
	// <nil>
}

// URLs may be shown when what is secret in them is not.
func ExampleRedactURL() {
	fmt.Println(webhook.RedactURL("https://shop.example/hooks?key=s3cret"))
	fmt.Println(webhook.RedactURL("http://user:s3cret@proxy.example:3128"))
	// Output:
	// https://shop.example/hooks?key=…
	// http://proxy.example:3128
}

// A client certificate, and a private CA, for one endpoint.
func ExampleClientTLS() {
	var identity webhook.ClientTLS
	identity.ServerName = "hooks.internal.acme.example"
	fmt.Println(identity.Validate())
	identity.RootCAs = []byte("no PEM")
	fmt.Println(identity.Validate())
	// Output:
	// <nil>
	// webhook: client TLS: RootCAs: has no certificate in PEM form
}
