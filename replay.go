package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/signalpost/webhook/internal/ids"
)

// errNoReplays is what replaying fails with on a store that lacks ReplayStore.
var errNoReplays = errors.New("the store cannot replay (it is no ReplayStore)")

// ManualReplay is [Delivery.Replay] of what [Dispatcher.ReplayDelivery] has made.
const ManualReplay = "manual"

// Replay sends again what a filter matches, at a pace of its own. It is a row in the store that every dispatcher running on the store
// works on, a step at a time, so it outlives the process that began it.
type Replay struct {
	ID      string // "" for a dry run
	Filter  Filter
	Reroute bool // see [ReplayOptions]; so is To
	To      string
	Rate    Rate

	State  ReplayState
	Reason string // why it is in that state, or what it waits for, in words; "" while everything goes its way

	Matched     int // what the filter matched so far: deliveries, or events
	Redelivered int // deliveries made of them
	PassedOver  int // deliveries not made: their endpoint does not exist, is another tenant's, or has got the event; or the event is forgotten

	Cursor     string    // how far it has got; opaque
	DueAt      time.Time // when its next step is due, or when the lease on it ends
	CreatedAt  time.Time // only what was made before is replayed
	FinishedAt time.Time // zero until it is done or canceled
}

// ReplayState is where a replay stands.
type ReplayState string

// The states of a replay. The last two are final.
const (
	ReplayRunning  ReplayState = "running"
	ReplayPaused   ReplayState = "paused"
	ReplayDone     ReplayState = "done" // all that matched is queued; whether it is delivered, its deliveries tell
	ReplayCanceled ReplayState = "canceled"
)

// Final reports whether s is an end.
func (s ReplayState) Final() bool { return s == ReplayDone || s == ReplayCanceled }

// ReplayOptions configure a replay. The zero value sends what matches to the endpoints that it was for, ten a second.
type ReplayOptions struct {
	DryRun bool // only count: nothing is stored or sent

	// Reroute sends the events to the endpoints that subscribe to them today, as far as they lack them: an endpoint that has a delivery of the event that
	// is delivered or on its way gets none. Without it, each delivery is repeated for its own endpoint, whatever that subscribes to today.
	// [Unmatched] events are always rerouted, for they have no endpoint. Either way an endpoint's URL, secrets and policies are those of today.
	Reroute bool

	To string // with Reroute: only to this endpoint; "": to all that subscribe

	// Rate is how many deliveries are made at most, in total over all processes; Burst does not count. zero: 10 a second. What is made waits its turn among
	// all that is for its endpoint.
	Rate Rate
}

// Replay sends again what a filter matches: of each event and endpoint the latest delivery, if it is final and matches, or events that no endpoint has got
// ([Unmatched]), or, rerouted, events whatever became of them. What is waiting or under way is never replayed.
//
// Each becomes a new [Delivery] with the event's own ID and content, signed anew; the old record stays as it is. The new one has no ordering key: order is
// that of Send. A key that is blocked stays blocked: replay its dead letter, see it delivered, then [Dispatcher.ReleaseKey]. What a replay sends does not count for or
// against the health of its endpoint. Rates, attempts at once and retries are the endpoint's, and a backlog that is half full makes the replay wait, so
// that it never takes the room of what is sent meanwhile.
//
// Replay returns once the replay is stored; any process that runs a dispatcher on the store works on it. With DryRun it walks all there is and
// returns the counts alone: what a replay that began now would do. opts may be nil. What is wrong with filter or options is a [*FieldError].
func (d *Dispatcher) Replay(ctx context.Context, filter Filter, opts *ReplayOptions) (Replay, error) {
	var o ReplayOptions
	if opts != nil {
		o = *opts
	}
	if filter.State == Unmatched {
		o.Reroute = true
	}
	if o.Rate.Events == 0 {
		o.Rate = PerSecond(10)
	}
	if o.Rate.Per == 0 {
		o.Rate.Per = time.Second
	}
	if err := checkReplay(&filter, &o); err != nil {
		return Replay{}, err
	}
	r, err := d.replays.begin(ctx, filter, &o)
	if err != nil {
		return Replay{}, opError("replay", err)
	}
	return r, nil
}

// checkReplay says what is wrong with a filter or with options.
func checkReplay(f *Filter, o *ReplayOptions) error {
	bad := func(field, format string, args ...any) error {
		return &FieldError{Op: "replay", Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case f.State != "" && f.State != Unmatched && !f.State.Final():
		return bad("Filter.State", "is %q: only what has ended can be replayed", f.State)
	case f.State == Unmatched && f.Endpoint != "":
		return bad("Filter.Endpoint", "is set, but unmatched events have none; see ReplayOptions.To")
	case !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until):
		return bad("Filter.Until", "is not after Since")
	case o.To != "" && !o.Reroute:
		return bad("To", "is set without Reroute")
	case o.Rate.Events < 0 || o.Rate.Per < 0:
		return bad("Rate", "has a negative field")
	}
	for _, t := range []struct{ name, text string }{{"Filter.Endpoint", f.Endpoint}, {"Filter.Type", f.Type}, {"To", o.To}} {
		if t.text == "" {
			continue
		}
		if why := checkName(t.text, ""); why != "" {
			return bad(t.name, "%s", why)
		}
	}
	if f.Tenant != nil && (len(*f.Tenant) > 255 || !utf8.ValidString(*f.Tenant)) {
		return bad("Filter.Tenant", "is not UTF-8 of at most 255 bytes")
	}
	return nil
}

// ReplayDelivery sends a delivery's event to its endpoint again, at once and whatever became of earlier ones: the retry by hand. It returns
// the new delivery, which is to the endpoint as it is today; all that [Dispatcher.Replay] says of deliveries holds for it. Every call makes one. It stays
// queued while nothing runs. [ErrNotFound]: there is no such delivery, or its event or endpoint is not there any more. [ErrPayloadGone]: the
// event's payload was erased.
func (d *Dispatcher) ReplayDelivery(ctx context.Context, deliveryID string) (Delivery, error) {
	if why := checkName(deliveryID, ""); why != "" {
		return Delivery{}, &FieldError{Op: "replay", Field: "deliveryID", Reason: why}
	}
	del, err := d.replays.single(ctx, deliveryID)
	if err != nil {
		return Delivery{}, opError(fmt.Sprintf("replay: delivery %q", deliveryID), err)
	}
	return del, nil
}

// GetReplay returns a replay as it is now, or [ErrNotFound].
func (d *Dispatcher) GetReplay(ctx context.Context, id string) (Replay, error) {
	if d.replays.store == nil {
		return Replay{}, replayError(id, errNoReplays)
	}
	r, err := d.replays.store.GetReplay(ctx, id)
	return r, replayError(id, err)
}

// ListReplays returns replays, the newest first. req may be nil.
func (d *Dispatcher) ListReplays(ctx context.Context, req *ListReplaysRequest) (*ListReplaysResult, error) {
	if d.replays.store == nil {
		return nil, fmt.Errorf("webhook: list replays: %w", errNoReplays)
	}
	if req == nil {
		req = &ListReplaysRequest{}
	}
	res, err := d.replays.store.ListReplays(ctx, req)
	if err == nil && res == nil {
		err = errMalformedAnswer
	}
	if err != nil {
		return nil, opError("list replays", err)
	}
	return res, nil
}

// PauseReplay stops a replay until [Dispatcher.ResumeReplay]: once it returns, no process makes another delivery. Those that were made are sent; [Dispatcher.PauseEndpoint]
// holds them. reason is for people. It returns the replay as it is then; one that has ended stays as it is. [ErrNotFound]: there is none.
func (d *Dispatcher) PauseReplay(ctx context.Context, id, reason string) (Replay, error) {
	return d.replays.change(ctx, id, ReplayPaused, cmpOr(reason, "paused"))
}

// ResumeReplay lets a paused replay go on where it stopped. Else as PauseReplay.
func (d *Dispatcher) ResumeReplay(ctx context.Context, id string) (Replay, error) {
	return d.replays.change(ctx, id, ReplayRunning, "")
}

// CancelReplay ends a replay for good. Else as PauseReplay; [Dispatcher.CancelDelivery] ends deliveries that it has made.
func (d *Dispatcher) CancelReplay(ctx context.Context, id, reason string) (Replay, error) {
	return d.replays.change(ctx, id, ReplayCanceled, cmpOr(reason, "canceled"))
}

func replayError(id string, err error) error {
	if err == nil {
		return nil
	}
	return opError(fmt.Sprintf("replay %q", id), err)
}

// change pauses, resumes or cancels.
func (p *replays) change(ctx context.Context, id string, to ReplayState, reason string) (Replay, error) {
	if p.store == nil {
		return Replay{}, replayError(id, errNoReplays)
	}
	if len(reason) > maxReason || !utf8.ValidString(reason) {
		return Replay{}, &FieldError{Op: "replay", Field: "reason", Reason: fmt.Sprintf("is not UTF-8 of at most %d bytes", maxReason)}
	}
	now, err := p.d.clock.now(ctx)
	if err != nil {
		return Replay{}, replayError(id, err)
	}
	r, err := p.store.ChangeReplay(ctx, &ChangeReplayRequest{Now: now, ID: id, State: to, Reason: reason})
	if err != nil {
		return Replay{}, replayError(id, err)
	}
	if r.State == to {
		p.tell(ctx, r)
	}
	p.look()
	return r, nil
}

// begin stores a replay, or counts what it would do.
func (p *replays) begin(ctx context.Context, filter Filter, o *ReplayOptions) (Replay, error) {
	if p.store == nil {
		return Replay{}, errNoReplays
	}
	now, err := p.d.clock.now(ctx)
	if err != nil {
		return Replay{}, err
	}
	if filter.Tenant != nil {
		filter.Tenant = new(*filter.Tenant)
	}
	r := Replay{
		Filter: filter, Reroute: o.Reroute, To: o.To, Rate: o.Rate, State: ReplayRunning, DueAt: now, CreatedAt: now,
	}
	if o.DryRun {
		return p.count(ctx, r)
	}
	r.ID = ids.New("rpl_")
	if err := p.store.PutReplay(ctx, r); err != nil {
		return Replay{}, err
	}
	p.tell(ctx, r)
	p.look()
	return r, nil
}

// single makes one delivery anew.
func (p *replays) single(ctx context.Context, id string) (Delivery, error) {
	query, ok := p.d.store.(QueryStore)
	if p.store == nil || !ok {
		return Delivery{}, errNoReplays
	}
	now, err := p.d.clock.now(ctx)
	if err != nil {
		return Delivery{}, err
	}
	old, err := findDelivery(ctx, query, now, id)
	if err != nil {
		return Delivery{}, err
	}
	ev, err := query.GetEvent(ctx, old.EventID)
	if err != nil {
		return Delivery{}, err
	}
	rt, err := p.d.testRoute(ctx, old.EndpointID)
	if err == nil && rt.run == nil && rt.endpoint.Tenant != ev.Event.Tenant { // another one with the same ID
		err = ErrNotFound
	}
	if err != nil {
		return Delivery{}, fmt.Errorf("endpoint %q: %w", old.EndpointID, err)
	}
	rd := Redelivery{ID: ids.New("dlv_"), EventID: old.EventID, EndpointID: old.EndpointID, Replay: ManualReplay, ReplayOf: id}
	res, err := p.redeliver(ctx, &RedeliverRequest{Now: now, Deliveries: []Redelivery{rd}})
	switch {
	case err != nil:
		return Delivery{}, err
	case res.Deliveries[0] == PayloadGone:
		return Delivery{}, fmt.Errorf("event %q: %w", old.EventID, ErrPayloadGone)
	case res.Deliveries[0] != Redelivered:
		return Delivery{}, fmt.Errorf("event %q: %w", old.EventID, ErrNotFound)
	}
	p.d.log.LogAttrs(ctx, slog.LevelInfo, "webhook: delivery replayed", slog.String("delivery", rd.ID), slog.String("replay_of", id),
		slog.String("event", rd.EventID), slog.String("endpoint", rd.EndpointID))
	p.wake(rd.EndpointID, now)
	return Delivery{
		ID: rd.ID, EventID: rd.EventID, EndpointID: rd.EndpointID, State: Queued, DueAt: now, CreatedAt: now, Replay: rd.Replay, ReplayOf: id,
	}, nil
}

// findDelivery reads one delivery: the first whose ID is not smaller.
func findDelivery(ctx context.Context, query QueryStore, now time.Time, id string) (Delivery, error) {
	// What is smaller than id by as little as can be: IDs are compared bytewise.
	before := id[:len(id)-1] + string(id[len(id)-1]-1) + "\x7f"
	for {
		res, err := query.ListDeliveries(ctx, &ListDeliveriesRequest{Now: now, After: before, Limit: 1})
		switch {
		case err == nil && res == nil:
			return Delivery{}, errMalformedAnswer
		case err != nil:
			return Delivery{}, err
		case len(res.Deliveries) > 0 && res.Deliveries[0].ID == id:
			return res.Deliveries[0], nil
		case len(res.Deliveries) > 0 || res.Next == "" || res.Next >= id:
			return Delivery{}, ErrNotFound
		}
		before = res.Next
	}
}
