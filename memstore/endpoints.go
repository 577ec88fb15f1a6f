package memstore

import (
	"container/list"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/signalpost/webhook"
)

// registration is an endpoint as it was put, or the tombstone of one that was deleted.
type registration struct {
	ep      webhook.Endpoint
	version int64
	deleted bool
	change  *list.Element // its place in Store.changes
}

// PutEndpoint is [webhook.EndpointStore.PutEndpoint].
func (s *Store) PutEndpoint(ctx context.Context, ep webhook.Endpoint) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ep.ID == "" {
		return invalid("put endpoint", "ID", "missing")
	}
	ep = cloneEndpoint(ep)
	s.mu.Lock()
	defer s.mu.Unlock()
	reg := s.registered[ep.ID]
	if reg == nil {
		reg = &registration{deleted: true}
		s.registered[ep.ID] = reg
	}
	reg.ep = ep
	if reg.deleted {
		reg.deleted = false
		s.regByID.insert(reg)
	}
	s.changed(reg)
	return nil
}

// changed gives reg the next version. The caller holds s.mu.
func (s *Store) changed(reg *registration) {
	s.version++
	reg.version = s.version
	if reg.change == nil {
		reg.change = s.changes.PushBack(reg)
		return
	}
	s.changes.MoveToBack(reg.change)
}

// UpdateEndpoint is [webhook.EndpointStore.UpdateEndpoint].
func (s *Store) UpdateEndpoint(ctx context.Context, id string, change func(ep *webhook.Endpoint) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reg := s.registered[id]
	if reg == nil || reg.deleted {
		return notFound("endpoint", id)
	}
	ep := cloneEndpoint(reg.ep)
	if err := change(&ep); err != nil {
		return err
	}
	ep.ID = id
	reg.ep = cloneEndpoint(ep)
	s.changed(reg)
	return nil
}

// GetEndpoint is [webhook.EndpointStore.GetEndpoint].
func (s *Store) GetEndpoint(ctx context.Context, id string) (webhook.Endpoint, error) {
	if err := ctx.Err(); err != nil {
		return webhook.Endpoint{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reg := s.registered[id]
	if reg == nil || reg.deleted {
		return webhook.Endpoint{}, notFound("endpoint", id)
	}
	return cloneEndpoint(reg.ep), nil
}

// DeleteEndpoint is [webhook.EndpointStore.DeleteEndpoint].
func (s *Store) DeleteEndpoint(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reg := s.registered[id]
	if reg == nil || reg.deleted {
		return notFound("endpoint", id)
	}
	s.regByID.remove(reg)
	reg.deleted = true
	reg.ep = webhook.Endpoint{ID: id} // keeps no secret
	s.changed(reg)
	return nil
}

// ListEndpoints is [webhook.EndpointStore.ListEndpoints].
func (s *Store) ListEndpoints(ctx context.Context, req *webhook.ListEndpointsRequest) (*webhook.ListEndpointsResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	limit := limitOr(req.Limit, 100)
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.ListEndpointsResult{}
	for reg := range s.regByID.from(&registration{ep: webhook.Endpoint{ID: req.After}}) {
		if reg.ep.ID == req.After || req.Tenant != nil && reg.ep.Tenant != *req.Tenant {
			continue
		}
		if len(res.Endpoints) == limit {
			res.Next = res.Endpoints[limit-1].ID
			break
		}
		res.Endpoints = append(res.Endpoints, cloneEndpoint(reg.ep))
	}
	return res, nil
}

// EndpointChanges is [webhook.EndpointStore.EndpointChanges]. It costs as much as there are changes.
func (s *Store) EndpointChanges(ctx context.Context, since int64) (*webhook.EndpointChanges, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.EndpointChanges{Version: s.version}
	for e := s.changes.Back(); e != nil; e = e.Prev() {
		reg := e.Value.(*registration)
		if reg.version <= since {
			break
		}
		switch {
		case !reg.deleted:
			res.Put = append(res.Put, cloneEndpoint(reg.ep))
		case since > 0:
			res.Deleted = append(res.Deleted, reg.ep.ID)
		}
	}
	slices.Reverse(res.Put)
	slices.Reverse(res.Deleted)
	return res, nil
}

// cloneEndpoint copies all that ep points to.
func cloneEndpoint(ep webhook.Endpoint) webhook.Endpoint {
	ep.Secrets, ep.Retiring = slices.Clone(ep.Secrets), slices.Clone(ep.Retiring)
	ep.Types = slices.Clone(ep.Types)
	ep.Schedule.List = slices.Clone(ep.Schedule.List)
	ep.TLS.RootCAs, ep.TLS.Certificate = slices.Clone(ep.TLS.RootCAs), slices.Clone(ep.TLS.Certificate)
	if ep.Header = maps.Clone(ep.Header); ep.Header != nil {
		for name, values := range ep.Header {
			ep.Header[name] = slices.Clone(values)
		}
	}
	return ep
}

func notFound(what, id string) error {
	return fmt.Errorf("webhook: %s %q: %w", what, id, webhook.ErrNotFound)
}

// limitOr is a request's limit, or its default.
func limitOr(limit, otherwise int) int {
	if limit <= 0 {
		return otherwise
	}
	return limit
}
