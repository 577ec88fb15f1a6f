package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJoinKeyReads(t *testing.T) {
	long := strings.Repeat("x", 300)
	sum := sha256.Sum256([]byte(long))
	for _, tc := range []struct {
		parts []string
		want  string
	}{
		{[]string{"order_create", "018f4d2a-c5b0"}, "order_create:018f4d2a-c5b0"},
		{[]string{"a:b", "c%d"}, "a%3Ab:c%25d"},
		{[]string{"", ""}, "%:%"},
		{nil, "%0"},
		{[]string{"é世界"}, "é世界"},
		{[]string{"\x00\n\u0085\xff"}, "%00%0A%C2%85%FF"},
		{[]string{"\ufffd"}, "\ufffd"}, // the character itself, not a bad byte
		{[]string{long}, "%sha256:" + hex.EncodeToString(sum[:])},
		{[]string{strings.Repeat("x", 255)}, strings.Repeat("x", 255)},
	} {
		if got := JoinKey(tc.parts...); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.parts, got, tc.want)
		}
	}
}

// Parts never run together: different lists have different keys, and every key fits a DedupeStore.
func TestJoinKeyIsInjective(t *testing.T) {
	pieces := []string{
		"", "a", "b", ":", "%", "::", "%0", "%3A", "%25", "%:", "%sha256:", "0", "\x00", "\xff", "é", "\ufffd",
		strings.Repeat("ab:", 40), strings.Repeat("\xfe", 90),
	}
	seen := make(map[string][]string)
	check := func(parts []string) {
		key := JoinKey(parts...)
		if len(key) < 1 || len(key) > 255 || !utf8.ValidString(key) || strings.ContainsAny(key, "\x00\n\r") {
			t.Fatalf("%q: key %q does not fit", parts, key)
		}
		if other, ok := seen[key]; ok && !slices.Equal(other, parts) {
			t.Fatalf("%q and %q both have key %q", parts, other, key)
		}
		seen[key] = slices.Clone(parts)
	}
	check(nil)
	for _, a := range pieces { // all short lists
		check([]string{a})
		for _, b := range pieces {
			check([]string{a, b})
			check([]string{a + b})
			for _, c := range pieces {
				check([]string{a, b, c})
				check([]string{a + b, c})
				check([]string{a, b + c})
				check([]string{a + b + c})
			}
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		parts := make([]string, random.IntN(5))
		for i := range parts {
			for range random.IntN(4) {
				parts[i] += pieces[random.IntN(len(pieces))]
			}
		}
		check(parts)
	}
	for key, parts := range seen { // a key given as a part makes another key
		if got := JoinKey(key); got == key && !slices.Equal(parts, []string{key}) {
			t.Fatalf("%q has the key of %q", key, parts)
		}
	}
}

func order(eventType, link, rest string) string {
	return fmt.Sprintf(`{"type":%q,"data":{"type":"order","permalink_url":%q%s}}`, eventType, link, rest)
}

func digestOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

func TestDefaultKey(t *testing.T) {
	const create, update, link = "order_create", "order_update", "https://gett.com/orders/o-1"
	for _, tc := range []struct{ name, body, want string }{ // want with DIGEST for the body's
		{"create", order(create, link, ""), "order_create:o-1"},
		{"update", order(update, link, `,"status":"confirmed"`), "order_update:o-1:DIGEST"},
		{"published sample", gettBody, "order_update:018f4d2a-c5b0-7c4e-9b3a-2d1e8f7a6b5c:DIGEST"},
		{"query", order(create, link+"?utm=1/2", ""), "order_create:o-1"},
		{"fragment", order(create, link+"#top/x", ""), "order_create:o-1"},
		{"trailing slash", order(create, link+"/", ""), "order_create:o-1"},
		{"all three", order(create, link+"//?a=b#c", ""), "order_create:o-1"},
		{"relative", order(create, "/orders/o-1", ""), "order_create:o-1"},
		{"escapes stay", order(create, "https://gett.com/orders/a%2Fb", ""), "order_create:a%252Fb"},
		{"orderId in data", order(create, link, `,"orderId":"o-2"`), "order_create:o-2"},
		{"orderId beside data", `{"type":"order_create","orderId":"o-3","data":{"permalink_url":"` + link + `"}}`, "order_create:o-3"},
		{"numeric orderId", order(update, link, `,"orderId":12345678901234567890`), "order_update:12345678901234567890:DIGEST"},
		{"empty orderId", order(create, link, `,"orderId":""`), "order_create:o-1"},
		{"null orderId", order(create, link, `,"orderId":null`), "order_create:o-1"},
		// What has no clear order must never share a key with another event.
		{"no order in the link", order(create, "https://gett.com/orders/", ""), "body:DIGEST"},
		{"no path", order(create, "https://gett.com", ""), "body:DIGEST"},
		{"no link", `{"type":"order_create","data":{}}`, "body:DIGEST"},
		{"link of another kind", `{"type":"order_create","data":{"permalink_url":["x/y"]}}`, "body:DIGEST"},
		{"bad link", order(create, "https://gett.com/%zz/x", ""), "body:DIGEST"},
		{"two links", order(create, link, `,"permalink_url":"https://gett.com/orders/o-9"`), "body:DIGEST"},
		{"two types", `{"type":"order_update","type":"order_create","data":{"permalink_url":"` + link + `"}}`, "body:DIGEST"},
		{"other type", order("order_delete", link, ""), "body:DIGEST"},
		{"no type", `{"data":{"permalink_url":"` + link + `"}}`, "body:DIGEST"},
		{"no JSON", `order_create`, "body:DIGEST"},
		{"cut JSON", gettBody[:80], "body:DIGEST"},
		{"JSON and more", gettBody + "x", "body:DIGEST"},
		{"data is no object", `{"type":"order_create","data":[]}`, "body:DIGEST"},
		{"empty", ``, "body:DIGEST"},
		{"null", `null`, "body:DIGEST"},
	} {
		key, err := DefaultKey(&Message{Body: []byte(tc.body)})
		if want := strings.ReplaceAll(tc.want, "DIGEST", digestOf(tc.body)); err != nil || key != (Key{ID: want}) {
			t.Errorf("%s: %+v, %v; want %s", tc.name, key, err, want)
		}
		latest, err := GettLatestKey(&Message{Body: []byte(tc.body)})
		if id, ok := strings.CutSuffix(tc.want, ":DIGEST"); ok && id != "body" {
			if want := (Key{ID: id, Digest: sha256.Sum256([]byte(tc.body))}); err != nil || latest != want {
				t.Errorf("%s: latest key %+v, %v; want %+v", tc.name, latest, err, want)
			}
		} else if err != nil || latest != key {
			t.Errorf("%s: latest key %+v, %v; want as DefaultKey", tc.name, latest, err)
		}
	}
}

// The reason for the rule: a life of an order, each step counted once, and only exact repeats suppressed.
func TestDefaultKeyLosesNoUpdate(t *testing.T) {
	seen := make(map[Key]bool)
	for i, step := range []struct {
		body string
		new  bool
	}{
		{order("order_create", "https://gett.com/orders/o-1", `,"status":"created"`), true},
		{order("order_update", "https://gett.com/orders/o-1", `,"status":"manual_review"`), true},
		{order("order_update", "https://gett.com/orders/o-1", `,"status":"confirmed"`), true},
		{order("order_create", "https://gett.com/orders/o-1/", `,"status":"created"`), false}, // a retry, even if written otherwise
		{order("order_update", "https://gett.com/orders/o-1", `,"status":"confirmed"`), false},
		{order("order_update", "https://gett.com/orders/o-1", `,"status":"confirmed","refunds":[{"amount":1050}]`), true},
		{order("order_update", "https://gett.com/orders/o-2", `,"status":"confirmed"`), true},
	} {
		key, err := DefaultKey(&Message{Body: []byte(step.body)})
		if err != nil || seen[key] == step.new {
			t.Errorf("step %d: new is %v, want %v (%v)", i, !seen[key], step.new, err)
		}
		seen[key] = true
	}
}

var jsonKeyCases = []struct {
	body string
	path string // split at dots
	want string // "" for an error
}{
	{`{"id":"e1"}`, "id", "json:id:e1"},
	{` { "a" : { "b" : "e1" } , "c":[1,{"b":2}] } `, "a.b", "json:a:b:e1"},
	{`{"x":{"id":"no"},"y":["id","no"],"z":"\"id\":\"no\"","id":"yes"}`, "id", "json:id:yes"},
	{`{"id":70692316}`, "id", "json:id:70692316"},
	{`{"id":9007199254740993}`, "id", "json:id:9007199254740993"}, // a float64 would be …992
	{`{"id":123456789012345678901234567890}`, "id", "json:id:123456789012345678901234567890"},
	{`{"id":-1.50e+3}`, "id", "json:id:-1.50e+3"},
	{`{"id":"\u0041\n"}`, "id", "json:id:A%0A"},
	{`{"\u0069d":"e1"}`, "id", "json:id:e1"},
	{`{"id":"a:b"}`, "id", "json:id:a%3Ab"},
	{`{"ID":"other","id":"e1"}`, "id", "json:id:e1"}, // names match exactly
	{`{"id":"\ud800"}`, "id", `json:id:"\ud800"`},    // what decodes to U+FFFD stays as written
	{"{\"id\":\"\xff\"}", "id", `json:id:"%FF"`},
	{`{"id":"e1","id":"e2"}`, "id", ""},
	{`{"id":"e1","\u0069d":"e1"}`, "id", ""},
	{`{"a":{"id":"e1"},"a":{}}`, "a.id", ""},
	{`{"ID":"e1"}`, "id", ""},
	{`{"id":""}`, "id", ""},
	{`{"id":null}`, "id", ""},
	{`{"id":true}`, "id", ""},
	{`{"id":false}`, "id", ""},
	{`{"id":{}}`, "id", ""},
	{`{"id":["e1"]}`, "id", ""},
	{`{}`, "id", ""},
	{`{"a":"id"}`, "a.id", ""},
	{`{"a":7}`, "a.id", ""},
	{`[{"id":"e1"}]`, "id", ""},
	{`"id"`, "id", ""},
	{`{"id":"e1"`, "id", ""},
	{`{"id":"e1"}{"id":"e2"}`, "id", ""},
	{`{"id":"e1"} x`, "id", ""},
	{`{'id':'e1'}`, "id", ""},
	{`{"id":01}`, "id", ""},
	{`{"id":NaN}`, "id", ""},
	{"\ufeff" + `{"id":"e1"}`, "id", ""},
	{``, "id", ""},
}

func TestKeyFromJSON(t *testing.T) {
	for _, tc := range jsonKeyCases {
		key, err := KeyFromJSON(strings.Split(tc.path, ".")...)(&Message{Body: []byte(tc.body)})
		if key != (Key{ID: tc.want}) || (err != nil) != (tc.want == "") || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s of %s: %+v, %v; want %q", tc.path, tc.body, key, err, tc.want)
		}
	}
	_, err := KeyFromJSON("data", "id")(&Message{Body: []byte(`{"data":{}}`)})
	if want := `webhook: key: body field "data.id": is missing`; err == nil || err.Error() != want {
		t.Errorf("reads %v, want %s", err, want)
	}
	if _, err := KeyFromJSON()(&Message{Body: []byte(`"text"`)}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no path: %v", err)
	}
	path := []string{"id"}
	key := KeyFromJSON(path...)
	path[0] = "changed"
	if _, err := key(&Message{Body: []byte(`{"id":"e1"}`)}); err != nil {
		t.Errorf("the caller's slice is used: %v", err)
	}
	deep := strings.Repeat(`{"a":`, 5000) + `{"id":"x"}` + strings.Repeat(`}`, 5000)
	if _, err := KeyFromJSON("id")(&Message{Body: []byte(deep)}); !errors.Is(err, ErrInvalid) {
		t.Errorf("deep nesting: %v", err)
	}
}

func FuzzJSONKey(f *testing.F) {
	for _, tc := range jsonKeyCases {
		name, _, _ := strings.Cut(tc.path, ".")
		f.Add([]byte(tc.body), name)
	}
	f.Fuzz(func(t *testing.T, body []byte, name string) {
		got, err := jsonText(body, name)
		var fields map[string]json.RawMessage
		decodes := json.Unmarshal(body, &fields) == nil && fields != nil
		raw, there := fields[name]
		if err == nil {
			if !decodes || !there && !strings.ContainsRune(name, utf8.RuneError) && utf8.ValidString(name) {
				t.Fatalf("%q of %q: found %q where encoding/json finds none", name, body, got)
			}
			var text string
			if there && json.Unmarshal(raw, &text) == nil && text != got && !strings.ContainsRune(text, utf8.RuneError) {
				t.Fatalf("%q of %q: %q, encoding/json has %q", name, body, got, text)
			}
			return
		}
		// encoding/json finds a usable value: then the name must be there twice.
		var text string
		if decodes && there && json.Unmarshal(raw, &text) == nil && text != "" && !strings.Contains(err.Error(), "there twice") {
			t.Fatalf("%q of %q: %v, encoding/json has %q", name, body, err, text)
		}
	})
}

func TestOtherKeys(t *testing.T) {
	m := &Message{
		Header:  http.Header{"X-Id": {"e:1"}, "X-Two": {"a", "b"}, "X-Empty": {""}, "X-Long": {strings.Repeat("x", 5000)}},
		Body:    []byte("hello"),
		EventID: "evt_1",
	}
	for _, tc := range []struct {
		name string
		key  KeyFunc
		want string
	}{
		{"header", KeyFromHeader("x-id"), "header:X-Id:e%3A1"},
		{"missing header", KeyFromHeader("X-None"), ""},
		{"two headers", KeyFromHeader("X-Two"), ""},
		{"empty header", KeyFromHeader("X-Empty"), ""},
		{"long header", KeyFromHeader("X-Long"), ""},
		{"event id", KeyFromEventID(), "id:evt_1"},
		{"body", KeyFromBody(), "body:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
	} {
		got, err := tc.key(m)
		if got != (Key{ID: tc.want}) || (err != nil) != (tc.want == "") || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %+v, %v", tc.name, got, err)
		}
	}
	if _, err := KeyFromHeader("X-Two")(m); !errors.Is(err, ErrHeaderContradicts) {
		t.Errorf("two headers: %v, want the cause too", err)
	}
	if got, err := KeyFromEventID()(&Message{}); err == nil {
		t.Errorf("no event id: %+v", got)
	}
}

func TestDescribeGett(t *testing.T) {
	for _, tc := range []struct {
		body string
		want Description
	}{
		{gettBody, Description{Type: "order_update", OrderingKey: "018f4d2a-c5b0-7c4e-9b3a-2d1e8f7a6b5c"}},
		{`{"type":"order_create","data":{"orderId":"a:b"}}`, Description{Type: "order_create", OrderingKey: "a%3Ab"}},
		{`{"type":"order_update","data":{"permalink_url":"https://gett.com/orders"}}`, Description{Type: "order_update"}},
		{`{"type":"other"}`, Description{Type: "other"}},
		{`{"type":"order_update","type":"other"}`, Description{}},
		{"no JSON", Description{}},
	} {
		// The timestamp is not signed, so it is nobody's.
		m := &Message{Header: http.Header{"Timestamp": {"1700000000"}}, Body: []byte(tc.body)}
		if got := DefaultProfile().Describe(m); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.body, got, tc.want)
		}
	}
}
