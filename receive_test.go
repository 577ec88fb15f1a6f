package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

const recvSecret = "canary-signing-secret"

func recvSign(body string) string {
	mac := hmac.New(sha256.New, []byte(recvSecret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// recvVerify stands in for a Verifier.
func recvVerify(m *Message) (Verification, error) {
	got, err := hex.DecodeString(m.Header.Get("Signature"))
	if err != nil || len(got) == 0 {
		return Verification{}, errors.New("webhook: verify: signature is missing")
	}
	mac := hmac.New(sha256.New, []byte(recvSecret))
	mac.Write(m.Body)
	if !hmac.Equal(got, mac.Sum(nil)) {
		return Verification{}, errors.New("webhook: verify: signature is wrong")
	}
	return Verification{Scheme: "test", APIVersion: "2026-01-30"}, nil
}

// recvKey keys on the X-Key header.
func recvKey(m *Message) (Key, error) { return Key{ID: m.Header.Get("X-Key")}, nil }

// recvBodyKey keys on the order and the body, as Gett's updates are.
func recvBodyKey(m *Message) (Key, error) {
	sum := sha256.Sum256(m.Body)
	return Key{ID: m.Header.Get("X-Key") + "/" + hex.EncodeToString(sum[:])}, nil
}

// recvDigestKey remembers only the latest body of a key.
func recvDigestKey(m *Message) (Key, error) {
	return Key{ID: m.Header.Get("X-Key"), Digest: sha256.Sum256(m.Body)}, nil
}

func recvDescribe(m *Message) Description {
	return Description{ID: m.Header.Get("X-Id"), Type: "order_create"}
}

// recvMiddleware is Middleware over the verifier above. Unless the options say otherwise it logs nowhere.
func recvMiddleware(o *ReceiveOptions) func(http.Handler) http.Handler {
	c := *o
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return newReceiver(recvVerify, recvKey, recvDescribe, &c)
}

func recvRequest(key, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/hooks", strings.NewReader(body))
	r.Header.Set("Signature", recvSign(body))
	r.Header.Set("X-Key", key)
	return r
}

func recvServe(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func recvText(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// recvCounter is a handler that counts its runs and answers 200 "done".
type recvCounter struct {
	runs atomic.Int64
	then http.HandlerFunc
}

func (c *recvCounter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.runs.Add(1)
	if c.then != nil {
		c.then(w, r)
		return
	}
	_, _ = io.WriteString(w, "done")
}

func (c *recvCounter) wantRuns(t *testing.T, want int64) {
	t.Helper()
	if got := c.runs.Load(); got != want {
		t.Fatalf("handler ran %d times, want %d", got, want)
	}
}

func recvWant(t *testing.T, resp *http.Response, status int, replayed bool) {
	t.Helper()
	if resp.StatusCode != status {
		t.Fatalf("status %d, want %d", resp.StatusCode, status)
	}
	if got := resp.Header.Get(ReplayedHeader) == "true"; got != replayed {
		t.Fatalf("replayed = %v, want %v (status %d)", got, replayed, status)
	}
	retry := resp.Header.Get("Retry-After")
	if n, err := strconv.Atoi(retry); (status == 409 || status == 503) && (err != nil || n < 1) {
		t.Fatalf("Retry-After of a %d is %q", status, retry)
	}
}

// What is refused never reaches the handler or the store, and the answer tells nothing but the status.
func TestReceiveRefuses(t *testing.T) {
	const body = `{"a":1}`
	tests := []struct {
		name   string
		change func(r *http.Request)
		status int
		header [2]string
	}{
		{"GET", func(r *http.Request) { r.Method = http.MethodGet }, 405, [2]string{"Allow", "POST"}},
		{"PUT", func(r *http.Request) { r.Method = http.MethodPut }, 405, [2]string{"Allow", "POST"}},
		{"gzip", func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, 415, [2]string{"Accept-Encoding", "identity"}},
		{"identity, then br", func(r *http.Request) { r.Header.Set("Content-Encoding", "identity, br") }, 415, [2]string{}},
		{"second header line", func(r *http.Request) { r.Header["Content-Encoding"] = []string{"", "deflate"} }, 415, [2]string{}},
		{"announced too large", func(r *http.Request) { r.ContentLength = 101 }, 413, [2]string{"Connection", "close"}},
		{"too large, not announced", func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 101))), -1
		}, 413, [2]string{"Connection", "close"}},
		{"endless", func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(recvEndless{}), -1 }, 413, [2]string{}},
		{"limited around us", func(r *http.Request) {
			r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 3)
		}, 413, [2]string{}},
		{"cut", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(body[:3])) }, 400, [2]string{}},
		{"reset", func(r *http.Request) { r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), recvBroken{})) }, 400, [2]string{}},
		{"longer than announced", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(body + " ")) }, 400, [2]string{}},
		{"unsigned", func(r *http.Request) { r.Header.Del("Signature") }, 401, [2]string{}},
		{"forged", func(r *http.Request) { r.Header.Set("Signature", recvSign("other")) }, 401, [2]string{}},
		{"no key", func(r *http.Request) { r.Header.Del("X-Key") }, 400, [2]string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store, handler := newRecvStore(), &recvCounter{}
			h := recvMiddleware(&ReceiveOptions{Dedupe: store, MaxBody: 100})(handler)
			r := recvRequest("k", body)
			tt.change(r)
			resp := recvServe(h, r)
			recvWant(t, resp, tt.status, false)
			handler.wantRuns(t, 0)
			if n := store.count("begin"); n != 0 {
				t.Errorf("the store was asked %d times", n)
			}
			if got, want := recvText(t, resp), http.StatusText(tt.status)+"\n"; got != want {
				t.Errorf("body %q, want %q", got, want)
			}
			if name := tt.header[0]; name != "" && resp.Header.Get(name) != tt.header[1] {
				t.Errorf("%s is %q, want %q", name, resp.Header.Get(name), tt.header[1])
			}
		})
	}
}

type recvEndless struct{}

func (recvEndless) Read(p []byte) (int, error) { return len(p), nil }

type recvBroken struct{}

func (recvBroken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// A body of exactly the limit passes, whatever its size is to the reader's buffers.
func TestReceiveBodyIntact(t *testing.T) {
	for _, size := range []int{0, 1, 1000, firstRead - 1, firstRead, firstRead + 1, 3*firstRead + 17} {
		for _, chunked := range []bool{false, true} {
			body := strings.Repeat("a", size)
			var got string
			var length int64
			h := recvMiddleware(&ReceiveOptions{MaxBody: int64(max(size, 1))})(http.HandlerFunc(
				func(_ http.ResponseWriter, r *http.Request) {
					b, err := io.ReadAll(r.Body)
					if err != nil {
						t.Error(err)
					}
					got, length = string(b), r.ContentLength
				}))
			r := recvRequest("k", body)
			if chunked {
				r.ContentLength, r.TransferEncoding = -1, []string{"chunked"}
			}
			recvWant(t, recvServe(h, r), 200, false)
			if got != body || length != int64(size) {
				t.Errorf("size %d, chunked %v: handler read %d bytes, Content-Length %d", size, chunked, len(got), length)
			}
		}
	}
}

func TestReceiveContext(t *testing.T) {
	store := newRecvStore()
	o := &ReceiveOptions{Dedupe: store, Scope: "shop-7"}
	called := false
	h := recvMiddleware(o)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called = true
		ev := FromContext(r.Context())
		if ev.ID != "evt_1" || ev.Type != "order_create" || string(ev.Payload) != `{"a":1}` || ev.Tenant != "shop-7" {
			t.Errorf("event %+v", ev)
		}
		if ev.Header.Get("X-Id") != "evt_1" {
			t.Errorf("event header %v", ev.Header)
		}
		for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
			if ev.Header.Get(name) != "" {
				t.Errorf("the event carries %s", name)
			}
			if r.Header.Get(name) == "" {
				t.Errorf("the request has lost %s", name)
			}
		}
		v, ok := VerificationFromContext(r.Context())
		if !ok || v.Scheme != "test" || v.APIVersion != "2026-01-30" {
			t.Errorf("verification %+v, %v", v, ok)
		}
		scope, key, err := KeyFromContext(r.Context())
		if scope != "shop-7" || key.ID != "k" || err != nil {
			t.Errorf("key %q %+v %v", scope, key, err)
		}
	}))
	r := recvRequest("k", `{"a":1}`)
	r.Header.Set("X-Id", "evt_1")
	for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
		r.Header.Set(name, "canary")
	}
	recvWant(t, recvServe(h, r), 200, false)
	if !called {
		t.Fatal("handler not called")
	}
}

func TestReceiveContextElsewhere(t *testing.T) {
	ctx := context.Background()
	if ev := FromContext(ctx); ev.ID != "" || ev.Payload != nil {
		t.Errorf("event %+v", ev)
	}
	if _, ok := VerificationFromContext(ctx); ok {
		t.Error("verification from nowhere")
	}
	if _, _, err := KeyFromContext(ctx); !errors.Is(err, ErrNotFound) {
		t.Errorf("key: %v", err)
	}
}

// The ID that the signature covers wins over one that was read from elsewhere.
func TestReceiveSignedEventID(t *testing.T) {
	verify := func(*Message) (Verification, error) { return Verification{EventID: "signed"}, nil }
	var id string
	h := newReceiver(verify, nil, recvDescribe, nil)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		id = FromContext(r.Context()).ID
	}))
	r := recvRequest("k", "x")
	r.Header.Set("X-Id", "unsigned")
	recvServe(h, r)
	if id != "signed" {
		t.Errorf("ID %q", id)
	}
}

// Formats that sign the URL see all of it.
func TestReceiveMessageURL(t *testing.T) {
	var got string
	verify := func(m *Message) (Verification, error) {
		got = m.Method + " " + m.URL.String()
		return Verification{}, nil
	}
	r := httptest.NewRequest(http.MethodPost, "/hooks/a%2Fb?x=1", nil)
	r.Host = "shop.example:8443"
	recvServe(newReceiver(verify, nil, nil, nil)(&recvCounter{}), r)
	if want := "POST http://shop.example:8443/hooks/a%2Fb?x=1"; got != want {
		t.Errorf("verifier saw %q, want %q", got, want)
	}
	if r.URL.Host != "" {
		t.Error("the request's own URL was changed")
	}
}

func TestReceiveScopes(t *testing.T) {
	tests := []struct {
		name         string
		opts         ReceiveOptions
		status       int
		scope, event string
	}{
		{"none", ReceiveOptions{}, 200, "test", ""},
		{"fixed", ReceiveOptions{Scope: "gett"}, 200, "gett", "gett"},
		{"of the request", ReceiveOptions{Scope: "x", ScopeOf: func(r *http.Request) string { return r.URL.Path }}, 200, "/hooks", "/hooks"},
		{"of the request, empty", ReceiveOptions{Scope: "x", ScopeOf: func(*http.Request) string { return "" }}, 200, "test", ""},
		{"too long", ReceiveOptions{ScopeOf: func(*http.Request) string { return strings.Repeat("x", 256) }}, 400, "", ""},
		{"NUL", ReceiveOptions{ScopeOf: func(*http.Request) string { return "a\x00" }}, 400, "", ""},
		{"not UTF-8", ReceiveOptions{ScopeOf: func(*http.Request) string { return "\xff" }}, 400, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := newRecvStore()
			tt.opts.Dedupe = store
			tenant := "unset"
			h := recvMiddleware(&tt.opts)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				tenant = FromContext(r.Context()).Tenant
			}))
			recvWant(t, recvServe(h, recvRequest("k", "x")), tt.status, false)
			if tt.status != 200 {
				if len(store.begins) != 0 || tenant != "unset" {
					t.Error("a bad scope went on")
				}
				return
			}
			if store.begins[0].Scope != tt.scope || tenant != tt.event {
				t.Errorf("scope %q, tenant %q; want %q, %q", store.begins[0].Scope, tenant, tt.scope, tt.event)
			}
		})
	}
}

// The same key of two sources, or of two tenants, is two keys.
func TestReceiveScopesAreApart(t *testing.T) {
	store, handler := newRecvStore(), &recvCounter{}
	for _, scope := range []string{"a", "b", ""} {
		h := recvMiddleware(&ReceiveOptions{Dedupe: store, Scope: scope})(handler)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, true)
	}
	handler.wantRuns(t, 3)
}

func TestStoredKey(t *testing.T) {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	long := strings.Repeat("x", 256)
	same := []string{"a", "order/1", strings.Repeat("x", 255), "é", "sha256:abc", "a\nb"}
	for _, id := range same {
		if got := storedKey(id); got != id {
			t.Errorf("storedKey(%q) = %q", id, got)
		}
	}
	for _, id := range []string{long, "a\x00b", "\xff", strings.Repeat("é", 128), hash(long)} {
		if got := storedKey(id); got != hash(id) {
			t.Errorf("storedKey(%.20q) = %q, want its hash", id, got)
		}
	}
	if storedKey(long) == storedKey(hash(long)) {
		t.Error("a key equals the hash of another")
	}
}

func TestReceiveKeyFaults(t *testing.T) {
	tests := []struct {
		name   string
		key    KeyFunc
		status int
	}{
		{"error", func(*Message) (Key, error) { return Key{}, errors.New("no orderId") }, 400},
		{"empty", func(*Message) (Key, error) { return Key{}, nil }, 400},
		{"panic", func(*Message) (Key, error) { panic("bug") }, 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store, handler := newRecvStore(), &recvCounter{}
			h := recvMiddleware(&ReceiveOptions{Dedupe: store, Key: tt.key})(handler)
			recvWant(t, recvServe(h, recvRequest("k", "x")), tt.status, false)
			handler.wantRuns(t, 0)
			if store.count("begin") != 0 {
				t.Error("a key was taken")
			}
		})
	}
}

func TestReceiveErrorFunc(t *testing.T) {
	var status int
	var cause error
	h := recvMiddleware(&ReceiveOptions{Error: func(w http.ResponseWriter, r *http.Request, s int, err error) {
		status, cause = s, err
		w.WriteHeader(s)
		_, _ = io.WriteString(w, "our page")
	}})(&recvCounter{})
	r := recvRequest("k", "x")
	r.Header.Set("Signature", "00")
	resp := recvServe(h, r)
	if status != 401 || cause == nil || !strings.Contains(cause.Error(), "signature is wrong") || recvText(t, resp) != "our page" {
		t.Errorf("status %d, cause %v", status, cause)
	}
}

// Whatever goes wrong, neither the log nor the store nor an answer shows secrets, credentials, cookies or bodies.
func TestReceiveTellsNoSecrets(t *testing.T) { synctest.Test(t, testReceiveTellsNoSecrets) }

func testReceiveTellsNoSecrets(t *testing.T) {
	log, store := &recvLog{}, newRecvStore()
	handler := &recvCounter{then: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "canary-set")
		w.Header().Set("Authorization", "canary-set")
		switch r.Header.Get("X-Key") {
		case "panic":
			panic("bug")
		case "fail":
			w.WriteHeader(500)
		}
	}}
	o := &ReceiveOptions{Dedupe: store, Logger: log.logger(), Wait: -1, MaxBody: 100}
	h := recvMiddleware(o)(handler)
	send := func(key string, change func(*http.Request)) {
		r := recvRequest(key, `{"canary":"body"}`)
		r.URL.Path = "/hooks/canary-path-token"
		r.Header.Set("Authorization", "canary-auth")
		r.Header.Set("Cookie", "canary-cookie")
		if change != nil {
			change(r)
		}
		recvServe(h, r)
	}
	send("ok", nil)
	send("ok", nil)
	send("panic", nil)
	send("fail", nil)
	send("forged", func(r *http.Request) { r.Header.Set("Signature", hex.EncodeToString([]byte("canary"))) })
	send("method", func(r *http.Request) { r.Method = "canary-long-method-name" })
	send("large", func(r *http.Request) { r.ContentLength = 1000 })
	store.down("begin")
	send("down", nil)
	store.down("release")
	send("fail", func(r *http.Request) {})
	text := strings.ReplaceAll(log.text(), "canary-long-meth", "") // the method is shown, cut short
	for _, secret := range []string{"canary", recvSecret, recvSign(`{"canary":"body"}`), hex.EncodeToString([]byte("canary"))} {
		if strings.Contains(text, secret) {
			t.Errorf("the log shows %q:\n%s", secret, text)
		}
	}
	allowed := []string{"time", "level", "msg", "status", "pattern", "scope", "key", "error", "panic", "stack"}
	for _, line := range strings.Split(strings.TrimSpace(log.text()), "\n") {
		for _, name := range recvLogKeys(t, line) {
			if !slices.Contains(allowed, name) {
				t.Errorf("attribute %q is not documented: %s", name, line)
			}
		}
	}
	for _, row := range store.rows {
		if strings.Contains(strings.Join(slices.Collect(maps.Keys(row.resp.Header)), " "), "ookie") {
			t.Errorf("stored %v", row.resp.Header)
		}
	}
}
