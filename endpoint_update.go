package webhook

import (
	"context"
	"errors"
	"fmt"
)

// errMoved says that an endpoint has become another one since it was asked what a change makes of it.
var errMoved = errors.New("it is changed by others all the time; try again")

// UpdateEndpoint changes an endpoint in the store in one step: change gets it as it is and makes of it what it is to be. Unlike a Get and
// a [Dispatcher.PutEndpoint] of what was made of it, it undoes nothing that others change meanwhile, such as a [Dispatcher.RotateSecret].
// What comes out is checked and takes effect as with PutEndpoint; the ID stays.
//
// change must be quick, may be called several times, and must call neither the dispatcher nor its store: the endpoint is locked. An error of
// change is returned, and nothing is done then. [ErrNotFound]: the store has no such endpoint. What a change makes wrong, and an endpoint given
// in code, which is changed there, is a [*FieldError].
func (d *Dispatcher) UpdateEndpoint(ctx context.Context, id string, change func(ep *Endpoint) error) error {
	if d.routes.isGiven(id) {
		return &FieldError{Op: fmt.Sprintf("endpoint %q", id), Field: "ID", Reason: "is that of an endpoint given in code: change it there"}
	}
	checked := func(ep *Endpoint) error {
		if err := change(ep); err != nil {
			return err
		}
		ep.ID = id
		if err := d.checkEndpoint(ep); err != nil {
			return err
		}
		ep.Header = canonicalHeader(ep.Header)
		return nil
	}
	return d.change(ctx, id, func() error {
		if d.routes.store == nil {
			return errNoEndpoints
		}
		err := errMoved
		for n := 0; errors.Is(err, errMoved) && n < changeTries; n++ {
			err = d.update(ctx, id, checked)
		}
		return err
	})
}

// update tries a change once. Whether the outcome must verify first is asked before the endpoint is locked, which keeps the store from
// being asked anything: where others have made something else of it by then, the change is tried anew.
func (d *Dispatcher) update(ctx context.Context, id string, change func(ep *Endpoint) error) error {
	ep, err := d.routes.store.GetEndpoint(ctx, id)
	if err != nil {
		return err
	}
	if err := change(&ep); err != nil {
		return err
	}
	if err := d.verify.admit(ctx, &ep); err != nil {
		return err
	}
	admitted := aim(&ep)
	return d.routes.store.UpdateEndpoint(ctx, id, func(ep *Endpoint) error {
		if err := change(ep); err != nil {
			return err
		}
		if aim(ep) != admitted {
			return errMoved
		}
		return nil
	})
}
