package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

func TestRedactURL(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"direct", "direct"},
		{"https://shop.example/hooks", "https://shop.example/hooks"},
		{"https://shop.example:8443/a%20b?k=s3cret&x&y=", "https://shop.example:8443/a%20b?k=…&…&y=…"},
		{"https://shop.example?s3cret", "https://shop.example?…"},
		{"https://user:s3cret@shop.example/p", "https://shop.example/p"},
		{"https://s3cret@shop.example", "https://shop.example"},
		{"https://u:s3c@ret@shop.example/", "https://shop.example/"},
		{"https://shop.example/@user", "https://shop.example/@user"},
		{"https://shop.example/#s3cret", "https://shop.example/#…"},
		{"https://shop.example/p?a=b c'd\"s3cret", "https://shop.example/p?a=…"},
		{"socks5://u:s3cret@10.0.0.1:1080", "socks5://10.0.0.1:1080"},
		{"https://u:s3/cret@shop.example/", "[not a URL]"},
		{"u:s3cret@shop.example", "[not a URL]"},
		{"https:s3cret@shop.example", "[not a URL]"},
		{"https://h/\x00?k=s3cret", "[not a URL]"},
	} {
		if got := webhook.RedactURL(c.in); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func FuzzRedactURL(f *testing.F) {
	f.Add("https", "shop.example", "/p", "k")
	f.Add("a b", "é", "?#", "@:/")
	f.Fuzz(func(t *testing.T, scheme, host, path, name string) {
		const canary = "cAnaRy42cAnaRy42"
		for _, raw := range []string{
			"https://u:" + canary + "@" + host + path + "?" + name, "https://" + canary + "@" + host + path, scheme + "://" + host + "?" + url.QueryEscape(name) + "=" + canary,
			"https://" + host + "/" + url.PathEscape(path) + "?x=1&" + url.QueryEscape(name) + "=" + canary + name + "#" + canary, "https://h?" + canary,
		} {
			if _, err := url.Parse(raw); err != nil {
				continue
			}
			u, _ := url.Parse(raw)
			if strings.Contains(u.Path, canary) || strings.Contains(u.Host, canary) || strings.Contains(u.Scheme, canary) {
				continue
			}
			if got := webhook.RedactURL(raw); strings.Contains(got, canary) {
				t.Errorf("%q gives %q", raw, got)
			}
		}
	})
}

// canaries are secrets, one for each place where an endpoint can have one. Each is part of what must not be shown.
func canaryEndpoint(t *testing.T, id string) (ep webhook.Endpoint, canaries []string) {
	t.Helper()
	cert, key := clientCert(t)
	ep = webhook.Endpoint{
		ID: id, URL: "https://" + id + ".example/hooks?token=canary-query", Tenant: "t", Types: []string{"a"},
		Secrets: []webhook.Secret{issued(t, "canary-signing-0123456789")}, Header: http.Header{"X-Key": {"canary-header"}},
		Auth: webhook.Basic("user", issued(t, "canary-password")), TLS: webhook.ClientTLS{Certificate: cert, Key: key, RootCAs: cert},
		Proxy: "http://canary-user:canary-proxy@proxy.example:3128", Health: webhook.NoHealth(),
	}
	lines := strings.Split(key.Reveal(), "\n")
	return ep, []string{"canary", lines[1][:40], "dXNlcjpjYW5hcnk"} // the last: "user:canary" in base64, as Basic sends it
}

func wantNoCanary(t *testing.T, what, text string, canaries []string) {
	t.Helper()
	for _, c := range canaries {
		if strings.Contains(text, c) {
			t.Errorf("%s shows %q: %s", what, c, text)
		}
	}
}

func TestEndpointShowsNoSecret(t *testing.T) {
	ep, canaries := canaryEndpoint(t, "acme")
	proxy, err := url.Parse(ep.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	options := webhook.DispatcherOptions{Endpoints: []webhook.Endpoint{ep}, Proxy: proxy, Owner: "shown"}
	d, err := webhook.NewDispatcher(memstore.New(), &options)
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string]any{
		"options with a proxy": options, "pointer to options": &options, "nested options": struct{ O any }{options}, "dispatcher": d,
		"value": ep, "pointer": &ep, "slice": []webhook.Endpoint{ep}, "nested": struct{ E webhook.Endpoint }{ep}, "map": map[string]webhook.Endpoint{"x": ep},
		"TLS": ep.TLS, "Auth": ep.Auth,
	}
	for name, v := range forms {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T", "%08.3f", "%!"} {
			wantNoCanary(t, name+" "+verb, fmt.Sprintf(verb, v), canaries)
			wantNoCanary(t, name+" "+verb+" in hex", fmt.Sprintf(verb, v), []string{"63616e617279", "63616E617279"})
		}
		wantNoCanary(t, name, fmt.Sprint(v)+fmt.Sprintln(v), canaries)
		for _, handler := range []func(b *bytes.Buffer) slog.Handler{
			func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(handler(&b)).Info("x", slog.Any("v", v), slog.Group("g", slog.Any("v", v)))
			wantNoCanary(t, name+" slog", b.String(), canaries)
		}
		if text, err := json.Marshal(v); !strings.Contains(name, "options") && err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			wantNoCanary(t, name+" JSON", string(text), canaries)
		}
		text, _ := xml.Marshal(v) // fails for maps
		wantNoCanary(t, name+" XML", string(text), canaries)
	}
	// What may be shown is.
	if text := fmt.Sprintf("%v", options); !strings.Contains(text, "http://proxy.example:3128") || !strings.Contains(text, "Owner:shown") {
		t.Errorf("options are %s", text)
	}
	if proxy.User == nil {
		t.Error("showing the options has changed them")
	}
	if got := ep.String(); got != "acme (https://acme.example/hooks?token=…)" {
		t.Errorf("String is %q", got)
	}
	for _, part := range []string{"acme", "X-Key", "proxy.example:3128", "user"} {
		if text, _ := json.Marshal(ep); !strings.Contains(string(text), part) || !strings.Contains(fmt.Sprintf("%+v", ep), part) {
			t.Errorf("%s is missing in %s or %+v", part, text, ep)
		}
	}
	var read struct{ URL string }
	text, _ := json.Marshal(ep)
	if err := json.Unmarshal(text, &read); err != nil || read.URL != "https://acme.example/hooks?token=…" {
		t.Errorf("JSON %s, %v", text, err)
	}
}

// Everything that a dispatcher says, in logs, errors, hooks, holds and recorded attempts, while all goes wrong that can.
func TestNothingShowsASecret(t *testing.T) {
	ep, canaries := canaryEndpoint(t, "acme")
	var out struct {
		sync.Mutex
		bytes.Buffer
	}
	say := func(what string, v any) {
		out.Lock()
		defer out.Unlock()
		fmt.Fprintf(&out.Buffer, "%s: %+v\n", what, v)
	}
	logger := slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
		say("log", string(p))
		return len(p), nil
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	trace := &webhook.Trace{
		AttemptStart: func(ctx context.Context, i webhook.AttemptStartInfo) context.Context { say("start", i); return ctx },
		AttemptDone:  func(_ context.Context, i webhook.AttemptDoneInfo) { say("done", i) },
		DeadLetter:   func(_ context.Context, i webhook.DeadLetterInfo) { say("dead", i) },
		Health:       func(_ context.Context, i webhook.HealthInfo) { say("health", i) },
	}
	synctest.Test(t, func(t *testing.T) {
		sent := ep
		sent.TLS, sent.Proxy, sent.Schedule, sent.Verify = webhook.ClientTLS{}, "", webhook.Delays(time.Second, time.Second, time.Second, time.Second), webhook.VerifyPing
		r := &running{store: memstore.New(), rc: &receiver{answer: func(r *http.Request, n int) (int, http.Header, error) {
			switch n % 5 {
			case 0:
				return 0, nil, fmt.Errorf("Post %q: %w", r.URL, net.ErrClosed)
			case 1:
				return 200, http.Header{"X-Echo": r.Header["Authorization"]}, nil
			case 2:
				return 0, nil, &url.Error{Op: "Post", URL: r.URL.String(), Err: errors.New("EOF")}
			case 3:
				panic("a transport that panics")
			}
			return 302, http.Header{"Location": {r.URL.String()}}, nil
		}}}
		r.start(t, webhook.DispatcherOptions{Logger: logger, Trace: trace}, sent)
		time.Sleep(time.Second)
		id := r.send(t, webhook.Event{Type: "a", Tenant: "t"})
		time.Sleep(time.Minute)
		for range 5 {
			res, err := r.SendTest(t.Context(), "acme", nil)
			say("test", fmt.Sprintf("%+v %v", res, err))
		}
		say("verify", r.VerifyEndpoint(t.Context(), "acme"))
		del := r.delivery(t, id)
		attempts, err := r.store.ListAttempts(t.Context(), del.ID)
		say("attempts", fmt.Sprintf("%+v %+v %v", del, attempts, err))
		r.stop()
	})
	for _, spoil := range []func(ep *webhook.Endpoint){
		func(ep *webhook.Endpoint) { ep.URL = "https://u:canary@h.example/" },
		func(ep *webhook.Endpoint) { ep.URL = "https://h.example:x/?canary" },
		func(ep *webhook.Endpoint) { ep.URL = "https://10.0.0.1/?k=canary" },
		func(ep *webhook.Endpoint) { ep.Proxy = "ftp://u:canary@h" },
		func(ep *webhook.Endpoint) { ep.Proxy = "http://u:can ary@h/%zz" },
		func(ep *webhook.Endpoint) { ep.Proxy = "http://u:canary@10.0.0.1:80" },
		func(ep *webhook.Endpoint) { ep.TLS.Key = issued(t, "canary key") },
		func(ep *webhook.Endpoint) { ep.Auth = webhook.Bearer(issued(t, "canary\n")) },
		func(ep *webhook.Endpoint) { ep.Header = http.Header{"X-Key": {"canary\x00"}} },
		func(ep *webhook.Endpoint) { ep.Profile = "unknown" },
	} {
		d := netDispatcher(t, webhook.DispatcherOptions{})
		bad, _ := canaryEndpoint(t, "bad")
		spoil(&bad)
		err := d.PutEndpoint(t.Context(), bad)
		if err == nil {
			t.Errorf("%+v was taken", bad)
		}
		say("door", err)
	}
	d := netDispatcher(t, webhook.DispatcherOptions{})
	real := ep
	real.Proxy = "http://canary-user:canary-proxy@hooks.invalid:3128"
	put(t, d, real)
	say("proxy away", *sendTest(t, d, "acme"))
	if out.Len() < 4000 {
		t.Errorf("only %d bytes were said", out.Len())
	}
	for line := range strings.SplitSeq(out.String(), "\n") {
		wantNoCanary(t, "something", line, canaries)
	}
	if diff := cmp.Diff(true, strings.Contains(out.String(), "token=…")); diff != "" {
		t.Error("no URL was said at all: the test shows nothing")
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// A receiver that answers with what it got puts no credential on record.
func TestEchoedCredentialsAreNotRecorded(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		fmt.Fprintf(w, "%v %s %s %s %q", r.Header, user, password, r.RequestURI, r.URL.Query())
	}))
	defer srv.Close()
	ep, canaries := canaryEndpoint(t, "acme")
	ep.URL, ep.AllowPrivate, ep.TLS, ep.Proxy = srv.URL+"/?token=canary-query&x=canary%2Bquery", true, webhook.ClientTLS{}, ""
	d := netDispatcher(t, webhook.DispatcherOptions{})
	put(t, d, ep)
	res := sendTest(t, d, "acme")
	wantNoCanary(t, "the answer", string(res.Response), canaries)
	if !res.Delivered || !strings.Contains(string(res.Response), "X-Key:[[redacted]]") {
		t.Errorf("%+v: %s", res, res.Response)
	}
	srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%s\r\n\r\n", r.Header.Get("X-Key")) // which the error quotes
	})
	res = sendTest(t, d, "acme")
	wantNoCanary(t, "the error", res.Detail, canaries)
	if res.Error != webhook.NetErrorProtocol || !strings.Contains(res.Detail, "[redacted]") {
		t.Errorf("%+v", res)
	}
}

// Of a credential that stands where the record of an answer is cut off, nothing is recorded either.
func TestEchoedCredentialsAreNotRecordedInPart(t *testing.T) {
	var body string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, body) }))
	defer srv.Close()
	ep := endpoint(t, "acme")
	const token = "canary-0123456789-of-the-endpoint"
	ep.URL, ep.AllowPrivate, ep.Header = srv.URL, true, http.Header{"X-Key": {token}}
	d := netDispatcher(t, webhook.DispatcherOptions{})
	put(t, d, ep)
	for n := 8; n <= len(token); n++ {
		body = strings.Repeat("x", 4096-n) + token + "and on"
		if got := string(sendTest(t, d, "acme").Response); strings.Contains(got, "canary") || !strings.HasPrefix(got, "xxx") {
			t.Errorf("%d bytes of it: …%s", n, got[len(got)-50:])
		}
	}
}

// A store shows nothing of what it holds, whatever it is printed with.
func TestStoreShowsNoSecret(t *testing.T) {
	ep, canaries := canaryEndpoint(t, "acme")
	store := memstore.New()
	if err := store.PutEndpoint(t.Context(), ep); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		wantNoCanary(t, verb, fmt.Sprintf(verb, store), canaries)
	}
}
