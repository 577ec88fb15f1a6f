package memstore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/signalpost/webhook"
)

// dedupeID is a scope and key, compared together.
type dedupeID struct{ scope, key string }

// dedupe is an idempotency key that somebody holds, or that is done.
type dedupe struct {
	id     dedupeID
	token  int64
	digest [32]byte
	done   bool
	end    time.Time // of the hold; when done, of the memory

	doneAt   time.Time
	response webhook.StoredResponse
}

// Begin is [webhook.DedupeStore.Begin].
func (s *Store) Begin(ctx context.Context, req *webhook.BeginRequest) (*webhook.BeginResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkKey(req.Scope, req.Key); err != nil {
		return nil, err
	}
	now, id := micro(req.Now), dedupeID{req.Scope, req.Key}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[id]; k != nil {
		other := req.Digest != [32]byte{} && req.Digest != k.digest
		switch {
		case !k.end.After(now): // hold or memory ended
		case !k.done:
			return &webhook.BeginResult{Status: webhook.KeyRunning, HeldUntil: k.end}, nil
		case !other:
			response := cloneResponse(k.response)
			return &webhook.BeginResult{Status: webhook.KeyDone, Response: &response, DoneAt: k.doneAt}, nil
		}
		s.dropKey(k)
	}
	// Tokens come from one counter, so that a key which was released or pruned never gets an old one again.
	k := &dedupe{id: id, token: s.next(), digest: req.Digest, end: micro(req.Now.Add(req.Hold))}
	s.keys[id] = k
	s.keyHolds.insert(k)
	return &webhook.BeginResult{Status: webhook.KeyTaken, Token: k.token}, nil
}

func checkKey(scope, key string) error {
	switch {
	case len(scope) > 255:
		return invalid("dedupe", "Scope", fmt.Sprintf("is %d bytes long, allowed 255", len(scope)))
	case key == "":
		return invalid("dedupe", "Key", "missing")
	case len(key) > 255:
		return invalid("dedupe", "Key", fmt.Sprintf("is %d bytes long, allowed 255", len(key)))
	case !utf8.ValidString(key) || strings.ContainsRune(key, 0):
		return invalid("dedupe", "Key", "is not UTF-8 without NUL")
	}
	return nil
}

// Finish is [webhook.DedupeStore.Finish].
func (s *Store) Finish(ctx context.Context, req *webhook.FinishRequest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now, response := micro(req.Now), cloneResponse(req.Response)
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.heldKey(dedupeID{req.Scope, req.Key}, req.Token, now)
	if err != nil {
		return err
	}
	s.keyHolds.remove(k)
	k.done, k.doneAt, k.response, k.end = true, now, response, micro(req.Now.Add(req.Keep))
	s.keyExpiry.insert(k)
	return nil
}

// Release is [webhook.DedupeStore.Release].
func (s *Store) Release(ctx context.Context, req *webhook.ReleaseRequest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.heldKey(dedupeID{req.Scope, req.Key}, req.Token, micro(req.Now))
	if err != nil {
		return err
	}
	s.dropKey(k)
	return nil
}

// heldKey finds a key that is held under token at now. The caller holds s.mu.
func (s *Store) heldKey(id dedupeID, token int64, now time.Time) (*dedupe, error) {
	k := s.keys[id]
	if k == nil || k.done || k.token != token || !k.end.After(now) {
		return nil, fmt.Errorf("webhook: dedupe %q %q: %w", id.scope, id.key, webhook.ErrStaleKey)
	}
	return k, nil
}

// dropKey forgets a key. The caller holds s.mu.
func (s *Store) dropKey(k *dedupe) {
	if k.done {
		s.keyExpiry.remove(k)
	} else {
		s.keyHolds.remove(k)
	}
	delete(s.keys, k.id)
}

// cloneResponse copies all that r points to.
func cloneResponse(r webhook.StoredResponse) webhook.StoredResponse {
	r.Body = bytes.Clone(r.Body)
	r.Header = maps.Clone(r.Header)
	for name, values := range r.Header {
		r.Header[name] = slices.Clone(values)
	}
	return r
}
