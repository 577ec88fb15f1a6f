package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// FromContext returns the event that a handler behind [Middleware] was called for: verified and, with a dedupe store, not
// processed before. ID, Type and OrderingKey are what the verifier's profile reads from the signed part of the request (see [Description]), and may be
// empty; but an ID that the format carries in a header goes first, signed or not ([Verification].EventID). Tenant is the scope that the options gave;
// Payload is the body, which must not be modified; Header is a copy of the request's without Authorization, Proxy-Authorization
// and Cookie. Elsewhere it returns the zero Event.
func FromContext(ctx context.Context) Event {
	x := receivedFrom(ctx)
	if x == nil {
		return Event{}
	}
	x.eventOnce.Do(x.makeEvent)
	return *x.event
}

// VerificationFromContext returns what the signature told, for a handler behind [Middleware]; elsewhere, as in an [Inbox]'s handler, false.
func VerificationFromContext(ctx context.Context) (Verification, bool) {
	x := receivedFrom(ctx)
	if x == nil || x.delivery != nil {
		return Verification{}, false
	}
	return x.verification, true
}

// KeyFromContext returns the scope and the idempotency key of the request that a handler behind [Middleware] was called for,
// as a dedupe store gets them: for logs, and for handlers that take the key by themselves, in a transaction of their own.
// The error is [ErrNotFound] elsewhere, and that of the key function where there is no dedupe store.
func KeyFromContext(ctx context.Context) (scope string, key Key, err error) {
	x := receivedFrom(ctx)
	if x == nil {
		return "", Key{}, fmt.Errorf("webhook: receive: the context is not that of a received request: %w", ErrNotFound)
	}
	key, err = x.idempotencyKey()
	return x.scope, key, err
}

type receivedKey struct{}

func receivedFrom(ctx context.Context) *received {
	x, _ := ctx.Value(receivedKey{}).(*received)
	return x
}

// receivedContext is a context that knows its request: context.WithValue without an allocation.
type receivedContext struct {
	context.Context
	x *received
}

// Value implements [context.Context].
func (c *receivedContext) Value(key any) any {
	if key == (receivedKey{}) {
		return c.x
	}
	return c.Context.Value(key)
}

// received is a request whose body has been read. One allocation carries all that lives as long as it.
type received struct {
	msg          Message
	url          url.URL
	body         receivedBody
	rec          responseRecorder
	ctx          receivedContext // outlives the client; everything after the verification runs on it or below it
	first        lateContext     // the first context that handlerContext gives
	verification Verification
	describe     func(*Message) Description
	tenant       string    // the scope that the options gave
	scope        string    // as the store gets it
	heldUntil    time.Time // by this process's clock
	ran          bool      // the handler has run for this very request
	delivery     *Delivery // of an inbox's handler; else nil
	beginReq     BeginRequest
	finishReq    FinishRequest

	eventOnce   sync.Once
	event       *Event // made when it is asked for, with
	description Description

	keyOnce sync.Once
	keyOf   KeyFunc
	key     Key // as the store gets it
	keyErr  error
}

// receivedBody is a body that was read already.
type receivedBody struct{ bytes.Reader }

func (*receivedBody) Close() error { return nil }

func newReceived(r *http.Request, body []byte, describe func(*Message) Description, key KeyFunc) *received {
	x := &received{describe: describe, keyOf: key}
	// Formats that sign the URL need all of it; a server's request has the path alone. Behind a proxy this is the inner one.
	x.url = *r.URL
	if x.url.Host == "" {
		x.url.Host = r.Host
		x.url.Scheme = "http"
		if r.TLS != nil {
			x.url.Scheme = "https"
		}
	}
	x.ctx = receivedContext{Context: context.WithoutCancel(r.Context()), x: x}
	x.msg = Message{Method: r.Method, URL: &x.url, Header: r.Header, Body: body}
	return x
}

// handlerContext makes a context below x.ctx. None is used again: whoever had the last one may still hold it.
func (x *received) handlerContext(deadline time.Time) *lateContext {
	c := &x.first
	if c.base != nil {
		c = new(lateContext)
	}
	c.base, c.deadline = &x.ctx, deadline
	return c
}

// request is r for the handler: a context below x.ctx and, as if unread, its body.
func (x *received) request(ctx context.Context, r *http.Request) *http.Request {
	req := r.WithContext(ctx)
	x.body.Reset(x.msg.Body)
	req.Body = &x.body
	req.ContentLength = int64(len(x.msg.Body))
	req.TransferEncoding = nil
	return req
}

func (x *received) makeEvent() {
	header := x.msg.Header.Clone()
	for _, name := range []string{"Authorization", "Proxy-Authorization", "Cookie"} {
		delete(header, name)
	}
	x.event = &Event{Payload: x.msg.Body, Tenant: x.tenant, Header: header}
	if x.describe != nil {
		x.description = x.describe(&x.msg)
		x.event.ID, x.event.Type, x.event.OrderingKey = x.description.ID, x.description.Type, x.description.OrderingKey
	}
	if x.verification.EventID != "" {
		x.event.ID = x.verification.EventID
	}
}

// setScope sets scope and tenant of a verified request.
func (x *received) setScope(scope string, of func(*http.Request) string, r *http.Request) error {
	if of != nil {
		scope = of(r)
		if reason := scopeFault(scope); reason != "" {
			return &FieldError{Op: "receive", Field: "ScopeOf", Reason: reason}
		}
	}
	x.tenant, x.scope = scope, scope
	if scope == "" {
		x.scope = x.verification.Scheme
	}
	return nil
}

// scopeFault says what is wrong with a scope; "" is nothing.
func scopeFault(scope string) string {
	switch {
	case len(scope) > maxKeyBytes:
		return fmt.Sprintf("is %d bytes long, want at most %d", len(scope), maxKeyBytes)
	case !utf8.ValidString(scope):
		return "is not UTF-8"
	case strings.ContainsFunc(scope, unicode.IsControl):
		return "has a control character"
	}
	return ""
}

var errEmptyKey = errors.New("webhook: receive: key: is empty")

func (x *received) idempotencyKey() (Key, error) {
	x.keyOnce.Do(func() {
		if x.keyOf == nil {
			x.keyErr = &FieldError{Op: "receive", Field: "Key", Reason: "is nil, and the verifier's profile has none"}
			return
		}
		k, err := x.keyOf(&x.msg)
		if err != nil && x.msg.EventID == "" && x.describe != nil {
			// The format carries the event's ID in the body, which is parsed only for a key that misses it.
			if x.msg.EventID = x.describe(&x.msg).ID; x.msg.EventID != "" {
				k, err = x.keyOf(&x.msg)
			}
		}
		switch {
		case err != nil:
			x.keyErr = fmt.Errorf("webhook: receive: key: %w", err)
		case k.ID == "":
			x.keyErr = errEmptyKey
		default:
			x.key = Key{ID: storedKey(k.ID), Digest: k.Digest}
		}
	})
	return x.key, x.keyErr
}

const hashedPrefix = "sha256:"

// storedKey is id as a store can keep it: itself, or its hash when it is too long or has bytes that databases refuse.
// What looks like such a hash is hashed too, so that no two ids ever share a key.
func storedKey(id string) string {
	looksHashed := strings.HasPrefix(id, hashedPrefix) && len(id) == len(hashedPrefix)+hex.EncodedLen(sha256.Size)
	if len(id) <= maxKeyBytes && !looksHashed && utf8.ValidString(id) && strings.IndexByte(id, 0) < 0 {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hashedPrefix + hex.EncodeToString(sum[:])
}
