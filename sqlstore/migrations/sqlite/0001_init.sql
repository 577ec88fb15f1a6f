-- Times are microseconds since the Unix epoch. Identifiers and keys compare bytewise.

-- What happened; written once, and never rewritten but by the erasure of header and payload, at erased_at.
CREATE TABLE {prefix}event (
	id           TEXT PRIMARY KEY,
	type         TEXT NOT NULL,
	tenant       TEXT NOT NULL,
	ordering_key TEXT NOT NULL,
	header       BLOB,
	payload      BLOB NOT NULL,
	deliveries   INTEGER NOT NULL,
	created_at   INTEGER NOT NULL,
	erased_at    INTEGER
);

-- The event IDs that are remembered, for longer than the events themselves.
CREATE TABLE {prefix}event_id (
	id         TEXT PRIMARY KEY,
	digest     BLOB NOT NULL,
	created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX {name}event_id_created ON {prefix}event_id (created_at);

-- The record of a delivery; rewritten once, at its end. Until then its state is told by its queue row.
-- replay, replay_of: NULL for what Send made.
-- token to response: the attempt that ended it, with the columns of attempt, unless that says much or named a next one. NULL without.
CREATE TABLE {prefix}delivery (
	id           TEXT PRIMARY KEY,
	event_id     TEXT NOT NULL,
	endpoint_id  TEXT NOT NULL,
	ordering_key TEXT NOT NULL,
	seq          INTEGER NOT NULL,
	expires_at   INTEGER,
	state        TEXT NOT NULL,
	reason       TEXT NOT NULL,
	attempts     INTEGER NOT NULL,
	created_at   INTEGER NOT NULL,
	finished_at  INTEGER,
	token        INTEGER,
	number       INTEGER,
	status       INTEGER,
	started_at   INTEGER,
	duration     INTEGER,
	error        TEXT,
	detail       TEXT,
	response     BLOB,
	replay       TEXT,
	replay_of    TEXT
);
CREATE INDEX {name}delivery_event ON {prefix}delivery (event_id);
CREATE INDEX {name}delivery_endpoint ON {prefix}delivery (endpoint_id, id);

-- What is still to do; one narrow row for each unfinished delivery, deleted at its end.
-- class: 0 fresh, 1 retry, 2 parked behind its predecessor, 3 and 4 dead letters that block (3) or hold (4) their key, 5 parked and ended.
-- due_at: when it may be claimed; with an owner, when the lease ends; of a dead letter, since when it blocks.
-- expires_at: NULL never; 0 ended already, and here only to keep its place in its key.
CREATE TABLE {prefix}queue (
	id          TEXT PRIMARY KEY,
	event_id    TEXT NOT NULL,
	endpoint_id TEXT NOT NULL,
	class       INTEGER NOT NULL,
	due_at      INTEGER NOT NULL,
	expires_at  INTEGER,
	token       INTEGER NOT NULL,
	seq         INTEGER NOT NULL,
	created_at  INTEGER NOT NULL,
	attempts    INTEGER NOT NULL,
	owner       TEXT,
	order_key   TEXT,
	reason      TEXT,
	replay      TEXT,
	replay_of   TEXT
) WITHOUT ROWID;
CREATE INDEX {name}queue_due ON {prefix}queue (endpoint_id, class, due_at);
CREATE UNIQUE INDEX {name}queue_order ON {prefix}queue (endpoint_id, order_key, seq) WHERE order_key IS NOT NULL;

-- Unfinished deliveries that expire, by when, or by the end of the lease that End met; only those with a time to live are here.
CREATE TABLE {prefix}expiry (
	expires_at INTEGER NOT NULL,
	id         TEXT NOT NULL,
	PRIMARY KEY (expires_at, id)
) WITHOUT ROWID;

-- Deliveries that ended otherwise than delivered, to be found without a walk over the others.
CREATE TABLE {prefix}failed (
	state       TEXT NOT NULL,
	id          TEXT NOT NULL,
	endpoint_id TEXT NOT NULL,
	PRIMARY KEY (state, id)
) WITHOUT ROWID;
CREATE INDEX {name}failed_endpoint ON {prefix}failed (endpoint_id, state, id);

-- Events that matched no endpoint, likewise.
CREATE TABLE {prefix}unmatched (
	id         TEXT NOT NULL PRIMARY KEY,
	created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX {name}unmatched_created ON {prefix}unmatched (created_at);

-- One row for each HTTP try that is not in its delivery; append only. duration is in nanoseconds.
CREATE TABLE {prefix}attempt (
	delivery_id TEXT NOT NULL,
	token       INTEGER NOT NULL,
	number      INTEGER NOT NULL,
	status      INTEGER NOT NULL,
	started_at  INTEGER NOT NULL,
	duration    INTEGER NOT NULL,
	next_at     INTEGER,
	late        INTEGER NOT NULL,
	error       TEXT NOT NULL,
	detail      TEXT NOT NULL,
	response    BLOB,
	PRIMARY KEY (delivery_id, token)
) WITHOUT ROWID;

-- The last sequence number of each ordering key: the only row that an ordered send locks.
CREATE TABLE {prefix}order_key (
	endpoint_id TEXT NOT NULL,
	order_key   TEXT NOT NULL,
	tail        INTEGER NOT NULL,
	PRIMARY KEY (endpoint_id, order_key)
) WITHOUT ROWID;

-- What dispatchers know about sending to an endpoint: holds, rate limits and a document of their own; never written by sends.
-- version: of the latest change but those of tat, from the second row of endpoint_version; 0 for none.
-- tat: the theoretical arrival time of GCRA, in nanoseconds since the Unix epoch.
-- tat_depth: how far ahead a burst of the rate it was reckoned with may reach, in nanoseconds.
CREATE TABLE {prefix}endpoint_state (
	endpoint_id TEXT PRIMARY KEY,
	held        INTEGER NOT NULL DEFAULT 0,
	hold_kind   TEXT NOT NULL DEFAULT '',
	hold_reason TEXT NOT NULL DEFAULT '',
	hold_until  INTEGER,
	tat         INTEGER NOT NULL DEFAULT 0,
	tat_depth   INTEGER NOT NULL DEFAULT 0,
	version     INTEGER NOT NULL DEFAULT 0,
	not_before  INTEGER,
	doc         BLOB
) WITHOUT ROWID;
CREATE INDEX {name}endpoint_held ON {prefix}endpoint_state (endpoint_id) WHERE held = TRUE;
CREATE INDEX {name}endpoint_state_version ON {prefix}endpoint_state (version) WHERE version > 0;

-- Endpoints; a deleted one stays as a tombstone, so that caches hear of it. types, secrets, credentials and settings are JSON.
CREATE TABLE {prefix}endpoint (
	id          TEXT PRIMARY KEY,
	tenant      TEXT NOT NULL,
	version     INTEGER NOT NULL,
	deleted     INTEGER NOT NULL,
	url         TEXT NOT NULL,
	types       BLOB NOT NULL,
	secrets     BLOB NOT NULL,
	credentials BLOB,
	settings    BLOB NOT NULL
);
CREATE INDEX {name}endpoint_version_at ON {prefix}endpoint (version);
CREATE INDEX {name}endpoint_tenant ON {prefix}endpoint (tenant, id);

-- Row 1: the version of the latest change to an endpoint. Row 2: that of the latest change to an endpoint_state.
CREATE TABLE {prefix}endpoint_version (
	one     INTEGER PRIMARY KEY,
	version INTEGER NOT NULL
);
INSERT INTO {prefix}endpoint_version (one, version) VALUES (1, 0), (2, 0);

-- Idempotency keys of receivers. state: 0 held until expires_at, 1 done and kept until expires_at.
CREATE TABLE {prefix}dedupe (
	scope      TEXT NOT NULL,
	dkey       TEXT NOT NULL,
	token      INTEGER NOT NULL,
	state      INTEGER NOT NULL,
	digest     BLOB,
	expires_at INTEGER NOT NULL,
	status     INTEGER NOT NULL DEFAULT 0,
	header     BLOB,
	body       BLOB,
	done_at    INTEGER,
	PRIMARY KEY (scope, dkey)
) WITHOUT ROWID;
CREATE INDEX {name}dedupe_expires ON {prefix}dedupe (expires_at);

-- Replays. settings: filter, pace and target, JSON. pos: how far it has got. due_at: when the next step is due; with an owner, when the lease ends.
CREATE TABLE {prefix}replay (
	id          TEXT NOT NULL PRIMARY KEY,
	state       TEXT NOT NULL,
	reason      TEXT NOT NULL,
	settings    BLOB NOT NULL,
	pos         TEXT NOT NULL,
	matched     INTEGER NOT NULL,
	redelivered INTEGER NOT NULL,
	passed_over INTEGER NOT NULL,
	due_at      INTEGER,
	token       INTEGER NOT NULL,
	owner       TEXT,
	created_at  INTEGER NOT NULL,
	finished_at INTEGER
);
CREATE INDEX {name}replay_due ON {prefix}replay (state, due_at);
