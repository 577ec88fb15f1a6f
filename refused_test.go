package webhook_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// refusing is a route that keeps what it refuses.
func refusing(t *testing.T, refused *webhook.RefusedRequests) http.Handler {
	t.Helper()
	verifier, err := webhook.NewVerifier(mustSecret(t, "a route's secret, long enough for all"))
	if err != nil {
		t.Fatal(err)
	}
	return webhook.Middleware(verifier, &webhook.ReceiveOptions{
		Dedupe: memstore.New(), Refused: refused, Logger: slog.New(slog.DiscardHandler), MaxBody: 1 << 16,
		Key: func(m *webhook.Message) (webhook.Key, error) { return webhook.Key{ID: m.Header.Get("X-Id")}, nil },
	})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
}

// What is refused is kept with what helps to see why, and with nothing that would let somebody in.
func TestRefusedRequests(t *testing.T) {
	refused := &webhook.RefusedRequests{}
	h := refusing(t, refused)
	signer, err := webhook.NewSigner(mustSecret(t, "a route's secret, long enough for all"))
	if err != nil {
		t.Fatal(err)
	}
	send := func(body string, change func(r *http.Request)) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/hooks/canary-path?token=canary-query", strings.NewReader(body))
		if err := signer.Sign(r.Header, []byte(body)); err != nil {
			t.Fatal(err)
		}
		change(r)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	send(`{"a":1}`, func(r *http.Request) { r.Header.Set("X-Id", "1") }) // passes
	send(`{"a":2}`, func(*http.Request) {})                              // verified, no key
	send(`{"a":3}`, func(r *http.Request) {
		r.Header.Set("Signature", strings.Repeat("0a", 32))
		for _, name := range []string{"Authorization", "Cookie", "X-Api-Key", "X-Auth-Token", "Proxy-Authorization", "X-Session", "X-Shop-Secret"} {
			r.Header.Set(name, "canary-"+name)
		}
		r.Header.Set("Referer", "https://user:canary-user@a.example/?q=canary-referer")
		r.Header.Set("User-Agent", "shop/1.0")
	})
	send(strings.Repeat("x", 1<<17), func(*http.Request) {})
	send("", func(r *http.Request) { r.Method = http.MethodGet })

	latest, total := refused.Read()
	type seen struct {
		Status int
		Method string
		Body   string
		Size   int64
	}
	var got []seen
	for _, r := range latest {
		got = append(got, seen{r.Status, r.Method, string(r.Body), r.Size})
		if r.At.IsZero() || r.Reason == "" || r.RemoteAddr == "" {
			t.Errorf("%+v", r)
		}
	}
	want := []seen{{405, "GET", "", 0}, {413, "POST", "", 1 << 17}, {401, "POST", `{"a":3}`, 7}, {400, "POST", `{"a":2}`, 7}}
	if diff := cmp.Diff(want, got); diff != "" || total != 4 {
		t.Errorf("%d in all; %s", total, diff)
	}
	if text := fmt.Sprintf("%+v", latest); strings.Contains(text, "canary") {
		t.Errorf("it keeps a secret: %s", text)
	}
	forged := latest[2]
	if got := forged.Header.Get("Signature"); got != "0a0a0a…" {
		t.Errorf("the signature is kept as %q", got)
	}
	if forged.Header.Get("X-Api-Key") != "[redacted]" || forged.Header.Get("User-Agent") != "shop/1.0" {
		t.Errorf("headers: %v", forged.Header)
	}
	latest[0].Header.Set("X", "changed")
	if again, _ := refused.Read(); again[0].Header.Get("X") != "" {
		t.Error("what Read returned is not the caller's own")
	}
	refused.Clear()
	if left, total := refused.Read(); len(left) != 0 || total != 4 {
		t.Errorf("after Clear: %d, %d", len(left), total)
	}
}

// However many and however large, what is kept stays within its bounds.
func TestRefusedRequestsAreBounded(t *testing.T) {
	tests := []struct {
		name string
		kept *webhook.RefusedRequests
		most int
		body int
	}{
		{"default", &webhook.RefusedRequests{}, 100, 8 << 10},
		{"few", &webhook.RefusedRequests{Most: 3}, 3, 8 << 10},
		{"no bodies", &webhook.RefusedRequests{MaxBody: -1}, 100, 0},
		{"little", &webhook.RefusedRequests{MaxBytes: 64 << 10}, 5, 8 << 10},
		{"none", &webhook.RefusedRequests{Most: -1}, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h, body := refusing(t, test.kept), bytes.Repeat([]byte("x"), 1<<16)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range 100 {
						r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
						for i := range 200 {
							r.Header.Set(fmt.Sprint("X-", i), strings.Repeat("y", 10_000))
						}
						h.ServeHTTP(httptest.NewRecorder(), r)
					}
				})
			}
			wg.Wait()
			latest, total := test.kept.Read()
			if total != 400 || len(latest) > test.most || len(latest) == 0 && test.most > 0 {
				t.Errorf("kept %d of %d, want at most %d", len(latest), total, test.most)
			}
			bytes := 0
			for _, r := range latest {
				if len(r.Body) > test.body || len(r.Header) > 50 {
					t.Errorf("%d bytes of body, %d headers", len(r.Body), len(r.Header))
				}
				bytes += len(r.Body)
				for name, values := range r.Header {
					bytes += len(name) + len(values[0])
				}
			}
			if bytes > 1<<20 || test.kept.MaxBytes > 0 && bytes > test.kept.MaxBytes {
				t.Errorf("%d bytes are kept", bytes)
			}
		})
	}
}
