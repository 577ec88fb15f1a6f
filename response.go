package webhook

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
)

// maxAnswer bounds what is kept in memory of a handler's answer.
const maxAnswer = 1 << 20

var errAnswerTooLarge = errors.New("webhook: receive: the answer is larger than 1 MiB: only its status is sent")

// responseRecorder keeps a handler's answer until it may be sent. Headers go straight to the writer beneath, which does not
// send them before its status, so that the handler sees and can change what was set around it.
type responseRecorder struct {
	w        http.ResponseWriter
	before   http.Header // the headers set around the handler
	status   int         // 0: nothing written yet
	body     []byte
	tooLarge bool
	small    [64]byte // where body begins: most answers to webhooks are short
}

func (rec *responseRecorder) reset(w http.ResponseWriter) {
	*rec = responseRecorder{w: w}
	rec.body = rec.small[:0]
	if h := w.Header(); len(h) > 0 {
		rec.before = h.Clone()
	}
}

// Header implements [http.ResponseWriter].
func (rec *responseRecorder) Header() http.Header { return rec.w.Header() }

// WriteHeader implements [http.ResponseWriter]. It ignores 1xx, and like net/http every status but the first, and panics on what is none.
func (rec *responseRecorder) WriteHeader(status int) {
	switch {
	case status < 100 || status > 999:
		panic(fmt.Sprintf("invalid WriteHeader code %d", status))
	case status >= 200 && rec.status == 0:
		rec.status = status
	}
}

// Write implements [http.ResponseWriter].
func (rec *responseRecorder) Write(p []byte) (int, error) {
	if err := rec.reserve(len(p)); err != nil {
		return 0, err
	}
	rec.body = append(rec.body, p...)
	return len(p), nil
}

// WriteString implements [io.StringWriter].
func (rec *responseRecorder) WriteString(s string) (int, error) {
	if err := rec.reserve(len(s)); err != nil {
		return 0, err
	}
	rec.body = append(rec.body, s...)
	return len(s), nil
}

func (rec *responseRecorder) reserve(n int) error {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	switch {
	case rec.status == http.StatusNoContent || rec.status == http.StatusNotModified:
		return http.ErrBodyNotAllowed
	case rec.tooLarge || len(rec.body)+n > maxAnswer:
		rec.tooLarge, rec.body = true, nil
		return errAnswerTooLarge
	}
	return nil
}

// answered is the status that net/http would send.
func (rec *responseRecorder) answered() int {
	if rec.status == 0 {
		return http.StatusOK
	}
	return rec.status
}

// stored is the part of the answer to keep: the status, and with the headers named the body if all that fits into limit bytes.
func (rec *responseRecorder) stored(names []string, limit int) StoredResponse {
	resp := StoredResponse{Status: rec.answered()}
	if rec.tooLarge {
		return resp
	}
	size := len(rec.body)
	header := rec.w.Header()
	var kept map[string][]string
	for _, name := range names {
		values := header[name]
		if len(values) == 0 || neverReplayed(name) {
			continue
		}
		if kept == nil {
			kept = make(map[string][]string, len(names))
		}
		kept[name] = slices.Clone(values)
		for _, v := range values {
			size += len(name) + len(v)
		}
	}
	if size > limit {
		return resp
	}
	resp.Header, resp.Body = kept, rec.body
	return resp
}

// send answers.
func (rec *responseRecorder) send() {
	if rec.tooLarge {
		for _, name := range []string{"Content-Length", "Content-Type", "Content-Encoding"} {
			rec.w.Header().Del(name)
		}
	}
	rec.w.WriteHeader(rec.answered())
	if len(rec.body) > 0 {
		_, _ = rec.w.Write(rec.body) // fails when the client is gone, which changes nothing
	}
}

// discard undoes what the handler set, so that another answer can be sent instead.
func (rec *responseRecorder) discard() {
	h := rec.w.Header()
	clear(h)
	maps.Copy(h, rec.before)
}

// sendStored answers a repeat.
func sendStored(w http.ResponseWriter, resp *StoredResponse) {
	sendResponse(w, resp, true)
}

// sendResponse sends a response as it is stored.
func sendResponse(w http.ResponseWriter, resp *StoredResponse, repeat bool) {
	h := w.Header()
	for name, values := range resp.Header {
		if !neverReplayed(name) {
			h[http.CanonicalHeaderKey(name)] = values
		}
	}
	if repeat {
		h.Set(ReplayedHeader, "true")
	}
	w.WriteHeader(resp.Status)
	if len(resp.Body) > 0 {
		_, _ = w.Write(resp.Body)
	}
}

// clone is a copy of what a caller gave, with 200 for no status.
func (r StoredResponse) clone() StoredResponse {
	header := http.Header(r.Header).Clone()
	return StoredResponse{Status: cmp.Or(r.Status, http.StatusOK), Header: header, Body: slices.Clone(r.Body)}
}

// neverReplayed tells headers that belong to one client or one connection.
func neverReplayed(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Set-Cookie", "Set-Cookie2", "Cookie", "Authorization", "Proxy-Authorization", "Proxy-Authenticate", "Www-Authenticate",
		"Authentication-Info", "Proxy-Authentication-Info",
		"Connection", "Content-Length", "Date", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

func setRetryAfter(h http.Header, seconds int) { h.Set("Retry-After", strconv.Itoa(seconds)) }
