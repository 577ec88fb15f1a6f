package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// RetiringSecret is a former secret of an endpoint that still signs.
type RetiringSecret struct {
	Secret Secret
	Until  time.Time // when it ends, by the store's clock
}

// maxOverlap bounds an overlap, so that a mistake does not keep a secret for good.
const maxOverlap = 365 * 24 * time.Hour

var errUnchanged = errors.New("unchanged")

// RotateSecret makes secret an endpoint's current one. Those that it had go on signing for overlap, so that a receiver that does not know
// the new one yet verifies all the same; then they end, on all processes at the same time, and are removed from the store.
//
// Formats that carry several signatures (Standard Webhooks, GetHook, Stripe) carry one of each. Those with room for one (Gett, Gett
// Business, TradeGecko) carry that of the oldest until it ends, then the new one's: give such a receiver the new secret
// beside the old one before the overlap is over. With an overlap of 0 the new one signs alone at once, as after a leak.
//
// It may be repeated, after an error too: where secret is the current one already it can only bring the end nearer, never put it off, so
// that an overlap of 0 ends a rotation early. Of several at once, in any number of processes, each takes effect, and the last is the current one; no
// older secret outlives any of their overlaps. The state is in the endpoint ([Endpoint].Retiring), so it survives restarts, and applies
// within a second in other processes.
//
// The error is a [*FieldError] when secret cannot be used or is one that is being retired, or overlap is not within 0 and 365 days; and
// [ErrNotFound] when the store has no such endpoint. One that is given in code is changed there.
func (d *Dispatcher) RotateSecret(ctx context.Context, endpointID string, secret Secret, overlap time.Duration) error {
	op := fmt.Sprintf("endpoint %q", endpointID)
	switch {
	case secret.IsZero():
		return &FieldError{Op: op, Field: "secret", Reason: "is empty", Cause: ErrEmptySecret}
	case overlap < 0 || overlap > maxOverlap:
		return &FieldError{Op: op, Field: "overlap", Reason: fmt.Sprintf("is %v, want 0 to %v", overlap, time.Duration(maxOverlap))}
	case d.routes.isGiven(endpointID):
		return &FieldError{Op: op, Field: "ID", Reason: "is that of an endpoint given in code: change its Secrets and Retiring there"}
	}
	return d.change(ctx, endpointID, func() error {
		if d.routes.store == nil {
			return errNoEndpoints
		}
		now, err := d.clock.now(ctx)
		if err != nil {
			return err
		}
		err = d.routes.store.UpdateEndpoint(ctx, endpointID, func(ep *Endpoint) error {
			return d.rotate(ep, secret, now, now.Add(overlap).Truncate(time.Microsecond))
		})
		if errors.Is(err, errUnchanged) {
			return nil
		}
		return err
	})
}

// rotate makes secret the current one of ep, and lets no other outlive until.
func (d *Dispatcher) rotate(ep *Endpoint, secret Secret, now, until time.Time) error {
	bad := func(field, reason string) error {
		return &FieldError{Op: fmt.Sprintf("endpoint %q", ep.ID), Field: field, Reason: reason}
	}
	old := append([]RetiringSecret(nil), ep.Retiring...)
	if len(ep.Secrets) > 0 && ep.Secrets[0].Equal(secret) {
		old = retiringOf(ep.Secrets[1:], until, old)
	} else {
		old = retiringOf(ep.Secrets, until, old)
	}
	for _, s := range old {
		if s.Secret.Equal(secret) {
			return bad("secret", "is a former one of the endpoint, which is being retired; PutEndpoint can put it back")
		}
	}
	for i := range old {
		if old[i].Until.After(until) {
			old[i].Until = until
		}
	}
	old = slices.DeleteFunc(old, func(s RetiringSecret) bool { return !s.Until.After(now) })
	if len(ep.Secrets) == 1 && ep.Secrets[0].Equal(secret) && sameEnds(old, ep.Retiring) {
		return errUnchanged
	}
	ep.Secrets, ep.Retiring = []Secret{secret}, old
	profile := d.profiles[cmpOr(ep.Profile, d.opts.Profiles[0].Name)]
	if profile == nil {
		return fmt.Errorf("%w %q", ErrUnknownProfile, ep.Profile)
	}
	if _, err := profile.Signer(signing(ep, time.Time{})...); err != nil {
		return within(err, ep, "Secrets")
	}
	return nil
}

// retiringOf is secrets, until a time, before those that are retiring already.
func retiringOf(secrets []Secret, until time.Time, older []RetiringSecret) []RetiringSecret {
	all := make([]RetiringSecret, 0, len(secrets)+len(older))
	for _, s := range secrets {
		all = append(all, RetiringSecret{Secret: s, Until: until})
	}
	return append(all, older...)
}

// sameEnds reports whether what is left of the same secrets ends at the same times.
func sameEnds(a, b []RetiringSecret) bool {
	return slices.EqualFunc(a, b, func(x, y RetiringSecret) bool { return x.Until.Equal(y.Until) })
}

// signing are the secrets that sign for an endpoint at a time, the zero one being before all: the oldest first, because formats with room for
// one signature take the first, and a receiver is sure to know that.
func signing(ep *Endpoint, at time.Time) []Secret {
	secrets := make([]Secret, 0, len(ep.Secrets)+len(ep.Retiring))
	for _, old := range slices.Backward(ep.Retiring) {
		if old.Until.After(at) {
			secrets = append(secrets, old.Secret)
		}
	}
	return append(secrets, ep.Secrets...)
}

// newSigner is what signs for an endpoint.
func (d *Dispatcher) newSigner(p *Profile, ep *Endpoint) (messageSigner, error) {
	current, err := p.Signer(ep.Secrets...)
	if err != nil || len(ep.Retiring) == 0 {
		return current, err
	}
	r := &rotatingSigner{clock: d.clock, current: current}
	ends := make([]time.Time, 0, len(ep.Retiring))
	for _, old := range ep.Retiring {
		ends = append(ends, old.Until)
	}
	slices.SortFunc(ends, time.Time.Compare)
	before := time.Time{}
	for _, until := range slices.CompactFunc(ends, time.Time.Equal) {
		signer, err := p.Signer(signing(ep, before)...)
		if err != nil {
			return nil, err
		}
		r.phases = append(r.phases, signerPhase{until, signer})
		before = until
	}
	return r, nil
}

// rotatingSigner signs with the secrets that count at the time, by the store's clock: all processes change over at once.
type rotatingSigner struct {
	clock   *storeClock
	phases  []signerPhase // in order of time
	current *Signer       // after them
}

type signerPhase struct {
	until  time.Time
	signer *Signer
}

// SignMessage is [Signer.SignMessage].
func (r *rotatingSigner) SignMessage(m *Message, now time.Time) error {
	at := r.clock.estimate()
	for i := range r.phases {
		if at.Before(r.phases[i].until) {
			return r.phases[i].signer.SignMessage(m, now)
		}
	}
	return r.current.SignMessage(m, now)
}

// retireRetry is how long a process waits after it could not remove a secret; nobody signs with it meanwhile.
const retireRetry = time.Minute

// retire removes from the store what has ended. Of several processes the others find nothing to do.
func (d *Dispatcher) retire(ctx context.Context) {
	table := d.routes.current.Load()
	if len(table.retiring) == 0 || time.Now().Before(d.retireAt) {
		return
	}
	now := d.clock.estimate()
	ended := func(s RetiringSecret) bool { return !s.Until.After(now) }
	for _, rt := range table.retiring {
		id := rt.endpoint.ID
		if ctx.Err() != nil || !slices.ContainsFunc(rt.endpoint.Retiring, ended) || d.routes.isGiven(id) {
			continue
		}
		err := d.routes.store.UpdateEndpoint(ctx, id, func(ep *Endpoint) error {
			n := len(ep.Retiring)
			if ep.Retiring = slices.DeleteFunc(ep.Retiring, ended); len(ep.Retiring) == n {
				return errUnchanged
			}
			return nil
		})
		if err != nil && !errors.Is(err, errUnchanged) && !errors.Is(err, ErrNotFound) && ctx.Err() == nil {
			d.retireAt = time.Now().Add(retireRetry)
			d.log.Warn("webhook: could not remove a secret that has ended; trying again in a minute",
				slog.String("endpoint", id), slog.Any("error", err))
			return
		}
	}
}
