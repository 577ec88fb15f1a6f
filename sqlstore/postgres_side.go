package sqlstore

var postgresSide = sideStatements{
	endpointPut: `INSERT INTO {prefix}endpoint (id, tenant, url, types, secrets, credentials, settings, version, deleted)
VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT version FROM {prefix}endpoint_version WHERE one = 1), FALSE)
ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, url = excluded.url, types = excluded.types,
    secrets = excluded.secrets, credentials = excluded.credentials, settings = excluded.settings, version = excluded.version, deleted = FALSE`,

	keyTake: `INSERT INTO {prefix}dedupe AS d (scope, dkey, token, state, digest, expires_at)
VALUES ($1, $2, $3::bigint, 0, $4::bytea, $5::bigint)
ON CONFLICT (scope, dkey) DO UPDATE SET token = GREATEST(d.token + 1, excluded.token), state = 0,
    digest = excluded.digest, expires_at = excluded.expires_at, status = 0, header = NULL, body = NULL, done_at = NULL
WHERE d.expires_at <= $3::bigint OR d.state = 2 OR (d.state = 1 AND $6::boolean AND d.digest <> excluded.digest)
RETURNING token`,

	// In the order given, which is that of the keys, so that those of two processes do not wait for each other. The time is the least token.
	keyTakeAll: `INSERT INTO {prefix}dedupe AS d (scope, dkey, token, state, digest, expires_at)
SELECT o.scope, o.dkey, o.now, 0, o.digest, o.until
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::bigint[]) AS o(scope, dkey, now, digest, until)
ON CONFLICT (scope, dkey) DO UPDATE SET token = GREATEST(d.token + 1, excluded.token), state = 0,
    digest = excluded.digest, expires_at = excluded.expires_at, status = 0, header = NULL, body = NULL, done_at = NULL
WHERE d.expires_at <= excluded.token OR d.state = 2 OR (d.state = 1 AND length(excluded.digest) > 0 AND d.digest <> excluded.digest)
RETURNING scope, dkey, token`,

	keyReadAll: `SELECT d.scope, d.dkey, d.token, d.state, d.digest, d.expires_at, d.status, d.header, d.body, d.done_at
FROM unnest($1::text[], $2::text[]) AS o(scope, dkey)
CROSS JOIN LATERAL (SELECT * FROM {prefix}dedupe WHERE scope = o.scope AND dkey = o.dkey OFFSET 0) d`,

	// An UPDATE that joins would read the whole table wherever the planner takes it for a small one. This finds each key by a probe of the
	// index, which OFFSET 0 and ON CONFLICT leave no choice about, and inserts nothing: what it has found is locked.
	keyFinishAll: `INSERT INTO {prefix}dedupe AS d (scope, dkey, token, state, expires_at, done_at, status, header, body)
SELECT o.scope, o.dkey, o.token, 1, o.until, o.now, o.status, o.header, o.body
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::int[], $7::bytea[], $8::bytea[])
    AS o(scope, dkey, token, now, until, status, header, body)
CROSS JOIN LATERAL (SELECT token FROM {prefix}dedupe k
    WHERE k.scope = o.scope AND k.dkey = o.dkey AND k.token = o.token AND k.state = 0 AND k.expires_at > o.now OFFSET 0 FOR UPDATE) held
ON CONFLICT (scope, dkey) DO UPDATE SET state = 1, expires_at = excluded.expires_at, done_at = excluded.done_at,
    status = excluded.status, header = excluded.header, body = excluded.body
WHERE d.token = excluded.token AND d.state = 0 AND d.expires_at > excluded.done_at
RETURNING scope, dkey, token`,

	// OFFSET 0 keeps each join a probe for each row of the page: without it a generic plan, which knows nothing of
	// the page's size, may read whole tables into a hash.
	deliveries: `SELECT d.id, d.event_id, d.endpoint_id, d.ordering_key, d.seq, d.state, d.reason, d.attempts, d.created_at, d.finished_at, d.expires_at,
    d.replay, d.replay_of,
    q.class, coalesce(q.leased_until, q.due_at), q.attempts, q.owner IS NOT NULL, q.reason, h.held, h.hold_until, h.hold_reason,
    (SELECT CASE WHEN b.class = 4 THEN b.id END FROM {prefix}queue b
     WHERE b.endpoint_id = q.endpoint_id AND b.order_key = q.order_key ORDER BY b.seq LIMIT 1){more}
FROM ({page}) p
CROSS JOIN LATERAL (SELECT * FROM {prefix}delivery WHERE id = p.id OFFSET 0) d
LEFT JOIN LATERAL (SELECT * FROM {prefix}queue WHERE id = p.id OFFSET 0) q ON TRUE
LEFT JOIN LATERAL (SELECT * FROM {prefix}endpoint_state WHERE endpoint_id = q.endpoint_id OFFSET 0) h ON TRUE
ORDER BY p.id`,

	events: `SELECT e.id, e.type, e.tenant, e.ordering_key, e.deliveries, e.created_at, e.erased_at
FROM ({page}) p CROSS JOIN LATERAL (SELECT * FROM {prefix}event WHERE id = p.id OFFSET 0) e ORDER BY p.id`,

	// One probe an endpoint.
	queued: `WITH RECURSIVE hop AS (
    (SELECT endpoint_id FROM {prefix}queue WHERE endpoint_id > ? ORDER BY endpoint_id, class, due_at LIMIT 1)
    UNION ALL
    SELECT n.endpoint_id FROM hop CROSS JOIN LATERAL (
        SELECT q.endpoint_id FROM {prefix}queue q WHERE q.endpoint_id > hop.endpoint_id ORDER BY q.endpoint_id, q.class, q.due_at LIMIT 1
    ) n
)
SELECT endpoint_id FROM hop LIMIT ?`,

	// A scalar subquery, because NOT EXISTS may become a hash of all events.
	pruneEventIDs: `DELETE FROM {prefix}event_id WHERE id = ANY(ARRAY(
    SELECT i.id FROM {prefix}event_id i
    WHERE i.created_at < $1 AND (SELECT e.id FROM {prefix}event e WHERE e.id = i.id) IS NULL LIMIT $2))`,

	pruneKeys: `DELETE FROM {prefix}dedupe WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {prefix}dedupe WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))`,
}
