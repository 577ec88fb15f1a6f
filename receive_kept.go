package webhook

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// maxKept bounds the answers kept in memory: at most 64 KiB each.
const maxKept = 256

// unrecorded keeps the answers of handlers that succeeded while the store failed, so that the sender's next try can record
// them instead of running the handler again. The oldest give way to new ones.
type unrecorded struct {
	mu      sync.Mutex
	answers map[keptKey]*keptAnswer
	order   []keptKey // oldest first
}

type keptKey struct{ scope, key string }

// keptAnswer is constant.
type keptAnswer struct {
	digest [32]byte
	token  int64 // that it could not be recorded under
	resp   StoredResponse
	at     time.Time
}

func (u *unrecorded) put(x *received, token int64, resp StoredResponse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.answers == nil {
		u.answers = make(map[keptKey]*keptAnswer)
	}
	k := keptKey{x.scope, x.key.ID}
	if u.answers[k] == nil {
		u.order = append(u.order, k)
	}
	u.answers[k] = &keptAnswer{digest: x.key.Digest, token: token, resp: resp, at: time.Now()}
	if len(u.order) > maxKept {
		delete(u.answers, u.order[0])
		u.order = slices.Delete(u.order, 0, 1)
	}
}

func (u *unrecorded) get(x *received) *keptAnswer {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.order) == 0 {
		return nil
	}
	return u.answers[keptKey{x.scope, x.key.ID}]
}

// drop forgets a, unless another answer has taken its place.
func (u *unrecorded) drop(x *received, a *keptAnswer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	k := keptKey{x.scope, x.key.ID}
	if u.answers[k] != a {
		return
	}
	delete(u.answers, k)
	u.order = slices.DeleteFunc(u.order, func(o keptKey) bool { return o == k })
}

// recordKept records an answer that is kept for the key that Begin was just asked for. Its result is what Begin would have said
// had the answer been recorded in time.
func (h *receiver) recordKept(l *lease, x *received, res *BeginResult) (*BeginResult, error) {
	a := h.kept.get(x)
	if a == nil {
		return res, nil
	}
	same := a.digest == x.key.Digest
	token := a.token
	switch {
	case res.Status == KeyDone, res.Status == KeyTaken && !same: // recorded after all, or by somebody else; or new content
		h.kept.drop(x, a)
		return res, nil
	case res.Status == KeyTaken:
		token = l.token
	}
	err := h.finish(l, x, token, &a.resp)
	switch {
	case errors.Is(err, ErrStaleKey): // somebody else runs, or records this very answer: look again
		return &BeginResult{Status: KeyRunning, HeldUntil: res.HeldUntil}, nil
	case err != nil:
		if res.Status == KeyTaken {
			h.kept.put(x, token, a.resp)
		}
		return nil, err
	}
	h.kept.drop(x, a)
	if !same {
		return &BeginResult{Status: KeyRunning}, nil // the old content is recorded now: look again
	}
	return &BeginResult{Status: KeyDone, Response: &a.resp, DoneAt: a.at}, nil
}
