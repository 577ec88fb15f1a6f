package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/signalpost/webhook"
)

var _ webhook.EndpointStore = (*Store)(nil)

// Put and Delete first take the next version. The row of versions stays locked until they commit, so changes commit in the
// order of their versions, and whoever reads a version sees every change up to it.
const (
	endpointVersionNext = `UPDATE {prefix}endpoint_version SET version = version + 1 WHERE one = 1`

	// A tombstone keeps no secret.
	endpointDelete = `UPDATE {prefix}endpoint
SET deleted = TRUE, version = (SELECT version FROM {prefix}endpoint_version WHERE one = 1),
    tenant = '', url = '', types = ?, secrets = ?, credentials = NULL, settings = ?
WHERE id = ? AND NOT deleted`

	endpointGet = `SELECT id, tenant, url, types, secrets, credentials, settings FROM {prefix}endpoint WHERE id = ? AND NOT deleted`

	endpointList = `SELECT id, tenant, url, types, secrets, credentials, settings FROM {prefix}endpoint
WHERE id > ? AND NOT deleted ORDER BY id LIMIT ?`

	endpointListTenant = `SELECT id, tenant, url, types, secrets, credentials, settings FROM {prefix}endpoint
WHERE tenant = ? AND id > ? AND NOT deleted ORDER BY id LIMIT ?`

	// The version and the changes up to it, as of one instant because they are one statement. When nothing changed, it is one
	// probe of the index on version, and one row comes back.
	endpointChanges = `SELECT v.version, e.id, e.deleted, e.tenant, e.url, e.types, e.secrets, e.credentials, e.settings
FROM {prefix}endpoint_version v LEFT JOIN {prefix}endpoint e ON e.version > ?
WHERE v.one = 1 ORDER BY e.version`
)

// PutEndpoint is [webhook.EndpointStore.PutEndpoint].
func (s *Store) PutEndpoint(ctx context.Context, ep webhook.Endpoint) error {
	op := fmt.Sprintf("endpoint %q", ep.ID)
	if err := checkEndpoint(op, &ep); err != nil {
		return err
	}
	doc, err := encodeEndpoint(ctx, s.sealer, &ep)
	if err != nil {
		return fmt.Errorf("webhook: %s: %w", op, err)
	}
	err = s.write(ctx, func(ctx context.Context, q querier) error {
		if _, err := q.ExecContext(ctx, s.query(endpointVersionNext)); err != nil {
			return err
		}
		return s.putRow(ctx, q, &doc)
	})
	if err != nil {
		return fmt.Errorf("webhook: put %s: %w", op, err)
	}
	return nil
}

// putRow writes a row, under the version that was taken.
func (s *Store) putRow(ctx context.Context, q querier, r *endpointRow) error {
	_, err := q.ExecContext(ctx, s.query(s.side().endpointPut), r.id, r.tenant, r.url, r.types, r.secrets, r.credentials, r.settings)
	return err
}

// UpdateEndpoint is [webhook.EndpointStore.UpdateEndpoint]. Whoever takes a version is alone until it commits, so the row that is read then
// stays as it is until it is written.
func (s *Store) UpdateEndpoint(ctx context.Context, id string, change func(ep *webhook.Endpoint) error) error {
	if !storableID(id) {
		return notFound("endpoint", id)
	}
	err := s.write(ctx, func(ctx context.Context, q querier) error {
		if _, err := q.ExecContext(ctx, s.query(endpointVersionNext)); err != nil {
			return err
		}
		var row endpointRow
		if err := q.QueryRowContext(ctx, s.query(endpointGet), id).Scan(row.fields()...); err != nil {
			return err
		}
		ep, unreadable, err := row.decode(ctx, s.sealer)
		if err := cmp.Or(err, unreadable); err != nil {
			return err
		}
		if err := change(&ep); err != nil {
			return &refusedChange{err}
		}
		ep.ID = id
		if err := checkEndpoint(fmt.Sprintf("endpoint %q", id), &ep); err != nil {
			return &refusedChange{err}
		}
		if row, err = encodeEndpoint(ctx, s.sealer, &ep); err != nil {
			return err
		}
		return s.putRow(ctx, q, &row)
	})
	refused, ok := errors.AsType[*refusedChange](err)
	switch {
	case ok:
		return refused.error
	case errors.Is(err, sql.ErrNoRows):
		return notFound("endpoint", id)
	case err != nil:
		return fmt.Errorf("webhook: update endpoint %q: %w", id, err)
	}
	return nil
}

// refusedChange is an error that is none of the database's, and so is returned as it is. Its text is not looked at for what the database asks to
// try again.
type refusedChange struct{ error }

// SQLState keeps the transaction from being run again.
func (*refusedChange) SQLState() string { return "" }

// GetEndpoint is [webhook.EndpointStore.GetEndpoint].
func (s *Store) GetEndpoint(ctx context.Context, id string) (webhook.Endpoint, error) {
	if !storableID(id) {
		return webhook.Endpoint{}, notFound("endpoint", id)
	}
	var row endpointRow
	err := s.db.QueryRowContext(ctx, s.query(endpointGet), id).Scan(row.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return webhook.Endpoint{}, notFound("endpoint", id)
	}
	var ep webhook.Endpoint
	if err == nil {
		var unreadable error
		ep, unreadable, err = row.decode(ctx, s.sealer)
		err = cmp.Or(err, unreadable)
	}
	if err != nil {
		return webhook.Endpoint{}, fmt.Errorf("webhook: get endpoint %q: %w", id, err)
	}
	return ep, nil
}

// DeleteEndpoint is [webhook.EndpointStore.DeleteEndpoint].
func (s *Store) DeleteEndpoint(ctx context.Context, id string) error {
	if !storableID(id) {
		return notFound("endpoint", id)
	}
	gone := false
	err := s.write(ctx, func(ctx context.Context, q querier) error {
		if _, err := q.ExecContext(ctx, s.query(endpointVersionNext)); err != nil {
			return err
		}
		changed, err := s.changes(ctx, q, endpointDelete, []byte{}, []byte{}, []byte{}, id)
		if gone = err == nil && !changed; gone {
			return errNothing // no version for no change
		}
		return err
	})
	if gone && errors.Is(err, errNothing) {
		return notFound("endpoint", id)
	}
	if err != nil {
		return fmt.Errorf("webhook: delete endpoint %q: %w", id, err)
	}
	return nil
}

// errNothing rolls back a transaction that found nothing to do.
var errNothing = errors.New("nothing to do")

// ListEndpoints is [webhook.EndpointStore.ListEndpoints].
func (s *Store) ListEndpoints(ctx context.Context, req *webhook.ListEndpointsRequest) (*webhook.ListEndpointsResult, error) {
	limit := limitOr(req.Limit, 100)
	if !storable(req.After) || req.Tenant != nil && !storable(*req.Tenant) {
		return nil, fieldError("list endpoints", "After, Tenant", unstorable)
	}
	text, args := endpointList, []any{req.After, limit + 1}
	if req.Tenant != nil {
		text, args = endpointListTenant, []any{*req.Tenant, req.After, limit + 1}
	}
	res := &webhook.ListEndpointsResult{}
	err := s.each(ctx, s.db, text, args, func(rows *sql.Rows) error {
		var row endpointRow
		if err := rows.Scan(row.fields()...); err != nil {
			return err
		}
		ep, unreadable, err := row.decode(ctx, s.sealer)
		res.Endpoints = append(res.Endpoints, ep)
		noteUnreadable(&res.Unreadable, ep.ID, unreadable)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: list endpoints: %w", err)
	}
	if len(res.Endpoints) > limit {
		delete(res.Unreadable, res.Endpoints[limit].ID)
		res.Endpoints = res.Endpoints[:limit]
		res.Next = res.Endpoints[limit-1].ID
	}
	return res, nil
}

// EndpointChanges is [webhook.EndpointStore.EndpointChanges]. A version beyond the latest, which a database restored
// from a backup makes possible, is answered like 0: with all endpoints, and a Version smaller than since.
func (s *Store) EndpointChanges(ctx context.Context, since int64) (*webhook.EndpointChanges, error) {
	return s.endpointChanges(ctx, s.db, since)
}

// EndpointChanges is [Store.EndpointChanges] as the transaction sees it, for a caller whose pool has
// no second connection. Changes that tx itself has made count before they are committed, so keep nothing of them if it may roll back.
func (t *Tx) EndpointChanges(ctx context.Context, since int64) (*webhook.EndpointChanges, error) {
	return t.store.endpointChanges(ctx, t.tx, since)
}

func (s *Store) endpointChanges(ctx context.Context, q querier, since int64) (*webhook.EndpointChanges, error) {
	res, err := s.readEndpointChanges(ctx, q, since)
	if err == nil && res.Version < since {
		res, err = s.readEndpointChanges(ctx, q, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("webhook: endpoint changes: %w", err)
	}
	return res, nil
}

func (s *Store) readEndpointChanges(ctx context.Context, q querier, since int64) (*webhook.EndpointChanges, error) {
	res := &webhook.EndpointChanges{}
	err := s.each(ctx, q, endpointChanges, []any{since}, func(rows *sql.Rows) error {
		var id, tenant, url sql.NullString
		var deleted sql.NullBool
		var row endpointRow
		err := rows.Scan(&res.Version, &id, &deleted, &tenant, &url, &row.types, &row.secrets, &row.credentials, &row.settings)
		switch {
		case err != nil || !id.Valid:
			return err
		case !deleted.Bool:
			row.id, row.tenant, row.url = id.String, tenant.String, url.String
			ep, unreadable, err := row.decode(ctx, s.sealer)
			res.Put = append(res.Put, ep)
			noteUnreadable(&res.Unreadable, ep.ID, unreadable)
			return err
		case since > 0:
			res.Deleted = append(res.Deleted, id.String)
		}
		return nil
	})
	return res, err
}
