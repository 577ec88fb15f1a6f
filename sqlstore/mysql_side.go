package sqlstore

var mysqlSide = sideStatements{
	endpointPut: `INSERT INTO {prefix}endpoint (id, tenant, url, types, secrets, credentials, settings, version, deleted)
VALUES (?, ?, ?, ?, ?, ?, ?, (SELECT version FROM {prefix}endpoint_version WHERE one = 1), FALSE)
ON DUPLICATE KEY UPDATE tenant = VALUES(tenant), url = VALUES(url), types = VALUES(types), secrets = VALUES(secrets),
    credentials = VALUES(credentials), settings = VALUES(settings), version = VALUES(version), deleted = FALSE`,

	// No upsert has a condition here. IGNORE, because what ON DUPLICATE KEY counts as affected depends on the connection's
	// clientFoundRows; the arguments were checked, so there is no other error to ignore.
	keyInsert: `INSERT IGNORE INTO {prefix}dedupe (scope, dkey, token, state, digest, expires_at) VALUES (?, ?, ?, 0, ?, ?)`,

	// Compare and set: only if the row is still as it was read. The token always changes, so that the rows found and the rows
	// changed are the same number.
	keyRetake: `UPDATE {prefix}dedupe SET token = ?, state = 0, digest = ?, expires_at = ?,
    status = 0, header = NULL, body = NULL, done_at = NULL
WHERE scope = ? AND dkey = ? AND token = ? AND state = ? AND expires_at = ?`,

	deliveries: deliveriesJoined,
	events:     eventsListed,

	// Loose index scan: one probe an endpoint ("Using index for group-by").
	queued: `SELECT endpoint_id FROM {prefix}queue {due} WHERE endpoint_id > ? GROUP BY endpoint_id ORDER BY endpoint_id LIMIT ?`,

	pruneEventIDs: `DELETE x FROM {prefix}event_id x JOIN (
    SELECT i.id FROM {prefix}event_id i
    WHERE i.created_at < ? AND NOT EXISTS (SELECT 1 FROM {prefix}event e WHERE e.id = i.id) LIMIT ?) y ON y.id = x.id`,

	pruneKeys: `DELETE FROM {prefix}dedupe WHERE expires_at <= ? ORDER BY expires_at LIMIT ?`,
}
