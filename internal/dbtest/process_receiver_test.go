package dbtest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// receiver is where children send to. It knows every delivery by its endpoint, the path, and its event, in the body.
type receiver struct {
	*httptest.Server
	verifier *webhook.Verifier
	delay    time.Duration
	answer   func(agent string) int // status by the sender's name; nil: 200

	mu         sync.Mutex
	got        map[string]int // requests by delivery, as "event endpoint"
	by         map[string]int // requests by sender and the prefix of the event, as "name prefix"
	unexpected []string
}

func newReceiver(t testing.TB, delay time.Duration, answer func(agent string) int) *receiver {
	t.Helper()
	secret, err := webhook.IssuedSecret(childSecret)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{verifier: verifier, delay: delay, answer: answer, got: map[string]int{}, by: map[string]int{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // its sender was killed while it sent
	}
	status := http.StatusOK
	if r.answer != nil {
		status = r.answer(req.UserAgent())
	}
	r.note(req, body)
	time.Sleep(r.delay) // a receiver at work
	w.WriteHeader(status)
}

func (r *receiver) note(req *http.Request, body []byte) {
	id := eventOf(body)
	endpoint := strings.TrimPrefix(req.URL.Path, "/")
	_, err := r.verifier.Verify(req.Header, body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || string(body) != childPayload(id) || !strings.HasPrefix(endpoint, "ep") {
		r.unexpected = append(r.unexpected, fmt.Sprintf("%s %s: %v: %.100s", req.Method, req.URL.Path, err, body))
		return
	}
	r.got[id+" "+endpoint]++
	prefix, _, _ := strings.Cut(id, "-")
	r.by[req.UserAgent()+" "+prefix]++
}

// eventOf reads the event's ID out of a body; "" when there is none.
func eventOf(body []byte) string {
	_, rest, _ := strings.Cut(string(body), `"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

// received returns the requests by delivery, so far.
func (r *receiver) received() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := make(map[string]int, len(r.got))
	for id, n := range r.got {
		got[id] = n
	}
	return got
}

// sent is how many requests a process has sent of a prefix.
func (r *receiver) sent(name, prefix string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by[name+" "+prefix]
}

// total is how many requests came, so far.
func (r *receiver) total() int {
	n := 0
	for _, m := range r.received() {
		n += m
	}
	return n
}

// quiet waits until no request has come for a while: what a killed process had written is read then.
func (r *receiver) quiet() {
	for n, m := -1, r.total(); n != m; m = r.total() {
		n = m
		time.Sleep(100 * time.Millisecond)
	}
}
