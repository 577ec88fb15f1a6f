package webhook

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestReceiveOptionsValidate(t *testing.T) {
	tests := []struct {
		opts  *ReceiveOptions
		field string // "": valid
	}{
		{nil, ""},
		{&ReceiveOptions{}, ""},
		{&ReceiveOptions{Hold: time.Second}, ""},
		{&ReceiveOptions{HandlerTimeout: time.Hour}, ""}, // Hold follows
		{&ReceiveOptions{Wait: -1, MaxStoredBody: -1}, ""},
		{&ReceiveOptions{ReplayHeaders: []string{}}, ""},
		{&ReceiveOptions{Success: SuccessRule{From: 200, To: 399}}, ""},
		{&ReceiveOptions{Hold: time.Minute, HandlerTimeout: time.Minute}, "HandlerTimeout"},
		{&ReceiveOptions{HandlerTimeout: -1}, "HandlerTimeout"},
		{&ReceiveOptions{Hold: 1}, "HandlerTimeout"}, // leaves nothing for the handler
		{&ReceiveOptions{Hold: -1}, "Hold"},
		{&ReceiveOptions{Keep: -1}, "Keep"},
		{&ReceiveOptions{MaxBody: -1}, "MaxBody"},
		{&ReceiveOptions{BodyTimeout: -1}, "BodyTimeout"},
		{&ReceiveOptions{MaxStoredBody: 64<<10 + 1}, "MaxStoredBody"},
		{&ReceiveOptions{Success: SuccessRule{From: 300, To: 200}}, "Success"},
		{&ReceiveOptions{Success: SuccessRule{From: 100, To: 299}}, "Success"},
		{&ReceiveOptions{Scope: "a\nb"}, "Scope"},
		{&ReceiveOptions{Scope: strings.Repeat("a", 256)}, "Scope"},
		{&ReceiveOptions{ReplayHeaders: []string{"etag", "set-cookie"}}, "ReplayHeaders"},
		{&ReceiveOptions{ReplayHeaders: []string{"Authorization"}}, "ReplayHeaders"},
	}
	for _, tt := range tests {
		err := tt.opts.Validate()
		if tt.field == "" {
			if err != nil {
				t.Errorf("%+v: %v", tt.opts, err)
			}
			continue
		}
		fe, ok := errors.AsType[*FieldError](err)
		if !ok || fe.Field != tt.field || !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v, want field %s", tt.opts, err, tt.field)
		}
	}
}

// Wrong options close the door: 500, the reason in the log, and no handler without its protection.
func TestReceiveMisconfigured(t *testing.T) {
	handler := &recvCounter{}
	log := &recvLog{}
	tests := []struct {
		name string
		h    http.Handler
		want string
	}{
		{"options", recvMiddleware(&ReceiveOptions{Hold: -1, Logger: log.logger()})(handler), "webhook: receive: Hold: is -1ns, want 0 (default 2 min) or more"},
		{"verifier", Middleware(nil, &ReceiveOptions{Logger: log.logger()})(handler), "webhook: receive: verifier: is nil"},
		{"key", newReceiver(recvVerify, nil, nil, &ReceiveOptions{Dedupe: newRecvStore(), Logger: log.logger()})(handler), "webhook: receive: Key: is nil"},
		{"handler", recvMiddleware(&ReceiveOptions{Logger: log.logger()})(nil), "webhook: receive: handler: is nil"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log.reset()
			recvWant(t, recvServe(tt.h, recvRequest("k", "x")), 500, false)
			handler.wantRuns(t, 0)
			if !strings.Contains(log.text(), tt.want) {
				t.Errorf("log %q lacks %q", log.text(), tt.want)
			}
		})
	}
}

// The caller's struct is neither written to nor read later.
func TestReceiveOptionsAreCopied(t *testing.T) {
	o := &ReceiveOptions{ReplayHeaders: []string{"x-a"}, Dedupe: newRecvStore()}
	h := recvMiddleware(o)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-A", "1") }))
	if o.Hold != 0 || o.ReplayHeaders[0] != "x-a" {
		t.Errorf("options changed: %+v", o)
	}
	o.ReplayHeaders[0] = "x-b"
	recvServe(h, recvRequest("k", "x"))
	if resp := recvServe(h, recvRequest("k", "x")); resp.Header.Get("X-A") != "1" {
		t.Errorf("repeat has %v", resp.Header)
	}
}
