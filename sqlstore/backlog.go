package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/signalpost/webhook"
)

const (
	maxBlocked = 100 // what webhook.EndpointBacklog.Blocked counts to

	// backlogs is how many endpoints one statement looks at.
	backlogs = 50
)

// What waits for an endpoint: a probe for each class, and two counts that stop at their limit. {id} is the endpoint, and {most}
// what the second counts to.
const (
	backlogCounts = `
	{fresh},
	{retry},
	(SELECT due_at FROM {prefix}queue {due} WHERE endpoint_id = {id} AND class = 2 ORDER BY due_at LIMIT 1),
	(SELECT COUNT(*) FROM (SELECT 1 AS one FROM {prefix}queue {due} WHERE endpoint_id = {id} AND class IN (3, 4) LIMIT {blocked}) k),
	(SELECT COUNT(*) FROM (SELECT 1 AS one FROM {prefix}queue {due} WHERE endpoint_id = {id} AND class <= 2
		AND (expires_at IS NULL OR expires_at <> 0) LIMIT {most}) w)`

	// In the order of their blocks; {class} is one of the two.
	blockedKeys = `SELECT endpoint_id, order_key, id, due_at FROM {prefix}queue {due} WHERE class = ? AND endpoint_id = ?
	AND due_at >= ? AND (due_at > ? OR order_key > ?) ORDER BY due_at, order_key LIMIT {limit}`
)

// Backlog implements [webhook.LifeStore]. It is not one moment's view of all endpoints.
func (s *Store) Backlog(ctx context.Context, req *webhook.BacklogRequest) (*webhook.BacklogResult, error) {
	var res *webhook.BacklogResult
	err := s.look(ctx, func(ctx context.Context, q querier) (err error) {
		res, err = s.backlog(ctx, q, req)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: backlog: %w", err)
	}
	return res, nil
}

// look runs queries that walk the first rows of a lane.
func (s *Store) look(ctx context.Context, fn func(context.Context, querier) error) error {
	if s.dialect != PostgreSQL {
		return fn(ctx, s.db)
	}
	return s.write(ctx, func(ctx context.Context, q querier) error { // a transaction for the switches
		if err := s.avoidWalks(ctx, q); err != nil {
			return err
		}
		return fn(ctx, q)
	})
}

func (s *Store) backlog(ctx context.Context, q querier, req *webhook.BacklogRequest) (*webhook.BacklogResult, error) {
	res := &webhook.BacklogResult{}
	var ids []string
	if req.Endpoints != nil {
		ids = slices.Compact(slices.Sorted(slices.Values(req.Endpoints)))
		ids = slices.DeleteFunc(ids, func(id string) bool { return !storableID(id) })
	} else {
		limit := limitOr(req.Limit, 256)
		var err error
		if ids, err = s.queued(ctx, q, req.After, limit+1); err != nil {
			return nil, err
		}
		if len(ids) > limit {
			ids, res.Next = ids[:limit], ids[limit-1]
		}
	}
	for part := range slices.Chunk(ids, backlogs) {
		if err := s.countBacklogs(ctx, q, req, part, res); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// queued are the endpoints after a given one that have a row in the queue, at most so many.
func (s *Store) queued(ctx context.Context, q querier, after string, most int) ([]string, error) {
	var ids []string
	err := s.each(ctx, q, s.dialectText(s.side().queued), []any{after, most}, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	})
	return ids, err
}

// countBacklogs adds what waits for the endpoints to res, leaving out those for which nothing does.
func (s *Store) countBacklogs(ctx context.Context, q querier, req *webhook.BacklogRequest, ids []string, res *webhook.BacklogResult) error {
	// One counted even when nobody asks: it tells whether there is any.
	fill := strings.NewReplacer("{blocked}", strconv.Itoa(maxBlocked), "{most}", strconv.Itoa(max(req.Count, 1)))
	counts := strings.NewReplacer("{fresh}", s.earliest("0"), "{retry}", s.earliest("1")).Replace(backlogCounts)
	text, args := "SELECT e.id,"+strings.ReplaceAll(counts, "{id}", "e.id")+" FROM unnest(?::text[]) AS e(id)", []any{textArray(ids, self)}
	if s.dialect != PostgreSQL {
		// In a derived table, MariaDB knows nothing of the row outside: each endpoint is a statement, joined with the others.
		texts := make([]string, len(ids))
		args = nil
		for i, id := range ids {
			texts[i] = "SELECT " + strconv.Itoa(i) + "," + strings.ReplaceAll(counts, "{id}", "?")
			args = append(args, id, id, id, id, id)
		}
		text = strings.Join(texts, " UNION ALL ")
	}
	found := make(map[string]webhook.EndpointBacklog, len(ids))
	now := micros(req.Now)
	err := s.each(ctx, q, s.dialectText(fill.Replace(text)), args, func(rows *sql.Rows) error {
		var id string
		var dues [3]sql.NullInt64
		var blocked, waiting int
		if err := rows.Scan(&id, &dues[0], &dues[1], &dues[2], &blocked, &waiting); err != nil {
			return err
		}
		if s.dialect != PostgreSQL {
			i, err := strconv.Atoi(id)
			if err != nil {
				return err
			}
			id = ids[i]
		}
		if waiting == 0 && blocked == 0 {
			return nil
		}
		b := webhook.EndpointBacklog{EndpointID: id, OldestKept: fromOptMicros(dues[2]), Waiting: min(waiting, max(req.Count, 0)), Blocked: blocked}
		oldest := int64(math.MaxInt64)
		for _, due := range dues[:2] {
			if due.Valid {
				oldest = min(oldest, due.Int64)
			}
		}
		if oldest <= now {
			b.OldestDue = fromMicros(oldest)
		}
		found[id] = b
		return nil
	})
	for _, id := range ids {
		if b, ok := found[id]; ok {
			res.Endpoints = append(res.Endpoints, b)
		}
	}
	return err
}

// earliest is the smallest due time or lease end in a lane of the endpoint {id}.
func (s *Store) earliest(class string) string {
	if s.dialect == PostgreSQL {
		return earliestOf("{id}", class, "-9223372036854775808")
	}
	return "(SELECT due_at FROM {prefix}queue {due} WHERE endpoint_id = {id} AND class = " + class + " ORDER BY due_at LIMIT 1)"
}

// BlockedKeys implements [webhook.LifeStore].
func (s *Store) BlockedKeys(ctx context.Context, req *webhook.BlockedKeysRequest) (*webhook.BlockedKeysResult, error) {
	since, key, err := blockedAfter(req.After)
	if err != nil {
		return nil, err
	}
	res := &webhook.BlockedKeysResult{}
	if !storableID(req.EndpointID) {
		return res, nil
	}
	limit := limitOr(req.Limit, 100)
	text := strings.Replace(s.dialectText(blockedKeys), "{limit}", strconv.Itoa(limit+1), 1)
	err = s.look(ctx, func(ctx context.Context, q querier) error {
		res.Keys = nil
		return s.readBlocked(ctx, q, text, []any{req.EndpointID, since, since, key}, res)
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: blocked keys of endpoint %q: %w", req.EndpointID, err)
	}
	slices.SortFunc(res.Keys, func(a, b webhook.BlockedKey) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.OrderingKey, b.OrderingKey))
	})
	if len(res.Keys) > limit {
		res.Keys = res.Keys[:limit]
		last := &res.Keys[limit-1]
		res.Next = strconv.FormatInt(micros(last.Since), 10) + " " + last.OrderingKey
	}
	return res, nil
}

// readBlocked adds blocked keys to res, class by class.
func (s *Store) readBlocked(ctx context.Context, q querier, text string, args []any, res *webhook.BlockedKeysResult) error {
	for _, class := range []int{classBlocked, classHeld} {
		err := s.each(ctx, q, text, append([]any{class}, args...), func(rows *sql.Rows) error {
			var k webhook.BlockedKey
			var at int64
			err := rows.Scan(&k.EndpointID, &k.OrderingKey, &k.DeliveryID, &at)
			k.Held, k.Since = class == classHeld, fromMicros(at)
			res.Keys = append(res.Keys, k)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// blockedAfter is where an earlier page ended.
func blockedAfter(after string) (since int64, key string, err error) {
	if after == "" {
		return minMicros, "", nil
	}
	at, key, _ := strings.Cut(after, " ")
	since, err = strconv.ParseInt(at, 10, 64)
	if err != nil || !storableID(key) {
		return 0, "", fieldError("blocked keys", "After", fmt.Sprintf("%q is not the Next of an answer", after))
	}
	return since, key, nil
}
