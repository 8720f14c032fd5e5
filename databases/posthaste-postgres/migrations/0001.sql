-- Posthaste, schema 1. Needs PostgreSQL 14 or later and a database in UTF-8.
-- The name of the schema, "posthaste" here, is put in when the steps are applied.

CREATE SCHEMA posthaste;

-- The steps of the schema that have been applied.
CREATE TABLE posthaste.schema_version (
    -- Number of the step.
    version integer PRIMARY KEY,
    -- When it was applied.
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What the tables themselves have to know. Name 'payload_limit': most bytes of a payload.
CREATE TABLE posthaste.setting (
    -- Which setting.
    name text PRIMARY KEY,
    -- Its value.
    value bigint NOT NULL
);

-- Which database the transaction ids of the outbox belong to: one row.
CREATE TABLE posthaste.cluster (
    -- Always true, so that there is one row.
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- The system identifier of the cluster.
    system_identifier bigint NOT NULL,
    -- The oid of the database in it.
    database_oid bigint NOT NULL,
    -- The name of the database, for people.
    database_name text NOT NULL,
    -- When this was noted.
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

INSERT INTO posthaste.cluster (system_identifier, database_oid, database_name)
SELECT s.system_identifier, d.oid::bigint, d.datname
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database();

-- A new id: a UUID of version 7, ordered by time. Functions whose body is written like this are
-- bound to what they call when they are made, so that no search_path can change them.
CREATE FUNCTION posthaste.new_id() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN encode(
    set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid())
            PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
                FROM 3)
            FROM 1 FOR 6),
        52, 1), 53, 1),
    'hex')::uuid;

-- What decides the lane of a message: 32 bits of its key, or of its id if it has none.
CREATE FUNCTION posthaste.lane_hash(key text, id uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' || left(md5(coalesce(key, id::text)), 8))::bit(32)::bigint;

-- What is wrong with headers; NULL if nothing is.
CREATE FUNCTION posthaste.headers_fault(headers jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN jsonb_typeof(headers) <> 'object'
        OR EXISTS (SELECT 1 FROM jsonb_each(headers) h WHERE jsonb_typeof(h.value) <> 'string')
    THEN 'posthaste: headers must be a JSON object of strings'
    WHEN (SELECT count(*) FROM jsonb_object_keys(headers)) > 64
    THEN 'posthaste: more than 64 headers'
    WHEN (SELECT sum(octet_length(h.key) + octet_length(h.value))
        FROM jsonb_each_text(headers) h) > 32768
    THEN 'posthaste: headers hold more than 32768 bytes; put large data in the payload'
    WHEN EXISTS (SELECT 1 FROM jsonb_object_keys(headers) name
        WHERE octet_length(name) NOT BETWEEN 1 AND 64 OR name COLLATE "C" ~ '[^a-z0-9-]')
    THEN 'posthaste: a header name must be 1 to 64 of the characters a-z 0-9 -'
    WHEN EXISTS (SELECT 1 FROM jsonb_object_keys(headers) name WHERE starts_with(name, 'posthaste-'))
    THEN 'posthaste: header names that begin with posthaste- are reserved'
    WHEN EXISTS (SELECT 1 FROM jsonb_each_text(headers) h WHERE h.value COLLATE "C" ~ '[\r\n]')
    THEN 'posthaste: a header value holds a CR or LF'
END;

-- True, or an error that says what is wrong.
CREATE FUNCTION posthaste.headers_hold(headers jsonb) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    fault CONSTANT text := posthaste.headers_fault(headers);
BEGIN
    IF fault IS NULL THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = fault,
        CONSTRAINT = 'posthaste: headers';
END
$$;

-- Messages, in the order in which they are sent, but for those that commit late. Rows are inserted
-- and never changed; "insert into posthaste.outbox (topic, kind, key, payload) values (…)" is
-- enough.
CREATE TABLE posthaste.outbox (
    -- Position; given by the database, never used twice.
    seq bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    -- The transaction that stated it; given by the database.
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    -- Identity of the message; made here (version 7) if it is left out.
    id uuid NOT NULL DEFAULT posthaste.new_id(),
    -- When it was stated, for people.
    stated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Not to be sent before this. NULL: at once.
    due_at timestamptz,
    -- Where it goes.
    topic text NOT NULL,
    -- What it is, for the consumer to choose a handler by.
    kind text NOT NULL,
    -- What it is about; messages of one topic and key stay in order. NULL: no order.
    key text,
    -- Media type of the payload, if there is something to say about it.
    content_type text,
    -- Names and values that travel along: a JSON object of strings.
    headers jsonb NOT NULL DEFAULT '{}',
    -- The body, if it is text; delivered byte for byte.
    payload text,
    -- The body, if it is bytes. Exactly one of the two is given.
    payload_bytes bytea,
    PRIMARY KEY (seq),
    CONSTRAINT "posthaste: topic must be 1 to 200 of A-Z a-z 0-9 . _ / -"
        CHECK (octet_length(topic) BETWEEN 1 AND 200
            AND topic COLLATE "C" !~ '[^A-Za-z0-9._/-]'),
    CONSTRAINT "posthaste: kind must be 1 to 200 of A-Z a-z 0-9 . _ / -"
        CHECK (octet_length(kind) BETWEEN 1 AND 200
            AND kind COLLATE "C" !~ '[^A-Za-z0-9._/-]'),
    CONSTRAINT "posthaste: key must be text of 1 to 512 bytes or left out"
        CHECK (octet_length(key) BETWEEN 1 AND 512),
    CONSTRAINT "posthaste: content_type must be 1 to 200 of visible ASCII"
        CHECK (octet_length(content_type) BETWEEN 1 AND 200
            AND content_type COLLATE "C" !~ '[^ -~]'),
    CONSTRAINT "posthaste: stated_at must be a time before the year 5138"
        CHECK (isfinite(stated_at) AND stated_at < '5138-01-01 00:00:00+00'),
    CONSTRAINT "posthaste: due_at must be a time before the year 5138"
        CHECK (isfinite(due_at) AND due_at < '5138-01-01 00:00:00+00'),
    CONSTRAINT "posthaste: headers"
        CHECK (headers = '{}' OR posthaste.headers_hold(headers)),
    CONSTRAINT "posthaste: give either payload or payload_bytes"
        CHECK (num_nonnulls(payload, payload_bytes) = 1),
    CONSTRAINT "posthaste: payload is over the payload_limit"
        CHECK (coalesce(octet_length(payload), octet_length(payload_bytes)) <= 1048576),
    -- The reader trusts xid, so nobody may give it, not even an owner or COPY; and as no later
    -- transaction has the same, no row can be changed. Rows that a dump brings back or that
    -- arrive by logical replication keep theirs: then one of the two settings is as it says.
    CONSTRAINT "posthaste: leave xid out; a row of the outbox is never changed"
        CHECK (xid = pg_current_xact_id()
            OR current_setting('check_function_bodies') = 'off'
            OR current_setting('session_replication_role') = 'replica')
) PARTITION BY RANGE (seq);

-- Finds what committed late, in order, without a look at rows that the reader has not come to.
CREATE INDEX outbox_xid ON posthaste.outbox (xid, seq);

-- The relay makes further partitions ahead and takes old ones away. Where it could not, rows go to
-- the last one, which has no end.
CREATE TABLE posthaste.outbox_p00001 PARTITION OF posthaste.outbox
    FOR VALUES FROM (1) TO (100001);
CREATE TABLE posthaste.outbox_p00002 PARTITION OF posthaste.outbox
    FOR VALUES FROM (100001) TO (200001);
CREATE TABLE posthaste.outbox_p00003 PARTITION OF posthaste.outbox
    FOR VALUES FROM (200001) TO (300001);
CREATE TABLE posthaste.outbox_overflow PARTITION OF posthaste.outbox
    FOR VALUES FROM (300001) TO (MAXVALUE);

-- States a message in the caller's transaction and returns its id.
CREATE FUNCTION posthaste.publish(
    topic text, kind text, payload text, key text DEFAULT NULL, headers jsonb DEFAULT '{}',
    due timestamptz DEFAULT NULL, content_type text DEFAULT NULL, id uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    -- Made beforehand, because returning it from the insert takes a right to read the table.
    given CONSTANT uuid := coalesce(publish.id, posthaste.new_id());
BEGIN
    INSERT INTO posthaste.outbox
        (id, topic, kind, key, headers, due_at, content_type, payload)
    VALUES (given, publish.topic, publish.kind, publish.key, coalesce(publish.headers, '{}'),
        publish.due, publish.content_type, publish.payload);
    RETURN given;
END
$$;

-- The same with a payload of bytes.
CREATE FUNCTION posthaste.publish(
    topic text, kind text, payload bytea, key text DEFAULT NULL, headers jsonb DEFAULT '{}',
    due timestamptz DEFAULT NULL, content_type text DEFAULT NULL, id uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    given CONSTANT uuid := coalesce(publish.id, posthaste.new_id());
BEGIN
    INSERT INTO posthaste.outbox
        (id, topic, kind, key, headers, due_at, content_type, payload_bytes)
    VALUES (given, publish.topic, publish.kind, publish.key, coalesce(publish.headers, '{}'),
        publish.due, publish.content_type, publish.payload);
    RETURN given;
END
$$;

-- The same with JSON, which is sent as PostgreSQL prints it.
CREATE FUNCTION posthaste.publish(
    topic text, kind text, payload jsonb, key text DEFAULT NULL, headers jsonb DEFAULT '{}',
    due timestamptz DEFAULT NULL, content_type text DEFAULT NULL, id uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT posthaste.publish(publish.topic, publish.kind, publish.payload::text, publish.key,
        publish.headers, publish.due, publish.content_type, publish.id);
END;

-- The same with JSON that keeps its spelling.
CREATE FUNCTION posthaste.publish(
    topic text, kind text, payload json, key text DEFAULT NULL, headers jsonb DEFAULT '{}',
    due timestamptz DEFAULT NULL, content_type text DEFAULT NULL, id uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT posthaste.publish(publish.topic, publish.kind, publish.payload::text, publish.key,
        publish.headers, publish.due, publish.content_type, publish.id);
END;

-- How far each lane of each destination has come. A destination is here from the first start of its
-- relay on, and keeps what it has not sent until its rows are deleted.
CREATE TABLE posthaste.checkpoint (
    -- Where messages go to.
    destination text NOT NULL,
    -- Which lane, counted from 0.
    lane integer NOT NULL,
    -- Of how many.
    of integer NOT NULL,
    -- What has been sent, as the relay writes it.
    token text NOT NULL,
    -- The highest seq of posthaste.outbox that it has come to.
    through bigint NOT NULL,
    -- When it was last moved.
    moved_at timestamptz NOT NULL,
    PRIMARY KEY (destination, of, lane)
) WITH (fillfactor = 50);

-- Into how many lanes each destination is divided.
CREATE TABLE posthaste.lanes (
    -- Which destination.
    destination text PRIMARY KEY,
    -- How many there are.
    now integer NOT NULL DEFAULT 1 CHECK (now BETWEEN 1 AND 64),
    -- How many there shall be.
    wanted integer NOT NULL DEFAULT 1 CHECK (wanted BETWEEN 1 AND 64)
) WITH (fillfactor = 50);

-- Rows of the outbox that the checkpoint has passed and that are not sent yet.
CREATE TABLE posthaste.held (
    -- For which destination.
    destination text NOT NULL,
    -- Which row of posthaste.outbox.
    seq bigint NOT NULL,
    -- Its posthaste.lane_hash.
    hash bigint NOT NULL,
    -- Its topic.
    topic text NOT NULL,
    -- Its kind.
    kind text NOT NULL,
    -- Its key.
    key text,
    -- due: before its time. retry: tried again at ready_at. behind: waits behind its key.
    -- parked: is a dead letter and holds back its key. unroutable: nobody is bound to its topic
    -- and kind.
    state text NOT NULL CHECK (state IN ('due', 'retry', 'behind', 'parked', 'unroutable')),
    -- Counted attempts.
    attempts integer NOT NULL DEFAULT 0,
    -- When it may be sent; NULL while that depends on others.
    ready_at timestamptz,
    -- What the last failure said.
    detail text,
    -- When it first failed.
    first_failed_at timestamptz,
    -- The last failures, a JSON array of {"at": microseconds, "attempt": number, "detail": text}.
    history jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (destination, seq)
);

CREATE INDEX held_ready ON posthaste.held (destination, ready_at) WHERE ready_at IS NOT NULL;

CREATE INDEX held_line ON posthaste.held (destination, topic, key, seq)
    WHERE key IS NOT NULL AND state IN ('retry', 'behind', 'parked');

CREATE INDEX held_route ON posthaste.held (destination, topic, kind, seq)
    WHERE state = 'unroutable';

-- Who may act, until when, and with which token.
CREATE TABLE posthaste.lease (
    -- What the lease is on.
    name text PRIMARY KEY,
    -- Who has it.
    owner text NOT NULL,
    -- Grows with every change of owner; every settlement carries it.
    token bigint NOT NULL,
    -- When it runs out; 1970 if it was given back.
    expires_at timestamptz NOT NULL,
    -- For how long it was last granted; one that would last longer has run out, because the clock
    -- was set back.
    ttl interval NOT NULL,
    -- Number of the last settlement under this token.
    settlement bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- One row per settlement: what was sent when.
CREATE TABLE posthaste.batch (
    -- Number of the row.
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Where the messages went.
    destination text NOT NULL,
    -- Which lane, counted from 0.
    lane integer NOT NULL,
    -- Token of the lease it was settled under.
    token bigint NOT NULL,
    -- Number of the settlement under that token.
    settlement bigint NOT NULL,
    -- When it was settled.
    at timestamptz NOT NULL,
    -- Messages sent.
    sent bigint NOT NULL,
    -- Failed attempts.
    failed bigint NOT NULL,
    -- Messages that became dead letters.
    dead bigint NOT NULL,
    -- Lowest seq with a verdict in it.
    first_position bigint,
    -- Highest seq with a verdict in it.
    last_position bigint
);

CREATE INDEX batch_at ON posthaste.batch (destination, at);

-- What each consumer is done with. From any language, inside the transaction of the handler:
-- "insert into posthaste.inbox (consumer, id) values (…) on conflict do nothing", then look at how
-- many rows that inserted.
CREATE TABLE posthaste.inbox (
    -- Name of the consumer.
    consumer text NOT NULL,
    -- Id of the message.
    id uuid NOT NULL,
    -- done: handled. dead: given up, there is a dead letter.
    outcome text NOT NULL DEFAULT 'done' CHECK (outcome IN ('done', 'dead')),
    -- When.
    done_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, id)
);

CREATE INDEX inbox_done ON posthaste.inbox (consumer, done_at, id) WHERE outcome = 'done';

-- Attempts of consumers on messages that they are not done with.
CREATE TABLE posthaste.attempt (
    -- Name of the consumer.
    consumer text NOT NULL,
    -- Id of the message.
    id uuid NOT NULL,
    -- How many were begun.
    attempts integer NOT NULL,
    -- When the first was begun.
    first_at timestamptz NOT NULL,
    -- When the last was begun or failed.
    last_at timestamptz NOT NULL,
    -- What the last failure said.
    detail text,
    -- The last failures, as in posthaste.held.
    history jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (consumer, id)
) WITH (fillfactor = 70);

CREATE INDEX attempt_last ON posthaste.attempt (consumer, last_at);

-- What could not be delivered or handled, whole. Where a row of the outbox was not a message,
-- because somebody took away the checks, this keeps it as it was written.
CREATE TABLE posthaste.dead_letter (
    -- What operators call it by.
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- relay: could not be sent. consumer: could not be handled.
    side text NOT NULL CHECK (side IN ('relay', 'consumer')),
    -- Name of the destination or of the consumer.
    name text NOT NULL,
    -- Row of posthaste.outbox, on the side of the relay.
    seq bigint,
    -- Id of the message.
    id uuid,
    -- Topic as written.
    topic text,
    -- Kind as written.
    kind text,
    -- Key as written.
    key text,
    -- Headers as written.
    headers jsonb,
    -- Media type as written.
    content_type text,
    -- Body as written, if it is text.
    payload text,
    -- Body as written, if it is bytes.
    payload_bytes bytea,
    -- When it was stated.
    stated_at timestamptz,
    -- When it was due.
    due_at timestamptz,
    -- Code of the reason.
    reason text NOT NULL,
    -- What was said at the end.
    detail text NOT NULL,
    -- Counted attempts.
    attempts integer NOT NULL,
    -- When it first failed.
    first_failed_at timestamptz,
    -- When it became a dead letter.
    dead_at timestamptz NOT NULL,
    -- The last failures, as in posthaste.held.
    history jsonb NOT NULL DEFAULT '[]',
    -- dead: waits for an operator. reposted: waits for its consumer to handle it again.
    state text NOT NULL DEFAULT 'dead' CHECK (state IN ('dead', 'reposted')),
    -- Whether later messages of its key wait with it.
    parked boolean NOT NULL DEFAULT false
);

CREATE INDEX dead_letter_seq ON posthaste.dead_letter (name, seq) WHERE seq IS NOT NULL;

CREATE INDEX dead_letter_id ON posthaste.dead_letter (id);

CREATE INDEX dead_letter_reposted ON posthaste.dead_letter (name, number)
    WHERE state = 'reposted';

-- What operators did with dead letters, and adoptions of a database.
CREATE TABLE posthaste.audit (
    -- Number of the act.
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- When.
    at timestamptz NOT NULL,
    -- Who.
    actor text NOT NULL,
    -- repost, discard or adopt.
    action text NOT NULL CHECK (action IN ('repost', 'discard', 'adopt')),
    -- Number of the dead letter.
    dead_letter bigint,
    -- Its side.
    side text,
    -- Its destination or consumer.
    name text,
    -- Its row of posthaste.outbox; the highest one at an adoption.
    seq bigint,
    -- Id of the message.
    id uuid,
    -- Topic as written.
    topic text,
    -- Kind as written.
    kind text,
    -- Key as written.
    key text,
    -- Headers of a discarded one.
    headers jsonb,
    -- Body of a discarded one if it is text, unless it is over 64 KiB.
    payload text,
    -- Body of a discarded one if it is bytes, unless it is over 64 KiB.
    payload_bytes bytea,
    -- Why it was a dead letter.
    died_of text,
    -- Why it was given up; NULL for a repost.
    reason text
);

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA posthaste FROM PUBLIC;
