package webhook_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/profile"
)

// goneTransport answers 410 as long as it is gone.
type goneTransport struct{ gone bool }

func (g *goneTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	status := http.StatusOK
	if g.gone {
		status = http.StatusGone
	}
	return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}, nil
}

// Who wants to hear of failing endpoints gives a hook, and decides by policy what becomes of them: here TradeGecko's, which
// switches off at once what answers 410. What waits is kept, and goes on when somebody says so.
func ExampleDispatcher_Health() {
	secret, err := webhook.ParseSecret("whsec_0123456789abcdef0123456789abcdef")
	if err != nil {
		log.Fatal(err)
	}
	told := make(chan webhook.HealthInfo, 10)
	receiver := &goneTransport{gone: true}
	d, err := webhook.NewDispatcher(memstore.New(), &webhook.DispatcherOptions{
		Profiles: []webhook.Profile{profile.TradeGecko()},
		Endpoints: []webhook.Endpoint{{
			ID: "shop", URL: "https://shop.example/hooks", Secrets: []webhook.Secret{secret},
		}},
		Trace:     &webhook.Trace{Health: func(_ context.Context, info webhook.HealthInfo) { told <- info }},
		Transport: receiver,
		Logger:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()

	if _, err := d.Send(ctx, webhook.Event{Type: "order.create"}); err != nil {
		log.Fatal(err)
	}
	info := <-told
	fmt.Printf("%s: %s, was %s: %s\n", info.EndpointID, info.To, info.From, info.Reason)
	health, err := d.Health(ctx, "shop")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("hold of kind %q\n", health.Hold.Kind)

	receiver.gone = false
	if err := d.ResumeEndpoint(ctx, "shop"); err != nil {
		log.Fatal(err)
	}
	info = <-told
	fmt.Printf("%s: %s\n", info.EndpointID, info.To)
	cancel()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output:
	// shop: held, was ok: the endpoint said that it is gone (410)
	// hold of kind "gone"
	// shop: slowed
}

// An endpoint that is to be slowed and probed like any other, but held after two days already, with a notice each hour.
func ExampleGraduated() {
	policy := webhook.Graduated()
	policy.HoldAfter = 48 * time.Hour
	policy.Warn = 6 * time.Hour
	policy.Notice = time.Hour
	ep := webhook.Endpoint{ID: "shop", URL: "https://shop.example/hooks", Health: policy}
	fmt.Println(ep.Health.Validate())
	// Output: <nil>
}
