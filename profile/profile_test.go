package profile

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
)

// vectors are published, or follow a published algorithm (see each).
var vectors = []struct {
	name    string
	profile webhook.Profile
	secret  string
	body    string
	eventID string
	at      int64
	want    map[string]string
}{
	{
		name:    "Gett",
		profile: Gett(),
		secret:  "test_secret",
		body:    `{"type":"order_update","data":{"type":"order","checkout_session_id":"csn_01hvz9kj0re0000000000000","permalink_url":"https://gett.com/orders/018f4d2a-c5b0-7c4e-9b3a-2d1e8f7a6b5c","status":"confirmed","refunds":[]}}`,
		at:      1700000000,
		want: map[string]string{
			"Signature":   "e3d5a2421cd04015df7439611b8d9bd81a1bea93cadd175fdb1eb99b368a0bbb",
			"Timestamp":   "1700000000",
			"API-Version": "2026-01-30",
		},
	},
	{
		name:    "Gett Business",
		profile: GettBusiness("X-Hook-Sign"),
		secret:  "97cea50e-9358-4504-b612-d0179d029692",
		body:    gettBusinessBody,
		want:    map[string]string{"X-Hook-Sign": "sha256=i+JmDAU0gS37iHFquA7QhIcXTSg+Wvyw0gfmJer9/ls="},
	},
	{
		name:    "TradeGecko",
		profile: TradeGecko(),
		secret:  "test_secret",
		body:    tradeGeckoBody,
		eventID: "0c7d9e3a",
		want: map[string]string{
			"X-Gecko-Signature": "sYREtb+RaphI6LozogMbJutFV3i3cN6fsLHlpEwoq6I=",
			"X-Gecko-Delivery":  "0c7d9e3a",
		},
	},
	{
		name:    "GetHook",
		profile: GetHook(),
		secret:  "test_secret",
		body:    getHookBody,
		at:      1700000000,
		want:    map[string]string{"Webhook-Signature": "t=1700000000,v1=63830208e7a43da430f2def24f542e94452c27d518bd472c787281206e9cb1ad"},
	},
	{
		name:    "Standard Webhooks",
		profile: StandardWebhooks(),
		secret:  "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		body:    standardBody,
		eventID: "msg_p5jXN8AQM9LWM0D4loKWxJek",
		at:      1614265330,
		want: map[string]string{
			"Webhook-Id":        "msg_p5jXN8AQM9LWM0D4loKWxJek",
			"Webhook-Timestamp": "1614265330",
			"Webhook-Signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
		},
	},
}

const (
	gettBusinessBody = `{"id":"01e829ee-5d79-467b-89e1-1cd1741ab177","event_type":"status_changed","env":"","message":"{\"order_id\":70692316,\"product_id\":\"ee5fd157-c16d-4fe8-838a-a6ca6fa08956\",\"status\":\"Cancelled\"}","timestamp":"2025-09-15T15:11:51.740212996Z"}`
	tradeGeckoBody   = `{"object_id":1234567,"event":"fulfillment.create","timestamp":1546272000,"resource_url":"https://api.tradegecko.com/fulfillments/1234567.json"}`
	getHookBody      = `{"type":"payment.succeeded","amount":2000}`
	standardBody     = `{"test": 2432232314}`
)

func issued(t testing.TB, text string) webhook.Secret {
	t.Helper()
	s, err := webhook.IssuedSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verifierOf(t testing.TB, p webhook.Profile, secrets ...webhook.Secret) *webhook.Verifier {
	t.Helper()
	v, err := p.Verifier(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func signerOf(t testing.TB, p webhook.Profile, secrets ...webhook.Secret) *webhook.Signer {
	t.Helper()
	s, err := p.Signer(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func headerOf(values map[string]string) http.Header {
	h := http.Header{}
	for name, value := range values {
		h.Set(name, value)
	}
	return h
}

func TestVectors(t *testing.T) {
	for _, tc := range vectors {
		t.Run(tc.name, func(t *testing.T) {
			secret := issued(t, tc.secret)
			m := &webhook.Message{Header: http.Header{}, Body: []byte(tc.body), EventID: tc.eventID}
			if err := signerOf(t, tc.profile, secret).SignMessage(m, time.Unix(tc.at, 0)); err != nil {
				t.Fatal(err)
			}
			if len(m.Header) != len(tc.want) {
				t.Errorf("headers %v, want %v", m.Header, tc.want)
			}
			for name, want := range tc.want {
				if got := m.Header.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			tc.profile.Tolerance = -1
			got, err := verifierOf(t, tc.profile, issued(t, "b3RoZXIgc2VjcmV0"), secret).Verify(headerOf(tc.want), []byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if got.Secret != 1 || got.Scheme != tc.profile.Scheme.Name() || got.EventID != tc.eventID {
				t.Errorf("verification is %+v", got)
			}
			if got.Timestamp.IsZero() != (tc.at == 0) || tc.at != 0 && got.Timestamp.Unix() != tc.at {
				t.Errorf("timestamp is %v, want %d", got.Timestamp, tc.at)
			}
		})
	}
}

// What well-meaning code computes and the other side never sends.
func TestVectorsThatMustNotMatch(t *testing.T) {
	for _, tc := range []struct {
		name, secret string
		profile      webhook.Profile
		header       string
		value, body  string
		want         error
	}{
		{"TradeGecko, the body as a string through a JSON encoder", "test_secret", TradeGecko(), "X-Gecko-Signature", "W11pN3xLa9uwyc9l9cBAUqOfl61DODgWKoRe1Kdztp4=", tradeGeckoBody, webhook.ErrSignatureMismatch},
		{"TradeGecko, re-serialised with spaces", "test_secret", TradeGecko(), "X-Gecko-Signature", "PcEc7qOmIpSF3YlN5YbRvhWM/Dt9+JE2edmlpPUJTiY=", tradeGeckoBody, webhook.ErrSignatureMismatch},
		{"Gett Business, GitHub's hex behind sha256=", "97cea50e-9358-4504-b612-d0179d029692", GettBusiness(""), "Signature", "sha256=8be2660c0534812dfb88716ab80ed08487174d283e5afcb0d207e625eafdfe5b", gettBusinessBody, webhook.ErrHeaderTooLong},
		{"Gett Business, without its prefix", "97cea50e-9358-4504-b612-d0179d029692", GettBusiness(""), "Signature", "i+JmDAU0gS37iHFquA7QhIcXTSg+Wvyw0gfmJer9/ls=", gettBusinessBody, webhook.ErrHeaderMalformed},
		{"Gett Business, lower-cased", "97cea50e-9358-4504-b612-d0179d029692", GettBusiness(""), "Signature", "sha256=i+jmdau0gs37ihfqua7qhicxtsg+wvyw0gfmjer9/ls=", gettBusinessBody, webhook.ErrSignatureMismatch},
		{"Gett Business, key decoded as UUID", "\x97\xce\xa5\x0e\x93\x58\x45\x04\xb6\x12\xd0\x17\x9d\x02\x96\x92", GettBusiness(""), "Signature", "sha256=i+JmDAU0gS37iHFquA7QhIcXTSg+Wvyw0gfmJer9/ls=", gettBusinessBody, webhook.ErrSignatureMismatch},
		{"GetHook, of the body alone", "test_secret", GetHook(), "Webhook-Signature", "t=1700000000,v1=0bd59e5ff25bd1d7a58be48a6ca2e4b8ee0b3e4ddea53f9d2bba3e9e5e5cb0d5", getHookBody, webhook.ErrSignatureMismatch},
		{"GetHook, another time", "test_secret", GetHook(), "Webhook-Signature", "t=1700000001,v1=63830208e7a43da430f2def24f542e94452c27d518bd472c787281206e9cb1ad", getHookBody, webhook.ErrSignatureMismatch},
	} {
		tc.profile.Tolerance = -1
		_, err := verifierOf(t, tc.profile, issued(t, tc.secret)).Verify(http.Header{tc.header: {tc.value}}, []byte(tc.body))
		assertCause(t, tc.name, err, tc.want)
	}
	// Standard Webhooks decodes its secret; the same text as a plain key is another key.
	header, body := headerOf(vectors[4].want), []byte(standardBody)
	p := StandardWebhooks()
	p.Tolerance = -1
	decoded, err := issued(t, vectors[4].secret).Decoded()
	if err != nil {
		t.Fatal(err)
	}
	sum := issued(t, vectors[4].secret).HMAC(body, header.Get("Webhook-Id"), ".", header.Get("Webhook-Timestamp"), ".")
	right := decoded.HMAC(body, header.Get("Webhook-Id"), ".", header.Get("Webhook-Timestamp"), ".")
	if sum == right {
		t.Error("the plain text and the decoded key sign alike")
	}
}

func assertCause(t testing.TB, what string, err, want error) {
	t.Helper()
	ve, ok := errors.AsType[*webhook.VerifyError](err)
	if !ok || ve.Unwrap() != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
	if err != nil && (!strings.HasPrefix(err.Error(), "webhook: verify: ") || strings.Contains(err.Error(), "test_secret") || ok && ve.Scheme == "") {
		t.Errorf("%s: error %q", what, err)
	}
}

// Every profile verifies what it signs, over a real connection, and refuses every single change to it.
func TestRoundTripAndMutations(t *testing.T) {
	for _, p := range All() {
		t.Run(p.Name, func(t *testing.T) {
			oldSecret, newSecret := webhook.GenerateSecret(), webhook.GenerateSecret()
			verifier := verifierOf(t, p, newSecret, oldSecret)
			body := []byte(`{"id":"evt_1","type":"a.b","data":{"n":1}}`)
			var received http.Header
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { received = r.Header }))
			defer server.Close()
			request, err := http.NewRequest("POST", server.URL, strings.NewReader(string(body)))
			if err != nil {
				t.Fatal(err)
			}
			m := &webhook.Message{Header: request.Header, Body: body, EventID: "evt_1"}
			if err := signerOf(t, p, oldSecret).SignMessage(m, time.Now()); err != nil {
				t.Fatal(err)
			}
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()

			got, err := verifier.Verify(received, body)
			if err != nil || got.Secret != 1 {
				t.Fatalf("%+v, %v", got, err)
			}
			if _, err := p.Key(&webhook.Message{Header: received, Body: body, EventID: got.EventID}); err != nil {
				t.Errorf("key: %v", err)
			}
			for i := range body {
				changed := []byte(string(body))
				changed[i] ^= 1
				_, err := verifier.Verify(received, changed)
				assertCause(t, fmt.Sprintf("byte %d changed", i), err, webhook.ErrSignatureMismatch)
			}
			_, err = verifierOf(t, p, webhook.GenerateSecret()).Verify(received, body)
			assertCause(t, "another secret", err, webhook.ErrSignatureMismatch)
			_, err = verifier.Verify(nil, body)
			assertCause(t, "no headers", err, webhook.ErrHeaderMissing)
			for name := range m.Header { // every byte of every header that was set
				for i := range m.Header.Get(name) {
					value := []byte(m.Header.Get(name))
					value[i] ^= 1
					changed := received.Clone()
					changed.Set(name, string(value))
					got, err := verifier.Verify(changed, body)
					if err == nil && !unsigned[name] {
						t.Errorf("%s changed to %q: accepted: %+v", name, value, got)
					}
				}
			}
		})
	}
}

// unsigned headers may be changed by anybody, within the tolerance for the first.
var unsigned = map[string]bool{"Timestamp": true, "Api-Version": true, "X-Gecko-Delivery": true}

func TestSchemesWithTimeAreHeldToTheTolerance(t *testing.T) {
	for _, p := range All() {
		fresh := p.Tolerance > 0
		for age, accepted := range map[time.Duration]bool{
			300 * time.Second: true,
			301 * time.Second: !fresh,
			72 * time.Hour:    !fresh,
		} {
			synctest.Test(t, func(t *testing.T) {
				secret := webhook.GenerateSecret()
				m := &webhook.Message{Header: http.Header{}, Body: []byte("{}"), EventID: "e"}
				if err := signerOf(t, p, secret).SignMessage(m, time.Now()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(age)
				_, err := verifierOf(t, p, secret).VerifyMessage(m)
				if accepted && err != nil || !accepted && !errors.Is(err, webhook.ErrTimestampTooOld) {
					t.Errorf("%s after %v: %v", p.Name, age, err)
				}
			})
		}
	}
}

func TestProfilesAreComplete(t *testing.T) {
	names := make(map[string]bool)
	for _, p := range All() {
		if p.Name == "" || names[p.Name] || p.Scheme == nil || p.Timeout <= 0 || p.Schedule.Kind == "" ||
			p.Success.From < 200 || p.Success.To < 299 || p.Key == nil || p.Describe == nil || p.Tolerance == 0 {
			t.Errorf("%q is not complete: %+v", p.Name, p)
		}
		names[p.Name] = true
		p.Describe(&webhook.Message{}) // of nothing, and of anything
		for _, body := range []string{"", "null", "[]", "7", `{"id":7,"type":[],"event":{},"event_type":null}`, "{"} {
			if got := p.Describe(&webhook.Message{Header: http.Header{}, Body: []byte(body)}); got != (webhook.Description{}) {
				t.Errorf("%s describes %q as %+v", p.Name, body, got)
			}
		}
	}
}

// The systems' published rules, as figures.
func TestRules(t *testing.T) {
	for _, tc := range []struct {
		profile  webhook.Profile
		delays   string
		timeout  time.Duration
		success  webhook.SuccessRule
		gone     bool
		describe string
	}{
		{Gett(), "[30s 2m0s 10m0s 1h0m0s 6h0m0s]", 30 * time.Second, webhook.SuccessRule{From: 200, To: 299}, false, " order_update 018f4d2a-c5b0-7c4e-9b3a-2d1e8f7a6b5c"},
		{GettBusiness(""), "[]", 30 * time.Second, webhook.SuccessRule{From: 200, To: 299}, false, "01e829ee-5d79-467b-89e1-1cd1741ab177 status_changed order:70692316 2025-09-15T15:11:51.740212996Z"},
		{TradeGecko(), "sidekiq 25", 10 * time.Second, webhook.SuccessRule{From: 200, To: 399}, true, " fulfillment.create fulfillment:1234567 2018-12-31T16:00:00Z"},
		{GetHook(), "[30s 2m0s 10m0s 1h0m0s]", 30 * time.Second, webhook.SuccessRule{From: 200, To: 299}, false, " payment.succeeded "},
		{StandardWebhooks(), "[5s 5m0s 30m0s 2h0m0s 5h0m0s 10h0m0s 14h0m0s 20h0m0s 24h0m0s]", 20 * time.Second, webhook.SuccessRule{From: 200, To: 299}, true, "msg_p5jXN8AQM9LWM0D4loKWxJek  "},
	} {
		p := tc.profile
		got := fmt.Sprint(p.Schedule.List)
		if p.Schedule.Kind != "list" {
			got = fmt.Sprint(p.Schedule.Kind, " ", p.Schedule.Retries)
		}
		if got != tc.delays || p.Timeout != tc.timeout || p.Success != tc.success || p.GoneDisables != tc.gone {
			t.Errorf("%s: %s, %v, %v, %v", p.Name, got, p.Timeout, p.Success, p.GoneDisables)
		}
		for _, v := range vectors {
			if v.profile.Name == p.Name {
				d := p.Describe(&webhook.Message{Header: headerOf(v.want), Body: []byte(v.body)})
				got := fmt.Sprintf("%s %s %s", d.ID, d.Type, d.OrderingKey)
				if !d.Time.IsZero() {
					got += " " + d.Time.Format(time.RFC3339Nano)
				}
				if got != tc.describe {
					t.Errorf("%s: described as %q, want %q", p.Name, got, tc.describe)
				}
			}
		}
	}
}

func TestKeys(t *testing.T) {
	delivery := http.Header{"X-Gecko-Delivery": {"d1"}}
	for _, tc := range []struct {
		name    string
		profile webhook.Profile
		message webhook.Message
		want    string
	}{
		{"Gett Business", GettBusiness(""), webhook.Message{Body: []byte(gettBusinessBody)}, "json:id:01e829ee-5d79-467b-89e1-1cd1741ab177"},
		{"Gett Business without id", GettBusiness(""), webhook.Message{Body: []byte(`{}`)}, ""},
		{"TradeGecko", TradeGecko(), webhook.Message{Header: delivery, Body: []byte("x")}, "header:X-Gecko-Delivery:d1"},
		{"TradeGecko without delivery id", TradeGecko(), webhook.Message{Body: []byte("hello")}, "body:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
		{"GetHook", GetHook(), webhook.Message{Body: []byte("hello")}, "body:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
		{"Standard Webhooks", StandardWebhooks(), webhook.Message{EventID: "msg_1"}, "id:msg_1"},
	} {
		got, err := tc.profile.Key(&tc.message)
		if got.ID != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s: %+v, %v", tc.name, got, err)
		}
	}
}
