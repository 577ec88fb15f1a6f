package sqlstore

var sqliteSide = sideStatements{
	endpointPut: `INSERT INTO {prefix}endpoint (id, tenant, url, types, secrets, credentials, settings, version, deleted)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, (SELECT version FROM {prefix}endpoint_version WHERE one = 1), FALSE)
ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, url = excluded.url, types = excluded.types,
    secrets = excluded.secrets, credentials = excluded.credentials, settings = excluded.settings, version = excluded.version, deleted = FALSE`,

	keyTake: `INSERT INTO {prefix}dedupe AS d (scope, dkey, token, state, digest, expires_at)
VALUES (?1, ?2, ?3, 0, ?4, ?5)
ON CONFLICT (scope, dkey) DO UPDATE SET token = MAX(d.token + 1, excluded.token), state = 0,
    digest = excluded.digest, expires_at = excluded.expires_at, status = 0, header = NULL, body = NULL, done_at = NULL
WHERE d.expires_at <= ?3 OR d.state = 2 OR (d.state = 1 AND ?6 AND d.digest <> excluded.digest)
RETURNING token`,

	deliveries: deliveriesJoined,
	events:     eventsListed,

	// One probe an endpoint.
	queued: `WITH RECURSIVE hop (endpoint_id) AS (
    SELECT * FROM (SELECT endpoint_id FROM {prefix}queue {due} WHERE endpoint_id > ? ORDER BY endpoint_id LIMIT 1)
    UNION ALL
    SELECT (SELECT q.endpoint_id FROM {prefix}queue q {due} WHERE q.endpoint_id > hop.endpoint_id ORDER BY q.endpoint_id LIMIT 1)
    FROM hop WHERE hop.endpoint_id IS NOT NULL
)
SELECT endpoint_id FROM hop WHERE endpoint_id IS NOT NULL LIMIT ?`,

	pruneEventIDs: `DELETE FROM {prefix}event_id WHERE id IN (
    SELECT i.id FROM {prefix}event_id i
    WHERE i.created_at < ?1 AND NOT EXISTS (SELECT 1 FROM {prefix}event e WHERE e.id = i.id) LIMIT ?2)`,

	pruneKeys: `DELETE FROM {prefix}dedupe WHERE (scope, dkey) IN (
    SELECT scope, dkey FROM {prefix}dedupe WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)`,
}
