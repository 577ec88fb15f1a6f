package webhook

import (
	"context"
	"strings"

	"github.com/signalpost/webhook/internal/ids"
)

// ReplayDelivery processes an event again, at once and whatever became of it: the retry by hand. It returns the new delivery, which has no
// ordering key. [ErrNotFound]: there is no such delivery in this inbox, or its event is not kept any more.
func (in *Inbox) ReplayDelivery(ctx context.Context, deliveryID string) (Delivery, error) {
	if in.wrong != nil {
		return Delivery{}, in.wrong
	}
	return in.d.ReplayDelivery(ctx, deliveryID)
}

// Replay processes again what a filter matches of this inbox, as [Dispatcher.Replay] chooses it: of each event the latest delivery, if it is final and
// matches. Filter{State: DeadLetter} is what was given up. It returns how many new deliveries it has made; they have no ordering key, wait
// their turn among all that the inbox has, and may be processed by any process. When it fails or ends with ctx in the middle, it can be
// called again: of a dead letter, what was made before is not made a second time.
//
// Filter.Type matches the event's type as it is stored: "webhook.received" where the request's is none. What is wrong with the filter is a [*FieldError].
func (in *Inbox) Replay(ctx context.Context, filter Filter) (n int, err error) {
	if in.wrong != nil {
		return 0, in.wrong
	}
	if err := in.checkFilter(&filter); err != nil {
		return 0, err
	}
	if n, err = in.replay(ctx, filter); err != nil {
		return n, opError("inbox: replay", err)
	}
	return n, nil
}

func (in *Inbox) checkFilter(filter *Filter) error {
	switch {
	case filter.Endpoint != "" && filter.Endpoint != in.EndpointID():
		return inboxError("Filter.Endpoint", "is %q, want none or %q", filter.Endpoint, in.EndpointID())
	case filter.State == Unmatched:
		return inboxError("Filter.State", "is %q: what an inbox has received is never that", Unmatched)
	}
	filter.Endpoint = in.EndpointID()
	return checkReplay(filter, &ReplayOptions{})
}

func (in *Inbox) replay(ctx context.Context, filter Filter) (n int, err error) {
	p := in.d.replays
	if p.store == nil {
		return 0, errNoReplays
	}
	now, err := in.d.clock.now(ctx)
	if err != nil {
		return 0, err
	}
	walk := &replayBatch{p: p, r: &Replay{Filter: filter, CreatedAt: now}, want: replayMost}
	for {
		res, err := p.store.ReplaySources(ctx, walk.request())
		if err == nil && res == nil {
			err = errMalformedAnswer
		}
		if err != nil {
			return n, err
		}
		made, err := in.redeliver(ctx, res.Sources)
		n += made
		if err != nil || res.Next == "" {
			return n, err
		}
		walk.cursor = res.Next
	}
}

// redeliver makes new deliveries of sources.
func (in *Inbox) redeliver(ctx context.Context, sources []ReplaySource) (n int, err error) {
	if len(sources) == 0 {
		return 0, nil
	}
	now, err := in.d.clock.now(ctx)
	if err != nil {
		return 0, err
	}
	req := &RedeliverRequest{Now: now}
	for i := range sources {
		req.Deliveries = append(req.Deliveries, Redelivery{
			ID: ids.New("dlv_"), EventID: sources[i].EventID, EndpointID: in.EndpointID(), Replay: ManualReplay, ReplayOf: sources[i].ID,
		})
	}
	res, err := in.d.replays.redeliver(ctx, req)
	if err != nil {
		return 0, err
	}
	for _, status := range res.Deliveries {
		if status == Redelivered {
			n++
		}
	}
	in.d.replays.wake(in.EndpointID(), now)
	return n, nil
}

// isReceived reports whether an event is one that an inbox has received: it goes to that inbox alone.
func isReceived(eventID string) bool { return strings.HasPrefix(eventID, inboxEvent) }
