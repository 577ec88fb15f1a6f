package storetest

import (
	"github.com/signalpost/webhook"
)

// backlog walks all pages of Backlog.
func (e *env) backlog(req webhook.BacklogRequest) (all []webhook.EndpointBacklog) {
	for range 1000 {
		res, err := e.life().Backlog(e.ctx, &req)
		e.ok("Backlog", err)
		if req.Endpoints == nil && req.Limit > 0 && len(res.Endpoints) > req.Limit {
			e.failf("Backlog: %d endpoints with a Limit of %d", len(res.Endpoints), req.Limit)
		}
		all = append(all, res.Endpoints...)
		for i := range all {
			if i > 0 && all[i].EndpointID <= all[i-1].EndpointID {
				e.failf("Backlog: %q after %q", all[i].EndpointID, all[i-1].EndpointID)
			}
		}
		if req.After = res.Next; req.After == "" {
			return all
		}
	}
	e.failf("Backlog: the walk does not end")
	return nil
}

// sameBlocked compares blocked keys, times as instants.
func (e *env) sameBlocked(got, want webhook.BlockedKey) {
	e.sameTime("Since of key "+want.OrderingKey, got.Since, want.Since)
	got.Since = want.Since
	e.same("blocked key", got, want)
}
