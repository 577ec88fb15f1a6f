package webhook

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// firstRead bounds what is allocated on the word of a Content-Length.
const firstRead = 64 << 10

// readBody reads the whole body within the limits of size and time.
func (h *receiver) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	// The deadline comes first: after a refusal the server still reads some of the rest, however slowly it comes.
	limited := h.limitReading(w, r)
	if no := h.refuseUnread(w, r); no != nil {
		return nil, no
	}
	body, err := readAtMost(r.Body, r.ContentLength, h.opts.MaxBody)
	if err != nil {
		closeAfter(w, r)
		return nil, bodyRefusal(err, h.opts.MaxBody)
	}
	if limited { // net/http forgets the deadline by itself at the body's end; other servers may let it fire in the handler
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // fails only with the connection, and the answer will too
	}
	return body, nil
}

// refuseUnread refuses what can be refused without reading the body.
func (h *receiver) refuseUnread(w http.ResponseWriter, r *http.Request) *refusal {
	var no *refusal
	switch {
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		no = &refusal{status: http.StatusMethodNotAllowed, err: fmt.Errorf("webhook: receive: method %.16q, want POST", r.Method)}
	case compressed(r.Header):
		w.Header().Set("Accept-Encoding", "identity")
		no = &refusal{status: http.StatusUnsupportedMediaType, err: errors.New("webhook: receive: the body is compressed")}
	case r.ContentLength > h.opts.MaxBody:
		no = tooLarge(h.opts.MaxBody)
	default:
		return nil
	}
	closeAfter(w, r)
	return no
}

// compressed reports whether the body has any encoding but "identity". Signatures cover the bytes that the sender's program
// had, and unpacking before verifying would let a stranger make us unpack anything.
func compressed(header http.Header) bool {
	for _, v := range header["Content-Encoding"] {
		for coding := range strings.SplitSeq(v, ",") {
			if c := strings.TrimSpace(coding); c != "" && !strings.EqualFold(c, "identity") {
				return true
			}
		}
	}
	return false
}

// closeAfter keeps the server from reading on: the rest of this body is nobody's.
func closeAfter(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
}

// limitReading sets a deadline on reading the body, where that is possible and the server has none.
func (h *receiver) limitReading(w http.ResponseWriter, r *http.Request) bool {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return false
	}
	if srv, _ := r.Context().Value(http.ServerContextKey).(*http.Server); srv != nil && srv.ReadTimeout > 0 {
		return false
	}
	err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.opts.BodyTimeout))
	return err == nil // else it is not supported: see BodyTimeout
}

var errBodyTooLarge = errors.New("body too large")

// readAtMost reads body to its end. length is what the sender says, -1 when it does not.
func readAtMost(body io.Reader, length, limit int64) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	size := min(limit, firstRead)
	if length >= 0 {
		size = min(length, size)
	}
	buf := make([]byte, 0, size+1) // one more, so that the end shows without growing
	for {
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return nil, errBodyTooLarge
		case err == io.EOF && length >= 0 && int64(len(buf)) != length:
			return nil, io.ErrUnexpectedEOF
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, err
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

// bodyRefusal says what an error of reading the body means.
func bodyRefusal(err error, limit int64) *refusal {
	if errors.Is(err, errBodyTooLarge) {
		return tooLarge(limit)
	}
	if around, ok := errors.AsType[*http.MaxBytesError](err); ok { // a limit set around us
		return tooLarge(around.Limit)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return &refusal{status: http.StatusRequestTimeout, err: fmt.Errorf("webhook: receive: the body came too slowly: %w", err)}
	}
	return &refusal{status: http.StatusBadRequest, err: fmt.Errorf("webhook: receive: the body was cut off: %w", err)}
}

func tooLarge(limit int64) *refusal {
	return &refusal{
		status: http.StatusRequestEntityTooLarge,
		err:    fmt.Errorf("webhook: receive: the body is larger than %d bytes", limit),
	}
}
