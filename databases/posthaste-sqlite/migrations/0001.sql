-- Posthaste, schema 1. Opens in SQLite 3.31 and later; inserting needs the JSON functions.
-- Times are milliseconds since 1970-01-01T00:00:00Z by the clock of the machine that writes.

-- The steps of the schema that have been applied.
CREATE TABLE posthaste_schema (
    -- Number of the step.
    version INTEGER PRIMARY KEY,
    -- When it was applied.
    applied_at INTEGER NOT NULL
        DEFAULT (cast((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER))
);

-- What the tables themselves have to know. Name 'payload_limit': most bytes of a payload.
CREATE TABLE posthaste_setting (
    -- Which setting.
    name TEXT NOT NULL PRIMARY KEY,
    -- Its value.
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- Messages, in the order in which they are sent. Rows are inserted and never changed;
-- "insert into posthaste_outbox (topic, kind, key, payload) values (…)" is enough.
CREATE TABLE posthaste_outbox (
    -- Position; given by the database, never used twice.
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Identity of the message, a UUID; made here (version 7) if it is left out.
    id TEXT NOT NULL ON CONFLICT REPLACE DEFAULT (lower(
        printf('%08x', cast((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER) >> 16)
        || '-'
        || printf('%04x', cast((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER) & 65535)
        || '-7' || substr(hex(randomblob(2)), 2)
        || '-' || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2)
        || '-' || hex(randomblob(6)))),
    -- Where it goes.
    topic TEXT,
    -- What it is, for the consumer to choose a handler by.
    kind TEXT,
    -- What it is about; messages of one topic and key stay in order. NULL: no order.
    key TEXT,
    -- Media type of the payload, if there is something to say about it.
    content_type TEXT,
    -- When it was stated, for people.
    stated_at INTEGER NOT NULL ON CONFLICT REPLACE
        DEFAULT (cast((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER)),
    -- Not to be sent before this. NULL: at once.
    due_at INTEGER,
    -- Names and values that travel along: a JSON object of strings.
    headers TEXT NOT NULL ON CONFLICT REPLACE DEFAULT '{}',
    -- The body, as text or as a blob; delivered byte for byte.
    payload,
    CONSTRAINT "posthaste: leave seq out, the database gives it" CHECK (seq > 0),
    CONSTRAINT "posthaste: id must be a UUID in lower case with hyphens, or be left out"
        CHECK (typeof(id) = 'text' AND length(cast(id AS BLOB)) = 36
            AND id GLOB '????????-????-????-????-????????????'
            AND id NOT GLOB '*[^0-9a-f-]*' AND length(replace(id, '-', '')) = 32),
    CONSTRAINT "posthaste: topic must be 1 to 200 of the characters A-Z a-z 0-9 . _ / -"
        CHECK (topic IS NOT NULL AND typeof(topic) = 'text'
            AND length(cast(topic AS BLOB)) BETWEEN 1 AND 200
            AND length(topic) = length(cast(topic AS BLOB))
            AND topic NOT GLOB '*[^A-Za-z0-9._/-]*'),
    CONSTRAINT "posthaste: kind must be 1 to 200 of the characters A-Z a-z 0-9 . _ / -"
        CHECK (kind IS NOT NULL AND typeof(kind) = 'text'
            AND length(cast(kind AS BLOB)) BETWEEN 1 AND 200
            AND length(kind) = length(cast(kind AS BLOB))
            AND kind NOT GLOB '*[^A-Za-z0-9._/-]*'),
    CONSTRAINT "posthaste: key must be text of 1 to 512 bytes, or be left out"
        CHECK (key IS NULL OR (typeof(key) = 'text'
            AND length(cast(key AS BLOB)) BETWEEN 1 AND 512)),
    CONSTRAINT "posthaste: key holds a NUL character, which not every database can store"
        CHECK (key IS NULL OR instr(key, char(0)) = 0),
    CONSTRAINT "posthaste: content_type must be 1 to 200 visible ASCII characters"
        CHECK (content_type IS NULL OR (typeof(content_type) = 'text'
            AND length(cast(content_type AS BLOB)) BETWEEN 1 AND 200
            AND length(content_type) = length(cast(content_type AS BLOB))
            AND content_type NOT GLOB '*[^ -~]*')),
    CONSTRAINT "posthaste: stated_at must be an integer, milliseconds since 1970"
        CHECK (typeof(stated_at) = 'integer'),
    CONSTRAINT "posthaste: stated_at must be milliseconds since 1970; this looks like microseconds"
        CHECK (typeof(stated_at) <> 'integer' OR stated_at <= 99999999999999),
    CONSTRAINT "posthaste: due_at must be milliseconds since 1970; this looks like seconds or microseconds"
        CHECK (due_at IS NULL OR (typeof(due_at) = 'integer'
            AND due_at BETWEEN 100000000000 AND 99999999999999)),
    CONSTRAINT "posthaste: headers must be a JSON object of strings"
        CHECK (typeof(headers) = 'text' AND instr(headers, char(0)) = 0),
    CONSTRAINT "posthaste: payload must be text or a blob"
        CHECK (payload IS NOT NULL AND typeof(payload) IN ('text', 'blob')),
    CONSTRAINT "posthaste: payload is over 64 MiB; store it elsewhere and send a reference"
        CHECK (payload IS NULL OR length(cast(payload AS BLOB)) <= 67108864)
);

CREATE UNIQUE INDEX posthaste_outbox_id ON posthaste_outbox (id);

-- The default payload limit is looked at without a query; a raised one is read here.
CREATE TRIGGER posthaste_outbox_payload BEFORE INSERT ON posthaste_outbox
WHEN length(cast(NEW.payload AS BLOB)) > 1048576
BEGIN
    SELECT RAISE(ABORT, 'posthaste: payload is over the payload_limit; raise it with posthaste migrate (up to 64 MiB), or store the data elsewhere and send a reference')
    WHERE length(cast(NEW.payload AS BLOB)) > coalesce(
        (SELECT value FROM posthaste_setting WHERE name = 'payload_limit'), 1048576);
END;

-- An escaped NUL is looked for in the text itself, because some versions of SQLite end a value
-- there; pairs of backslashes are taken out first, so that none of them reads as an escape.
CREATE TRIGGER posthaste_outbox_headers BEFORE INSERT ON posthaste_outbox
WHEN NEW.headers <> '{}'
BEGIN
    SELECT RAISE(ABORT, 'posthaste: headers hold more than 32768 bytes; put large data in the payload')
    WHERE length(cast(NEW.headers AS BLOB)) > 262144;
    SELECT RAISE(ABORT, 'posthaste: headers must be a JSON object of strings')
    WHERE json_valid(NEW.headers) = 0;
    SELECT RAISE(ABORT, 'posthaste: headers must be a JSON object of strings')
    WHERE json_type(NEW.headers) <> 'object'
        OR EXISTS (SELECT 1 FROM json_each(NEW.headers) WHERE type <> 'text');
    SELECT RAISE(ABORT, 'posthaste: a header name must be 1 to 64 of the characters a-z 0-9 -')
    WHERE EXISTS (SELECT 1 FROM json_each(NEW.headers) AS h
        WHERE length(cast(h.key AS BLOB)) NOT BETWEEN 1 AND 64
            OR length(h.key) <> length(cast(h.key AS BLOB)) OR h.key GLOB '*[^a-z0-9-]*');
    SELECT RAISE(ABORT, 'posthaste: header names that begin with posthaste- are reserved')
    WHERE EXISTS (SELECT 1 FROM json_each(NEW.headers) AS h WHERE h.key GLOB 'posthaste-*');
    SELECT RAISE(ABORT, 'posthaste: a header value holds a CR, LF or NUL')
    WHERE instr(replace(NEW.headers, '\\', ''), '\u0000') > 0
        OR EXISTS (SELECT 1 FROM json_each(NEW.headers) AS h
            WHERE instr(h.value, char(10)) > 0 OR instr(h.value, char(13)) > 0
                OR instr(h.value, char(0)) > 0);
    SELECT RAISE(ABORT, 'posthaste: a header name is there twice')
    WHERE (SELECT count(*) <> count(DISTINCT h.key) FROM json_each(NEW.headers) AS h);
    SELECT RAISE(ABORT, 'posthaste: more than 64 headers')
    WHERE (SELECT count(*) FROM json_each(NEW.headers)) > 64;
    SELECT RAISE(ABORT, 'posthaste: headers hold more than 32768 bytes; put large data in the payload')
    WHERE (SELECT sum(length(cast(h.key AS BLOB)) + length(cast(h.value AS BLOB)))
        FROM json_each(NEW.headers) AS h) > 32768;
END;

-- "insert or replace" would take away a row that may not be sent yet, and fire no other trigger.
CREATE TRIGGER posthaste_outbox_replace BEFORE INSERT ON posthaste_outbox
WHEN EXISTS (SELECT 1 FROM posthaste_outbox WHERE id = NEW.id)
    OR EXISTS (SELECT 1 FROM posthaste_outbox WHERE seq = NEW.seq)
BEGIN
    SELECT RAISE(ABORT, 'posthaste: a message with this id is in the outbox already')
    WHERE EXISTS (SELECT 1 FROM posthaste_outbox WHERE id = NEW.id);
    SELECT RAISE(ABORT, 'posthaste: leave seq out, the database gives it');
END;

-- A row that arrived behind a reader would never be sent.
CREATE TRIGGER posthaste_outbox_seq AFTER INSERT ON posthaste_outbox
WHEN NEW.seq < coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'posthaste_outbox'), 0)
    OR NEW.seq <= coalesce((SELECT max(position) FROM posthaste_checkpoint), 0)
    OR NEW.seq > 4611686018427387904
BEGIN
    SELECT RAISE(ABORT, 'posthaste: leave seq out, the database gives it');
END;

CREATE TRIGGER posthaste_outbox_update BEFORE UPDATE ON posthaste_outbox
BEGIN
    SELECT RAISE(ABORT, 'posthaste: a row of the outbox is never changed; insert another one');
END;

-- How far each destination has come: every row up to position has a verdict. A destination is here
-- from the first start of its relay on, and keeps what it has not sent until its row is deleted.
CREATE TABLE posthaste_checkpoint (
    -- Where messages go to.
    destination TEXT NOT NULL PRIMARY KEY,
    -- A seq of posthaste_outbox.
    position INTEGER NOT NULL,
    -- When it was last moved.
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Rows of the outbox that the checkpoint has passed and that are not sent yet.
CREATE TABLE posthaste_held (
    -- For which destination.
    destination TEXT NOT NULL,
    -- Which row of posthaste_outbox.
    seq INTEGER NOT NULL,
    -- Its topic.
    topic TEXT NOT NULL,
    -- Its kind.
    kind TEXT NOT NULL,
    -- Its key.
    key TEXT,
    -- due: before its time. retry: tried again at ready_at. behind: waits behind its key.
    -- parked: is a dead letter and holds back its key. unroutable: nobody is bound to its topic
    -- and kind; the first of these has a ready_at, 0 while the others are let go.
    state TEXT NOT NULL CHECK (state IN ('due', 'retry', 'behind', 'parked', 'unroutable')),
    -- Counted attempts.
    attempts INTEGER NOT NULL DEFAULT 0,
    -- When it may be sent; NULL while that depends on others.
    ready_at INTEGER,
    -- What the last failure said.
    detail TEXT,
    -- When it first failed.
    first_failed_at INTEGER,
    -- The last failures, a JSON array of {"at": microseconds, "attempt": number, "detail": text}.
    history TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (destination, seq)
) WITHOUT ROWID;

CREATE INDEX posthaste_held_ready ON posthaste_held (destination, ready_at)
    WHERE ready_at IS NOT NULL;

CREATE INDEX posthaste_held_line ON posthaste_held (destination, topic, key, seq)
    WHERE key IS NOT NULL AND state NOT IN ('due', 'unroutable');

-- Those of one topic and kind that nobody is bound to, in order; which of them is tried; by key.
CREATE INDEX posthaste_held_route ON posthaste_held (destination, topic, kind, seq)
    WHERE state = 'unroutable';

CREATE INDEX posthaste_held_probe ON posthaste_held (destination, topic, kind, ready_at)
    WHERE state = 'unroutable' AND ready_at IS NOT NULL;

CREATE INDEX posthaste_held_aside ON posthaste_held (destination, topic, key, kind)
    WHERE state = 'unroutable' AND key IS NOT NULL;

-- Who may act, until when, and with which token.
CREATE TABLE posthaste_lease (
    -- What the lease is on.
    name TEXT NOT NULL PRIMARY KEY,
    -- Who has it.
    owner TEXT NOT NULL,
    -- Grows with every change of owner; every settlement carries it.
    token INTEGER NOT NULL,
    -- When it runs out; 0 if it was given back.
    expires_at INTEGER NOT NULL,
    -- For how long it was last granted; one that would last longer has run out, because the clock
    -- was set back.
    ttl INTEGER NOT NULL,
    -- Number of the last settlement under this token.
    settlement INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- One row per settlement: what was sent when.
CREATE TABLE posthaste_batch (
    -- Number of the row.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Where the messages went.
    destination TEXT NOT NULL,
    -- Token of the lease it was settled under.
    token INTEGER NOT NULL,
    -- Number of the settlement under that token.
    settlement INTEGER NOT NULL,
    -- When it was settled.
    at INTEGER NOT NULL,
    -- Messages sent.
    sent INTEGER NOT NULL,
    -- Failed attempts.
    failed INTEGER NOT NULL,
    -- Messages that became dead letters.
    dead INTEGER NOT NULL,
    -- Lowest seq with a verdict in it.
    first_position INTEGER,
    -- Highest seq with a verdict in it.
    last_position INTEGER
);

CREATE INDEX posthaste_batch_at ON posthaste_batch (destination, at);

-- What each consumer is done with. From any language, inside the transaction of the handler:
-- "insert or ignore into posthaste_inbox (consumer, id) values (?, ?)", then look at changes().
CREATE TABLE posthaste_inbox (
    -- Name of the consumer.
    consumer TEXT NOT NULL,
    -- Id of the message, a UUID in lower case with hyphens.
    id TEXT NOT NULL,
    -- done: handled. dead: given up, there is a dead letter.
    outcome TEXT NOT NULL DEFAULT 'done' CHECK (outcome IN ('done', 'dead')),
    -- When.
    done_at INTEGER NOT NULL
        DEFAULT (cast((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER)),
    PRIMARY KEY (consumer, id)
) WITHOUT ROWID;

CREATE INDEX posthaste_inbox_done ON posthaste_inbox (consumer, outcome, done_at);

-- Attempts of consumers on messages that they are not done with.
CREATE TABLE posthaste_attempt (
    -- Name of the consumer.
    consumer TEXT NOT NULL,
    -- Id of the message.
    id TEXT NOT NULL,
    -- How many were begun.
    attempts INTEGER NOT NULL,
    -- When the first was begun.
    first_at INTEGER NOT NULL,
    -- When the last was begun or failed.
    last_at INTEGER NOT NULL,
    -- What the last failure said.
    detail TEXT,
    -- The last failures, as in posthaste_held.
    history TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (consumer, id)
) WITHOUT ROWID;

CREATE INDEX posthaste_attempt_last ON posthaste_attempt (consumer, last_at);

-- What could not be delivered or handled, whole. The columns of the message have no type, so
-- that a row that is not a message is kept as it was written.
CREATE TABLE posthaste_dead_letter (
    -- What operators call it by.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- relay: could not be sent. consumer: could not be handled.
    side TEXT NOT NULL CHECK (side IN ('relay', 'consumer')),
    -- Name of the destination or of the consumer.
    name TEXT NOT NULL,
    -- Row of posthaste_outbox, on the side of the relay.
    seq INTEGER,
    -- Id as written.
    id,
    -- Topic as written.
    topic,
    -- Kind as written.
    kind,
    -- Key as written.
    key,
    -- Headers as written.
    headers,
    -- Media type as written.
    content_type,
    -- Body as written.
    payload,
    -- When it was stated, as written.
    stated_at,
    -- When it was due, as written.
    due_at,
    -- Code of the reason.
    reason TEXT NOT NULL,
    -- What was said at the end.
    detail TEXT NOT NULL,
    -- Counted attempts.
    attempts INTEGER NOT NULL,
    -- When it first failed.
    first_failed_at INTEGER,
    -- When it became a dead letter.
    dead_at INTEGER NOT NULL,
    -- The last failures, as in posthaste_held.
    history TEXT NOT NULL DEFAULT '[]',
    -- dead: waits for an operator. reposted: waits for its consumer to handle it again.
    state TEXT NOT NULL DEFAULT 'dead' CHECK (state IN ('dead', 'reposted')),
    -- 1 if later messages of its key wait with it.
    parked INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX posthaste_dead_letter_seq ON posthaste_dead_letter (name, seq)
    WHERE seq IS NOT NULL;

CREATE INDEX posthaste_dead_letter_id ON posthaste_dead_letter (id);

-- What operators did with dead letters.
CREATE TABLE posthaste_audit (
    -- Number of the act.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- When.
    at INTEGER NOT NULL,
    -- Who.
    actor TEXT NOT NULL,
    -- repost or discard.
    action TEXT NOT NULL CHECK (action IN ('repost', 'discard')),
    -- Number of the dead letter.
    dead_letter INTEGER NOT NULL,
    -- Its side.
    side TEXT NOT NULL,
    -- Its destination or consumer.
    name TEXT NOT NULL,
    -- Its row of posthaste_outbox.
    seq INTEGER,
    -- Id of the message as written.
    id,
    -- Topic as written.
    topic,
    -- Kind as written.
    kind,
    -- Key as written.
    key,
    -- Headers of a discarded one.
    headers,
    -- Body of a discarded one, unless it is over 64 KiB.
    payload,
    -- Why it was a dead letter.
    died_of TEXT NOT NULL,
    -- Why it was given up; NULL for a repost.
    reason TEXT
);
