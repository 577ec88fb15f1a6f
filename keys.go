package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
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
	var b strings.Builder
	for i, part := range parts {
		if i > 0 {
			b.WriteByte(':')
		}
		if part == "" {
			b.WriteByte('%')
		}
		escapeKeyPart(&b, part)
	}
	if b.Len() <= maxKeyBytes {
		return b.String()
	}
	sum := sha256.Sum256([]byte(b.String()))
	return "%sha256:" + hex.EncodeToString(sum[:]) // no part begins like that: '%' is followed by two upper-case hex digits
}

func escapeKeyPart(b *strings.Builder, part string) {
	const digits = "0123456789ABCDEF"
	for len(part) > 0 {
		r, size := utf8.DecodeRuneInString(part)
		if r == ':' || r == '%' || unicode.IsControl(r) || r == utf8.RuneError && size == 1 {
			for i := range size {
				b.WriteByte('%')
				b.WriteByte(digits[part[i]>>4])
				b.WriteByte(digits[part[i]&15])
			}
		} else {
			b.WriteString(part[:size])
		}
		part = part[size:]
	}
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
	if !json.Valid(body) {
		return "", ""
	}
	eventType, err := jsonFind(body, "type")
	if err != nil || eventType != "order_create" && eventType != "order_update" {
		return "", ""
	}
	for _, path := range [][]string{{"data", "orderId"}, {"orderId"}} {
		if order, err := jsonFind(body, path...); err == nil {
			return eventType, order
		}
	}
	link, err := jsonFind(body, "data", "permalink_url")
	if err != nil {
		return "", ""
	}
	if order = lastSegment(link); order == "" {
		return "", ""
	}
	return eventType, order
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
		return Key{ID: JoinKey("body", bodyDigest(m.Body))}, nil
	}
}

func bodyDigest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
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
		parts := append([]string{"json"}, path...)
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
