package webhook

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// verifyDelays is when an endpoint that did not verify is asked again, after each try; then the last of them for ever, until
// verifyTries have been made: 3 days.
var verifyDelays = [...]time.Duration{10 * time.Second, time.Minute, 10 * time.Minute, time.Hour}

const verifyTries = 75

// verifyWaiting is the reason of the hold of an endpoint that has not been asked yet.
const verifyWaiting = "it has not shown yet that it wants what it gets"

// verification asks new endpoints whether they want what they get. What it finds out is kept in the state of the endpoint, so that all
// processes on the store agree. Where the store keeps no states, each asks for itself.
type verification struct {
	d      *Dispatcher
	states StateStore     // nil: none
	tries  sync.WaitGroup // under way

	mu     sync.Mutex
	known  map[string]*verifyState // of endpoints that are to be verified
	since  int64                   // version up to which known is read
	strays map[string]bool         // endpoints with a hold of verification's, to be looked at should they need none
}

// verifyState is what is known of an endpoint.
type verifyState struct {
	state  EndpointState
	status *endpointStatus // that unverified was set in; nil: none
	done   string          // what this process has seen verified, of an endpoint given in code
	busy   bool            // a try of this process is under way
}

// verifyDoc is the part of the dispatchers' document in an endpoint's state that verification keeps. The rest of it is health's.
type verifyDoc struct {
	Verified string `json:"v,omitempty"`  // the aim that was verified; after a "?" the one that is to be
	Tries    int    `json:"vt,omitempty"` // made of that
	At       int64  `json:"va,omitempty"` // when the next is due; Unix µs by the store's clock
}

func newVerification(d *Dispatcher) *verification {
	v := &verification{d: d, known: make(map[string]*verifyState), strays: make(map[string]bool)}
	v.states, _ = d.store.(StateStore)
	return v
}

// aim is what is verified of an endpoint; "": nothing. Another URL or another way has to be verified anew.
func aim(ep *Endpoint) string {
	if ep.Verify == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(string(ep.Verify) + "\n" + ep.URL))
	return hex.EncodeToString(sum[:16])
}

// read is the part of a document that is verification's, for what an endpoint is to verify now, and whether it has.
func (s *verifyState) read(want string) (doc verifyDoc, verified bool) {
	_ = json.Unmarshal(s.state.Doc, &doc) // what cannot be read counts as none
	has, waits, _ := strings.Cut(doc.Verified, "?")
	switch {
	case want == "" || has == want || s.done == want:
		return verifyDoc{Verified: want}, true
	case waits != want:
		return verifyDoc{Verified: has + "?" + want}, false
	}
	return doc, false
}

// with is a document with another part of verification's.
func (doc verifyDoc) with(whole []byte) []byte {
	members := make(map[string]json.RawMessage)
	if json.Unmarshal(whole, &members) != nil {
		clear(members)
	}
	delete(members, "v")
	delete(members, "vt")
	delete(members, "va")
	own, _ := json.Marshal(doc) // of strings and numbers
	_ = json.Unmarshal(own, &members)
	out, _ := json.Marshal(members)
	return out
}

// enforce keeps what is not verified from being sent to, before a table becomes the current one.
func (v *verification) enforce(t *routeTable) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(t.verify) == 0 && len(v.known) == 0 {
		return
	}
	needed := make(map[string]bool, len(t.verify))
	for _, rt := range t.verify {
		needed[rt.endpoint.ID] = true
		v.mark(rt)
	}
	for id, s := range v.known {
		if !needed[id] {
			delete(v.known, id)
			if s.status != nil { // also of a deleted one, which may come again
				s.status.verified.Store(nil)
			}
		}
	}
}

// mark notes what of an endpoint may be sent to: what is verified as far as is known. The caller holds v.mu.
func (v *verification) mark(rt *route) (verified bool) {
	s := v.watch(rt.endpoint.ID)
	s.status = rt.status
	if _, verified = s.read(rt.aim); !verified {
		rt.status.verified.Store(nil)
		return false
	}
	if rt.given { // another process with another URL in its code does not undo that here
		s.done = rt.aim
	}
	rt.status.verified.Store(&rt.aim)
	return true
}

// seen marks an endpoint, unless it has become another meanwhile.
func (v *verification) seen(rt *route) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.d.routes.lookup(rt.endpoint.ID).aim == rt.aim {
		v.mark(rt)
	}
}

// watch is what is known of an endpoint. The caller holds v.mu.
func (v *verification) watch(id string) *verifyState {
	s := v.known[id]
	if s == nil {
		s = &verifyState{state: EndpointState{EndpointID: id}}
		v.known[id] = s
		v.since = 0 // its state may have been read and forgotten
	}
	return s
}

// refresh reads the states that have changed.
func (v *verification) refresh(ctx context.Context) error {
	if v.states == nil {
		return nil
	}
	v.mu.Lock()
	since := v.since
	v.mu.Unlock()
	res, err := v.states.StateChanges(ctx, since)
	if err == nil && res == nil {
		err = errMalformedAnswer
	}
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range res.States {
		if s := v.known[res.States[i].EndpointID]; s != nil && (res.States[i].Version > s.state.Version || res.Version < since) {
			s.state = res.States[i]
		}
	}
	if v.since == since { // else an endpoint came in that this reading has skipped
		v.since = res.Version
	}
	return nil
}

// get is a copy of what is known of an endpoint.
func (v *verification) get(id string) verifyState {
	v.mu.Lock()
	defer v.mu.Unlock()
	return *v.watch(id)
}

// verifyChange is what becomes of a state.
type verifyChange struct {
	doc    verifyDoc
	hold   string // reason of the hold to put; "": none
	unhold bool   // end a hold of verification's
}

// change stores what f makes of an endpoint's state, which it may refuse by returning nil, and reports whether it did. The endpoint is read
// after the state, and the state is stored only if it is still that; else f is asked again. So whoever has changed an endpoint and then puts its hold,
// be it anew, knows that nobody lifts that hold who has not read the change. A hold of another kind stays as it is.
func (v *verification) change(ctx context.Context, id string, f func(t *routeTable, s *verifyState) *verifyChange) (bool, error) {
	for range changeTries {
		v.get(id) // has its state read
		if err := v.refresh(ctx); err != nil {
			return false, err
		}
		s := v.get(id)
		t, err := v.d.routes.refresh(ctx, nil)
		if err != nil {
			return false, err
		}
		c := f(t, &s)
		if c == nil {
			return false, nil
		}
		now, err := v.d.clock.now(ctx)
		if err != nil {
			return false, err
		}
		next := NewState{EndpointID: id, Version: s.state.Version, Doc: c.doc.with(s.state.Doc), NotBefore: s.state.NotBefore}
		switch hold := s.holdAt(now); {
		case c.hold != "" && (hold == nil || hold.Kind == HoldUnverified):
			next.Hold = &HoldRequest{Kind: HoldUnverified, Reason: c.hold}
		case c.unhold && hold != nil && hold.Kind == HoldUnverified:
			next.Unhold = true
		}
		if done, err := v.put(ctx, now, &s, &next); done || err != nil {
			return done, err
		}
	}
	return false, errContended
}

// holdAt is the hold in force at now, or nil.
func (s *verifyState) holdAt(now time.Time) *HoldStatus {
	if h := s.state.Hold; h != nil && (h.Until.IsZero() || now.Before(h.Until)) {
		return h
	}
	return nil
}

// put stores a state, and reports false when it is stale.
func (v *verification) put(ctx context.Context, now time.Time, was *verifyState, next *NewState) (bool, error) {
	var version int64
	if v.states != nil {
		res, err := v.states.PutStates(ctx, &PutStatesRequest{Now: now, States: []NewState{*next}})
		if err == nil && (res == nil || len(res.States) != 1) {
			err = errMalformedAnswer
		}
		if err != nil || res.States[0] != Applied {
			return false, err
		}
		version = res.Version
	}
	state := EndpointState{EndpointID: next.EndpointID, Version: version, Doc: next.Doc, NotBefore: next.NotBefore, Hold: was.state.Hold}
	if next.Unhold {
		state.Hold = nil
	}
	if next.Hold != nil {
		state.Hold = &HoldStatus{EndpointID: next.EndpointID, Kind: next.Hold.Kind, Reason: next.Hold.Reason, Until: next.Hold.Until}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := v.watch(next.EndpointID); v.states == nil || version > s.state.Version {
		s.state = state
	}
	return true, nil
}

// work asks the endpoints whose time has come. It is called about twice a second and keeps its own pace.
func (v *verification) work(ctx context.Context) {
	table := v.d.routes.current.Load()
	v.freeStrays(ctx, table)
	list := table.verify
	if len(list) == 0 {
		return
	}
	if err := v.refresh(ctx); err != nil {
		if ctx.Err() == nil {
			v.d.log.Warn("webhook: reading the state of endpoints failed; trying again", slog.Any("error", err))
		}
		return
	}
	for _, rt := range list {
		if err := v.look(ctx, rt); err != nil && ctx.Err() == nil {
			v.d.log.Warn("webhook: storing what is to be verified failed; trying again", slog.String("endpoint", rt.endpoint.ID), slog.Any("error", err))
			return
		}
	}
}

// look sees to the hold of an endpoint, and begins a try when it is time for one and this process is the one that gets it.
func (v *verification) look(ctx context.Context, rt *route) error {
	id, now := rt.endpoint.ID, v.d.clock.estimate()
	v.seen(rt)
	s := v.get(id)
	doc, verified := s.read(rt.aim)
	h := s.holdAt(now)
	if v.states != nil && (verified && h != nil && h.Kind == HoldUnverified || !verified && h == nil) {
		if _, err := v.change(ctx, id, v.followed); err != nil {
			return err
		}
	}
	isDue := func(doc *verifyDoc) bool { return doc.Tries < verifyTries && doc.At <= now.UnixMicro() }
	if verified || !isDue(&doc) || s.busy || rt.err != nil || len(v.d.tests) == testsMost {
		return nil
	}
	tries := 0
	got, err := v.change(ctx, id, func(t *routeTable, s *verifyState) *verifyChange {
		doc, verified := s.read(rt.aim)
		if verified || !isDue(&doc) || !t.has(rt) {
			return nil // somebody else was quicker
		}
		doc.Tries++
		tries = doc.Tries
		doc.At = now.Add(verifyDelays[min(doc.Tries, len(verifyDelays))-1]).UnixMicro()
		return &verifyChange{doc: doc, hold: verifyWaiting}
	})
	if got {
		v.setBusy(id, true)
		v.tries.Go(func() { v.try(ctx, rt, tries) })
	}
	return err
}

// has reports whether what a route is verified for is still so.
func (t *routeTable) has(rt *route) bool {
	now := t.byID[rt.endpoint.ID]
	return now != nil && now.aim == rt.aim && !now.unreadable
}

func (v *verification) setBusy(id string, busy bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watch(id).busy = busy
}

// wait returns when all tries have ended, which they do with the context of work.
func (v *verification) wait() { v.tries.Wait() }

// try asks an endpoint, and stores what became of it.
func (v *verification) try(ctx context.Context, rt *route, tries int) {
	defer v.setBusy(rt.endpoint.ID, false)
	failed := v.ask(ctx, rt)
	if ctx.Err() != nil {
		return
	}
	err := v.settle(ctx, rt, failed)
	if err != nil && !errors.Is(err, errMoved) && ctx.Err() == nil {
		v.d.log.Warn("webhook: storing what was verified failed", slog.String("endpoint", rt.endpoint.ID), slog.Any("error", err))
	}
	if err == nil && failed != nil && tries >= verifyTries {
		v.tell(ctx, rt, HealthUnverified, failed.Error())
	}
}

// ask makes one attempt. Its error says why the endpoint did not verify.
func (v *verification) ask(ctx context.Context, rt *route) error {
	ev := Event{ID: NewEventID(), Type: verificationType}
	body := map[string]any{"type": ev.Type, "id": ev.ID, "timestamp": time.Now().UTC().Format(time.RFC3339)}
	var challenge string
	if rt.endpoint.Verify == VerifyChallenge {
		var random [32]byte
		rand.Read(random[:]) // never fails
		challenge = base64.RawURLEncoding.EncodeToString(random[:])
		body["challenge"] = challenge
	}
	ev.Payload, _ = json.Marshal(body)
	res, err := v.d.tryOnce(ctx, rt, &ev)
	switch {
	case err != nil:
		return err
	case !res.delivered(rt.success):
		return errors.New(describeAnswer(&Attempt{Status: res.Status, Error: res.Kind, Detail: res.Detail}))
	case challenge != "" && !echoes(res.Response, challenge):
		return fmt.Errorf("answered %d, but without the challenge", res.Status)
	}
	return nil
}

// echoes reports whether an answer is the challenge, or JSON with it as the member of that name.
func echoes(answer []byte, challenge string) bool {
	same := func(s string) bool { return subtle.ConstantTimeCompare([]byte(s), []byte(challenge)) == 1 }
	text := strings.TrimSpace(string(answer))
	if same(text) {
		return true
	}
	var said struct {
		Challenge string `json:"challenge"`
	}
	return json.Unmarshal([]byte(text), &said) == nil && same(said.Challenge)
}

// settle stores how a try ended. A success is in force when it returns, in this process. errMoved: the endpoint has become another one.
func (v *verification) settle(ctx context.Context, rt *route, failed error) error {
	var news, moved bool
	_, err := v.change(ctx, rt.endpoint.ID, func(t *routeTable, s *verifyState) *verifyChange {
		doc, verified := s.read(rt.aim)
		if moved = !t.has(rt); moved || failed != nil && verified {
			return nil
		}
		if failed != nil {
			return &verifyChange{doc: doc, hold: verifyWaiting + ": " + failed.Error()}
		}
		news = !verified
		return &verifyChange{doc: verifyDoc{Verified: rt.aim}, unhold: true}
	})
	if err == nil && moved && failed == nil {
		err = errMoved
	}
	if err != nil || failed != nil {
		return err
	}
	v.seen(rt)
	if news {
		v.d.health.resumed(ctx, rt.endpoint.ID)
		v.tell(ctx, rt, HealthVerified, "")
	}
	if v.d.running.Load() {
		_, _ = v.d.routes.refresh(ctx, nil) // of the hold; else within a second
		v.d.feed.wakeUp()
	}
	return nil
}

// tell calls the hook and writes to the log.
func (v *verification) tell(ctx context.Context, rt *route, kind HealthKind, reason string) {
	level := slog.LevelInfo
	if kind == HealthUnverified {
		level = slog.LevelWarn
	}
	v.d.log.LogAttrs(ctx, level, "webhook: endpoint "+string(kind), slog.String("endpoint", rt.endpoint.ID), slog.String("reason", reason))
	if v.d.opts.Trace.Health == nil {
		return
	}
	defer v.d.guard("Health")
	v.d.opts.Trace.Health(ctx, HealthInfo{
		Kind: kind, EndpointID: rt.endpoint.ID, Tenant: rt.endpoint.Tenant, URL: RedactURL(rt.endpoint.URL), Reason: reason,
	})
}

// VerifyEndpoint asks an endpoint now whether it wants what it gets, as [Endpoint].Verify says, and lets its deliveries go when it does. It
// needs no Run, and may be called for one that is not asked any more. The error is [ErrUnverified] when the endpoint did not verify, with what
// it did instead, and [ErrNotFound] when it is not known.
func (d *Dispatcher) VerifyEndpoint(ctx context.Context, id string) error {
	rt, err := d.testRoute(ctx, id)
	if err == nil && rt.endpoint.Verify == "" {
		return &FieldError{Op: fmt.Sprintf("endpoint %q", id), Field: "Verify", Reason: "is empty: there is nothing to verify"}
	}
	if err != nil {
		return opError(fmt.Sprintf("endpoint %q", id), err)
	}
	failed := d.verify.ask(ctx, rt)
	if ctx.Err() != nil {
		return opError(fmt.Sprintf("endpoint %q", id), failed)
	}
	if err := d.verify.settle(ctx, rt, failed); err != nil {
		return opError(fmt.Sprintf("endpoint %q", id), err)
	}
	if failed != nil {
		return fmt.Errorf("webhook: endpoint %q: %w: %w", id, ErrUnverified, failed)
	}
	return nil
}
