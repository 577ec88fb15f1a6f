package webhook

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/signalpost/webhook/internal/h1"
)

const (
	maxHeaderValues = 64
	maxEventHeader  = 16 << 10 // servers refuse more, from 8 KiB for all together
)

// reserved says why a header, in canonical form, cannot be set by an event or an endpoint; "" when it can.
func reserved(name string) string {
	switch name = alias(name); name {
	case "Host", "Content-Length", "Connection", "Transfer-Encoding", "Trailer", "Upgrade", "Te", "Keep-Alive", "Expect", "Http2-Settings":
		return "frames the request"
	case "Signature", "Timestamp", "Api-Version", // the default scheme's; the others' follow
		"X-Gecko-Signature", "X-Gecko-Delivery", "Webhook-Signature", "Webhook-Id", "Webhook-Timestamp",
		"Svix-Signature", "Svix-Id", "Svix-Timestamp", "Stripe-Signature", "X-Hub-Signature", "X-Hub-Signature-256",
		"X-Shopify-Hmac-Sha256", "X-Slack-Signature", "X-Slack-Request-Timestamp":
		return "belongs to the signature"
	}
	if strings.HasPrefix(name, "Proxy-") {
		return "is for proxies"
	}
	return ""
}

// alias is a header's name in canonical form as many servers hand it to their programs: X_A and X-A are the same variable there.
func alias(name string) string {
	if strings.IndexByte(name, '_') >= 0 {
		name = strings.ReplaceAll(name, "_", "-")
	}
	return http.CanonicalHeaderKey(name)
}

// validateHeader returns a [*FieldError] when an event's Header has a name or value that cannot be sent, sets what the library
// sets, or is too large. Its text names headers and never shows values.
func validateHeader(h http.Header) error {
	bad := func(format string, args ...any) error {
		return &FieldError{Op: "send", Field: "Header", Reason: fmt.Sprintf(format, args...)}
	}
	values, size := 0, 0
	for name, vv := range h {
		if !h1.ValidName(name) {
			return bad("%.40q is not a header name", name)
		}
		canonical := http.CanonicalHeaderKey(name)
		if why := reserved(canonical); why != "" {
			return bad("%s %s", canonical, why)
		}
		if canonical != name {
			if _, twice := h[canonical]; twice {
				return bad("%s is there twice, as %q too", canonical, name)
			}
		}
		for _, v := range vv {
			if !h1.ValidValue(v) {
				return bad("%s contains control characters", canonical)
			}
			values++
			size += len(name) + len(v) + len(": \r\n")
		}
	}
	if values > maxHeaderValues {
		return bad("has %d values, want at most %d", values, maxHeaderValues)
	}
	if size > maxEventHeader {
		return bad("has %d bytes, want at most %d", size, maxEventHeader)
	}
	return nil
}

// requestHeader is the header of an attempt as hooks see it: before it is signed, and without what the endpoint adds, which may be
// secret. Values are shared with the event and with other requests and have no room behind them, so that adding to one copies it.
func (c *httpClient) requestHeader(t *target, ev *Event) http.Header {
	h := make(http.Header, len(ev.Header)+len(t.header)+5) // and the signature's
	for name, vv := range ev.Header {
		if name = http.CanonicalHeaderKey(name); reserved(name) == "" { // another version may have let it in
			h[name] = vv[:len(vv):len(vv)]
		}
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = c.contentType
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = c.userAgent
	}
	return h
}

// complete sets what the endpoint adds to each request, over what is there, and drops what only its scheme may set, under whatever name servers
// may take for the same.
func (t *target) complete(h http.Header) {
	if len(t.taken) > 0 {
		maps.DeleteFunc(h, func(name string, _ []string) bool { return slices.Contains(t.taken, alias(name)) })
	}
	maps.Copy(h, t.header)
}

// endpointHeader is what an endpoint adds to each request, in canonical form; nil for nothing. signed are the headers of its
// scheme. What the door would refuse is left out: another version may have let it in.
func endpointHeader(ep *Endpoint, signed []string) http.Header {
	name, value := ep.Auth.header()
	if len(ep.Header) == 0 && name == "" {
		return nil
	}
	h := make(http.Header, len(ep.Header)+1)
	for name, vv := range ep.Header {
		if name = http.CanonicalHeaderKey(name); len(vv) > 0 && reserved(name) == "" && !slices.Contains(signed, alias(name)) {
			h[name] = slices.Clip(slices.Clone(vv))
		}
	}
	if name != "" {
		h[name] = []string{value}
	}
	return h
}

// echoedLeast is how short a credential may be, in bytes, to be looked for in answers: shorter ones stand there by chance.
const echoedLeast = 8

// endpointSecrets are the texts of an endpoint's credentials as they go over the wire, and the values of its URL's query, as they stand there and as
// they read.
func endpointSecrets(ep *Endpoint) (secrets []string) {
	add := func(s string) {
		if len(s) >= echoedLeast {
			secrets = append(secrets, s)
		}
	}
	for _, values := range ep.Header {
		for _, v := range values {
			add(v)
		}
	}
	_, value := ep.Auth.header()
	_, coded, _ := strings.Cut(value, " ")
	add(coded)
	add(ep.Auth.Secret.Reveal())
	if u, err := url.Parse(ep.URL); err == nil {
		for part := range strings.SplitSeq(u.RawQuery, "&") {
			_, value, _ := strings.Cut(part, "=")
			add(value)
			if plain, err := url.QueryUnescape(value); err == nil && plain != value {
				add(plain)
			}
		}
	}
	return secrets
}

// hide redacts what a receiver's answer echoes of the endpoint's credentials: attempts are read by more people.
func (t *target) hide(answer []byte) []byte {
	for _, s := range t.secrets {
		if bytes.Contains(answer, []byte(s)) {
			answer = bytes.ReplaceAll(answer, []byte(s), []byte(redacted))
		}
	}
	for _, s := range t.secrets { // one that is cut off where the answer is
		for n := min(len(s)-1, len(answer)); n >= echoedLeast; n-- {
			if bytes.HasSuffix(answer, []byte(s[:n])) {
				answer = append(answer[:len(answer)-n:len(answer)-n], redacted...)
				break
			}
		}
	}
	return answer[:min(len(answer), keptResponse)]
}

// schemeHeaders are the names that a scheme says it sets, as alias gives them.
func schemeHeaders(s Scheme) []string {
	namer, ok := s.(HeaderNamer)
	if !ok {
		return nil
	}
	var names []string
	for _, name := range namer.HeaderNames() {
		if name != "" {
			names = append(names, alias(name))
		}
	}
	return names
}

// dropReserved undoes what a hook must not set. Signature headers are set after it anyway.
func dropReserved(h http.Header) {
	for name := range h {
		if reserved(http.CanonicalHeaderKey(name)) != "" {
			delete(h, name)
		}
	}
}
