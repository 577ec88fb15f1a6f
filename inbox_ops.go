package webhook

import (
	"context"
	"fmt"
)

// Wake makes Run look for work now instead of at its next poll. It never blocks.
func (in *Inbox) Wake() {
	if in.wrong == nil {
		in.d.Wake()
	}
}

// Pause keeps what was received from being processed until Resume; requests are stored and answered as before, and what waits reads as
// [Held]. Handlers under way go on. It applies at once in this process, and within InboxOptions.Poll in others. reason is for people.
func (in *Inbox) Pause(ctx context.Context, reason string) error {
	if in.wrong != nil {
		return in.wrong
	}
	return in.d.hold(ctx, in.EndpointID(), HoldPaused, reason)
}

// Resume ends a pause. There need not be one.
func (in *Inbox) Resume(ctx context.Context) error {
	if in.wrong != nil {
		return in.wrong
	}
	return in.d.ResumeEndpoint(ctx, in.EndpointID())
}

// Cancel ends an event that was received and is not final yet; see [Dispatcher.CancelDelivery]. A handler under way goes on. [ErrNotFound]: there is
// no such delivery in this inbox.
func (in *Inbox) Cancel(ctx context.Context, deliveryID, reason string) (ended bool, err error) {
	if in.wrong != nil {
		return false, in.wrong
	}
	if err := in.owns(ctx, deliveryID); err != nil {
		return false, err
	}
	return in.d.CancelDelivery(ctx, deliveryID, reason)
}

// BlockedKeys lists the ordering keys that wait behind a dead letter, the one blocked longest first.
func (in *Inbox) BlockedKeys(ctx context.Context) ([]BlockedKey, error) {
	if in.wrong != nil {
		return nil, in.wrong
	}
	return in.d.BlockedKeys(ctx, in.EndpointID())
}

// ReleaseKey lets an ordering key go on past the dead letter that blocks it. It reports whether one did.
func (in *Inbox) ReleaseKey(ctx context.Context, orderingKey string) (released bool, err error) {
	if in.wrong != nil {
		return false, in.wrong
	}
	return in.d.ReleaseKey(ctx, in.EndpointID(), orderingKey)
}

// Backlog tells since when events wait to be processed and, with count above zero, how many, counted that far.
func (in *Inbox) Backlog(ctx context.Context, count int) (*Backlog, error) {
	if in.wrong != nil {
		return nil, in.wrong
	}
	return in.d.Backlog(ctx, &BacklogOptions{Endpoints: []string{in.EndpointID()}, Count: count})
}

// owns says whether a delivery is this inbox's.
func (in *Inbox) owns(ctx context.Context, deliveryID string) error {
	if why := checkName(deliveryID, ""); why != "" {
		return inboxError("deliveryID", "%s", why)
	}
	query, ok := in.d.store.(QueryStore)
	if !ok {
		return fmt.Errorf("webhook: inbox: %w", errNoQueries)
	}
	now, err := in.d.clock.now(ctx)
	if err != nil {
		return opError("inbox", err)
	}
	del, err := findDelivery(ctx, query, now, deliveryID)
	if err == nil && del.EndpointID != in.EndpointID() {
		err = ErrNotFound
	}
	if err != nil {
		return opError(fmt.Sprintf("inbox: delivery %q", deliveryID), err)
	}
	return nil
}
