package memstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

// maxBlocked is what [webhook.EndpointBacklog].Blocked counts to.
const maxBlocked = 100

// Backlog is [webhook.LifeStore.Backlog]. Its cost does not grow with how many deliveries wait.
func (s *Store) Backlog(ctx context.Context, req *webhook.BacklogRequest) (*webhook.BacklogResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now, limit := micro(req.Now), limitOr(req.Limit, 256)
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.BacklogResult{}
	if req.Endpoints != nil {
		for _, id := range slices.Compact(slices.Sorted(slices.Values(req.Endpoints))) {
			if ep := s.endpoints[id]; ep != nil && ep.busy() {
				res.Endpoints = append(res.Endpoints, ep.backlog(now, req.Count))
			}
		}
		return res, nil
	}
	for ep := range s.sending.from(&endpointState{id: req.After}) {
		if ep.id == req.After || !ep.busy() {
			continue
		}
		if len(res.Endpoints) == limit {
			res.Next = res.Endpoints[limit-1].EndpointID
			break
		}
		res.Endpoints = append(res.Endpoints, ep.backlog(now, req.Count))
	}
	return res, nil
}

// unfinished is how many deliveries of e are.
func (e *endpointState) unfinished() int {
	return e.lanes[webhook.Fresh].waiting.n + e.lanes[webhook.Retry].waiting.n + e.parked.n - e.ended
}

func (e *endpointState) busy() bool { return e.unfinished() > 0 || e.blocked.n > 0 }

// backlog is what waits for e.
func (e *endpointState) backlog(now time.Time, count int) webhook.EndpointBacklog {
	b := webhook.EndpointBacklog{
		EndpointID: e.id,
		Waiting:    min(e.unfinished(), max(count, 0)),
		Blocked:    min(e.blocked.n, maxBlocked),
	}
	for class := range e.lanes {
		w, ok := e.lanes[class].waiting.first()
		if due := time.UnixMicro(w.due).UTC(); ok && !due.After(now) && (b.OldestDue.IsZero() || due.Before(b.OldestDue)) {
			b.OldestDue = due
		}
	}
	if w, ok := e.parked.first(); ok {
		b.OldestKept = time.UnixMicro(w.due).UTC()
	}
	return b
}

// BlockedKeys is [webhook.LifeStore.BlockedKeys].
func (s *Store) BlockedKeys(ctx context.Context, req *webhook.BlockedKeysRequest) (*webhook.BlockedKeysResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	after := &orderKey{}
	if req.After != "" {
		since, name, _ := strings.Cut(req.After, " ")
		us, err := strconv.ParseInt(since, 10, 64)
		if err != nil {
			return nil, invalid("blocked keys", "After", fmt.Sprintf("%q is not the Next of an answer", req.After))
		}
		after = &orderKey{since: time.UnixMicro(us).UTC(), name: name}
	}
	limit := limitOr(req.Limit, 100)
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.BlockedKeysResult{}
	ep := s.endpoints[req.EndpointID]
	if ep == nil {
		return res, nil
	}
	for k := range ep.blocked.from(after) {
		if keysByBlock(k, after) == 0 {
			continue
		}
		if len(res.Keys) == limit {
			last := res.Keys[limit-1]
			res.Next = strconv.FormatInt(last.Since.UnixMicro(), 10) + " " + last.OrderingKey
			break
		}
		res.Keys = append(res.Keys, webhook.BlockedKey{EndpointID: ep.id, OrderingKey: k.name, DeliveryID: k.blockedBy, Held: k.onHold, Since: k.since})
	}
	return res, nil
}
