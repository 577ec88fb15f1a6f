package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// What a store may lack, or do wrong.
var (
	errNoEndpoints = errors.New("the store keeps no endpoints; give them in DispatcherOptions.Endpoints")
	errNoHolds     = errors.New("the store keeps no holds")

	errMalformedAnswer = errors.New("the store's answer does not fit the request")
)

// PutEndpoint creates or replaces an endpoint in the store, after checking it: this is the door that refuses unknown profiles,
// malformed URLs and literal private addresses, with a [*FieldError]. It applies at once in this process, also to waiting
// retries, and within a second in others. To change one that is there, see [Dispatcher.UpdateEndpoint]. One that must verify first
// ([Endpoint].Verify) is on hold when PutEndpoint returns; nothing goes to it before it has, also where putting the hold fails, which is an error
// though the endpoint is stored.
func (d *Dispatcher) PutEndpoint(ctx context.Context, ep Endpoint) error {
	if err := d.checkEndpoint(&ep); err != nil {
		return err
	}
	ep.Header = canonicalHeader(ep.Header)
	return d.changeEndpoint(ctx, ep.ID, func() error {
		if d.routes.store == nil {
			return errNoEndpoints
		}
		return d.routes.store.PutEndpoint(ctx, ep)
	})
}

// DeleteEndpoint removes an endpoint from the store; [ErrNotFound] when there is none. What waits for it ends as canceled when its turn comes,
// and two seconds later where it was on hold; with a process that was not running at the time, an hour after it was sent. What is blocked
// behind a dead letter still waits for [Dispatcher.ReleaseKey] or [Dispatcher.Cancel]. An endpoint that is put under the same ID later is a new
// one: neither on hold nor slowed down, and to be verified anew.
func (d *Dispatcher) DeleteEndpoint(ctx context.Context, id string) error {
	return d.change(ctx, id, func() error {
		if d.routes.store == nil {
			return errNoEndpoints
		}
		if err := d.routes.store.DeleteEndpoint(ctx, id); err != nil {
			return err
		}
		if d.routes.isGiven(id) {
			return nil // the one in code goes on
		}
		if err := d.health.deleted(ctx, id); err != nil {
			return fmt.Errorf("it is deleted, but what was known of it is not, which ResumeEndpoint may try again: %w", err)
		}
		return nil
	})
}

// PauseEndpoint puts an endpoint on hold until ResumeEndpoint: events for it are stored and kept, and read as [Held]. Attempts under way
// go on. It applies at once in this process, and within DispatcherOptions.Poll in others (a second where the store keeps no states). reason
// is for people. One that was deleted is [ErrNotFound]; any other ID is taken, as the endpoint may be one that other processes have in code.
func (d *Dispatcher) PauseEndpoint(ctx context.Context, id, reason string) error {
	table, err := d.routes.refresh(ctx, nil)
	if err == nil && table.byID[id] == nil && !table.deleted[id].IsZero() {
		err = ErrNotFound
	}
	if err != nil {
		return opError(fmt.Sprintf("endpoint %q", id), err)
	}
	return d.hold(ctx, id, HoldPaused, reason)
}

// ResumeEndpoint ends a hold, whether PauseEndpoint, the endpoint's own 410 or its failures made it, and whatever else health or a
// Retry-After keeps it from getting; its failures so far count no more. What was kept goes out at a safe pace: one attempt at once and
// one a second, twice as many with each second of only successes, as many as there are after about ten. With [NoHealth] all of
// it is due at once.
func (d *Dispatcher) ResumeEndpoint(ctx context.Context, id string) error {
	return d.change(ctx, id, func() error {
		if d.routes.holds == nil {
			return errNoHolds
		}
		if d.health.states == nil {
			if err := d.routes.holds.Unhold(ctx, id); err != nil {
				return err
			}
		}
		rt, _, err := d.routes.resolve(ctx, id, time.Time{})
		if err != nil {
			return err
		}
		if rt == nil {
			rt = d.health.routeOf(id)
		}
		return d.health.resume(ctx, rt, "it was resumed", func(*HoldStatus) bool { return true })
	})
}

// ReleaseKey lets an ordering key of an endpoint go on past the dead letter that blocks it. It reports whether one did.
func (d *Dispatcher) ReleaseKey(ctx context.Context, endpointID, orderingKey string) (released bool, err error) {
	err = d.change(ctx, endpointID, func() error {
		if d.routes.holds == nil {
			return errNoHolds
		}
		now, err := d.clock.now(ctx)
		if err != nil {
			return err
		}
		released, err = d.routes.holds.ReleaseKey(ctx, &ReleaseKeyRequest{Now: now, EndpointID: endpointID, OrderingKey: orderingKey})
		return err
	})
	return released, err
}

// hold puts an endpoint on hold.
func (d *Dispatcher) hold(ctx context.Context, id, kind, reason string) error {
	return d.change(ctx, id, func() error {
		if d.routes.holds == nil {
			return errNoHolds
		}
		now, err := d.clock.now(ctx)
		if err != nil {
			return err
		}
		return d.routes.holds.Hold(ctx, &HoldRequest{Now: now, EndpointID: id, Kind: kind, Reason: reason})
	})
}

// change makes a change to an endpoint and brings what this process knows up to date.
func (d *Dispatcher) change(ctx context.Context, id string, f func() error) error {
	err := f()
	if err == nil {
		_, err = d.routes.refresh(ctx, nil)
	}
	if err != nil {
		return opError(fmt.Sprintf("endpoint %q", id), err)
	}
	d.feed.wakeUp()
	return nil
}
