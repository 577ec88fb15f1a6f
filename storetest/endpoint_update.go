package storetest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/signalpost/webhook"
)

func endpointUpdate(e *env) {
	e.putEndpoints(richEndpoint("a"), bareEndpoint("b"))
	before, _, _ := e.changes(0)
	want := richEndpoint("a")
	want.MaxInFlight, want.Retiring, want.Types = 42, want.Retiring[:1], []string{"x"}
	e.ok("UpdateEndpoint", e.endpoints().UpdateEndpoint(e.ctx, "a", func(ep *webhook.Endpoint) error {
		e.sameEndpoint("UpdateEndpoint", *ep, richEndpoint("a"))
		ep.ID, ep.MaxInFlight, ep.Retiring, ep.Types = "c", 42, ep.Retiring[:1], []string{"x"}
		return nil
	}))
	e.wantEndpoint(want)
	e.wantEndpoint(bareEndpoint("b"))
	e.wantChanges(before, []string{"a"}, nil)
}

func endpointUpdateNotFound(e *env) {
	e.putEndpoints(bareEndpoint("deleted"))
	e.ok("DeleteEndpoint", e.endpoints().DeleteEndpoint(e.ctx, "deleted"))
	for _, id := range []string{"deleted", "never"} {
		err := e.endpoints().UpdateEndpoint(e.ctx, id, func(*webhook.Endpoint) error {
			e.failf("UpdateEndpoint: change is called for an endpoint that is not there")
			return nil
		})
		e.wantErr("UpdateEndpoint of "+id, err, webhook.ErrNotFound)
	}
	e.same("endpoints listed", e.listEndpoints(nil, 10), []string(nil))
}

func endpointUpdateRefused(e *env) {
	e.putEndpoints(bareEndpoint("a"))
	before, _, _ := e.changes(0)
	refused := errors.New("database is locked; SQLITE_BUSY, so to say")
	calls := 0
	err := e.endpoints().UpdateEndpoint(e.ctx, "a", func(ep *webhook.Endpoint) error {
		calls++
		ep.MaxInFlight = 42
		return refused
	})
	e.wantErr("UpdateEndpoint", err, refused)
	e.same("calls of change", calls, 1)
	e.wantEndpoint(bareEndpoint("a"))
	e.wantChanges(before, nil, nil)
}

// endpointUpdateConcurrent lets eight writers on both handles add to one endpoint what only they add, while others replace and delete another.
func endpointUpdateConcurrent(e *env) {
	const writers, rounds = 8, 5
	e.putEndpoints(bareEndpoint("a"))
	var want []string
	e.parallel(writers+1, func(w int) {
		s := e.handle(w).(webhook.EndpointStore)
		if w == writers {
			e.changeEndpoints(w, rounds)
			return
		}
		for n := range rounds {
			e.ok("UpdateEndpoint", s.UpdateEndpoint(e.ctx, "a", func(ep *webhook.Endpoint) error {
				ep.Types = append(ep.Types, fmt.Sprint("t", w, "_", n))
				return nil
			}))
		}
	})
	for w := range writers {
		for n := range rounds {
			want = append(want, fmt.Sprint("t", w, "_", n))
		}
	}
	got, err := e.endpoints().GetEndpoint(e.ctx, "a")
	e.ok("GetEndpoint", err)
	slices.Sort(got.Types)
	slices.Sort(want)
	e.same("types after updates at once", got.Types, want)
}
