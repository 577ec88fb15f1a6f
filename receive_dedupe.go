package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"
)

// How the middleware deals with its store. Senders wait 10 to 30 s for an answer, so nothing here waits for much longer.
const (
	storeTimeout   = 5 * time.Second  // for a call that takes or frees a key
	recordPatience = 10 * time.Second // for recording an answer, with repetitions
	recordLeast    = time.Second      // of that, even when the hold is over
	firstPause     = 20 * time.Millisecond
	longestPause   = 400 * time.Millisecond // between looks at a running twin and between repetitions
	retryAfterBusy = 5                      // seconds
	retryAfterDown = 30
)

var (
	errTwinRunning = errors.New("webhook: receive: a request with this key is being processed")
	errBadRecord   = errors.New("webhook: receive: the dedupe store calls a key done and has no usable answer for it")
)

// lease is a key that is taken. Begin, the handler and, in the common case, Finish share a context: it has the
// handler's deadline, and is armed to end earlier while the store is asked.
type lease struct {
	token int64
	ctx   *lateContext // to be cancelled when all is done
}

// take takes the request's key. When it cannot, it answers the request and reports false.
func (h *receiver) take(w http.ResponseWriter, r *http.Request, x *received) (lease, bool) {
	giveUp := time.Now().Add(h.opts.Wait)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		l, res, err := h.begin(x)
		if err == nil {
			res, err = h.recordKept(&l, x, res)
		}
		if err == nil && res.Status == KeyTaken {
			return l, true
		}
		l.ctx.cancel()
		switch {
		case err != nil:
			h.refuse(w, r, x, storeDown(err))
			return lease{}, false
		case res.Status == KeyDone:
			h.replay(w, r, x, res)
			return lease{}, false
		}
		if !pauseFor(r.Context(), min(jitter(pause), time.Until(giveUp))) {
			h.suppressed(r.Context(), x, SuppressedRepeatInfo{Running: true, Status: http.StatusConflict})
			h.refuse(w, r, x, &refusal{status: http.StatusConflict, retryAfter: retryAfterBusy, err: errTwinRunning})
			return lease{}, false
		}
	}
}

func storeDown(err error) *refusal {
	return &refusal{
		status: http.StatusServiceUnavailable, retryAfter: retryAfterDown,
		err: opError("receive: dedupe store", err),
	}
}

// begin asks the store for the key, once.
func (h *receiver) begin(x *received) (lease, *BeginResult, error) {
	asked := time.Now()
	l := lease{ctx: x.handlerContext(asked.Add(h.opts.HandlerTimeout))}
	l.ctx.arm(asked.Add(storeTimeout))
	now, err := h.clock.now(l.ctx)
	if err != nil {
		l.ctx.disarm()
		return l, nil, err
	}
	x.heldUntil = asked.Add(h.opts.Hold)
	x.beginReq = BeginRequest{Now: now, Scope: x.scope, Key: x.key.ID, Digest: x.key.Digest, Hold: h.opts.Hold}
	res, err := h.opts.Dedupe.Begin(l.ctx, &x.beginReq)
	inTime := l.ctx.disarm()
	switch {
	case err != nil && !inTime:
		return l, nil, fmt.Errorf("no answer within %s: %w", storeTimeout, err)
	case err != nil:
		return l, nil, err
	case !inTime: // in the last moment
		l.ctx.cancel()
		l.ctx = x.handlerContext(time.Now().Add(h.opts.HandlerTimeout))
	}
	l.token = res.Token
	return l, res, nil
}

// process runs the handler for a key that is held, and settles what becomes of the key.
func (h *receiver) process(l lease, w http.ResponseWriter, r *http.Request, x *received) {
	returned := false
	defer func() {
		if !returned { // a panic, or runtime.Goexit
			h.release(x, l.token)
		}
	}()
	no := h.run(l.ctx, w, r, x)
	returned = true
	switch {
	case no != nil:
		h.release(x, l.token)
		h.refuse(w, r, x, no)
	case !h.success(x.rec.answered()):
		h.release(x, l.token)
		x.rec.send()
	default:
		h.record(l, w, r, x)
	}
}

// record stores the answer of a handler that succeeded, then sends it.
//
// When it cannot be stored, two things would be wrong. A 2xx without a record lets a later repeat, or a replayed capture, run the
// handler again unnoticed. Freeing the key makes the sender's next try do that for certain. So the key stays held,
// the answer is 503, and what was to be recorded stays in memory for the next try.
func (h *receiver) record(l lease, w http.ResponseWriter, r *http.Request, x *received) {
	resp := x.rec.stored(h.opts.ReplayHeaders, h.opts.MaxStoredBody)
	err := h.finish(&l, x, l.token, &resp)
	if err == nil {
		x.rec.send()
		return
	}
	x.rec.discard()
	x.ran = true
	h.kept.put(x, l.token, resp)
	if !errors.Is(err, ErrStaleKey) {
		h.refuse(w, r, x, storeDown(err))
		return
	}
	// The hold ended before the handler did, or an earlier Finish was done although it failed. See who has the key now:
	// if nobody, it is taken and the answer recorded; if it is done, that answer counts.
	h.log(r.Context(), slog.LevelWarn, "webhook: idempotency key was lost while its handler ran", x, err)
	if l, ok := h.take(w, r, x); ok { // only when many others have pushed the answer out of memory
		l.ctx.cancel()
		h.refuse(w, r, x, storeDown(err))
	}
}

// finish records an answer. Failures are tried again for a while, [ErrStaleKey] is not.
func (h *receiver) finish(l *lease, x *received, token int64, resp *StoredResponse) error {
	began := time.Now()
	budget := max(recordLeast, min(recordPatience, x.heldUntil.Sub(began)))
	var ctx context.Context = l.ctx
	if l.ctx.deadline.Sub(began) >= budget && l.ctx.Err() == nil {
		l.ctx.arm(began.Add(budget))
		defer l.ctx.disarm()
	} else {
		fresh, cancel := context.WithTimeout(&x.ctx, budget)
		defer cancel()
		ctx = fresh
	}
	return persist(ctx, func() error {
		now, err := h.clock.now(ctx)
		if err != nil {
			return err
		}
		x.finishReq = FinishRequest{Now: now, Scope: x.scope, Key: x.key.ID, Token: token, Response: *resp, Keep: h.opts.Keep}
		return h.opts.Dedupe.Finish(ctx, &x.finishReq)
	})
}

// release frees the key of a handler that did not succeed. When the store fails, the key is free when its hold ends.
func (h *receiver) release(x *received, token int64) {
	ctx, cancel := context.WithTimeout(&x.ctx, storeTimeout)
	defer cancel()
	err := persist(ctx, func() error {
		now, err := h.clock.now(ctx)
		if err != nil {
			return err
		}
		return h.opts.Dedupe.Release(ctx, &ReleaseRequest{Now: now, Scope: x.scope, Key: x.key.ID, Token: token})
	})
	if err != nil && !errors.Is(err, ErrStaleKey) {
		h.log(ctx, slog.LevelError, "webhook: idempotency key is not freed before its hold ends", x, err)
	}
}

// persist calls f until it succeeds, finds the key stale, or ctx ends.
func persist(ctx context.Context, f func() error) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := f()
		if err == nil || errors.Is(err, ErrStaleKey) || !pauseFor(ctx, jitter(pause)) {
			return err
		}
	}
}

// jitter keeps those who wait for the same thing from asking all at once.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// pauseFor waits, and reports false when there is no time left to or ctx ends first.
func pauseFor(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// replay answers a repeat from the record.
func (h *receiver) replay(w http.ResponseWriter, r *http.Request, x *received, res *BeginResult) {
	resp := res.Response
	if resp == nil || resp.Status < 200 || resp.Status > 599 {
		h.refuse(w, r, x, storeDown(errBadRecord))
		return
	}
	h.suppressed(r.Context(), x, SuppressedRepeatInfo{DoneAt: res.DoneAt, Status: resp.Status})
	sendStored(w, resp)
}

// suppressed counts a repeat and tells the trace of it.
func (h *receiver) suppressed(ctx context.Context, x *received, info SuppressedRepeatInfo) {
	if x.ran {
		return
	}
	h.opts.Repeats.count(info.Running)
	if h.opts.Trace == nil || h.opts.Trace.SuppressedRepeat == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			h.log(ctx, slog.LevelError, "webhook: panic in Trace.SuppressedRepeat", x, nil, slog.String("panic", fmt.Sprint(p)))
		}
	}()
	info.Scope, info.Key = x.scope, x.key.ID
	h.opts.Trace.SuppressedRepeat(ctx, info)
}
