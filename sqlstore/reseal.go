package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/signalpost/webhook"
)

// resealBatch is how many endpoints are read at once.
const resealBatch = 100

const (
	resealList = `SELECT id, version, url, secrets, credentials FROM {prefix}endpoint WHERE id > ? AND NOT deleted ORDER BY id LIMIT ?`

	resealGet = `SELECT id, version, url, secrets, credentials FROM {prefix}endpoint WHERE id = ? AND NOT deleted`

	// What somebody else has stored since it was read stays: each Put has a version of its own, and no two ciphertexts are alike.
	resealPut = `UPDATE {prefix}endpoint SET url = ?, secrets = ?, credentials = ?
WHERE id = ? AND version = ? AND secrets = ? AND NOT deleted`
)

// Reseal seals every endpoint that is not sealed under the cipher's newest key, those stored before there was a cipher among them, and returns how
// many it has sealed. Nothing else of them changes, no process has to read them anew, and all may work meanwhile. What another process puts
// with an older key while it runs is for the next call: when 0 comes back without an error, and every process has the new key first, the old one
// is needed no more.
//
// One that cannot be read is left as it is; the error names it, after all others were done. Without Options.Cipher the error is
// [webhook.ErrNoCipher].
//
// The database keeps what was there before in places that it has not yet used again, in its log and in backups: after the first call, VACUUM
// (SQLite, with a checkpoint of the WAL) or VACUUM FULL, and rotate secrets that matter.
func (s *Store) Reseal(ctx context.Context) (int, error) {
	if s.sealer.cipher == nil {
		return 0, fmt.Errorf("webhook: reseal: %w", webhook.ErrNoCipher)
	}
	n, after := 0, ""
	var unreadable []error
	for {
		rows, err := s.resealRows(ctx, resealList, after, resealBatch)
		if err != nil {
			return n, fmt.Errorf("webhook: reseal: %w", err)
		}
		for i := range rows {
			changed, err := s.resealOne(ctx, &rows[i])
			switch {
			case ctx.Err() != nil:
				return n, fmt.Errorf("webhook: reseal: %w", ctx.Err())
			case err != nil:
				unreadable = append(unreadable, fmt.Errorf("webhook: reseal: endpoint %q: %w", rows[i].id, err))
			case changed:
				n++
			}
		}
		if len(rows) < resealBatch {
			return n, errors.Join(unreadable...)
		}
		after = rows[len(rows)-1].id
	}
}

// versionedRow is a row with its version.
type versionedRow struct {
	endpointRow
	version int64
}

func (s *Store) resealRows(ctx context.Context, text string, args ...any) (found []versionedRow, err error) {
	err = s.each(ctx, s.db, text, args, func(rows *sql.Rows) error {
		var r versionedRow
		err := rows.Scan(&r.id, &r.version, &r.url, &r.secrets, &r.credentials)
		found = append(found, r)
		return err
	})
	return found, err
}

// resealOne reports whether it has sealed the endpoint of a row anew. One that somebody else is changing is read again.
func (s *Store) resealOne(ctx context.Context, r *versionedRow) (bool, error) {
	for range maxTries {
		if s.sealer.isCurrent(r.secrets) && s.sealer.isCurrent(r.credentials) {
			return false, nil
		}
		next, err := r.resealed(ctx, s.sealer)
		if err != nil {
			return false, err
		}
		changed := false
		err = s.write(ctx, func(ctx context.Context, q querier) (err error) {
			changed, err = s.changes(ctx, q, resealPut, next.url, next.secrets, next.credentials, r.id, r.version, r.secrets)
			return err
		})
		if changed || err != nil {
			return changed, err
		}
		again, err := s.resealRows(ctx, resealGet, r.id)
		if err != nil || len(again) == 0 { // deleted
			return false, err
		}
		if again[0].version == r.version && bytes.Equal(again[0].secrets, r.secrets) {
			return false, errors.New("it cannot be replaced")
		}
		*r = again[0]
	}
	return false, errors.New("it is changed by others all the time; try again")
}

// resealed is the row sealed anew. Members that this version does not know are kept.
func (r *endpointRow) resealed(ctx context.Context, codec sealer) (next endpointRow, err error) {
	plain, err := codec.open(ctx, secretsColumn, r.id, r.secrets)
	if err != nil {
		return next, err
	}
	if next.secrets, err = codec.seal(ctx, secretsColumn, r.id, plain); err != nil {
		return next, err
	}
	members, raw := make(map[string]json.RawMessage), r.url
	if len(r.credentials) > 0 {
		plain, err := codec.open(ctx, credentialsColumn, r.id, r.credentials)
		if err != nil {
			return next, err
		}
		if json.Unmarshal(plain, &members) != nil {
			return next, errUnreadableCredentials
		}
	}
	if known, ok := members["url"]; !ok {
		members["url"], _ = json.Marshal(raw) // of a string
	} else if json.Unmarshal(known, &raw) != nil {
		return next, errUnreadableCredentials
	}
	if plain, err = json.Marshal(members); err != nil {
		return next, errUnreadableCredentials
	}
	next.url = codec.shownURL(raw)
	next.credentials, err = codec.seal(ctx, credentialsColumn, r.id, plain)
	return next, err
}
