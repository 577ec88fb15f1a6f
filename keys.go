package webhook

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/signalpost/webhook/internal/jsonscan"
)

// maxKeyBytes is what a [DedupeStore] takes.
const maxKeyBytes = 255

// JoinKey makes one key of several parts. Different lists of parts give different keys, whatever the parts hold:
// ("a", "bc") and ("ab", "c") never run together. The parts stay readable, joined by ':', with '%' as the escape.
// The key is valid for a [DedupeStore]: 1 to 255 bytes of UTF-8 without control characters; a longer one becomes its SHA-256.
func JoinKey(parts ...string) string {
	if len(parts) == 0 {
		return "%0"
	}
	var room [maxKeyBytes]byte
	b := room[:0]
	for i, part := range parts {
		if i > 0 {
			b = append(b, ':')
		}
		if part == "" {
			b = append(b, '%')
		}
		b = appendKeyPart(b, part)
	}
	if len(b) <= maxKeyBytes {
		return string(b)
	}
	sum := sha256.Sum256(b)
	return "%sha256:" + hex.EncodeToString(sum[:]) // no part begins like that: '%' is followed by two upper-case hex digits
}

// appendKeyPart appends part with what is not plain in it escaped.
func appendKeyPart(b []byte, part string) []byte {
	const digits = "0123456789ABCDEF"
	for i, size := 0, 0; i < len(part); i += size {
		c := part[i]
		if size = 1; ' ' <= c && c < 0x7f && c != ':' && c != '%' {
			b = append(b, c)
			continue
		}
		var r rune
		if r, size = utf8.DecodeRuneInString(part[i:]); r == ':' || r == '%' || unicode.IsControl(r) || r == utf8.RuneError && size == 1 {
			for _, c := range []byte(part[i : i+size]) {
				b = append(b, '%', digits[c>>4], digits[c&15])
			}
		} else {
			b = append(b, part[i:i+size]...)
		}
	}
	return b
}

// DefaultKey is the key of Gett's events: an order_create counts once per order; an order_update once per order and exact body,
// since one order has many; anything else once per exact body.
//
// Gett says to use the orderId as the key, and sends none: it is the last path segment of data.permalink_url. An orderId
// field, in data or beside it, is used where there is one. What has no recognisable order counts once per exact body.
//
// The price: an order that goes from confirmed to manual_review and back to confirmed sends the same body twice, and the second
// looks like a repeat until the first is forgotten. [Trace.SuppressedRepeat] tells of each; [GettLatestKey] is the other choice.
func DefaultKey(m *Message) (Key, error) {
	eventType, order := gettOrder(m.Body)
	switch eventType {
	case "order_create":
		return Key{ID: JoinKey(eventType, order)}, nil
	case "order_update":
		return Key{ID: JoinKey(eventType, order, bodyDigest(m.Body))}, nil
	}
	return KeyFromBody()(m)
}

// GettLatestKey is [DefaultKey], but of an order's updates it remembers only the latest: confirmed, manual_review, confirmed
// are three events. The price: a retry of an older update that comes after a newer one is new too, runs the handler again,
// and may set the order back to the older status. Take it when handlers fetch the order's present state, or refuse steps back.
func GettLatestKey(m *Message) (Key, error) {
	eventType, order := gettOrder(m.Body)
	if eventType != "order_update" {
		return DefaultKey(m)
	}
	return Key{ID: JoinKey(eventType, order), Digest: sha256.Sum256(m.Body)}, nil
}

// gettOrder reads type and order of one of Gett's order events. Both are "" when it is none, or has no clear order.
func gettOrder(body []byte) (eventType, order string) {
	// No need to read what is no order's: without escapes the type would have to stand there as it is.
	if !bytes.Contains(body, []byte(`"order_`)) && !bytes.Contains(body, []byte(`\u`)) || !jsonscan.Valid(body) {
		return "", ""
	}
	top := [...]jsonMember{{name: "type"}, {name: "data"}, {name: "orderId"}}
	if jsonFields(body, top[:]) != nil {
		return "", ""
	}
	if eventType = gettOrderType(&top[0]); eventType == "" {
		return "", ""
	}
	inner := [...]jsonMember{{name: "orderId"}, {name: "permalink_url"}}
	if data, err := top[1].only(); err == nil {
		_ = jsonFields(data, inner[:]) // what is no object has none of them
	}
	if order, err := inner[0].text(); err == nil {
		return eventType, order
	}
	if order, err := top[2].text(); err == nil {
		return eventType, order
	}
	link, err := inner[1].text()
	if err != nil {
		return "", ""
	}
	if order = lastSegment(link); order == "" {
		return "", ""
	}
	return eventType, order
}

// gettOrderType is the type if it is one of the two.
func gettOrderType(m *jsonMember) string {
	literal, err := m.only()
	if err != nil {
		return ""
	}
	switch string(literal) { // as it is written nearly always
	case `"order_update"`:
		return "order_update"
	case `"order_create"`:
		return "order_create"
	}
	if text, err := jsonValueText(literal); err == nil && (text == "order_update" || text == "order_create") {
		return text
	}
	return ""
}

// lastSegment is the last segment of the link's path. A path of one segment has none: "https://gett.com/orders" names all
// orders, and must not become the key of each.
func lastSegment(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return ""
	}
	path := strings.Trim(u.EscapedPath(), "/")
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return ""
	}
	return path[i+1:]
}

// KeyFromBody makes the exact body the key: two events count as one only when all their bytes are the same.
func KeyFromBody() KeyFunc {
	return func(m *Message) (Key, error) {
		const prefix = "body:" // as of JoinKey
		var id [len(prefix) + 2*sha256.Size]byte
		sum := sha256.Sum256(m.Body)
		hex.Encode(id[copy(id[:], prefix):], sum[:])
		return Key{ID: string(id[:])}, nil
	}
}

func bodyDigest(body []byte) string {
	sum := sha256.Sum256(body)
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	return string(digits[:])
}

// KeyFromJSON makes a string or number in a JSON body the key, as in KeyFromJSON("data", "id"). A number counts as it is
// written, of any size. It refuses ([ErrInvalid]) a body that is not a JSON object, and a field that is missing, empty, of
// another kind, or there twice, which readers understand differently.
func KeyFromJSON(path ...string) KeyFunc {
	path = append([]string(nil), path...)
	return func(m *Message) (Key, error) {
		value, err := jsonText(m.Body, path...)
		if err != nil {
			return Key{}, err
		}
		parts := append(append(make([]string, 0, 2+len(path)), "json"), path...)
		return Key{ID: JoinKey(append(parts, value)...)}, nil
	}
}

// KeyFromHeader makes a header the key. It refuses a request ([ErrInvalid]) without exactly one value for it. Most formats do not sign
// headers: then whoever has seen one valid request can send it again under another key.
func KeyFromHeader(name string) KeyFunc {
	name = http.CanonicalHeaderKey(name)
	return func(m *Message) (Key, error) {
		value, err := OneHeader(m.Header, name)
		if err != nil {
			reason := "is not there exactly once, or is empty or too long"
			return Key{}, &FieldError{Op: "key", Field: "header " + name, Reason: reason, Cause: err}
		}
		return Key{ID: JoinKey("header", name, value)}, nil
	}
}

// KeyFromEventID makes the event's ID the key, as the format's headers carry it and [Verifier.VerifyMessage] has put it into
// the message. It refuses ([ErrInvalid]) a request without.
func KeyFromEventID() KeyFunc {
	return func(m *Message) (Key, error) {
		if m.EventID == "" {
			return Key{}, keyError("event id", "is missing")
		}
		return Key{ID: JoinKey("id", m.EventID)}, nil
	}
}

func keyError(field, reason string) error {
	return &FieldError{Op: "key", Field: field, Reason: reason}
}
