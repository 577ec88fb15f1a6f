package webhook

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// RedactURL is a URL as it may be shown: without user info, and with "…" for the values of its query and for its fragment, as
// "https://shop.example/hooks?key=…". What cannot be read as a URL is "[not a URL]". A secret in the path is not recognized.
func RedactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return "[not a URL]"
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	text := shown.String()
	if u.RawQuery != "" {
		text += "?" + redactQuery(u.RawQuery, true)
	}
	if u.Fragment != "" {
		text += "#…"
	}
	return text
}

// redactQuery hides values, and with all set also what stands there without a name.
func redactQuery(query string, all bool) string {
	parts := strings.Split(query, "&")
	for i, part := range parts {
		if name, _, ok := strings.Cut(part, "="); ok {
			parts[i] = name + "=…"
		} else if part != "" && all {
			parts[i] = "…"
		}
	}
	return strings.Join(parts, "&")
}

// redactURLs removes user info and the values of queries from everything in text that looks like a URL or the end of one.
func redactURLs(text string) string {
	if !strings.Contains(text, "://") && !strings.Contains(text, "?") {
		return text
	}
	var b strings.Builder
	for text != "" {
		n := strings.IndexAny(text, " \"'<>`")
		if n < 0 {
			n = len(text)
		}
		b.WriteString(redactURL(text[:n]))
		if n < len(text) {
			b.WriteByte(text[n])
			n++
		}
		text = text[n:]
	}
	return b.String()
}

// redactURL does so for one word.
func redactURL(word string) string {
	if _, rest, ok := strings.Cut(word, "://"); ok {
		head := word[:len(word)-len(rest)]
		authority := rest
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			authority = rest[:i]
		}
		if i := strings.LastIndexByte(authority, '@'); i >= 0 {
			word = head + rest[i+1:]
		}
	}
	path, query, ok := strings.Cut(word, "?")
	if !ok {
		return word
	}
	return path + "?" + redactQuery(query, strings.Contains(path, "/"))
}

// shownEndpoint is an Endpoint without its methods.
type shownEndpoint Endpoint

// shown is ep as it may be shown: no query values, no user info, no header values. Secrets redact themselves.
func (ep Endpoint) shown() shownEndpoint {
	ep.URL, ep.Proxy = RedactURL(ep.URL), RedactURL(ep.Proxy)
	if ep.Header != nil {
		names := make(http.Header, len(ep.Header))
		for name, values := range ep.Header {
			hidden := make([]string, len(values))
			for i := range hidden {
				hidden[i] = redacted
			}
			names[name] = hidden
		}
		ep.Header = names
	}
	return shownEndpoint(ep)
}

// String shows the ID and the redacted URL, as in "acme (https://shop.example/hooks?key=…)".
func (ep Endpoint) String() string { return ep.ID + " (" + RedactURL(ep.URL) + ")" }

// GoString shows no secret; it is no Go syntax.
func (ep Endpoint) GoString() string { return fmt.Sprintf("%+v", ep.shown()) }

// Format shows String for every verb but %+v and %#v, which show all fields: no secret, no query value, no header value. fmt calls no
// methods on what it finds in unexported fields: there it shows URL, Header and Proxy as they are, and of Secrets, Auth and TLS.Key nothing.
func (ep Endpoint) Format(f fmt.State, verb rune) {
	if verb == 'v' && (f.Flag('+') || f.Flag('#')) {
		_, _ = io.WriteString(f, ep.GoString())
		return
	}
	_, _ = io.WriteString(f, ep.String())
}

// LogValue is a group of the ID, the redacted URL and, where set, the tenant and the profile.
func (ep Endpoint) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("id", ep.ID), slog.String("url", RedactURL(ep.URL))}
	if ep.Tenant != "" {
		attrs = append(attrs, slog.String("tenant", ep.Tenant))
	}
	if ep.Profile != "" {
		attrs = append(attrs, slog.String("profile", ep.Profile))
	}
	return slog.GroupValue(attrs...)
}

// MarshalJSON shows all fields, with secrets, header values, user info and query values redacted: fit for a dashboard, not for
// storing.
func (ep Endpoint) MarshalJSON() ([]byte, error) { return json.Marshal(ep.shown()) }

// shownOptions is a DispatcherOptions without its methods.
type shownOptions DispatcherOptions

// String shows all fields, the proxy without its user info and endpoints as [Endpoint] shows itself.
func (o DispatcherOptions) String() string {
	if o.Proxy != nil {
		o.Proxy = &url.URL{Scheme: o.Proxy.Scheme, Host: o.Proxy.Host}
	}
	return fmt.Sprintf("%+v", shownOptions(o))
}

// GoString is String.
func (o DispatcherOptions) GoString() string { return o.String() }

// Format shows String for every verb.
func (o DispatcherOptions) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, o.String()) }

// LogValue is String.
func (o DispatcherOptions) LogValue() slog.Value { return slog.StringValue(o.String()) }

// String is the dispatcher's name in leases ([DispatcherOptions].Owner).
func (d *Dispatcher) String() string { return "dispatcher " + d.opts.Owner }

// Format shows String for every verb: fmt would show what endpoints in code have, without asking them.
func (d *Dispatcher) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, d.String()) }

// shownTLS is what is shown of a ClientTLS.
type shownTLS struct {
	RootCAs     []string `json:",omitempty"` // subjects
	Certificate string   `json:",omitempty"` // subject and last day
	Key         string   `json:",omitempty"`
	ServerName  string   `json:",omitempty"`
}

func (t ClientTLS) shown() shownTLS {
	s := shownTLS{ServerName: t.ServerName}
	for _, c := range certificates(t.RootCAs) {
		s.RootCAs = append(s.RootCAs, c.Subject.String())
	}
	if own := certificates(t.Certificate); len(own) > 0 {
		s.Certificate = fmt.Sprintf("%s, until %s", own[0].Subject, own[0].NotAfter.UTC().Format(time.DateOnly))
	} else if len(t.Certificate) > 0 {
		s.Certificate = "unreadable"
	}
	if !t.Key.IsZero() {
		s.Key = redacted
	}
	return s
}

// certificates are those of a PEM text that can be read.
func certificates(text []byte) (all []*x509.Certificate) {
	for len(text) > 0 {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, c)
		}
	}
	return all
}

// String shows the subjects of the certificates and the server name.
func (t ClientTLS) String() string { return fmt.Sprintf("%+v", t.shown()) }

// GoString is String.
func (t ClientTLS) GoString() string { return t.String() }

// Format shows String for every verb.
func (t ClientTLS) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue is String.
func (t ClientTLS) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalJSON shows what String does; what is marshalled cannot be read back.
func (t ClientTLS) MarshalJSON() ([]byte, error) { return json.Marshal(t.shown()) }
