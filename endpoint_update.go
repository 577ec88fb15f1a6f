package webhook

import (
	"context"
	"errors"
	"fmt"
)

// errMoved says that an endpoint has got another address since it was asked whether it wants what it gets.
var errMoved = errors.New("it was changed meanwhile; try again")

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
	return d.changeEndpoint(ctx, id, func() error {
		if d.routes.store == nil {
			return errNoEndpoints
		}
		return d.routes.store.UpdateEndpoint(ctx, id, checked)
	})
}

// changeEndpoint stores an endpoint, and then what it must verify first.
func (d *Dispatcher) changeEndpoint(ctx context.Context, id string, store func() error) error {
	if err := d.change(ctx, id, store); err != nil {
		return err
	}
	changed, err := d.verify.follow(ctx, id)
	if err != nil {
		return opError(fmt.Sprintf("endpoint %q", id), fmt.Errorf("it is stored, but its hold until it verifies is not seen to yet: %w", err))
	}
	if changed {
		return d.change(ctx, id, func() error { return nil })
	}
	return nil
}
