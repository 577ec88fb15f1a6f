package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/signalpost/webhook"
)

// gatherKeys says how calls for idempotency keys run together: on PostgreSQL in few statements, on SQLite, which has one writer, in one
// transaction. MySQL commits the transactions of several connections together by itself, and one transaction of as many
// statements, one after the other, measured a third of the speed of eight connections.
func (s *Store) gatherKeys() {
	s.keySQL = s.keyStatements()
	switch s.dialect {
	case PostgreSQL:
		s.begins.run, s.finishes.run = s.beginAll, s.finishAll
	case SQLite:
		s.begins.run, s.finishes.run = s.beginInTx, s.finishInTx
	}
	s.begins.undo = s.releaseLeft
}

// dedupeID is a scope and key, compared together.
type dedupeID struct{ scope, key string }

func beginID(c *keyCall) dedupeID { return dedupeID{c.begin.Scope, c.begin.Key} }

func finishID(c *keyCall) dedupeID { return dedupeID{c.finish.scope, c.finish.key} }

// sortCalls orders calls by key, in which order all processes lock them, and those of one key as they came.
func sortCalls(calls []*keyCall, id func(*keyCall) dedupeID) {
	slices.SortStableFunc(calls, func(a, b *keyCall) int {
		x, y := id(a), id(b)
		return cmp.Or(cmp.Compare(x.scope, y.scope), cmp.Compare(x.key, y.key))
	})
}

func (s *Store) beginInTx(ctx context.Context, calls []*keyCall) error {
	sortCalls(calls, beginID)
	return s.write(ctx, func(ctx context.Context, q querier) (err error) {
		for _, c := range calls {
			if c.res, err = s.begin(ctx, q, &c.begin); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) finishInTx(ctx context.Context, calls []*keyCall) error {
	sortCalls(calls, finishID)
	return s.write(ctx, func(ctx context.Context, q querier) error {
		for _, c := range calls {
			if c.err = s.finish(ctx, q, &c.finish); c.err != nil && !errors.Is(c.err, webhook.ErrStaleKey) {
				return c.err
			}
		}
		return nil
	})
}

// beginAll is begin for many. A statement cannot take a key twice: of several calls for one, the first tries.
func (s *Store) beginAll(ctx context.Context, calls []*keyCall) error {
	open := slices.Clone(calls)
	sortCalls(open, beginID)
	for range maxBeginTries {
		var first, other []*keyCall
		for i, c := range open {
			if i > 0 && beginID(c) == beginID(open[i-1]) {
				other = append(other, c)
			} else {
				first = append(first, c)
			}
		}
		err := s.retry(ctx, func(ctx context.Context) error { return s.takeKeys(ctx, first) })
		if err != nil {
			return err
		}
		open = append(slices.DeleteFunc(first, func(c *keyCall) bool { return c.res != nil }), other...)
		if len(open) == 0 {
			return nil
		}
		if err := s.retry(ctx, func(ctx context.Context) error { return s.answerKeys(ctx, open) }); err != nil {
			return err
		}
		open = slices.DeleteFunc(open, func(c *keyCall) bool { return c.res != nil }) // else forgotten or freed since
		if len(open) == 0 {
			return nil
		}
		sortCalls(open, beginID)
	}
	return errors.New("keys change hands too fast")
}

// takeKeys takes those keys that may be taken.
func (s *Store) takeKeys(ctx context.Context, calls []*keyCall) error {
	rows, err := s.db.QueryContext(ctx, s.keySQL.takeAll, scopes(calls), keys(calls),
		intArray(calls, func(c **keyCall) int64 { return micros((*c).begin.Now) }),
		bytesArray(calls, func(c **keyCall) []byte { return digestBytes((*c).begin.Digest) }),
		intArray(calls, func(c **keyCall) int64 { return micros((*c).begin.Now.Add((*c).begin.Hold)) }))
	if err != nil {
		return err
	}
	tokens := make(map[dedupeID]int64, len(calls))
	err = eachRow(rows, func(rows *sql.Rows) error {
		var id dedupeID
		var token int64
		err := rows.Scan(&id.scope, &id.key, &token)
		tokens[id] = token
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range calls {
		if token := tokens[beginID(c)]; token != 0 {
			c.res = &webhook.BeginResult{Status: webhook.KeyTaken, Token: token}
		}
	}
	return nil
}

// answerKeys says who has the keys, save those that may be taken now.
func (s *Store) answerKeys(ctx context.Context, calls []*keyCall) error {
	rows, err := s.db.QueryContext(ctx, s.keySQL.readAll, scopes(calls), keys(calls))
	if err != nil {
		return err
	}
	found := make(map[dedupeID]*keyRow, len(calls))
	err = eachRow(rows, func(rows *sql.Rows) error {
		var id dedupeID
		r := &keyRow{}
		err := rows.Scan(&id.scope, &id.key, &r.token, &r.state, &r.digest, &r.expiresAt, &r.status, &r.header, &r.body, &r.doneAt)
		found[id] = r
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range calls {
		if r := found[beginID(c)]; r != nil && !r.takeable(&c.begin) {
			if c.res, err = r.answer(); err != nil {
				return err
			}
		}
	}
	return nil
}

func scopes(calls []*keyCall) string {
	return textArray(calls, func(c **keyCall) string { return (*c).begin.Scope })
}

func keys(calls []*keyCall) string {
	return textArray(calls, func(c **keyCall) string { return (*c).begin.Key })
}

// finishAll is finish for many. Should a key be there twice under one token, the database refuses them all, and each asks alone.
func (s *Store) finishAll(ctx context.Context, calls []*keyCall) error {
	sortCalls(calls, finishID)
	number := func(get func(*finishArgs) int64) string {
		return intArray(calls, func(c **keyCall) int64 { return get(&(*c).finish) })
	}
	args := []any{
		textArray(calls, func(c **keyCall) string { return (*c).finish.scope }),
		textArray(calls, func(c **keyCall) string { return (*c).finish.key }),
		number(func(f *finishArgs) int64 { return f.token }),
		number(func(f *finishArgs) int64 { return f.now }),
		number(func(f *finishArgs) int64 { return f.until }),
		number(func(f *finishArgs) int64 { return int64(f.status) }),
		bytesArray(calls, func(c **keyCall) []byte { return (*c).finish.header }),
		bytesArray(calls, func(c **keyCall) []byte { return (*c).finish.body }),
	}
	type held struct {
		id    dedupeID
		token int64
	}
	stored := make(map[held]bool, len(calls))
	err := s.retry(ctx, func(ctx context.Context) error {
		clear(stored)
		rows, err := s.db.QueryContext(ctx, s.keySQL.finishAll, args...)
		if err != nil {
			return err
		}
		return eachRow(rows, func(rows *sql.Rows) error {
			var h held
			err := rows.Scan(&h.id.scope, &h.id.key, &h.token)
			stored[h] = true
			return err
		})
	})
	for _, c := range calls {
		if !stored[held{finishID(c), c.finish.token}] {
			c.err = webhook.ErrStaleKey
		}
	}
	return err
}

// releaseLeft frees keys that were taken for callers who are gone: a repeat would find them held by nobody.
func (s *Store) releaseLeft(left []*keyCall) {
	ctx, cancel := context.WithTimeout(context.Background(), gatherTimeout)
	defer cancel()
	for _, c := range left {
		if c.res.Status == webhook.KeyTaken {
			// Should it fail, the key is free when its hold ends.
			_ = s.Release(ctx, &webhook.ReleaseRequest{Now: c.begin.Now, Scope: c.begin.Scope, Key: c.begin.Key, Token: c.res.Token})
		}
	}
}
