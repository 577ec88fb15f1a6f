package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/signalpost/webhook/internal/ids"
)

// What a stored event has beside the request's headers, under names that no request can have.
const (
	inboxEventID = ":id"     // the sender's
	inboxType    = ":type"   // the sender's, where it is no valid [Event.Type]
	inboxSigned  = ":signed" // the sender's ID, as the signed part says
	inboxTime    = ":time"   // when it happened, as the sender says
	inboxScope   = ":scope"  // of the idempotency key
	inboxKey     = ":key"
)

// inboxEvent begins the IDs of received events. Send takes no such ID, so nothing that is sent can pass for what was received, or keep it out.
const inboxEvent = "inbox."

// inboxUntyped is the type under which an event is stored whose type is not known, or is none that a store takes.
const inboxUntyped = "webhook.received"

// ServeHTTP implements [http.Handler].
func (in *Inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := &in.recv
	defer h.guard(w, r)
	x, ok := h.open(w, r)
	if !ok {
		return
	}
	status, err := in.take(x)
	switch {
	case errors.Is(err, errTwinRunning):
		h.suppressed(r.Context(), x, SuppressedRepeatInfo{Running: true, Status: http.StatusConflict})
		h.refuse(w, r, x, &refusal{status: http.StatusConflict, retryAfter: retryAfterBusy, err: err})
		return
	case err != nil:
		h.refuse(w, r, x, inboxDown(err))
		return
	case status == Conflict:
		h.log(r.Context(), slog.LevelInfo, "webhook: inbox: a repeat with other content", x, nil)
	}
	resp := &in.opts.Response
	if status != Stored {
		h.suppressed(r.Context(), x, SuppressedRepeatInfo{Status: resp.Status})
		sendStored(w, resp)
		return
	}
	sendResponse(w, resp, false)
}

func inboxDown(err error) *refusal {
	return &refusal{
		status: http.StatusServiceUnavailable, retryAfter: retryAfterDown, err: opError("inbox", err),
	}
}

// take stores a verified request unless its key is known. Most keys are known by the event that they make.
func (in *Inbox) take(x *received) (EnqueueStatus, error) {
	ctx, cancel := context.WithTimeout(&x.ctx, storeTimeout)
	defer cancel()
	if x.key.Digest == [32]byte{} {
		return in.store(ctx, x, in.eventID(x, 0))
	}
	return in.takeLatest(ctx, x)
}

// inboxHold is how long a key stays taken whose request is being stored: longer than that takes.
const inboxHold = 4 * storeTimeout

// takeLatest stores a request whose key remembers the latest content alone: that changes, as events do not, so a DedupeStore keeps it.
// The key is finished once the event is stored: a crash in between makes the sender's next try a second event.
func (in *Inbox) takeLatest(ctx context.Context, x *received) (EnqueueStatus, error) {
	keys, ok := in.d.store.(DedupeStore)
	if !ok {
		return 0, errNoLatest
	}
	now, err := in.d.clock.now(ctx)
	if err != nil {
		return 0, err
	}
	begun, err := keys.Begin(ctx, &BeginRequest{Now: now, Scope: in.keyScope(x), Key: x.key.ID, Digest: x.key.Digest, Hold: inboxHold})
	switch {
	case err == nil && begun == nil:
		return 0, errMalformedAnswer
	case err != nil:
		return 0, err
	case begun.Status == KeyDone:
		return Repeat, nil
	case begun.Status == KeyRunning:
		return 0, errTwinRunning
	}
	status, err := in.store(ctx, x, in.eventID(x, begun.Token))
	if err != nil {
		if !errors.Is(err, ErrOutcomeUnknown) {
			_ = keys.Release(ctx, &ReleaseRequest{Now: now, Scope: in.keyScope(x), Key: x.key.ID, Token: begun.Token}) // else its hold ends
		}
		return 0, err
	}
	err = keys.Finish(ctx, &FinishRequest{
		Now: in.d.clock.estimate(), Scope: in.keyScope(x), Key: x.key.ID, Token: begun.Token,
		Response: StoredResponse{Status: in.opts.Response.Status}, Keep: in.recv.opts.Keep,
	})
	return status, err
}

// errNoLatest: the store is no [DedupeStore].
var errNoLatest = errors.New("the store cannot remember the latest content of a key")

// keyScope keeps an inbox's keys apart from those of other inboxes and of routes on the same store.
func (in *Inbox) keyScope(x *received) string { return storedKey(JoinKey(in.rt.endpoint.ID, x.scope)) }

// store stores a verified request with the knowledge of its key, once.
func (in *Inbox) store(ctx context.Context, x *received, eventID string) (EnqueueStatus, error) {
	call := &sendCall{done: make(chan error, 1), events: []sending{in.sending(x, eventID)}}
	err := in.d.backlogs.admit(ctx, call, false)
	if err == nil {
		err = in.d.batcher.submit(ctx, call)
		in.d.backlogs.settle(call, err)
	}
	if err != nil {
		if full, ok := errors.AsType[*BacklogError](err); ok {
			return 0, fmt.Errorf("%d events wait, allowed %d (InboxOptions.MaxBacklog): %w", full.Waiting, full.Limit, ErrBacklogFull)
		}
		return 0, err
	}
	return call.status[0], nil
}

// sending is a request as it is stored: an event with one delivery.
func (in *Inbox) sending(x *received, eventID string) sending {
	x.eventOnce.Do(x.makeEvent)
	ev := *x.event
	ev.Header = in.keep(ev.Header)
	ev.OrderingKey = inboxLabel(ev.OrderingKey)
	order := ""
	if in.opts.OrderingKey != nil {
		given := ev
		given.Header = ev.Header.Clone()
		order = inboxLabel(in.opts.OrderingKey(given))
		ev.OrderingKey = order
	}
	stored := ev
	stored.ID = eventID
	stored.Header = make(http.Header, len(ev.Header)+4)
	for name, values := range ev.Header {
		stored.Header[name] = values
	}
	stored.Header[inboxScope], stored.Header[inboxKey] = []string{x.scope}, []string{x.key.ID}
	if id := x.description.ID; id != "" {
		stored.Header[inboxSigned] = []string{strings.ToValidUTF8(id, "\uFFFD")}
	}
	if at := x.description.Time; !at.IsZero() {
		stored.Header[inboxTime] = []string{at.UTC().Format(time.RFC3339Nano)}
	}
	if ev.ID != "" {
		stored.Header[inboxEventID] = []string{strings.ToValidUTF8(ev.ID, "\uFFFD")}
	}
	if checkName(ev.Type, "*,") != "" {
		stored.Type = inboxUntyped
		stored.Header[inboxType] = []string{strings.ToValidUTF8(ev.Type, "\uFFFD")}
	}
	return sending{
		new: NewEvent{
			Event: stored, Digest: sha256.Sum256(ev.Payload),
			Deliveries: []NewDelivery{{ID: ids.New("dlv_"), EndpointID: in.rt.endpoint.ID, OrderingKey: order}},
		},
		routes: []*route{in.rt},
	}
}

// inboxLabel is an ordering key as a store can keep it.
func inboxLabel(key string) string {
	if checkLabel(key) == "" {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return hashedPrefix + hex.EncodeToString(sum[:])
}

// eventID names what a key was received for, within an inbox: the same for every repeat. A key that remembers the latest content alone has
// one for each time that it was taken.
func (in *Inbox) eventID(x *received, token int64) string {
	h := sha256.New()
	part(h, in.opts.Name)
	part(h, x.scope)
	part(h, x.key.ID)
	if token != 0 {
		count(h, int(token))
	}
	return inboxEvent + hex.EncodeToString(h.Sum(nil))
}

// keep is the part of a header that the options name.
func (in *Inbox) keep(header http.Header) http.Header {
	kept, room := make(http.Header, len(in.opts.Header)), inboxHeaderMax
	for _, name := range in.opts.Header {
		for _, value := range header[name] {
			if room -= len(name) + len(value); room < 0 {
				return kept
			}
			kept[name] = append(kept[name], strings.ToValidUTF8(value, "\uFFFD"))
		}
	}
	return kept
}

// received undoes sending: the event as the handler gets it, and the request that it came with.
func (in *Inbox) received(it *item) (Event, *received) {
	ev := it.Event
	x := &received{delivery: &it.Delivery}
	take := func(name string) string {
		values := ev.Header[name]
		if len(values) == 0 {
			return ""
		}
		return values[0]
	}
	x.scope, x.key = take(inboxScope), Key{ID: take(inboxKey)}
	x.tenant = ev.Tenant
	ev.ID = take(inboxEventID)
	if ev.Type == inboxUntyped && len(ev.Header[inboxType]) > 0 {
		ev.Type = take(inboxType)
	}
	header := make(http.Header, len(ev.Header))
	for name, values := range ev.Header {
		if !strings.HasPrefix(name, ":") {
			header[name] = values
		}
	}
	ev.Header = header.Clone()
	x.event = &ev
	x.description = Description{ID: take(inboxSigned), Type: ev.Type, OrderingKey: ev.OrderingKey}
	x.description.Time, _ = time.Parse(time.RFC3339Nano, take(inboxTime)) // zero where there is none
	x.eventOnce.Do(func() {})
	x.keyOnce.Do(func() {})
	return ev, x
}
