package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// receiver is the receiving side: a handler behind the middleware, and a front that is "down" for the first requests.
type receiver struct {
	url      string
	failures int
	requests atomic.Int64
	handled  atomic.Int64
	server   *http.Server
}

func startReceiver(store *sqlstore.Store, secret webhook.Secret, failures int) (*receiver, error) {
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		return nil, err
	}
	rcv := &receiver{failures: failures}
	receive := webhook.Middleware(verifier, &webhook.ReceiveOptions{Dedupe: store, Logger: quiet})
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/gett", rcv.downAtFirst(receive(http.HandlerFunc(rcv.handle))))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	rcv.url = fmt.Sprintf("http://%s/webhooks/gett", listener.Addr())
	rcv.server = &http.Server{Handler: mux}
	go rcv.server.Serve(listener)
	return rcv, nil
}

// handle runs once per order_create and once per different order_update, for verified requests only.
func (r *receiver) handle(w http.ResponseWriter, req *http.Request) {
	ev := webhook.FromContext(req.Context())
	r.handled.Add(1)
	fmt.Fprintf(w, `{"received":true,"type":%q}`, ev.Type)
}

func (r *receiver) downAtFirst(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if r.requests.Add(1) <= int64(r.failures) {
			http.Error(w, "starting up", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, req)
	})
}

func (r *receiver) runs() int { return int(r.handled.Load()) }

func (r *receiver) close() { r.server.Close() }

// answer is what a hand-made request got.
type answer struct {
	status   int
	replayed bool
}

// post sends a body signed with secret, as anybody with curl could.
func post(url string, body []byte, secret webhook.Secret) (answer, error) {
	signer, err := webhook.NewSigner(secret)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if err := signer.Sign(req.Header, body); err != nil {
		return answer{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return answer{status: resp.StatusCode, replayed: resp.Header.Get(webhook.ReplayedHeader) != ""}, err
}
