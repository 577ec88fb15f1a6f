package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"
)

// onceTimeout is the default time limit of a handler that holds a transaction open, with locks in it.
const onceTimeout = 30 * time.Second

// OnceStore does what a received event asks for, and records its key, in one transaction. It is what [ReceiveOnce] needs of a database:
// sqlstore's HandleTx brings one along.
type OnceStore interface {
	// Now is as in [Store].
	Now(ctx context.Context) (time.Time, error)

	// Once begins a transaction, takes the key in it, records the response, runs the handler and commits. All of that happens or nothing:
	// not when the handler fails or panics, nor when ctx ends before the commit. [KeyTaken] means that it is committed. A key that was
	// done before answers [KeyDone] with its stored response, as [DedupeStore.Begin] says, and one that another transaction
	// has taken for longer than req.Wait, or that Begin has given to somebody, [KeyRunning]; the handler does not run then.
	//
	// What the database asks to try again is tried again as long as the handler has not run. With an error nothing was done, unless
	// the connection broke while committing, when nobody can know: the next Once with the key tells.
	Once(ctx context.Context, req *OnceRequest) (*OnceResult, error)
}

// OnceRequest is the argument of [OnceStore.Once].
type OnceRequest struct {
	Now      time.Time
	Scope    string
	Key      Key
	Event    Event          // for the handler
	Response StoredResponse // recorded for repeats
	Keep     time.Duration  // how long
	Limit    time.Duration  // of the handler: a key must be held for longer
	Wait     time.Duration  // how long another transaction may have the key; at least a second
}

// OnceResult is the answer of [OnceStore.Once].
type OnceResult struct {
	BeginResult
	Failed error // what the handler returned; nothing was done
}

// ReceiveOnce verifies requests as [Middleware] does and has store do the rest, in one transaction of a database. response is what is answered
// when that is committed, and to repeats; a Status of zero is 200.
//
// A negative Wait is not at all for a key that this process is at, and a second for one that another process's transaction has: what waits for a
// row cannot be told from a slow database.
//
// Of opts, Hold, Success, ReplayHeaders and MaxStoredBody are ignored, and Dedupe must be nil. HandlerTimeout is 30 s when it is
// zero. What is answered besides:
//
//	409  a request with the same key is still being processed, after Wait; with Retry-After
//	500  the options are wrong, or the handler returned an error or panicked
//	503  the transaction could not be begun or committed, with Retry-After; or the handler returned a [RetryAfter]
//
// nil options mean the defaults; what is wrong with them is told as Middleware does.
func ReceiveOnce(v *Verifier, store OnceStore, response StoredResponse, opts *ReceiveOptions) http.Handler {
	var given ReceiveOptions
	if opts != nil {
		given = *opts
	}
	limit := given.HandlerTimeout
	given.Hold, given.Success, given.ReplayHeaders, given.MaxStoredBody = 0, SuccessRule{}, nil, 0
	given.HandlerTimeout = min(limit, 0) // a negative one is refused; Hold, which bounds the others, means nothing here
	o, err := given.withDefaults()
	o.HandlerTimeout = cmp.Or(limit, onceTimeout)
	response = response.clone()
	bad := func(field, reason string) error { return &FieldError{Op: "receive", Field: field, Reason: reason} }
	switch {
	case err != nil:
	case v == nil || v.scheme == nil:
		err = bad("verifier", "is nil")
	case store == nil:
		err = bad("handler", "is nil") // which comes with the store
	case o.Dedupe != nil:
		err = bad("Dedupe", "is set: the key is recorded in the handler's transaction")
	case response.Status < 200 || response.Status > 299:
		err = bad("Response", fmt.Sprintf("has status %d, want 200 to 299: the sender has to stop", response.Status))
	}
	once := &onceReceiver{store: store, response: response, running: make(map[keptKey]chan struct{})}
	once.receiver = receiver{opts: o, wrong: err, clock: newStoreClock(store), keyed: true}
	if err == nil {
		once.verify, once.describe = v.VerifyMessage, v.describe
		if once.opts.Key == nil {
			once.opts.Key = v.key
		}
	}
	return once
}

// onceReceiver is the handler that ReceiveOnce makes.
type onceReceiver struct {
	receiver
	store    OnceStore
	response StoredResponse

	mu      sync.Mutex
	running map[keptKey]chan struct{} // keys that this process is at; closed when it is not any more
}

// ServeHTTP implements [http.Handler].
func (o *onceReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := &o.receiver
	defer h.guard(w, r)
	x, ok := h.open(w, r)
	if !ok {
		return
	}
	res, err := o.do(r.Context(), x)
	switch {
	case err != nil:
		h.refuse(w, r, x, &refusal{
			status: http.StatusServiceUnavailable, retryAfter: retryAfterDown, err: opError("receive: transaction", err),
		})
	case res.Failed != nil:
		h.refuse(w, r, x, failedOnce(res.Failed))
	case res.Status == KeyDone:
		h.replay(w, r, x, &res.BeginResult)
	case res.Status == KeyRunning:
		h.suppressed(r.Context(), x, SuppressedRepeatInfo{Running: true, Status: http.StatusConflict})
		h.refuse(w, r, x, &refusal{status: http.StatusConflict, retryAfter: retryAfterBusy, err: errTwinRunning})
	default:
		sendResponse(w, &o.response, false)
	}
}

// failedOnce says what the sender is told of a handler's error.
func failedOnce(err error) *refusal {
	no := &refusal{status: http.StatusInternalServerError, err: opError("receive: the handler failed", err)}
	if wish, ok := errors.AsType[*RetryAfterError](err); ok {
		no.status, no.retryAfter = http.StatusServiceUnavailable, int(math.Ceil(max(wish.After, time.Second).Seconds()))
	}
	return no
}

// do has the store do it, after those with the same key that this process is at: they need no connection to wait.
func (o *onceReceiver) do(client context.Context, x *received) (*OnceResult, error) {
	giveUp := time.Now().Add(o.opts.Wait)
	leave, ok := o.enter(client, keptKey{x.scope, x.key.ID}, giveUp)
	if !ok {
		return &OnceResult{BeginResult: BeginResult{Status: KeyRunning}}, nil
	}
	defer leave()
	ctx := x.handlerContext(time.Now().Add(o.opts.HandlerTimeout))
	defer ctx.cancel()
	ctx.arm(time.Now().Add(storeTimeout))
	now, err := o.clock.now(ctx)
	if inTime := ctx.disarm(); err != nil || !inTime {
		return nil, cmp.Or(err, context.DeadlineExceeded)
	}
	x.eventOnce.Do(x.makeEvent)
	res, err := o.store.Once(ctx, &OnceRequest{
		Now: now, Scope: x.scope, Key: x.key, Event: *x.event, Response: o.response, Keep: o.opts.Keep,
		Limit: o.opts.HandlerTimeout, Wait: max(time.Until(giveUp), time.Second),
	})
	if err == nil && res == nil {
		err = errMalformedAnswer
	}
	return res, err
}

// enter waits until no other request with the key is at work in this process. It reports false when that takes too long.
func (o *onceReceiver) enter(client context.Context, key keptKey, giveUp time.Time) (leave func(), ok bool) {
	for {
		o.mu.Lock()
		twin := o.running[key]
		if twin == nil {
			done := make(chan struct{})
			o.running[key] = done
			o.mu.Unlock()
			return func() {
				o.mu.Lock()
				defer o.mu.Unlock()
				delete(o.running, key)
				close(done)
			}, true
		}
		o.mu.Unlock()
		if !awaitTwin(client, twin, time.Until(giveUp)) {
			return nil, false
		}
	}
}

func awaitTwin(client context.Context, twin <-chan struct{}, patience time.Duration) bool {
	if patience <= 0 {
		return false
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-twin:
		return true
	case <-timer.C:
	case <-client.Done():
	}
	return false
}
