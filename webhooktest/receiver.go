package webhooktest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// eventHeader tells a receiver which event a request is of, where the format does not: Gett's events carry no ID. [Network.Options] has the
// dispatcher set it; a receiver takes it off before anybody sees it.
const eventHeader = "Webhooktest-Event"

// Receiver is somebody's webhook receiver on a [Network]. It answers by its script, records each request, and refuses what is not signed as it
// should be with 401, as a receiver must: a [Receiver] for which [Dispatcher] has an endpoint checks against that, another one when
// [Receiver.Verify] says so. Safe for concurrent use.
type Receiver struct {
	url    string
	net    *Network
	secret webhook.Secret

	mu       sync.Mutex
	script   []Step
	began    time.Time // of script[0]
	used     int       // requests of script[0]
	last     time.Time // the latest of them
	got      []*Request
	changed  chan struct{} // closed when got changes
	verifier *webhook.Verifier
	profile  webhook.Profile
}

// Request is what a [Receiver] got.
type Request struct {
	At      time.Time
	EventID string // "" when nothing tells
	Method  string
	URL     string
	Header  http.Header
	Body    []byte

	Status       int                  // what was answered; 0: nothing (yet)
	Accepted     bool                 // the signature was right, where it was checked, and the answer came whole and says success
	Step         string               // of the script that answered, as "503 for 72h0m0s"; "" when the signature was refused
	Verification webhook.Verification // what the signature told, where it was checked
	Err          error                // why the request was refused, a *webhook.VerifyError; nil: it was not
}

func newReceiver(n *Network, u *url.URL, script []Step) *Receiver {
	return &Receiver{
		url: u.String(), net: n, secret: webhook.GenerateSecret(), script: slices.Clone(script), began: time.Now(), changed: make(chan struct{}),
	}
}

// URL is where the receiver is.
func (r *Receiver) URL() string { return r.url }

// Endpoint is the receiver as a dispatcher needs to know it, to be changed and put where it is wanted: ID and secret are the
// receiver's own, the ID that of its host and path. All else is left to the profile, health included, as in production.
func (r *Receiver) Endpoint() webhook.Endpoint {
	_, id, _ := strings.Cut(r.url, "://")
	if len(id) > 128 {
		id = id[:128]
	}
	return webhook.Endpoint{ID: id, URL: r.url, Secrets: []webhook.Secret{r.secret}}
}

// Verify makes the receiver refuse what was not signed by the profile under one of the secrets; none means the receiver's own. It returns
// the receiver.
func (r *Receiver) Verify(t testing.TB, p webhook.Profile, secrets ...webhook.Secret) *Receiver {
	t.Helper()
	if len(secrets) == 0 {
		secrets = []webhook.Secret{r.secret}
	}
	v, err := p.Verifier(secrets...)
	if err != nil {
		t.Fatalf("webhooktest: %s: %v", r.url, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verifier, r.profile = v, p
	return r
}

// Then replaces what is left of the script, from now on.
func (r *Receiver) Then(script ...Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script, r.began, r.used = slices.Clone(script), time.Now(), 0
}

// Requests are copies of what came, in order of arrival.
func (r *Receiver) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Request, len(r.got))
	for i, q := range r.got {
		all[i] = *q
	}
	return all
}

// RequestsOf are those of one event.
func (r *Receiver) RequestsOf(eventID string) []Request {
	return slices.DeleteFunc(r.Requests(), func(q Request) bool { return q.EventID != eventID })
}

// step is the present one. The caller holds r.mu.
func (r *Receiver) step() Step {
	for len(r.script) > 0 {
		s, last := r.script[0], len(r.script) == 1
		ends := time.Time{}
		switch {
		case s.lasts > 0 && time.Since(r.began) >= s.lasts:
			ends = r.began.Add(s.lasts)
		case s.lasts > 0, s.times == 0 && last:
			return s
		case r.used < max(s.times, 1):
			return s
		default:
			ends = r.last
		}
		r.script, r.began, r.used = r.script[1:], ends, 0
	}
	return OK()
}

// take is step for something that it counts.
func (r *Receiver) take() Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.step()
	r.used, r.last = r.used+1, time.Now()
	return s
}

// refuses reports whether a connection is refused, and counts it if so.
func (r *Receiver) refuses() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.step().kind != Refuse().kind {
		return false
	}
	r.used, r.last = r.used+1, time.Now()
	return true
}

// update changes what was recorded and tells who waits.
func (r *Receiver) update(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// serve records a request and answers it.
func (r *Receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // it broke off: no request came
	}
	id := req.Header.Get(eventHeader)
	req.Header.Del(eventHeader)
	scheme, _, _ := strings.Cut(r.url, ":")
	q := &Request{
		At: time.Now(), EventID: id, Method: req.Method, URL: scheme + "://" + req.Host + req.URL.RequestURI(), Header: req.Header.Clone(), Body: body,
	}
	q.Verification, q.Err = r.check(req, q)
	r.update(func() { r.got = append(r.got, q) })
	if q.Err != nil {
		r.update(func() { q.Status = http.StatusUnauthorized })
		http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
		return
	}
	s := r.take()
	r.update(func() { q.Step = s.String() })
	req.Body = io.NopCloser(bytes.NewReader(body))
	out := &statusWriter{ResponseWriter: w}
	whole := false
	defer func() {
		r.update(func() {
			q.Status = out.status
			q.Accepted = whole && !s.bad && r.success(out.status)
		})
	}()
	s.answer(out, req)
	if out.status == 0 && !s.bad {
		out.WriteHeader(http.StatusOK) // as net/http does
	}
	whole = true
}

// check holds a request against the verifier, if there is one, and finds the event's ID in what was verified.
func (r *Receiver) check(req *http.Request, q *Request) (webhook.Verification, error) {
	r.mu.Lock()
	v, p := r.verifier, r.profile
	r.mu.Unlock()
	if v == nil {
		return webhook.Verification{}, nil
	}
	u, err := url.Parse(q.URL)
	if err != nil {
		u = req.URL
	}
	m := &webhook.Message{Method: req.Method, URL: u, Header: req.Header, Body: q.Body}
	verification, err := v.VerifyMessage(m)
	if err != nil {
		return webhook.Verification{}, err
	}
	if q.EventID == "" {
		q.EventID = verification.EventID
	}
	if q.EventID == "" && p.Describe != nil {
		q.EventID = p.Describe(m).ID
	}
	return verification, nil
}

// success holds a status against the profile's rule. The caller holds r.mu.
func (r *Receiver) success(status int) bool {
	if r.profile.Success.IsZero() {
		return status >= 200 && status <= 299
	}
	return r.profile.Success.Accepts(status)
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// String describes the request in a line, as "evt_1 answered 503".
func (q Request) String() string {
	name := q.EventID
	if name == "" {
		name = fmt.Sprintf("an unnamed event (%.40q)", q.Body)
	}
	switch {
	case q.Err != nil:
		return fmt.Sprintf("%s refused with 401: %v", name, q.Err)
	case q.Status == 0:
		return fmt.Sprintf("%s not answered (%s)", name, q.Step)
	case !q.Accepted && q.Step != fmt.Sprint(q.Status):
		return fmt.Sprintf("%s answered %d (%s)", name, q.Status, q.Step)
	}
	return fmt.Sprintf("%s answered %d", name, q.Status)
}
