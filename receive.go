package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/textproto"
	"runtime/debug"
	"slices"
	"time"
)

// ReplayedHeader is set to "true" on an answer that comes from memory instead of from the handler.
const ReplayedHeader = "Webhook-Replayed"

// Defaults and limits of [ReceiveOptions].
const (
	defaultMaxBody     = 1 << 20
	defaultBodyTimeout = 10 * time.Second
	defaultHold        = 2 * time.Minute
	holdMargin         = 30 * time.Second // for recording, when Hold follows from HandlerTimeout
	defaultKeep        = 72 * time.Hour   // Gett's and GetHook's schedules end within 8 h, TradeGecko's within 72 h
	defaultTwinWait    = 2 * time.Second
	maxStoredBody      = 64 << 10
)

// ReceiveOptions say how [Middleware] treats requests. The zero value verifies and limits, and remembers nothing.
type ReceiveOptions struct {
	// Dedupe remembers which keys were processed, and their answers. Nil: every verified request runs the handler.
	Dedupe DedupeStore

	// Key derives the idempotency key of a verified request. Nil: the key of the verifier's profile.
	Key KeyFunc

	// Scope keeps the keys of one source or tenant apart from those of others in the same store, and becomes
	// [Event.Tenant]. Limits as for that field. Empty: keys are kept apart by the name of the verifier's scheme, and
	// the event has no tenant.
	Scope string

	// ScopeOf, when set, gives the scope of each verified request instead of Scope. It must not read the body. Most
	// formats sign the body alone, so a scope taken from the path is only as trustworthy as one secret per scope makes it.
	ScopeOf func(r *http.Request) string

	// MaxBody is the largest body accepted, in bytes; larger ones are answered 413. Zero: 1 MiB.
	MaxBody int64

	// BodyTimeout is how long reading the body may take; then the answer is 408. Zero: 10 s. It needs a
	// ResponseWriter that [http.ResponseController] can set read deadlines on, and gives way to a
	// [http.Server.ReadTimeout]; behind a writer that hides both, set the server's.
	BodyTimeout time.Duration

	// HandlerTimeout is the deadline of the handler's context, which a client that hangs up does not cancel. It counts from
	// when the key is taken, must be shorter than Hold, and the difference is the time left for recording. Zero: three quarters of Hold.
	HandlerTimeout time.Duration

	// Hold is how long a key stays taken when nothing more is heard of its handler, as after a crash. A handler that ignores
	// its context and runs for longer may be run again beside itself. Zero: 2 min, or HandlerTimeout and 30 s if that is longer.
	Hold time.Duration

	// Keep is how long an answer is remembered. It should be longer than the sender's whole schedule. Where a signature covers
	// the body alone, as Gett's does, this memory and not the timestamp is what stops a captured request that is sent
	// again under another timestamp: for so long. Zero: 72 h. Afterwards a running [Dispatcher] or [Inbox] on the store removes
	// it; where there is none, call [Pruner].Prune with DedupeKeys now and then.
	Keep time.Duration

	// Wait is how long a request waits for a running one with the same key before it is answered 409.
	// Zero: 2 s; negative: not at all.
	Wait time.Duration

	// Success are the statuses that count as processed; any other answer frees the key. Zero: those that the verifier's
	// profile counts as delivered, as 200 to 299 for Gett.
	Success SuccessRule

	// ReplayHeaders are the answer's headers that are stored and given to repeats. Nil: Content-Type,
	// Content-Encoding and Location. Cookies, credentials and headers that frame the message are refused.
	ReplayHeaders []string

	// MaxStoredBody is the largest body, headers included, that is stored for repeats, in bytes; of a larger answer the
	// status alone is. Zero: 64 KiB, which is also the most; negative: always the status alone.
	MaxStoredBody int

	// Logger gets what went wrong, under the keys "status", "pattern", "scope", "key", "error", "panic" and "stack".
	// Nil: [slog.Default]. Request headers, bodies and paths are never logged.
	Logger *slog.Logger

	// Trace may be nil. Its SuppressedRepeat and OldSecret are called.
	Trace *Trace

	// Repeats, when set, counts the repeats that are answered without the handler.
	Repeats *RepeatCounter

	// Refused, when set, keeps the latest requests that were refused before the handler, within its bounds and in memory. Nil: none.
	Refused *RefusedRequests

	// Error, when set, writes the answers that the middleware itself gives (status 400 and above). Retry-After and the
	// like are set already. err is for logs and metrics: telling the client more than the status helps an attacker. Nil:
	// the status in words.
	Error func(w http.ResponseWriter, r *http.Request, status int, err error)
}

// Validate reports the first thing wrong with o, as a [*FieldError]. A program may call it at start; see [Middleware].
// Nil is valid.
func (o *ReceiveOptions) Validate() error {
	_, err := o.withDefaults()
	return err
}

// withDefaults is a copy of o, which may be nil, with every default filled in.
func (o *ReceiveOptions) withDefaults() (ReceiveOptions, error) {
	var c ReceiveOptions
	if o != nil {
		c = *o
	}
	c.defaultTimes()
	c.MaxBody = orDefault(c.MaxBody, defaultMaxBody)
	c.MaxStoredBody = orDefault(c.MaxStoredBody, maxStoredBody)
	c.Success = orDefault(c.Success, SuccessRule{From: 200, To: 299})
	if c.ReplayHeaders == nil {
		c.ReplayHeaders = []string{"Content-Type", "Content-Encoding", "Location"}
	} else {
		c.ReplayHeaders = slices.Clone(c.ReplayHeaders)
		for i, name := range c.ReplayHeaders {
			c.ReplayHeaders[i] = textproto.CanonicalMIMEHeaderKey(name)
		}
	}
	return c, c.check()
}

func (o *ReceiveOptions) defaultTimes() {
	if o.Hold == 0 {
		o.Hold = max(defaultHold, o.HandlerTimeout+holdMargin)
	}
	o.HandlerTimeout = orDefault(o.HandlerTimeout, o.Hold/4*3)
	o.BodyTimeout = orDefault(o.BodyTimeout, defaultBodyTimeout)
	o.Keep = orDefault(o.Keep, defaultKeep)
	o.Wait = orDefault(o.Wait, defaultTwinWait)
}

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// check judges options whose defaults are filled in.
func (o *ReceiveOptions) check() error {
	bad := func(field, format string, args ...any) error {
		return &FieldError{Op: "receive", Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case o.MaxBody < 0:
		return bad("MaxBody", "is %d, want 0 (default 1 MiB) or more", o.MaxBody)
	case o.BodyTimeout < 0:
		return bad("BodyTimeout", "is %s, want 0 (default 10 s) or more", o.BodyTimeout)
	case o.Hold < 0:
		return bad("Hold", "is %s, want 0 (default 2 min) or more", o.Hold)
	case o.HandlerTimeout <= 0:
		return bad("HandlerTimeout", "is %s, want 0 (default: three quarters of Hold) or more", o.HandlerTimeout)
	case o.HandlerTimeout >= o.Hold:
		return bad("HandlerTimeout", "is %s, want less than Hold, which is %s", o.HandlerTimeout, o.Hold)
	case o.Keep < 0:
		return bad("Keep", "is %s, want 0 (default 72 h) or more", o.Keep)
	case o.Success.From < 200 || o.Success.To > 599 || o.Success.From > o.Success.To:
		return bad("Success", "is %d to %d, want a range within 200 to 599", o.Success.From, o.Success.To)
	case o.MaxStoredBody > maxStoredBody:
		return bad("MaxStoredBody", "is %d, want at most %d", o.MaxStoredBody, maxStoredBody)
	}
	if reason := scopeFault(o.Scope); reason != "" {
		return bad("Scope", "%s", reason)
	}
	for _, name := range o.ReplayHeaders {
		if neverReplayed(name) {
			return bad("ReplayHeaders", "%q is never stored", name)
		}
	}
	return nil
}

// Middleware verifies requests before a handler, and runs the handler once per idempotency key.
//
// Only POST requests pass, with a body that is not compressed. In this order: the body is read within limits; the signature is verified; the
// key is taken from the dedupe store; the handler runs, with the body intact and the event in its context (see
// [FromContext]); its answer is stored; and only then is it sent. So no 2xx leaves without a record. What the middleware answers by itself:
//
//	400  the body was cut off, or the request has no usable key
//	401  the signature is missing, wrong or stale
//	405  not a POST
//	408  the body came too slowly
//	409  a request with the same key is still being processed; with Retry-After
//	413  the body is larger than MaxBody
//	415  the body is compressed
//	500  the options are wrong, or the handler panicked
//	503  the dedupe store cannot be reached, or the handler let its deadline pass and wrote nothing; with Retry-After
//
// A repeat gets the stored status, body and chosen headers, and [ReplayedHeader]. An answer outside of Success and a
// panic free the key, so that the sender's next try runs the handler again. A client that hangs up changes nothing: the handler's
// context has the request's values and a deadline of its own.
//
// When the handler succeeded and the store then fails, recording is tried again for 10 s or until the hold ends; then
// the answer is 503, the key stays held, and this process keeps the answer (of the latest 256 such requests): the sender's next try
// records it and is answered with it, without running the handler. So only a crash of the process in
// that gap, or a next try that reaches another process after the hold's end, can run a handler that succeeded again.
//
// The handler's answer is buffered. Its ResponseWriter cannot flush, hijack or send 1xx statuses, and headers may be set until
// the handler returns. An answer larger than 1 MiB is sent, as it is stored, by its status alone.
//
// nil options mean the defaults. Options are copied. When they are wrong there is no error here, so that a route stays one
// line: every request is answered 500 and the clear error is logged, and no handler runs unprotected.
// [ReceiveOptions.Validate] tells at start.
func Middleware(v *Verifier, opts *ReceiveOptions) func(http.Handler) http.Handler {
	if v == nil {
		return newReceiver(nil, nil, nil, opts)
	}
	if opts == nil || opts.Success.IsZero() {
		var o ReceiveOptions
		if opts != nil {
			o = *opts
		}
		o.Success = v.success
		opts = &o
	}
	return newReceiver(v.VerifyMessage, v.key, v.describe, opts)
}

// newReceiver is Middleware over the functions of a verifier.
func newReceiver(
	verify func(*Message) (Verification, error), key KeyFunc,
	describe func(*Message) Description, opts *ReceiveOptions,
) func(http.Handler) http.Handler {
	o, err := opts.withDefaults()
	if o.Key == nil {
		o.Key = key
	}
	switch {
	case err != nil:
	case verify == nil:
		err = &FieldError{Op: "receive", Field: "verifier", Reason: "is nil"}
	case o.Dedupe != nil && o.Key == nil:
		err = &FieldError{Op: "receive", Field: "Key", Reason: "is nil, and the verifier's profile has none"}
	}
	clock := newStoreClock(o.Dedupe)
	kept := new(unrecorded)
	return func(next http.Handler) http.Handler {
		wrong := err
		if wrong == nil && next == nil {
			wrong = &FieldError{Op: "receive", Field: "handler", Reason: "is nil"}
		}
		return &receiver{
			opts: o, wrong: wrong, verify: verify, describe: describe, next: next, clock: clock, kept: kept,
		}
	}
}

// receiver is the handler that Middleware puts before another. All fields are constant.
type receiver struct {
	opts     ReceiveOptions // with defaults
	wrong    error          // what is wrong with the options
	verify   func(*Message) (Verification, error)
	describe func(*Message) Description
	next     http.Handler
	clock    *storeClock
	kept     *unrecorded
	keyed    bool // the key is needed though there is no dedupe store
}

// refusal is an answer that the middleware gives by itself.
type refusal struct {
	status     int
	retryAfter int // seconds; 0: none
	err        error
	body       []byte // of a request that was refused once it was read
}

// ServeHTTP implements [http.Handler].
func (h *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer h.guard(w, r)
	if h.wrong != nil {
		h.refuse(w, r, nil, &refusal{status: http.StatusInternalServerError, err: h.wrong})
		return
	}
	x, no := h.accept(w, r)
	if no != nil {
		h.refuse(w, r, x, no)
		return
	}
	if h.opts.Dedupe == nil {
		h.runOnly(w, r, x)
		return
	}
	if l, ok := h.take(w, r, x); ok {
		defer l.ctx.cancel()
		h.process(l, w, r, x)
	}
}

// runOnly runs the handler without a key.
func (h *receiver) runOnly(w http.ResponseWriter, r *http.Request, x *received) {
	ctx := x.handlerContext(time.Now().Add(h.opts.HandlerTimeout))
	defer ctx.cancel()
	if no := h.run(ctx, w, r, x); no != nil {
		h.refuse(w, r, x, no)
		return
	}
	x.rec.send()
}

// open is accept for those who store what they get: it answers what is refused, and reports false then.
func (h *receiver) open(w http.ResponseWriter, r *http.Request) (*received, bool) {
	if h.wrong != nil {
		h.refuse(w, r, nil, &refusal{status: http.StatusInternalServerError, err: h.wrong})
		return nil, false
	}
	x, no := h.accept(w, r)
	if no != nil {
		h.refuse(w, r, x, no)
	}
	return x, no == nil
}

// accept does all that comes before the key is taken, and keeps what it refuses if it is to. The result is set once the request is verified.
func (h *receiver) accept(w http.ResponseWriter, r *http.Request) (*received, *refusal) {
	body, no := h.readBody(w, r)
	var x *received
	if no == nil {
		if x, no = h.admit(r, body); no != nil {
			no.body = body
		}
	}
	if no != nil {
		h.opts.Refused.keep(r, no)
	}
	return x, no
}

// admit judges a request that was read.
func (h *receiver) admit(r *http.Request, body []byte) (*received, *refusal) {
	x := newReceived(r, body, h.describe, h.opts.Key)
	v, err := h.verify(&x.msg)
	if err != nil {
		return nil, &refusal{status: http.StatusUnauthorized, err: err}
	}
	x.verification = v
	if err := x.setScope(h.opts.Scope, h.opts.ScopeOf, r); err != nil {
		return nil, &refusal{status: http.StatusBadRequest, err: err}
	}
	if v.Secret > 0 {
		h.oldSecret(r.Context(), x)
	}
	if h.opts.Dedupe == nil && !h.keyed {
		return x, nil
	}
	if _, err := x.idempotencyKey(); err != nil {
		return x, &refusal{status: http.StatusBadRequest, err: err}
	}
	return x, nil
}

// errHandlerLate: a handler that gives up on its context often just returns, which net/http would turn into a 200.
var errHandlerLate = errors.New("webhook: receive: the handler wrote nothing before its deadline")

// run runs the handler; x.rec has its answer.
func (h *receiver) run(ctx context.Context, w http.ResponseWriter, r *http.Request, x *received) *refusal {
	x.rec.reset(w)
	returned := false
	defer func() {
		if !returned {
			x.rec.discard()
		}
	}()
	h.next.ServeHTTP(&x.rec, x.request(ctx, r))
	returned = true
	if x.rec.status == 0 && ctx.Err() != nil {
		x.rec.discard()
		return &refusal{status: http.StatusServiceUnavailable, retryAfter: retryAfterDown, err: errHandlerLate}
	}
	return nil
}

func (h *receiver) success(status int) bool {
	return h.opts.Success.From <= status && status <= h.opts.Success.To
}

// guard turns a panic into a 500. [http.ErrAbortHandler] goes on: its meaning is to break the connection.
func (h *receiver) guard(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	h.logger().LogAttrs(r.Context(), slog.LevelError, "webhook: receive: panic",
		slog.String("pattern", r.Pattern), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	h.writeError(w, r, http.StatusInternalServerError, errors.New("webhook: receive: panic"))
}

// refuse logs a refusal and answers it. x is nil while the request is not verified.
func (h *receiver) refuse(w http.ResponseWriter, r *http.Request, x *received, no *refusal) {
	level := slog.LevelWarn
	switch {
	case no.status >= 500:
		level = slog.LevelError
	case no.status == http.StatusConflict:
		level = slog.LevelInfo
	}
	h.log(r.Context(), level, "webhook: request refused", x, no.err, slog.Int("status", no.status), slog.String("pattern", r.Pattern))
	if no.retryAfter > 0 {
		setRetryAfter(w.Header(), no.retryAfter)
	}
	h.writeError(w, r, no.status, no.err)
}

func (h *receiver) writeError(w http.ResponseWriter, r *http.Request, status int, err error) {
	if h.opts.Error != nil {
		h.opts.Error(w, r, status, err)
		return
	}
	http.Error(w, http.StatusText(status), status)
}

func (h *receiver) logger() *slog.Logger {
	if h.opts.Logger != nil {
		return h.opts.Logger
	}
	return slog.Default()
}

// log logs about a request; x and err may be nil.
func (h *receiver) log(ctx context.Context, level slog.Level, msg string, x *received, err error, attrs ...slog.Attr) {
	if x != nil {
		attrs = append(attrs, slog.String("scope", x.scope), slog.String("key", x.key.ID))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	h.logger().LogAttrs(ctx, level, msg, attrs...)
}
