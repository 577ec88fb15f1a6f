-- MySQL commits at each statement of this kind, so that each may be repeated after a crash in between.
-- Times are microseconds since the Unix epoch. Identifiers and keys compare bytewise.

-- What happened; written once, and never rewritten but by the erasure of header and payload, at erased_at.
CREATE TABLE IF NOT EXISTS {prefix}event (
	id           VARBINARY(255) PRIMARY KEY,
	type         VARBINARY(255) NOT NULL,
	tenant       VARBINARY(255) NOT NULL,
	ordering_key VARBINARY(255) NOT NULL,
	header       MEDIUMBLOB,
	payload      LONGBLOB NOT NULL,
	deliveries   INT NOT NULL,
	created_at   BIGINT NOT NULL,
	erased_at    BIGINT
) ENGINE=InnoDB;

-- The event IDs that are remembered, for longer than the events themselves.
CREATE TABLE IF NOT EXISTS {prefix}event_id (
	id         VARBINARY(255) PRIMARY KEY,
	digest     VARBINARY(32) NOT NULL,
	created_at BIGINT NOT NULL,
	KEY event_id_created (created_at)
) ENGINE=InnoDB;

-- The record of a delivery; rewritten once, at its end. Until then its state is told by its queue row.
-- replay, replay_of: NULL for what Send made.
-- token to response: the attempt that ended it, with the columns of attempt, unless that says much or named a next one. NULL without.
CREATE TABLE IF NOT EXISTS {prefix}delivery (
	id           VARBINARY(255) PRIMARY KEY,
	event_id     VARBINARY(255) NOT NULL,
	endpoint_id  VARBINARY(255) NOT NULL,
	ordering_key VARBINARY(255) NOT NULL,
	seq          BIGINT NOT NULL,
	expires_at   BIGINT,
	state        VARBINARY(255) NOT NULL,
	reason       TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
	attempts     INT NOT NULL,
	created_at   BIGINT NOT NULL,
	finished_at  BIGINT,
	token        BIGINT,
	number       INT,
	status       INT,
	started_at   BIGINT,
	duration     BIGINT,
	error        VARBINARY(255),
	detail       TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
	response     MEDIUMBLOB,
	replay       VARBINARY(255),
	replay_of    VARBINARY(255),
	KEY delivery_event (event_id),
	KEY delivery_endpoint (endpoint_id, id)
) ENGINE=InnoDB;

-- What is still to do; one narrow row for each unfinished delivery, deleted at its end.
-- class: 0 fresh, 1 retry, 2 parked behind its predecessor, 3 and 4 dead letters that block (3) or hold (4) their key, 5 parked and ended.
-- due_at: when it may be claimed; with an owner, when the lease ends; of a dead letter, since when it blocks.
-- expires_at: NULL never; 0 ended already, and here only to keep its place in its key.
CREATE TABLE IF NOT EXISTS {prefix}queue (
	id          VARBINARY(255) PRIMARY KEY,
	event_id    VARBINARY(255) NOT NULL,
	endpoint_id VARBINARY(255) NOT NULL,
	class       SMALLINT NOT NULL,
	due_at      BIGINT NOT NULL,
	expires_at  BIGINT,
	token       BIGINT NOT NULL,
	seq         BIGINT NOT NULL,
	created_at  BIGINT NOT NULL,
	attempts    INT NOT NULL,
	owner       VARBINARY(255),
	order_key   VARBINARY(255),
	reason      TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
	replay      VARBINARY(255),
	replay_of   VARBINARY(255),
	KEY queue_due (endpoint_id, class, due_at),
	UNIQUE KEY queue_order (endpoint_id, order_key, seq)
) ENGINE=InnoDB;

-- Unfinished deliveries that expire, by when, or by the end of the lease that End met; only those with a time to live are here.
CREATE TABLE IF NOT EXISTS {prefix}expiry (
	expires_at BIGINT NOT NULL,
	id         VARBINARY(255) NOT NULL,
	PRIMARY KEY (expires_at, id)
) ENGINE=InnoDB;

-- Deliveries that ended otherwise than delivered, to be found without a walk over the others.
CREATE TABLE IF NOT EXISTS {prefix}failed (
	state       VARBINARY(32) NOT NULL,
	id          VARBINARY(255) NOT NULL,
	endpoint_id VARBINARY(255) NOT NULL,
	PRIMARY KEY (state, id),
	KEY failed_endpoint (endpoint_id, state, id)
) ENGINE=InnoDB;

-- Events that matched no endpoint, likewise.
CREATE TABLE IF NOT EXISTS {prefix}unmatched (
	id         VARBINARY(255) PRIMARY KEY,
	created_at BIGINT NOT NULL,
	KEY unmatched_created (created_at)
) ENGINE=InnoDB;

-- One row for each HTTP try that is not in its delivery; append only. duration is in nanoseconds.
CREATE TABLE IF NOT EXISTS {prefix}attempt (
	delivery_id VARBINARY(255) NOT NULL,
	token       BIGINT NOT NULL,
	number      INT NOT NULL,
	status      INT NOT NULL,
	started_at  BIGINT NOT NULL,
	duration    BIGINT NOT NULL,
	next_at     BIGINT,
	late        BOOLEAN NOT NULL,
	error       VARBINARY(255) NOT NULL,
	detail      TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
	response    MEDIUMBLOB,
	PRIMARY KEY (delivery_id, token)
) ENGINE=InnoDB;

-- The last sequence number of each ordering key: the only row that an ordered send locks.
CREATE TABLE IF NOT EXISTS {prefix}order_key (
	endpoint_id VARBINARY(255) NOT NULL,
	order_key   VARBINARY(255) NOT NULL,
	tail        BIGINT NOT NULL,
	PRIMARY KEY (endpoint_id, order_key)
) ENGINE=InnoDB;

-- What dispatchers know about sending to an endpoint: holds, rate limits and a document of their own; never written by sends.
-- version: of the latest change but those of tat, from the second row of endpoint_version; 0 for none.
-- tat: the theoretical arrival time of GCRA, in nanoseconds since the Unix epoch.
-- tat_depth: how far ahead a burst of the rate it was reckoned with may reach, in nanoseconds.
CREATE TABLE IF NOT EXISTS {prefix}endpoint_state (
	endpoint_id VARBINARY(255) PRIMARY KEY,
	held        BOOLEAN NOT NULL DEFAULT FALSE,
	hold_kind   VARBINARY(255) NOT NULL DEFAULT '',
	hold_reason TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
	hold_until  BIGINT,
	tat         BIGINT NOT NULL DEFAULT 0,
	tat_depth   BIGINT NOT NULL DEFAULT 0,
	version     BIGINT NOT NULL DEFAULT 0,
	not_before  BIGINT,
	doc         BLOB,
	KEY endpoint_held (held, endpoint_id),
	KEY endpoint_state_version (version)
) ENGINE=InnoDB;

-- Endpoints; a deleted one stays as a tombstone, so that caches hear of it. types, secrets, credentials and settings are JSON.
CREATE TABLE IF NOT EXISTS {prefix}endpoint (
	id          VARBINARY(255) PRIMARY KEY,
	tenant      VARBINARY(255) NOT NULL,
	version     BIGINT NOT NULL,
	deleted     BOOLEAN NOT NULL,
	url         TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
	types       MEDIUMBLOB NOT NULL,
	secrets     MEDIUMBLOB NOT NULL,
	credentials MEDIUMBLOB,
	settings    MEDIUMBLOB NOT NULL,
	KEY endpoint_version_at (version),
	KEY endpoint_tenant (tenant, id)
) ENGINE=InnoDB;

-- Row 1: the version of the latest change to an endpoint. Row 2: that of the latest change to an endpoint_state.
CREATE TABLE IF NOT EXISTS {prefix}endpoint_version (
	one     SMALLINT PRIMARY KEY,
	version BIGINT NOT NULL
) ENGINE=InnoDB;
INSERT IGNORE INTO {prefix}endpoint_version (one, version) VALUES (1, 0), (2, 0);

-- Idempotency keys of receivers. state: 0 held until expires_at, 1 done and kept until expires_at.
CREATE TABLE IF NOT EXISTS {prefix}dedupe (
	scope      VARBINARY(255) NOT NULL,
	dkey       VARBINARY(255) NOT NULL,
	token      BIGINT NOT NULL,
	state      SMALLINT NOT NULL,
	digest     VARBINARY(32),
	expires_at BIGINT NOT NULL,
	status     INT NOT NULL DEFAULT 0,
	header     MEDIUMBLOB,
	body       LONGBLOB,
	done_at    BIGINT,
	PRIMARY KEY (scope, dkey),
	KEY dedupe_expires (expires_at)
) ENGINE=InnoDB;

-- Replays. settings: filter, pace and target, JSON. pos: how far it has got. due_at: when the next step is due; with an owner, when the lease ends.
CREATE TABLE IF NOT EXISTS {prefix}replay (
	id          VARBINARY(255) PRIMARY KEY,
	state       VARBINARY(255) NOT NULL,
	reason      TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
	settings    MEDIUMBLOB NOT NULL,
	pos         VARBINARY(255) NOT NULL,
	matched     BIGINT NOT NULL,
	redelivered BIGINT NOT NULL,
	passed_over BIGINT NOT NULL,
	due_at      BIGINT,
	token       BIGINT NOT NULL,
	owner       VARBINARY(255),
	created_at  BIGINT NOT NULL,
	finished_at BIGINT,
	KEY replay_due (state, due_at)
) ENGINE=InnoDB;
