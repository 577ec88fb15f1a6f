package storetest

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

func dedupeCases() []Case {
	const one = "of any number of callers at once exactly one gets KeyTaken"
	const digest = "unless req.Digest is set and differs from the digest it was last taken with: then it is taken anew, as if it had expired"
	return []Case{
		{"Dedupe/TakenOnce", "Begin takes a key for the caller, atomically … it is the caller's now … with KeyTaken … somebody holds it … with KeyRunning", needDedupe, dedupeTakenOnce},
		{"Dedupe/OneOfMany", one, needDedupe, dedupeOneOfMany},
		{"Dedupe/HoldEnds", "It is held until Finish, Release or the end of the hold, whichever comes first … how long the key stays taken if nothing more is heard", needDedupe, dedupeHoldEnds},
		{"Dedupe/TokenGrows", "after the hold's end it can be taken anew under a greater token", needDedupe, dedupeTokenGrows},
		{"Dedupe/Done", "A key that is finished and not expired answers KeyDone with its stored response … processed: Response is what was answered … with KeyDone", needDedupe, dedupeDone},
		{"Dedupe/KeysAreBytes", "Scope and key are compared together and bytewise, each as a whole", needDedupe, dedupeKeysAreBytes},
		{"Dedupe/LongKeys", "at most 255 bytes … 1 to 255 bytes of UTF-8 without NUL", needDedupe, dedupeLongKeys},
		{"Dedupe/OtherDigest", digest + " … Digest of the content, for keys that remember only the latest content; zero: the key alone decides", needDedupe, dedupeOtherDigest},
		{"Dedupe/OtherDigestWhileRunning", digest, needDedupe, dedupeDigestRunning},
		{"Dedupe/NoDigest", digest, needDedupe, dedupeNoDigest},
	}
}

// beginOn begins a key of the scope "s" with a hold of a minute.
func (e *env) beginOn(s webhook.DedupeStore, now time.Time, key string, digest byte) *webhook.BeginResult {
	req := &webhook.BeginRequest{Now: now, Scope: "s", Key: key, Hold: time.Minute}
	req.Digest[7] = digest
	res, err := s.Begin(e.ctx, req)
	e.ok("Begin", err)
	return res
}

func (e *env) beginKey(now time.Time, key string) *webhook.BeginResult {
	return e.beginOn(e.dedupe(), now, key, 0)
}

// wantStatus begins a key on the other handle and wants to be told this.
func (e *env) wantStatus(now time.Time, key string, want webhook.KeyStatus) *webhook.BeginResult {
	res := e.beginOn(e.h.Second.(webhook.DedupeStore), now, key, 0)
	if res.Status != want {
		e.failf("Begin of %q at %v: got status %d, want %d", key, now.Sub(at(0)), res.Status, want)
	}
	return res
}

// take begins a key that must be free and returns its token.
func (e *env) take(now time.Time, key string) int64 { return e.takeDigest(now, key, 0) }

func (e *env) takeDigest(now time.Time, key string, digest byte) int64 {
	res := e.beginOn(e.dedupe(), now, key, digest)
	if res.Status != webhook.KeyTaken {
		e.failf("Begin of %q at %v: got status %d, want KeyTaken", key, now.Sub(at(0)), res.Status)
	}
	return res.Token
}

func (e *env) finishErr(now time.Time, key string, token int64, r webhook.StoredResponse, keep time.Duration) error {
	return e.dedupe().Finish(e.ctx, &webhook.FinishRequest{Now: now, Scope: "s", Key: key, Token: token, Response: r, Keep: keep})
}

func (e *env) finish(now time.Time, key string, token int64, r webhook.StoredResponse, keep time.Duration) {
	e.ok("Finish", e.finishErr(now, key, token, r, keep))
}

func (e *env) releaseErr(now time.Time, key string, token int64) error {
	return e.dedupe().Release(e.ctx, &webhook.ReleaseRequest{Now: now, Scope: "s", Key: key, Token: token})
}

// status is a response known by its status.
func status(n int) webhook.StoredResponse { return webhook.StoredResponse{Status: n} }

// sameResponse compares responses; nil and empty are the same.
func (e *env) sameResponse(got *webhook.StoredResponse, want webhook.StoredResponse) {
	switch {
	case got == nil:
		e.failf("no Response, want %d", want.Status)
	case got.Status != want.Status, !bytes.Equal(got.Body, want.Body),
		len(got.Header)+len(want.Header) > 0 && !reflect.DeepEqual(got.Header, want.Header):
		e.failf("Response: got %d %q %q, want %d %q %q", got.Status, got.Header, got.Body, want.Status, want.Header, want.Body)
	}
}

func dedupeTakenOnce(e *env) {
	if e.take(at(0), "k") <= 0 {
		e.failf("Begin: token is not positive")
	}
	for _, now := range []time.Time{at(0), at(time.Second)} {
		res := e.wantStatus(now, "k", webhook.KeyRunning)
		e.sameTime("HeldUntil", res.HeldUntil, at(time.Minute))
	}
	e.take(at(0), "other")
}

func dedupeOneOfMany(e *env) {
	for round := range 5 {
		key := fmt.Sprint("k", round)
		taken := make([]int, 8)
		e.parallel(len(taken), func(i int) {
			s := e.dedupe()
			if i%2 == 1 {
				s = e.h.Second.(webhook.DedupeStore)
			}
			switch st := e.beginOn(s, at(0), key, 0).Status; st {
			case webhook.KeyTaken:
				taken[i] = 1
			case webhook.KeyRunning:
			default:
				e.failf("Begin: got status %d", st)
			}
		})
		n := 0
		for _, t := range taken {
			n += t
		}
		e.same("callers that got KeyTaken", n, 1)
	}
}

func dedupeHoldEnds(e *env) {
	e.take(at(0), "k")
	e.wantStatus(at(time.Minute-time.Microsecond), "k", webhook.KeyRunning)
	e.wantStatus(at(time.Minute), "k", webhook.KeyTaken)
	res := e.wantStatus(at(time.Minute), "k", webhook.KeyRunning)
	e.sameTime("HeldUntil of the second hold", res.HeldUntil, at(2*time.Minute))
}

func dedupeTokenGrows(e *env) {
	var last int64
	for i := range 4 {
		token := e.take(at(time.Duration(i)*time.Minute), "k")
		if token <= last {
			e.failf("token %d after %d", token, last)
		}
		last = token
	}
}

func dedupeDone(e *env) {
	e.finish(at(30*time.Second), "k", e.take(at(0), "k"), richResponse(), time.Hour)
	e.finish(at(0), "empty", e.take(at(0), "empty"), status(204), time.Hour)
	for range 2 {
		res := e.wantStatus(at(31*time.Second), "k", webhook.KeyDone)
		e.sameResponse(res.Response, richResponse())
		e.sameTime("DoneAt", res.DoneAt, at(30*time.Second))
		e.sameResponse(e.wantStatus(at(0), "empty", webhook.KeyDone).Response, status(204))
	}
}

func dedupeKeysAreBytes(e *env) {
	tests := []struct{ scope, key string }{{"a", "bc"}, {"ab", "c"}, {"", "abc"}, {"A", "bc"}, {"a", "BC"}, {"a", "bc "}, {"a ", "bc"},
		{"a", "é"}, {"a", "e\u0301"}, {"a", "e"}, {"a", "ß"}, {"a", "ss"}, {"a", "🚚"}, {"a", "🚛"}, {"a", "b%"}, {"a", "b_"}, {"a", "b\\"}}
	for range 2 {
		for i, tt := range tests {
			res, err := e.dedupe().Begin(e.ctx, &webhook.BeginRequest{Now: at(0), Scope: tt.scope, Key: tt.key, Hold: time.Minute})
			e.ok("Begin", err)
			if res.Status == webhook.KeyDone {
				e.same(fmt.Sprintf("response of %q %q", tt.scope, tt.key), res.Response.Status, 200+i)
				continue
			}
			if res.Status != webhook.KeyTaken {
				e.failf("Begin of %q %q: got status %d, want KeyTaken", tt.scope, tt.key, res.Status)
			}
			e.ok("Finish", e.dedupe().Finish(e.ctx, &webhook.FinishRequest{Now: at(0), Scope: tt.scope, Key: tt.key, Token: res.Token, Response: status(200 + i), Keep: time.Hour}))
		}
	}
}

func dedupeLongKeys(e *env) {
	long := strings.Repeat("ü", 127)
	scope := strings.Repeat("s", 255)
	for _, key := range []string{long + "a", long + "b"} { // 255 bytes each
		for _, want := range []webhook.KeyStatus{webhook.KeyTaken, webhook.KeyRunning} {
			res, err := e.dedupe().Begin(e.ctx, &webhook.BeginRequest{Now: at(0), Scope: scope, Key: key, Hold: time.Minute})
			e.ok("Begin", err)
			e.same("status", res.Status, want)
		}
	}
}

func dedupeOtherDigest(e *env) {
	e.finish(at(0), "k", e.takeDigest(at(0), "k", 'A'), status(200), time.Hour)
	e.sameResponse(e.beginOn(e.dedupe(), at(0), "k", 'A').Response, status(200))
	e.sameResponse(e.beginOn(e.dedupe(), at(0), "k", 0).Response, status(200))
	token := e.takeDigest(at(0), "k", 'B')
	e.finish(at(0), "k", token, status(201), time.Hour)
	e.sameResponse(e.beginOn(e.dedupe(), at(0), "k", 'B').Response, status(201))
	if again := e.takeDigest(at(0), "k", 'A'); again <= token {
		e.failf("token %d after %d", again, token)
	}
}

func dedupeDigestRunning(e *env) {
	e.takeDigest(at(0), "k", 'A')
	for _, digest := range []byte{'A', 'B', 0} {
		e.same(fmt.Sprintf("status with digest %q", digest), e.beginOn(e.dedupe(), at(0), "k", digest).Status, webhook.KeyRunning)
	}
}

func dedupeNoDigest(e *env) {
	e.finish(at(0), "k", e.take(at(0), "k"), status(200), time.Hour)
	e.sameResponse(e.beginOn(e.dedupe(), at(0), "k", 0).Response, status(200))
	e.takeDigest(at(0), "k", 'A') // differs from none
}

func finishCases() []Case {
	const stale = "It returns ErrStaleKey when the key is not held under that token any more, and then changes nothing"
	const release = "Release frees a key taken under token, as if it had never been taken"
	return []Case{
		{"Finish/Keep", "Finish stores the response for a key taken under token, for req.Keep from req.Now", needDedupe, finishKeep},
		{"Finish/StaleToken", stale, needDedupe, finishStaleToken},
		{"Finish/AfterHoldEnd", stale, needDedupe, finishAfterHoldEnd},
		{"Finish/Twice", stale, needDedupe, finishTwice},
		{"Finish/Unknown", stale, needDedupe, finishUnknown},
		{"Release/Frees", release, needDedupe, releaseFrees},
		{"Release/StaleToken", "ErrStaleKey as for Finish", needDedupe, releaseStaleToken},
		{"Release/AfterFinish", "ErrStaleKey as for Finish", needDedupe, releaseAfterFinish},
		{"Release/AfterHoldEnd", "ErrStaleKey as for Finish", needDedupe, releaseAfterHoldEnd},
	}
}

func finishKeep(e *env) {
	token := e.take(at(0), "k")
	e.finish(at(30*time.Second), "k", token, status(200), time.Hour)
	e.wantStatus(at(30*time.Second+time.Hour-time.Microsecond), "k", webhook.KeyDone)
	if again := e.take(at(30*time.Second+time.Hour), "k"); again <= token {
		e.failf("token %d after %d", again, token)
	}
}

func finishStaleToken(e *env) {
	old := e.take(at(0), "k")
	token := e.take(at(time.Minute), "k")
	e.wantErr("Finish under the old token", e.finishErr(at(time.Minute), "k", old, status(500), time.Hour), webhook.ErrStaleKey)
	e.wantStatus(at(time.Minute), "k", webhook.KeyRunning)
	e.finish(at(time.Minute), "k", token, status(200), time.Hour)
	e.wantErr("Finish under the old token", e.finishErr(at(time.Minute), "k", old, status(500), time.Hour), webhook.ErrStaleKey)
	e.sameResponse(e.wantStatus(at(time.Minute), "k", webhook.KeyDone).Response, status(200))
}

func finishAfterHoldEnd(e *env) {
	token := e.take(at(0), "k")
	e.wantErr("Finish at the end of the hold", e.finishErr(at(time.Minute), "k", token, status(200), time.Hour), webhook.ErrStaleKey)
	e.wantStatus(at(time.Minute), "k", webhook.KeyTaken)
}

func finishTwice(e *env) {
	token := e.take(at(0), "k")
	e.finish(at(0), "k", token, status(200), time.Hour)
	e.wantErr("Finish again", e.finishErr(at(0), "k", token, status(500), 9*time.Hour), webhook.ErrStaleKey)
	e.sameResponse(e.wantStatus(at(0), "k", webhook.KeyDone).Response, status(200))
	e.wantStatus(at(2*time.Hour), "k", webhook.KeyTaken)
}

func finishUnknown(e *env) {
	e.wantErr("Finish of a key never taken", e.finishErr(at(0), "k", 1, status(200), time.Hour), webhook.ErrStaleKey)
	e.wantStatus(at(0), "k", webhook.KeyTaken)
}

func releaseFrees(e *env) {
	token := e.take(at(0), "k")
	e.ok("Release", e.releaseErr(at(0), "k", token))
	e.wantStatus(at(0), "k", webhook.KeyTaken)
}

func releaseStaleToken(e *env) {
	old := e.take(at(0), "k")
	e.take(at(time.Minute), "k")
	e.wantErr("Release under the old token", e.releaseErr(at(time.Minute), "k", old), webhook.ErrStaleKey)
	e.wantStatus(at(time.Minute), "k", webhook.KeyRunning)
	e.wantErr("Release of a key never taken", e.releaseErr(at(0), "l", 1), webhook.ErrStaleKey)
}

func releaseAfterFinish(e *env) {
	token := e.take(at(0), "k")
	e.finish(at(0), "k", token, status(200), time.Hour)
	e.wantErr("Release after Finish", e.releaseErr(at(0), "k", token), webhook.ErrStaleKey)
	e.wantStatus(at(0), "k", webhook.KeyDone)
}

func releaseAfterHoldEnd(e *env) {
	token := e.take(at(0), "k")
	e.wantErr("Release at the end of the hold", e.releaseErr(at(time.Minute), "k", token), webhook.ErrStaleKey)
}
