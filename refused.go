package webhook

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of [RefusedRequests], and of one request in it.
const (
	refusedMost        = 100
	refusedBytes       = 1 << 20
	refusedBody        = 8 << 10
	refusedHeaders     = 50  // header lines
	refusedHeaderValue = 256 // bytes of a value
	refusedShown       = 6   // bytes that stay of a signature, to tell formats apart
	refusedOverhead    = 256 // bytes that a request counts besides its text
)

// RefusedRequests keeps the latest requests that were refused before their handler, for people to look at: those that did not
// verify, were too large, cut off or compressed, or had no usable key. Give one to [ReceiveOptions]; it may serve several routes.
//
// Anybody can make requests that are refused, so it keeps them in memory alone, and within bounds: the oldest give way. What would let
// somebody in is not kept: of headers whose names speak of signatures, keys, tokens, secrets, passwords, authorization or cookies only that
// they were there, of those with a signature the first 6 bytes too. URLs are not kept. Bodies are: what was
// refused may still be about real people.
//
// The zero value is ready; it must not be copied, nor its fields changed once it is in use. It is safe for concurrent use.
type RefusedRequests struct {
	Most     int // requests kept; zero: 100
	MaxBytes int // that all of them together take, roughly; zero: 1 MiB
	MaxBody  int // bytes of each body that are kept; zero: 8 KiB; negative: none

	mu    sync.Mutex
	list  []RefusedRequest // oldest first
	bytes int
	total int64
}

// RefusedRequest is one that was refused.
type RefusedRequest struct {
	At         time.Time
	Status     int    // that it was answered with
	Reason     string // the error, as it is logged
	Method     string
	Pattern    string // of the route, as [http.Request] has it
	RemoteAddr string // of the connection, which may be a proxy's
	Header     http.Header
	Body       []byte // its beginning; nil when it was not read, as one that is too large
	Size       int64  // of the body; -1 when that is not known
}

// Read returns the requests that are kept, the latest first, and how many were refused in all since the start.
func (k *RefusedRequests) Read() (latest []RefusedRequest, total int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	latest = make([]RefusedRequest, 0, len(k.list))
	for _, r := range slices.Backward(k.list) {
		r.Header, r.Body = r.Header.Clone(), slices.Clone(r.Body)
		latest = append(latest, r)
	}
	return latest, k.total
}

// Clear forgets the requests.
func (k *RefusedRequests) Clear() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list, k.bytes = nil, 0
}

// keep keeps one. k may be nil.
func (k *RefusedRequests) keep(r *http.Request, no *refusal) {
	if k == nil {
		return
	}
	refused := RefusedRequest{
		At: time.Now().Round(0), Status: no.status, Reason: errorDetail(no.err), Method: shorten(r.Method, 16), Pattern: r.Pattern,
		RemoteAddr: shorten(r.RemoteAddr, refusedHeaderValue), Header: refusedHeader(r.Header), Size: r.ContentLength,
	}
	if no.body != nil {
		refused.Size = int64(len(no.body))
		refused.Body = slices.Clone(no.body[:min(len(no.body), max(cmp.Or(k.MaxBody, refusedBody), 0))])
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.total++
	k.list = append(k.list, refused)
	k.bytes += refused.size()
	for len(k.list) > max(cmp.Or(k.Most, refusedMost), 0) || len(k.list) > 0 && k.bytes > max(cmp.Or(k.MaxBytes, refusedBytes), 0) {
		k.bytes -= k.list[0].size()
		k.list[0] = RefusedRequest{} // its texts are nobody's
		k.list = k.list[1:]
	}
}

// size is roughly what it takes.
func (r *RefusedRequest) size() int {
	n := refusedOverhead + len(r.Reason) + len(r.Pattern) + len(r.RemoteAddr) + cap(r.Body)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v) + 32
		}
	}
	return n
}

// refusedHeader is the part of a header that may be kept.
func refusedHeader(header http.Header) http.Header {
	kept, lines := make(http.Header, min(len(header), refusedHeaders)), 0
	for _, name := range sortedNames(header) {
		for _, value := range header[name] {
			if lines++; lines > refusedHeaders {
				return kept
			}
			key := shorten(name, refusedHeaderValue)
			kept[key] = append(kept[key], refusedValue(name, value))
		}
	}
	return kept
}

func sortedNames(header http.Header) []string {
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// refusedValue is a header's value as it may be kept.
func refusedValue(name, value string) string {
	name = strings.ToLower(name)
	switch {
	case strings.Contains(name, "signature") || strings.Contains(name, "hmac") || strings.Contains(name, "digest"):
		if len(value) <= 2*refusedShown { // showing a part of what is short shows most of it
			return "[redacted]"
		}
		return shorten(value, refusedShown)
	case containsAny(name, "auth", "cookie", "token", "secret", "key", "pass", "credential", "session", "jwt", "cert", "assertion", "oidc"):
		return "[redacted]"
	}
	return shorten(redactURLs(value[:min(len(value), 4*refusedHeaderValue)]), refusedHeaderValue)
}

func containsAny(s string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(s, part) })
}

// shorten is text as valid UTF-8 of at most so many bytes, and "…" where there was more.
func shorten(text string, most int) string {
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
