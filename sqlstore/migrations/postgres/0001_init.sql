-- Times are microseconds since the Unix epoch. Identifiers and keys compare bytewise.

-- What happened; written once, and never rewritten but by the erasure of header and payload, at erased_at.
CREATE TABLE {prefix}event (
	id           text COLLATE "C" PRIMARY KEY,
	type         text COLLATE "C" NOT NULL,
	tenant       text COLLATE "C" NOT NULL,
	ordering_key text COLLATE "C" NOT NULL,
	header       bytea,
	payload      bytea NOT NULL,
	deliveries   integer NOT NULL,
	created_at   bigint NOT NULL,
	erased_at    bigint
);

-- The event IDs that are remembered, for longer than the events themselves.
CREATE TABLE {prefix}event_id (
	id         text COLLATE "C" PRIMARY KEY,
	digest     bytea NOT NULL,
	created_at bigint NOT NULL
);
CREATE INDEX {name}event_id_created ON {prefix}event_id USING brin (created_at);

-- The record of a delivery; rewritten once, at its end. Until then its state is told by its queue row.
-- replay, replay_of: NULL for what Send made.
-- token to response: the attempt that ended it, with the columns of attempt, unless that says much or named a next one. NULL without.
CREATE TABLE {prefix}delivery (
	id           text COLLATE "C" PRIMARY KEY,
	event_id     text COLLATE "C" NOT NULL,
	endpoint_id  text COLLATE "C" NOT NULL,
	ordering_key text COLLATE "C" NOT NULL,
	seq          bigint NOT NULL,
	expires_at   bigint,
	state        text COLLATE "C" NOT NULL,
	reason       text NOT NULL,
	attempts     integer NOT NULL,
	created_at   bigint NOT NULL,
	finished_at  bigint,
	token        bigint,
	number       integer,
	status       integer,
	started_at   bigint,
	duration     bigint,
	error        text,
	detail       text,
	response     bytea,
	replay       text COLLATE "C",
	replay_of    text COLLATE "C"
) WITH (fillfactor = 42); -- a page holds all its rows twice, the second time with their attempts
CREATE INDEX {name}delivery_event ON {prefix}delivery (event_id);
CREATE INDEX {name}delivery_endpoint ON {prefix}delivery (endpoint_id, id);

-- What is still to do; one narrow row for each unfinished delivery, deleted at its end.
-- class: 0 fresh, 1 retry, 2 parked behind its predecessor, 3 and 4 dead letters that block (3) or hold (4) their key, 5 parked and ended.
-- due_at: when it may be claimed; of what a send leased for its own process, when that lease ends; of a dead letter, since when it blocks.
-- leased_until: when the lease ends that a claim gave; NULL: due_at tells. No index knows it, so that a claim rewrites the row in place.
-- expires_at: NULL never; 0 ended already, and here only to keep its place in its key.
CREATE TABLE {prefix}queue (
	id          text COLLATE "C" PRIMARY KEY,
	event_id    text COLLATE "C" NOT NULL,
	endpoint_id text COLLATE "C" NOT NULL,
	class       smallint NOT NULL,
	due_at      bigint NOT NULL,
	leased_until bigint,
	expires_at  bigint,
	token       bigint NOT NULL,
	seq         bigint NOT NULL,
	created_at  bigint NOT NULL,
	attempts    integer NOT NULL,
	owner       text COLLATE "C",
	order_key   text COLLATE "C",
	reason      text,
	replay      text COLLATE "C",
	replay_of   text COLLATE "C"
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
	autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0); -- a page holds all its rows twice, the second time leased
CREATE INDEX {name}queue_due ON {prefix}queue (endpoint_id, class, due_at);
CREATE UNIQUE INDEX {name}queue_order ON {prefix}queue (endpoint_id, order_key, seq) WHERE order_key IS NOT NULL;

-- Unfinished deliveries that expire, by when, or by the end of the lease that End met; only those with a time to live are here.
CREATE TABLE {prefix}expiry (
	expires_at bigint NOT NULL,
	id         text COLLATE "C" NOT NULL,
	PRIMARY KEY (expires_at, id)
);

-- Deliveries that ended otherwise than delivered, to be found without a walk over the others.
CREATE TABLE {prefix}failed (
	state       text COLLATE "C" NOT NULL,
	id          text COLLATE "C" NOT NULL,
	endpoint_id text COLLATE "C" NOT NULL,
	PRIMARY KEY (state, id)
);
CREATE INDEX {name}failed_endpoint ON {prefix}failed (endpoint_id, state, id);

-- Events that matched no endpoint, likewise.
CREATE TABLE {prefix}unmatched (
	id         text COLLATE "C" NOT NULL PRIMARY KEY,
	created_at bigint NOT NULL
);
CREATE INDEX {name}unmatched_created ON {prefix}unmatched (created_at);

-- One row for each HTTP try that is not in its delivery; append only. duration is in nanoseconds.
CREATE TABLE {prefix}attempt (
	delivery_id text COLLATE "C" NOT NULL,
	token       bigint NOT NULL,
	number      integer NOT NULL,
	status      integer NOT NULL,
	started_at  bigint NOT NULL,
	duration    bigint NOT NULL,
	next_at     bigint,
	late        boolean NOT NULL,
	error       text NOT NULL,
	detail      text NOT NULL,
	response    bytea,
	PRIMARY KEY (delivery_id, token)
);

-- The last sequence number of each ordering key: the only row that an ordered send locks.
CREATE TABLE {prefix}order_key (
	endpoint_id text COLLATE "C" NOT NULL,
	order_key   text COLLATE "C" NOT NULL,
	tail        bigint NOT NULL,
	PRIMARY KEY (endpoint_id, order_key)
) WITH (fillfactor = 70);

-- What dispatchers know about sending to an endpoint: holds, rate limits and a document of their own; never written by sends.
-- version: of the latest change but those of tat, from the second row of endpoint_version; 0 for none.
-- tat: the theoretical arrival time of GCRA, in nanoseconds since the Unix epoch.
-- tat_depth: how far ahead a burst of the rate it was reckoned with may reach, in nanoseconds.
CREATE TABLE {prefix}endpoint_state (
	endpoint_id text COLLATE "C" PRIMARY KEY,
	held        boolean NOT NULL DEFAULT false,
	hold_kind   text COLLATE "C" NOT NULL DEFAULT '',
	hold_reason text NOT NULL DEFAULT '',
	hold_until  bigint,
	tat         bigint NOT NULL DEFAULT 0,
	tat_depth   bigint NOT NULL DEFAULT 0,
	version     bigint NOT NULL DEFAULT 0,
	not_before  bigint,
	doc         bytea
) WITH (fillfactor = 50);
CREATE INDEX {name}endpoint_held ON {prefix}endpoint_state (endpoint_id) WHERE held;
CREATE INDEX {name}endpoint_state_version ON {prefix}endpoint_state (version) WHERE version > 0;

-- Endpoints; a deleted one stays as a tombstone, so that caches hear of it. types, secrets, credentials and settings are JSON.
-- With Options.Cipher, secrets and credentials are sealed: they begin with the byte 1; and url is scheme and host alone.
CREATE TABLE {prefix}endpoint (
	id          text COLLATE "C" PRIMARY KEY,
	tenant      text COLLATE "C" NOT NULL,
	version     bigint NOT NULL,
	deleted     boolean NOT NULL,
	url         text NOT NULL,
	types       bytea NOT NULL,
	secrets     bytea NOT NULL,
	credentials bytea,
	settings    bytea NOT NULL
);
CREATE INDEX {name}endpoint_version_at ON {prefix}endpoint (version);
CREATE INDEX {name}endpoint_tenant ON {prefix}endpoint (tenant, id);

-- Row 1: the version of the latest change to an endpoint. Row 2: that of the latest change to an endpoint_state.
CREATE TABLE {prefix}endpoint_version (
	one     smallint PRIMARY KEY,
	version bigint NOT NULL
);
INSERT INTO {prefix}endpoint_version (one, version) VALUES (1, 0), (2, 0);

-- Idempotency keys of receivers. state: 0 held until expires_at, 1 done and kept until expires_at.
CREATE TABLE {prefix}dedupe (
	scope      text COLLATE "C" NOT NULL,
	dkey       text COLLATE "C" NOT NULL,
	token      bigint NOT NULL,
	state      smallint NOT NULL,
	digest     bytea,
	expires_at bigint NOT NULL,
	status     integer NOT NULL DEFAULT 0,
	header     bytea,
	body       bytea,
	done_at    bigint,
	PRIMARY KEY (scope, dkey)
) WITH (fillfactor = 50);
CREATE INDEX {name}dedupe_expires ON {prefix}dedupe (expires_at);

-- Replays. settings: filter, pace and target, JSON. pos: how far it has got. due_at: when the next step is due; with an owner, when the lease ends.
CREATE TABLE {prefix}replay (
	id          text COLLATE "C" PRIMARY KEY,
	state       text COLLATE "C" NOT NULL,
	reason      text NOT NULL,
	settings    bytea NOT NULL,
	pos         text COLLATE "C" NOT NULL,
	matched     bigint NOT NULL,
	redelivered bigint NOT NULL,
	passed_over bigint NOT NULL,
	due_at      bigint,
	token       bigint NOT NULL,
	owner       text COLLATE "C",
	created_at  bigint NOT NULL,
	finished_at bigint
) WITH (fillfactor = 50);
CREATE INDEX {name}replay_due ON {prefix}replay (state, due_at);
