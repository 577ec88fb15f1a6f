package dbtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// servePart receives. It prints "url URL", and "ran ORDER" each time that its handler runs.
func servePart() error {
	_, cfg, store, _, err := beChild()
	if err != nil {
		return err
	}
	secret, err := webhook.IssuedSecret(childSecret)
	if err != nil {
		return err
	}
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		return err
	}
	opts := &webhook.ReceiveOptions{Dedupe: store, Logger: slog.New(slog.DiscardHandler)}
	if cfg.NoWait {
		opts.Wait = -1
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		_, key, err := webhook.KeyFromContext(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		say("ran %s", key.ID)
		time.Sleep(50 * time.Millisecond) // work, during which twins come
		fmt.Fprintf(w, "%s by %s", key.ID, cfg.Name)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go orders(func(string) {})
	say("url http://%s", ln.Addr())
	return http.Serve(ln, webhook.Middleware(verifier, opts)(http.HandlerFunc(handler)))
}

// signedRequest is a request as Gett sends it.
type signedRequest struct {
	header http.Header
	body   []byte
}

func signedUpdate(t *testing.T, order, status string) *signedRequest {
	t.Helper()
	secret, err := webhook.IssuedSecret(childSecret)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := webhook.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	r := &signedRequest{header: http.Header{}, body: fmt.Appendf(nil, `{"type":"order_update","data":{"orderId":%q,"status":%q}}`, order, status)}
	if err := signer.Sign(r.header, r.body); err != nil {
		t.Fatal(err)
	}
	return r
}

// key is the request's idempotency key, as the default profile makes it.
func (r *signedRequest) key(order string) string {
	sum := sha256.Sum256(r.body)
	return webhook.JoinKey("order_update", order, hex.EncodeToString(sum[:]))
}

type answer struct {
	status   int
	replayed bool
	body     string
	recorded int // of the key, in the database, once the answer was there
	err      error
}

// post sends the request, and looks for the record as soon as it is answered.
func (c *childDB) post(ctx context.Context, url string, r *signedRequest) (a answer) {
	a = c.send(ctx, url, r)
	if a.err == nil && a.status < 300 {
		a.err = c.db.QueryRowContext(ctx, "SELECT count(*) FROM webhook_dedupe WHERE state = 1 AND dkey = '"+r.key("o1")+"'").Scan(&a.recorded)
	}
	return a
}

// send sends the request.
func (c *childDB) send(ctx context.Context, url string, r *signedRequest) answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(r.body))
	if err != nil {
		return answer{err: err}
	}
	req.Header = r.header.Clone()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, replayed: resp.Header.Get(webhook.ReplayedHeader) == "true", body: string(text), err: err}
}

// startReceivers starts two processes that receive with one database: the first waits for twins, the second does not.
func (c *childDB) startReceivers(t *testing.T) (urls []string, ran func(key string) int) {
	t.Helper()
	var procs []*child
	for i, name := range []string{"first", "second"} {
		cfg := c.config()
		cfg.Name, cfg.NoWait = name, i == 1
		procs = append(procs, startChild(t, "receive", "", cfg))
	}
	for _, p := range procs {
		urls = append(urls, p.await("url ", 1, time.Minute))
	}
	return urls, func(key string) int { return procs[0].count("ran "+key) + procs[1].count("ran "+key) }
}

// TestProcessesReceiveOnce gives two processes on one database 50 equal requests at once.
func TestProcessesReceiveOnce(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		c := openChildDB(t, v, v.database(t))
		urls, ran := c.startReceivers(t)
		r := signedUpdate(t, "o1", "confirmed")
		answers := make([]answer, 50)
		together(len(answers), func(i int) { answers[i] = c.post(t.Context(), urls[i%2], r) })

		first, replays, busy := "", 0, 0
		for _, a := range answers {
			switch {
			case a.err != nil:
				t.Errorf("a request failed: %v", a.err)
			case a.status == http.StatusConflict:
				busy++
			case a.status == http.StatusOK && a.recorded != 1:
				t.Error("an answer of 200 without a record")
			case a.status == http.StatusOK && a.replayed:
				replays++
			case a.status == http.StatusOK && first == "":
				first = a.body
			default:
				t.Errorf("unexpected answer: %+v", a)
			}
		}
		for _, a := range answers {
			if a.status == http.StatusOK && a.body != first {
				t.Errorf("an answer is %q, the first was %q", a.body, first)
			}
		}
		if n := ran("order_update:"); n != 1 {
			t.Errorf("the handler ran %d times, want once", n)
		}
		if replays == 0 {
			t.Error("no request was answered from memory: nothing is shown")
		}
		t.Logf("%s: 50 equal requests over 2 processes: 1 run, %d answered from memory, %d times 409", v.name, replays, busy)

		for i := range 2 { // and later, by both
			if a := c.post(t.Context(), urls[i], r); a.status != http.StatusOK || !a.replayed || a.body != first {
				t.Errorf("a repeat later: %+v, want %q replayed", a, first)
			}
		}
	})
}

// TestProcessesReceiveEveryUpdate gives two processes 100 different updates of one order at once, each of them both.
func TestProcessesReceiveEveryUpdate(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		c := openChildDB(t, v, v.database(t))
		urls, ran := c.startReceivers(t)
		requests := make([]*signedRequest, 100)
		for i := range requests {
			requests[i] = signedUpdate(t, "o1", fmt.Sprint("status ", i))
		}
		answers := make([]answer, 2*len(requests))
		together(len(answers), func(i int) { answers[i] = c.post(t.Context(), urls[i%2], requests[i/2]) })
		for i, a := range answers {
			ok := a.err == nil && (a.status == http.StatusOK && a.recorded == 1 || a.status == http.StatusConflict)
			if !ok {
				t.Errorf("request %d: %+v", i/2, a)
			}
		}
		for i, r := range requests {
			if n := ran(r.key("o1")); n != 1 {
				t.Errorf("the handler ran %d times for update %d, want once", n, i)
			}
		}
		if n := ran("order_update:"); n != len(requests) {
			t.Errorf("the handler ran %d times, want %d", n, len(requests))
		}
	})
}
