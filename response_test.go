package webhook

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Each handler's answer through the recorder is what net/http would have sent.
func TestResponseRecorderAnswers(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
	}{
		{"nothing", func(http.ResponseWriter, *http.Request) {}},
		{"status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) }},
		{"body", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "a")
			_, _ = w.Write([]byte("b"))
		}},
		{"second status is ignored", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202); w.WriteHeader(500) }},
		{"status after body", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a"); w.WriteHeader(500) }},
		{"no content", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); _, _ = io.WriteString(w, "a") }},
		{"json", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{}")
		}},
		{"headers around are seen and changed", func(w http.ResponseWriter, _ *http.Request) {
			if w.Header().Get("X-Around") != "1" {
				w.WriteHeader(500)
			}
			w.Header().Del("X-Around")
			w.Header().Add("Vary", "b")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got [2]*http.Response
			var body [2]string
			for i, h := range []http.Handler{tt.handler, recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore()})(tt.handler)} {
				srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Around", "1")
					w.Header().Set("Vary", "a")
					w.Header()["Date"] = nil
					h.ServeHTTP(w, r)
				}))
				srv.Config.ErrorLog = log.New(io.Discard, "", 0) // net/http complains of a second status
				srv.Start()
				defer srv.Close()
				resp, err := http.DefaultClient.Do(recvClientRequest(t, srv.URL, "k", "x"))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				got[i], body[i] = resp, recvText(t, resp)
			}
			if got[0].StatusCode != got[1].StatusCode || body[0] != body[1] {
				t.Errorf("bare %d %q, behind the middleware %d %q", got[0].StatusCode, body[0], got[1].StatusCode, body[1])
			}
			if a, b := recvHeaderText(got[0].Header), recvHeaderText(got[1].Header); a != b {
				t.Errorf("bare\n%s\nbehind the middleware\n%s", a, b)
			}
		})
	}
}

func recvHeaderText(h http.Header) string {
	var b strings.Builder
	_ = h.Write(&b)
	return b.String()
}

// 1xx are not an answer.
func TestResponseRecorderIgnoresInformational(t *testing.T) {
	var rec responseRecorder
	rec.reset(httptest.NewRecorder())
	rec.WriteHeader(103)
	rec.WriteHeader(202)
	if rec.answered() != 202 {
		t.Errorf("status %d", rec.answered())
	}
}

// Memory is bounded, and a cut body is never sent.
func TestResponseRecorderTooLarge(t *testing.T) {
	handler := &recvCounter{then: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", "2048000")
		w.WriteHeader(201)
		var err error
		for range 2000 {
			if _, err = w.Write(make([]byte, 1024)); err != nil {
				break
			}
		}
		if !errors.Is(err, errAnswerTooLarge) {
			t.Errorf("Write: %v", err)
		}
		if _, err := io.WriteString(w, "more"); !errors.Is(err, errAnswerTooLarge) {
			t.Errorf("WriteString: %v", err)
		}
	}}
	h := recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore()})(handler)
	for _, replayed := range []bool{false, true} {
		resp := recvServe(h, recvRequest("k", "x"))
		recvWant(t, resp, 201, replayed)
		if got := recvText(t, resp); got != "" {
			t.Errorf("%d bytes sent", len(got))
		}
		if resp.Header.Get("Content-Length") != "" || resp.Header.Get("Content-Type") != "" {
			t.Errorf("headers of a body that is not sent: %v", resp.Header)
		}
	}
}

// A handler is told that a status has no body, as net/http tells it.
func TestResponseRecorderNoBody(t *testing.T) {
	for _, status := range []int{204, 304} {
		var rec responseRecorder
		rec.reset(httptest.NewRecorder())
		rec.WriteHeader(status)
		if _, err := rec.Write([]byte("a")); !errors.Is(err, http.ErrBodyNotAllowed) {
			t.Errorf("%d: %v", status, err)
		}
	}
}

// What cannot be recorded is not offered.
func TestResponseRecorderOffersNoMore(t *testing.T) {
	w := new(responseRecorder)
	w.reset(httptest.NewRecorder())
	if err := http.NewResponseController(w).Flush(); !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("Flush: %v", err)
	}
	if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("Hijack: %v", err)
	}
}

// A discarded answer leaves the headers as they were around the handler.
func TestResponseRecorderDiscard(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header()["X-Around"] = []string{"1"}
	var rec responseRecorder
	rec.reset(w)
	rec.Header().Add("X-Around", "2")
	rec.Header().Set("Content-Length", "9")
	rec.discard()
	if h := w.Header(); len(h) != 1 || len(h["X-Around"]) != 1 {
		t.Errorf("headers %v", h)
	}
}
