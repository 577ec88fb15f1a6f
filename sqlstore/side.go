package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/signalpost/webhook"
)

// sideStatements are the texts that differ between dialects of what is needed beside the queue: endpoints, idempotency keys,
// questions and pruning. See postgres_side.go, mysql_side.go and sqlite_side.go. What reads the same in all of them stands
// where it is used, with ? for parameters.
type sideStatements struct {
	endpointPut string // id, tenant, url, types, secrets, credentials, settings

	// Taking an idempotency key: in one statement, where the database can do that.
	keyTake   string // scope, key, now, digest, end of the hold, digest is set
	keyInsert string // without keyTake: scope, key, token, digest, end of the hold
	keyRetake string // without keyTake: new token, digest, end of the hold; scope, key, token, state, end as read

	// Many keys at once, as arrays: PostgreSQL.
	keyTakeAll   string // scopes, keys, nows, digests, ends of the holds
	keyReadAll   string // scopes, keys
	keyFinishAll string // scopes, keys, tokens, nows, ends of the memory, statuses, headers, bodies

	deliveries string // {page} selects the IDs
	events     string // likewise
	queued     string // the endpoints with a row in the queue: after, limit

	pruneEventIDs string // before, limit
	pruneKeys     string // now, limit
}

func (s *Store) side() *sideStatements {
	switch s.dialect {
	case PostgreSQL:
		return &postgresSide
	case MySQL:
		return &mysqlSide
	}
	return &sqliteSide
}

// one runs fn where a single statement makes the whole change: without a transaction around it, again
// when the database asks for that. On SQLite it waits its turn among the writers.
func (s *Store) one(ctx context.Context, fn func(context.Context, querier) error) error {
	if s.dialect == SQLite {
		return s.write(ctx, fn)
	}
	return s.retry(ctx, func(ctx context.Context) error { return fn(ctx, s.db) })
}

// changes runs a statement and reports whether it changed a row.
func (s *Store) changes(ctx context.Context, q querier, text string, args ...any) (bool, error) {
	return s.changed(ctx, q, s.query(text), args...)
}

// changed is changes with a statement that query has made.
func (s *Store) changed(ctx context.Context, q querier, text string, args ...any) (bool, error) {
	res, err := q.ExecContext(ctx, text, args...)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// each runs a query and calls fn for each row.
func (s *Store) each(ctx context.Context, q querier, text string, args []any, fn func(*sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, s.query(text), args...)
	if err != nil {
		return err
	}
	return eachRow(rows, fn)
}

func notFound(what, id string) error {
	return fmt.Errorf("webhook: %s %q: %w", what, id, webhook.ErrNotFound)
}

func fieldError(op, field, reason string) error {
	return &webhook.FieldError{Op: op, Field: field, Reason: reason}
}

// limitOr is a request's limit, or its default.
func limitOr(limit, otherwise int) int {
	if limit <= 0 {
		return otherwise
	}
	return limit
}

// maxURL is what an endpoint's URL may have, in bytes.
const maxURL = 8192

const unstorable = "is not UTF-8 without NUL"

// storable reports whether every database keeps text as it is.
func storable(text string) bool {
	return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0
}

// storableID reports whether there can be a row of this ID.
func storableID(id string) bool { return len(id) <= maxText && storable(id) }

// checkEndpoint refuses what a column cannot keep exactly. Whether the endpoint makes sense is the dispatcher's to judge.
func checkEndpoint(op string, ep *webhook.Endpoint) error {
	if _, known := orderNames[ep.Order]; !known {
		return fieldError(op, "Order", fmt.Sprintf("%d is not a policy", ep.Order))
	}
	errs := []error{checkText(op, "ID", ep.ID, true), checkText(op, "Tenant", ep.Tenant, false)}
	if len(ep.URL) > maxURL {
		errs = append(errs, fieldError(op, "URL", fmt.Sprintf("has %d bytes, at most %d", len(ep.URL), maxURL)))
	}
	check := func(field, text string) {
		if !storable(text) {
			errs = append(errs, fieldError(op, field, unstorable))
		}
	}
	check("URL", ep.URL)
	check("Profile", ep.Profile)
	check("Schedule.Kind", ep.Schedule.Kind)
	for _, typ := range ep.Types {
		check("Types", typ)
	}
	for _, secret := range ep.Secrets {
		if secret.Reveal() == "" { // could not be read back
			errs = append(errs, &webhook.FieldError{Op: op, Field: "Secrets", Reason: "one is empty", Cause: webhook.ErrEmptySecret})
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

var errUnreadableSecrets = errors.New("not readable: stored by a newer version, or with a key that this process does not have")
