-- Posthaste, schema 1. Needs PostgreSQL 14 or later and a database in UTF-8.
-- The name of the schema, "posthaste" here, is put in when the steps are applied.

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
    name text COLLATE "C" PRIMARY KEY,
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
    -- Rows up to this seq have transaction ids of an earlier database; readers that start compare
    -- those above it only. 0 where nothing was adopted.
    floor bigint NOT NULL DEFAULT 0,
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

-- What decides the lane of a message: the first 32 bits of the SHA-256 of its key, or of its id if
-- it has none. As stable as convert_to, so that it is put into the queries that use it.
CREATE FUNCTION posthaste.lane_hash(key text, id uuid) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN ('x' || left(encode(sha256(convert_to(coalesce(key, id::text), 'UTF8')), 'hex'), 8))
    ::bit(32)::bigint;

-- A history of failures with one more, and without its oldest when it is full.
CREATE FUNCTION posthaste.longer_history(
    history jsonb, at timestamptz, attempt integer, detail text
) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_array_length(history) >= 20 THEN history - 0 ELSE history END
    || jsonb_build_array(jsonb_build_object('at', (extract(epoch FROM at) * 1000000)::bigint,
        'attempt', attempt, 'detail', detail));

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
    topic text COLLATE "C" NOT NULL,
    -- What it is, for the consumer to choose a handler by.
    kind text COLLATE "C" NOT NULL,
    -- What it is about; messages of one topic and key stay in order. NULL: no order.
    key text COLLATE "C",
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
    destination text COLLATE "C" NOT NULL,
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
    destination text COLLATE "C" PRIMARY KEY,
    -- How many there are.
    now integer NOT NULL DEFAULT 1 CHECK (now BETWEEN 1 AND 64),
    -- How many there shall be.
    wanted integer NOT NULL DEFAULT 1 CHECK (wanted BETWEEN 1 AND 64)
) WITH (fillfactor = 50);

-- Rows of the outbox that the checkpoint has passed and that are not sent yet.
CREATE TABLE posthaste.held (
    -- For which destination.
    destination text COLLATE "C" NOT NULL,
    -- Which row of posthaste.outbox.
    seq bigint NOT NULL,
    -- Its posthaste.lane_hash.
    hash bigint NOT NULL,
    -- The lane that it falls into as the destination is divided now.
    lane integer NOT NULL,
    -- Its topic.
    topic text COLLATE "C" NOT NULL,
    -- Its kind.
    kind text COLLATE "C" NOT NULL,
    -- Its key.
    key text COLLATE "C",
    -- due: before its time. retry: tried again at ready_at. behind: waits behind its key.
    -- parked: is a dead letter and holds back its key. unroutable: nobody is bound to its topic
    -- and kind.
    state text COLLATE "C" NOT NULL
        CHECK (state IN ('due', 'retry', 'behind', 'parked', 'unroutable')),
    -- Counted attempts.
    attempts integer NOT NULL DEFAULT 0,
    -- When it may be sent; NULL while that depends on others. Of what is unroutable, 1970 says that
    -- others were sent and these follow in portions.
    ready_at timestamptz,
    -- What the last failure said.
    detail text,
    -- When it first failed.
    first_failed_at timestamptz,
    -- The last failures, a JSON array of {"at": microseconds, "attempt": number, "detail": text}.
    history jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (destination, seq)
);

CREATE INDEX held_ready ON posthaste.held (destination, lane, ready_at, seq)
    WHERE ready_at IS NOT NULL;

CREATE INDEX held_line ON posthaste.held (destination, topic, key, seq)
    WHERE key IS NOT NULL AND state IN ('retry', 'behind', 'parked');

CREATE INDEX held_route ON posthaste.held (destination, lane, topic, kind, seq)
    WHERE state = 'unroutable';

-- The one of each lane, topic and kind that is tried for the others.
CREATE INDEX held_probe ON posthaste.held (destination, lane, topic, kind)
    WHERE state = 'unroutable' AND ready_at IS NOT NULL;

-- Keys of which some are set aside.
CREATE INDEX held_aside ON posthaste.held (destination, topic, key)
    WHERE state = 'unroutable' AND key IS NOT NULL;

-- Who may act, until when, and with which token.
CREATE TABLE posthaste.lease (
    -- What the lease is on.
    name text COLLATE "C" PRIMARY KEY,
    -- Who has it.
    owner text COLLATE "C" NOT NULL,
    -- Grows with every change of owner; every settlement carries it.
    token bigint NOT NULL,
    -- When it runs out; 1970 if it was given back.
    expires_at timestamptz NOT NULL,
    -- For how long it was last granted; one that would last longer has run out, because the clock
    -- was set back.
    ttl interval NOT NULL,
    -- Number of the last settlement under this token.
    settlement bigint NOT NULL DEFAULT 0,
    -- The posthaste.server_life it was granted in; it holds in no other.
    server_life text NOT NULL
) WITH (fillfactor = 50);

-- One row per settlement: what was sent when.
CREATE TABLE posthaste.batch (
    -- Number of the row.
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Where the messages went.
    destination text COLLATE "C" NOT NULL,
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
    consumer text COLLATE "C" NOT NULL,
    -- Id of the message.
    id uuid NOT NULL,
    -- done: handled. dead: given up, there is a dead letter.
    outcome text COLLATE "C" NOT NULL DEFAULT 'done' CHECK (outcome IN ('done', 'dead')),
    -- When.
    done_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, id)
);

CREATE INDEX inbox_done ON posthaste.inbox (consumer, done_at, id) WHERE outcome = 'done';

-- Attempts of consumers on messages that they are not done with.
CREATE TABLE posthaste.attempt (
    -- Name of the consumer.
    consumer text COLLATE "C" NOT NULL,
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
    side text COLLATE "C" NOT NULL CHECK (side IN ('relay', 'consumer')),
    -- Name of the destination or of the consumer.
    name text COLLATE "C" NOT NULL,
    -- Row of posthaste.outbox, on the side of the relay.
    seq bigint,
    -- Id of the message.
    id uuid,
    -- Topic as written.
    topic text COLLATE "C",
    -- Kind as written.
    kind text COLLATE "C",
    -- Key as written.
    key text COLLATE "C",
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
    state text COLLATE "C" NOT NULL DEFAULT 'dead' CHECK (state IN ('dead', 'reposted')),
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
    side text COLLATE "C",
    -- Its destination or consumer.
    name text COLLATE "C",
    -- Its row of posthaste.outbox; the highest one at an adoption.
    seq bigint,
    -- Id of the message.
    id uuid,
    -- Topic as written.
    topic text COLLATE "C",
    -- Kind as written.
    kind text COLLATE "C",
    -- Key as written.
    key text COLLATE "C",
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

-- ---------------------------------------------------------------------------------------------
-- What consumers do with dead letters, with the rights of the owner: of the table they have none,
-- so that the letters of relays are out of their reach.

-- Takes away what was reposted and is handled now.
CREATE FUNCTION posthaste.take_reposted(the_consumer text, ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM posthaste.dead_letter d WHERE d.side = 'consumer' AND d.name = the_consumer
        AND d.state = 'reposted' AND d.id = ANY (ids);
END
$$;

-- What was reposted, oldest first.
CREATE FUNCTION posthaste.reposted(the_consumer text, most bigint) RETURNS TABLE (
    id uuid, topic text, kind text, key text, content_type text, headers text, payload text,
    payload_bytes bytea, stated_at timestamptz, due_at timestamptz
)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT d.id, d.topic, d.kind, d.key, d.content_type, d.headers::text, d.payload,
        d.payload_bytes, d.stated_at, d.due_at
    FROM posthaste.dead_letter d
    WHERE d.side = 'consumer' AND d.name = the_consumer AND d.state = 'reposted'
    ORDER BY d.number LIMIT most;
END
$$;

-- Writes a dead letter with what is known of its attempts. A second burial of what is dead already
-- changes nothing.
CREATE FUNCTION posthaste.bury(
    the_consumer text, the_id uuid, the_topic text, the_kind text, the_key text,
    the_content_type text, the_stated_at timestamptz, the_due_at timestamptz, the_headers jsonb,
    the_payload text, the_payload_bytes bytea, the_reason text, the_detail text,
    the_attempts integer
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    clock CONSTANT timestamptz := clock_timestamp();
    tried record;
BEGIN
    DELETE FROM posthaste.attempt a WHERE a.consumer = the_consumer AND a.id = the_id
    RETURNING a.first_at, a.history INTO tried;
    PERFORM posthaste.take_reposted(the_consumer, ARRAY[the_id]);
    INSERT INTO posthaste.dead_letter (side, name, id, topic, kind, key, content_type, stated_at,
        due_at, headers, payload, payload_bytes, reason, detail, attempts, first_failed_at,
        dead_at, history)
    SELECT 'consumer', the_consumer, the_id, the_topic, the_kind, the_key, the_content_type,
        the_stated_at, the_due_at, the_headers, the_payload, the_payload_bytes, the_reason,
        the_detail, the_attempts, coalesce(tried.first_at, clock), clock,
        coalesce(tried.history, '[]')
    WHERE NOT EXISTS (SELECT 1 FROM posthaste.dead_letter d WHERE d.side = 'consumer'
        AND d.name = the_consumer AND d.id = the_id AND d.state = 'dead');
END
$$;

-- ---------------------------------------------------------------------------------------------
-- What the relay does, each in one round trip. Functions, because a plan that is made anew for
-- every call costs more than the call, and because the settings under which these plans are good
-- then hold whatever pool, proxy or server default stands in between.

-- Fails where transaction ids mean something else than the checkpoints say.
CREATE FUNCTION posthaste.refuse_foreign() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Who this server is never changes while it runs, so each session finds it out once.
    here text := current_setting('posthaste_relay.here', true);
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION USING ERRCODE = 'read_only_sql_transaction',
            MESSAGE = 'posthaste: this server is a standby; its snapshots say nothing of commits';
    END IF;
    IF coalesce(here, '') = '' THEN
        SELECT set_config('posthaste_relay.here', s.system_identifier || '/' || d.oid, false)
        INTO here FROM pg_control_system() s, pg_database d WHERE d.datname = current_database();
    END IF;
    IF NOT EXISTS (SELECT 1 FROM posthaste.cluster c
        WHERE c.system_identifier || '/' || c.database_oid = here)
    THEN
        RAISE EXCEPTION USING ERRCODE = 'PH001', MESSAGE =
            'posthaste: this database is a copy of the one that its checkpoints belong to';
    END IF;
END
$$;

-- Which life of which server this is. Whoever leads keeps in mind how far it has read, and that
-- may have been commits which are gone: a standby was promoted without them, or a server crashed
-- before they were on its disk. Their transaction ids and numbers are then given to others, which
-- would be taken for sent. So a lease ends with the life it was granted in, and its next holder
-- begins from the stored checkpoint. That one can be trusted: it came after the commits that it
-- counts and before the ids above it in the same log, so where it has arrived, they have.
--
-- The figures of a server begin anew if it recovers from a crash of one of its processes, which
-- the main process survives; whoever resets them by hand costs each leader one change of lease.
-- PostgreSQL 14 has no cheap way to tell that.
CREATE FUNCTION posthaste.server_life() RETURNS text
LANGUAGE sql STABLE
RETURN extract(epoch FROM pg_postmaster_start_time())::text
    || CASE WHEN current_setting('server_version_num')::integer >= 150000
        THEN '/' || coalesce(extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time())::text, '')
        ELSE '' END;

-- Fails in a transaction whose snapshot is older than what it waits for: it would not see what an
-- operator has done meanwhile to the lines that it goes through.
CREATE FUNCTION posthaste.refuse_isolation() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION USING ERRCODE = 'PH002', MESSAGE = format(
            'posthaste: the transaction is %s and has to be read committed',
            current_setting('transaction_isolation'));
    END IF;
END
$$;

-- Fails unless the destination is divided into this many lanes now: the checkpoint of a lane says
-- nothing about the lanes of another division.
CREATE FUNCTION posthaste.refuse_division(the_destination text, lanes integer) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF lanes <> coalesce((SELECT d.now FROM posthaste.lanes d
        WHERE d.destination = the_destination), 1)
    THEN
        RAISE EXCEPTION USING ERRCODE = 'PH004', MESSAGE = format(
            'posthaste: the destination ''%s'' is not divided into %s lanes any more',
            the_destination, lanes);
    END IF;
END
$$;

-- What a row counts against a limit of bytes.
CREATE FUNCTION posthaste.weight(headers jsonb, payload text, payload_bytes bytea)
RETURNS integer
LANGUAGE sql STABLE
RETURN 256 + coalesce(pg_column_size(headers), 0) + coalesce(octet_length(payload), 0)
    + coalesce(octet_length(payload_bytes), 0);

-- What a relay reads past a checkpoint, and first the snapshot in a row of its own, with the time
-- in stated_at. The function is stable, so that all of its statements see what the snapshot of the
-- calling statement sees. It does not ask whose cursor it is given: what is read with one of an
-- earlier life of the server may be sent once more, and posthaste.settle refuses to note it.
--
-- Late rows are those with late_after < seq <= late_through that a transaction in running, or one
-- from unseen_from on, has stated. If there is still_below, they are also those that this snapshot
-- (with still_running) sees. New rows are those with new_after < seq <= new_through. Rows of other
-- lanes, and those past the limit of bytes, come without a body.
CREATE FUNCTION posthaste.read_outbox(
    the_destination text, the_lane integer, lanes integer, hashed boolean,
    late_after bigint, late_through bigint, running xid8[], unseen_from xid8,
    still_running xid8[], still_below xid8,
    new_after bigint, new_through bigint, most bigint, bytes bigint
) RETURNS TABLE (
    snapshot text, seq bigint, xid bigint, hash bigint, mine boolean, fits boolean, size integer,
    id uuid, topic text, kind text, key text, content_type text, headers text,
    stated_at timestamptz, due_at timestamptz, payload text, payload_bytes bytea, blocked boolean,
    unroutable boolean
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET max_parallel_workers_per_gather = 0
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    late bigint[] := '{}';
    -- Of transactions that began after the snapshot of the checkpoint; not in order.
    began bigint[];
    used bigint := 0;
BEGIN
    PERFORM posthaste.refuse_foreign();
    PERFORM posthaste.refuse_division(the_destination, lanes);
    snapshot := pg_current_snapshot();
    stated_at := clock_timestamp();
    topic := posthaste.server_life();
    RETURN NEXT;

    IF late_after < late_through THEN
        -- Pairs are compared, because only the index on both columns has these in their order, and
        -- no other plan will do: how many rows a transaction has stated is in no statistics.
        began := ARRAY(
            SELECT o.seq FROM posthaste.outbox o
            WHERE (o.xid, o.seq) >= (unseen_from, 0) AND o.seq + 0 > late_after
                AND o.seq <= late_through
                AND (still_below IS NULL
                    OR o.xid < still_below AND o.xid <> ALL (still_running))
            ORDER BY o.xid, o.seq LIMIT 4 * most + 1);
        IF cardinality(began) > 4 * most THEN
            -- So many late rows stand close together.
            RETURN QUERY
            WITH found AS (
                SELECT o.* FROM posthaste.outbox o
                WHERE o.seq > late_after AND o.seq <= late_through
                    AND (o.xid >= unseen_from OR o.xid = ANY (running))
                    AND (still_below IS NULL
                        OR o.xid < still_below AND o.xid <> ALL (still_running))
                ORDER BY o.seq LIMIT most),
            placed AS (
                SELECT o.*,
                    CASE WHEN hashed THEN posthaste.lane_hash(o.key, o.id) ELSE 0 END AS hash
                FROM found o),
            sized AS (
                SELECT p.*, p.hash % lanes = the_lane AS mine, CASE WHEN p.hash % lanes = the_lane
                    THEN posthaste.weight(p.headers, p.payload, p.payload_bytes) ELSE 1 END AS size
                FROM placed p),
            fitting AS (
                SELECT s.*, s.mine AND used - s.size
                    + sum(s.size) OVER (ORDER BY s.seq ROWS UNBOUNDED PRECEDING) < bytes AS fits
                FROM sized s)
            SELECT NULL, f.seq, f.xid::text::bigint, f.hash, f.mine, f.fits, f.size,
                CASE WHEN f.fits THEN f.id END, CASE WHEN f.fits THEN f.topic END,
                CASE WHEN f.fits THEN f.kind END, CASE WHEN f.fits THEN f.key END,
                CASE WHEN f.fits THEN f.content_type END, CASE WHEN f.fits THEN f.headers::text END,
                CASE WHEN f.fits THEN f.stated_at END, CASE WHEN f.fits THEN f.due_at END,
                CASE WHEN f.fits THEN f.payload END, CASE WHEN f.fits THEN f.payload_bytes END,
                f.fits AND f.key IS NOT NULL AND EXISTS (SELECT 1 FROM posthaste.held h
                    WHERE h.destination = the_destination AND h.topic = f.topic AND h.key = f.key
                        AND h.state IN ('retry', 'behind', 'parked')),
                f.fits AND EXISTS (SELECT 1 FROM posthaste.held h
                    WHERE h.destination = the_destination AND h.lane = the_lane
                        AND h.topic = f.topic AND h.kind = f.kind AND h.state = 'unroutable'
                        AND h.ready_at IS NOT NULL AND (h.ready_at > 'epoch'
                            OR EXISTS (SELECT 1 FROM posthaste.held a
                                WHERE a.destination = the_destination AND a.topic = f.topic
                                    AND a.key = f.key AND a.state = 'unroutable'
                                    AND a.kind = f.kind)))
            FROM fitting f ORDER BY f.seq;
            RETURN;
        END IF;
        IF cardinality(running) > 0 THEN
            late := ARRAY(
                SELECT l.seq FROM unnest(running) AS t (id) CROSS JOIN LATERAL (
                    SELECT o.seq FROM posthaste.outbox o
                    WHERE (o.xid, o.seq) > (t.id, late_after)
                        AND (o.xid, o.seq) <= (t.id, late_through) AND o.seq <= late_through
                        AND (still_below IS NULL
                            OR o.xid < still_below AND o.xid <> ALL (still_running))
                    ORDER BY o.xid, o.seq LIMIT most) l);
        END IF;
        late := ARRAY(SELECT u.seq FROM unnest(late || began) AS u (seq) ORDER BY u.seq LIMIT most);
    END IF;
    IF cardinality(late) > 0 THEN
        RETURN QUERY
        WITH found AS (
            SELECT o.* FROM unnest(late) AS l (seq) JOIN posthaste.outbox o ON o.seq = l.seq),
        placed AS (
            SELECT o.*,
                CASE WHEN hashed THEN posthaste.lane_hash(o.key, o.id) ELSE 0 END AS hash
            FROM found o),
        sized AS (
            SELECT p.*, p.hash % lanes = the_lane AS mine, CASE WHEN p.hash % lanes = the_lane
                THEN posthaste.weight(p.headers, p.payload, p.payload_bytes) ELSE 1 END AS size
            FROM placed p),
        fitting AS (
            SELECT s.*, s.mine AND used - s.size
                + sum(s.size) OVER (ORDER BY s.seq ROWS UNBOUNDED PRECEDING) < bytes AS fits
            FROM sized s)
        SELECT NULL, f.seq, f.xid::text::bigint, f.hash, f.mine, f.fits, f.size,
            CASE WHEN f.fits THEN f.id END, CASE WHEN f.fits THEN f.topic END,
            CASE WHEN f.fits THEN f.kind END, CASE WHEN f.fits THEN f.key END,
            CASE WHEN f.fits THEN f.content_type END, CASE WHEN f.fits THEN f.headers::text END,
            CASE WHEN f.fits THEN f.stated_at END, CASE WHEN f.fits THEN f.due_at END,
            CASE WHEN f.fits THEN f.payload END, CASE WHEN f.fits THEN f.payload_bytes END,
            f.fits AND f.key IS NOT NULL AND EXISTS (SELECT 1 FROM posthaste.held h
                WHERE h.destination = the_destination AND h.topic = f.topic AND h.key = f.key
                    AND h.state IN ('retry', 'behind', 'parked')),
            f.fits AND EXISTS (SELECT 1 FROM posthaste.held h
                WHERE h.destination = the_destination AND h.lane = the_lane
                    AND h.topic = f.topic AND h.kind = f.kind AND h.state = 'unroutable'
                    AND h.ready_at IS NOT NULL AND (h.ready_at > 'epoch'
                        OR EXISTS (SELECT 1 FROM posthaste.held a
                            WHERE a.destination = the_destination AND a.topic = f.topic
                                AND a.key = f.key AND a.state = 'unroutable'
                                AND a.kind = f.kind)))
        FROM fitting f ORDER BY f.seq;
        used := (SELECT sum(posthaste.weight(o.headers, o.payload, o.payload_bytes))
            FROM unnest(late) AS l (seq) JOIN posthaste.outbox o ON o.seq = l.seq);
    END IF;
    IF new_after IS NOT NULL AND cardinality(late) < most THEN
        RETURN QUERY
        WITH found AS (
            SELECT o.* FROM posthaste.outbox o
            WHERE o.seq > new_after AND (new_through IS NULL OR o.seq <= new_through)
            ORDER BY o.seq LIMIT most - cardinality(late)),
        placed AS (
            SELECT o.*,
                CASE WHEN hashed THEN posthaste.lane_hash(o.key, o.id) ELSE 0 END AS hash
            FROM found o),
        sized AS (
            SELECT p.*, p.hash % lanes = the_lane AS mine, CASE WHEN p.hash % lanes = the_lane
                THEN posthaste.weight(p.headers, p.payload, p.payload_bytes) ELSE 1 END AS size
            FROM placed p),
        fitting AS (
            SELECT s.*, s.mine AND used - s.size
                + sum(s.size) OVER (ORDER BY s.seq ROWS UNBOUNDED PRECEDING) < bytes AS fits
            FROM sized s)
        SELECT NULL, f.seq, f.xid::text::bigint, f.hash, f.mine, f.fits, f.size,
            CASE WHEN f.fits THEN f.id END, CASE WHEN f.fits THEN f.topic END,
            CASE WHEN f.fits THEN f.kind END, CASE WHEN f.fits THEN f.key END,
            CASE WHEN f.fits THEN f.content_type END, CASE WHEN f.fits THEN f.headers::text END,
            CASE WHEN f.fits THEN f.stated_at END, CASE WHEN f.fits THEN f.due_at END,
            CASE WHEN f.fits THEN f.payload END, CASE WHEN f.fits THEN f.payload_bytes END,
            f.fits AND f.key IS NOT NULL AND EXISTS (SELECT 1 FROM posthaste.held h
                WHERE h.destination = the_destination AND h.topic = f.topic AND h.key = f.key
                    AND h.state IN ('retry', 'behind', 'parked')),
            f.fits AND EXISTS (SELECT 1 FROM posthaste.held h
                WHERE h.destination = the_destination AND h.lane = the_lane
                    AND h.topic = f.topic AND h.kind = f.kind AND h.state = 'unroutable'
                    AND h.ready_at IS NOT NULL AND (h.ready_at > 'epoch'
                        OR EXISTS (SELECT 1 FROM posthaste.held a
                            WHERE a.destination = the_destination AND a.topic = f.topic
                                AND a.key = f.key AND a.state = 'unroutable'
                                AND a.kind = f.kind)))
        FROM fitting f ORDER BY f.seq;
    END IF;
END
$$;

-- What may leave the side table, and first the time, with the time at which the next one may in
-- next_at, in a row of its own. candidates and looked_at are the numbers of those that could be
-- sent and of those that were looked at.
--
-- Those that could be sent the longest are looked at. Before its time none is; one that is tried
-- again is ready if all that is before it in its line is, as far as that was looked at; one that
-- was not due before is only told that it has to wait for its line.
CREATE FUNCTION posthaste.read_held(
    the_destination text, the_lane integer, lanes integer, most bigint, bytes bigint,
    look_at bigint
) RETURNS TABLE (
    now timestamptz, next_at timestamptz, candidates bigint, looked_at bigint, seq bigint,
    attempts integer, gone boolean, fits boolean, id uuid, topic text, kind text, key text,
    content_type text, headers text, stated_at timestamptz, due_at timestamptz, payload text,
    payload_bytes bytea, blocked boolean, unroutable boolean
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET max_parallel_workers_per_gather = 0
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    clock CONSTANT timestamptz := clock_timestamp();
    near bigint[];
    edge_at timestamptz;
    edge_seq bigint;
    first bigint[];
BEGIN
    PERFORM posthaste.refuse_foreign();
    PERFORM posthaste.refuse_division(the_destination, lanes);
    SELECT array_agg(n.seq), max(n.ready_at) INTO near, edge_at
    FROM (SELECT h.seq, h.ready_at FROM posthaste.held h
        WHERE h.destination = the_destination AND h.lane = the_lane AND h.ready_at <= clock
        ORDER BY h.ready_at, h.seq LIMIT look_at) n;
    looked_at := coalesce(cardinality(near), 0);
    IF looked_at > 0 THEN
        edge_seq := near[looked_at];
        first := ARRAY(
            SELECT h.seq FROM unnest(near) AS n (seq)
            JOIN posthaste.held h ON h.destination = the_destination AND h.seq = n.seq
            WHERE h.state IN ('due', 'unroutable') OR h.key IS NULL
                OR h.state = 'retry' AND NOT EXISTS (SELECT 1 FROM posthaste.held e
                    WHERE e.destination = the_destination AND e.topic = h.topic AND e.key = h.key
                        AND e.state IN ('retry', 'behind', 'parked') AND e.seq < h.seq
                        AND (e.state <> 'retry' OR e.ready_at IS NULL
                            OR (e.ready_at, e.seq) > (edge_at, edge_seq)))
            ORDER BY h.seq LIMIT most + 1);
        IF cardinality(first) = 0 AND looked_at >= look_at THEN
            -- All wait for some that became ready after them.
            first := ARRAY(
                SELECT DISTINCT e.seq FROM unnest(near) AS n (seq)
                JOIN posthaste.held h ON h.destination = the_destination AND h.seq = n.seq
                CROSS JOIN LATERAL (SELECT i.seq, i.lane, i.state, i.ready_at
                    FROM posthaste.held i
                    WHERE i.destination = the_destination AND i.topic = h.topic AND i.key = h.key
                        AND i.state IN ('retry', 'behind', 'parked')
                    ORDER BY i.seq LIMIT 1) e
                WHERE e.lane = the_lane AND e.state = 'retry' AND e.ready_at <= clock
                ORDER BY e.seq LIMIT most + 1);
        END IF;
    END IF;
    now := clock;
    candidates := coalesce(cardinality(first), 0);
    next_at := (SELECT h.ready_at FROM posthaste.held h
        WHERE h.destination = the_destination AND h.lane = the_lane AND h.ready_at > clock
        ORDER BY h.ready_at LIMIT 1);
    RETURN NEXT;
    IF candidates = 0 THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH placed AS (
        SELECT f.seq, f.place, o.seq IS NULL AS gone, o.id, o.topic, o.kind, o.key, o.content_type,
            o.headers, o.stated_at, o.due_at, o.payload, o.payload_bytes,
            posthaste.weight(o.headers, o.payload, o.payload_bytes) AS size
        FROM unnest(first) WITH ORDINALITY AS f (seq, place)
        LEFT JOIN posthaste.outbox o ON o.seq = f.seq),
    fitting AS (
        SELECT p.*, p.place <= most AND sum(p.size)
            OVER (ORDER BY p.seq ROWS UNBOUNDED PRECEDING) - p.size < bytes AS fits
        FROM placed p)
    SELECT NULL::timestamptz, NULL::timestamptz, NULL::bigint, NULL::bigint, f.seq, h.attempts,
        f.gone, true, f.id, f.topic, f.kind, f.key, f.content_type, f.headers::text, f.stated_at,
        f.due_at, f.payload, f.payload_bytes,
        h.state IN ('due', 'unroutable') AND h.key IS NOT NULL AND EXISTS (
            SELECT 1 FROM posthaste.held e
            WHERE e.destination = the_destination AND e.topic = h.topic AND e.key = h.key
                AND e.state IN ('retry', 'behind', 'parked')),
        h.state <> 'unroutable' AND EXISTS (SELECT 1 FROM posthaste.held e
            WHERE e.destination = the_destination AND e.lane = the_lane AND e.topic = h.topic
                AND e.kind = h.kind AND e.state = 'unroutable' AND e.ready_at IS NOT NULL
                AND e.seq < h.seq)
    FROM fitting f
    JOIN posthaste.held h ON h.destination = the_destination AND h.seq = f.seq
    WHERE f.fits ORDER BY f.seq;
END
$$;

-- Makes the heads of lines ready if nothing failed stands before them. Looks at the first of each
-- line only, so that its cost does not depend on how long the line is.
CREATE FUNCTION posthaste.free_lines(
    the_destination text, topics text[], keys text[], at timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
    line record;
    heads bigint[];
BEGIN
    FOR line IN SELECT DISTINCT l.topic, l.key FROM unnest(topics, keys) AS l (topic, key)
        WHERE l.key IS NOT NULL ORDER BY l.topic, l.key
    LOOP
        heads := ARRAY(
            SELECT f.seq FROM (
                SELECT h.seq, bool_and(h.state = 'behind')
                    OVER (ORDER BY h.seq ROWS UNBOUNDED PRECEDING) AS free
                FROM (SELECT i.seq, i.state FROM posthaste.held i
                    WHERE i.destination = the_destination AND i.topic = line.topic
                        AND i.key = line.key AND i.state IN ('retry', 'behind', 'parked')
                    ORDER BY i.seq LIMIT 256) h) f
            WHERE f.free);
        IF cardinality(heads) > 0 THEN
            UPDATE posthaste.held h SET state = 'retry', ready_at = at
            WHERE h.destination = the_destination AND h.seq = ANY (heads);
        END IF;
    END LOOP;
END
$$;

-- Lets those wait that were made ready behind one which failed, so that nobody looks at them until
-- it is out of the way. seqs are those that failed, with their lines. What is ready stands at the
-- front of its line: the cost follows how much of it there is, and not how long the line is.
CREATE FUNCTION posthaste.hold_back(
    the_destination text, topics text[], keys text[], seqs bigint[]
) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
    line record;
    entry record;
    later bigint[];
BEGIN
    FOR line IN SELECT l.topic, l.key, min(l.seq) AS seq
        FROM unnest(topics, keys, seqs) AS l (topic, key, seq)
        WHERE l.key IS NOT NULL GROUP BY l.topic, l.key ORDER BY l.topic, l.key
    LOOP
        later := '{}';
        FOR entry IN SELECT h.seq, h.state FROM posthaste.held h
            WHERE h.destination = the_destination AND h.topic = line.topic AND h.key = line.key
                AND h.state IN ('retry', 'behind', 'parked') AND h.seq > line.seq
            ORDER BY h.seq
        LOOP
            EXIT WHEN entry.state = 'behind';
            IF entry.state = 'retry' THEN
                later := later || entry.seq;
            END IF;
        END LOOP;
        IF cardinality(later) > 0 THEN
            UPDATE posthaste.held h SET state = 'behind', ready_at = NULL
            WHERE h.destination = the_destination AND h.seq = ANY (later);
        END IF;
    END LOOP;
END
$$;

-- Sees to it that of the messages of a topic and kind that are set aside in a lane just the first
-- is tried. If one of them was taken (opened) and none came back, those at the front are let go
-- before that; returns their lines. One that came back is tried again after probe_in microseconds.
CREATE FUNCTION posthaste.follow_route(
    the_destination text, the_lane integer, the_topic text, the_kind text, opened boolean,
    probe_in bigint, clock timestamptz, OUT topics text[], OUT keys text[]
)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
    portion bigint[];
    first bigint;
    probe_at timestamptz;
BEGIN
    IF opened AND probe_in = 0 THEN
        portion := ARRAY(SELECT h.seq FROM posthaste.held h
            WHERE h.destination = the_destination AND h.lane = the_lane AND h.topic = the_topic
                AND h.kind = the_kind AND h.state = 'unroutable' ORDER BY h.seq LIMIT 1000);
        -- One whose line waits for something is not even looked at until that is over.
        WITH released AS (
            UPDATE posthaste.held h SET state = w.state,
                ready_at = CASE w.state WHEN 'retry' THEN clock END
            FROM (SELECT u.seq, CASE WHEN EXISTS (SELECT 1 FROM posthaste.held e
                    WHERE e.destination = the_destination AND e.topic = u.topic AND e.key = u.key
                        AND e.state IN ('retry', 'behind', 'parked') AND e.seq < u.seq
                        AND (e.state <> 'retry' OR e.ready_at > clock))
                    THEN 'behind' ELSE 'retry' END AS state
                FROM posthaste.held u
                WHERE u.destination = the_destination AND u.seq = ANY (portion)) w
            WHERE h.destination = the_destination AND h.seq = w.seq
            RETURNING h.topic, h.key)
        SELECT array_agg(r.topic), array_agg(r.key) INTO topics, keys FROM released r;
    END IF;
    SELECT h.seq INTO first FROM posthaste.held h
    WHERE h.destination = the_destination AND h.lane = the_lane AND h.topic = the_topic
        AND h.kind = the_kind AND h.state = 'unroutable' ORDER BY h.seq LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    probe_at := CASE
        WHEN probe_in > 0 THEN clock + probe_in * interval '1 microsecond'
        WHEN opened THEN 'epoch'
        ELSE coalesce((SELECT min(h.ready_at) FROM posthaste.held h
            WHERE h.destination = the_destination AND h.lane = the_lane AND h.topic = the_topic
                AND h.kind = the_kind AND h.state = 'unroutable' AND h.ready_at IS NOT NULL),
            clock) END;
    UPDATE posthaste.held h SET ready_at = NULL
    WHERE h.destination = the_destination AND h.lane = the_lane AND h.topic = the_topic
        AND h.kind = the_kind AND h.state = 'unroutable' AND h.ready_at IS NOT NULL
        AND h.seq <> first;
    UPDATE posthaste.held h SET ready_at = probe_at
    WHERE h.destination = the_destination AND h.seq = first;
END
$$;

-- Serialises those who change several lines of a destination at once with the relays that settle
-- in its lanes.
CREATE FUNCTION posthaste.lock_lines(the_destination text, alone boolean) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name CONSTANT bigint := hashtextextended('posthaste.held ' || the_destination, 0);
BEGIN
    PERFORM posthaste.refuse_isolation();
    IF alone THEN
        PERFORM pg_advisory_xact_lock(name);
    ELSE
        PERFORM pg_advisory_xact_lock_shared(name);
    END IF;
END
$$;

-- Carries out a settlement: 'done'; 'repeated' if its number was taken before, so that everything
-- is done already; 'fenced' if the lease or the lane is not the current one. verdicts is an array
-- of {"seq", "verdict", "topic", "key", "attempts", "delay" in microseconds, "reason", "detail",
-- "park"} of all that is more than sent as it was read.
CREATE FUNCTION posthaste.settle(
    lease_name text, lease_token bigint, number bigint, the_destination text, the_lane integer,
    lanes integer, the_token text, the_through bigint, sent bigint, failed bigint, dead bigint,
    first_position bigint, last_position bigint, verdicts jsonb
) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
SET row_security = off
SET jit = off
AS $$
DECLARE
    clock CONSTANT timestamptz := clock_timestamp();
    life CONSTANT text := posthaste.server_life();
BEGIN
    PERFORM posthaste.refuse_foreign();
    PERFORM posthaste.refuse_isolation();
    -- A division changes the tokens of all leases after this, so it cannot come in between.
    IF lanes <> coalesce((SELECT d.now FROM posthaste.lanes d
        WHERE d.destination = the_destination), 1)
    THEN
        RETURN 'fenced';
    END IF;
    UPDATE posthaste.lease l SET settlement = number
    WHERE l.name = lease_name AND l.token = lease_token AND l.server_life = life
        AND l.settlement < number;
    IF NOT FOUND THEN
        PERFORM 1 FROM posthaste.lease l
        WHERE l.name = lease_name AND l.token = lease_token AND l.server_life = life;
        RETURN CASE WHEN FOUND THEN 'repeated' ELSE 'fenced' END;
    END IF;
    IF verdicts IS NOT NULL THEN
        PERFORM posthaste.file_verdicts(the_destination, the_lane, lanes, verdicts, clock);
    END IF;
    UPDATE posthaste.checkpoint c
    SET token = coalesce(the_token, c.token), through = coalesce(the_through, c.through),
        moved_at = clock
    WHERE c.destination = the_destination AND c.of = lanes AND c.lane = the_lane
        AND c.through <= coalesce(the_through, c.through);
    IF NOT FOUND AND NOT EXISTS (SELECT 1 FROM posthaste.checkpoint c
        WHERE c.destination = the_destination AND c.of = lanes AND c.lane = the_lane)
    THEN
        -- Somebody took it away. Where to begin is decided when the lease is claimed anew.
        RAISE EXCEPTION USING ERRCODE = 'PH004', MESSAGE = format(
            'posthaste: the checkpoint of lane %s of ''%s'' is gone', the_lane, the_destination);
    END IF;
    INSERT INTO posthaste.batch (destination, lane, token, settlement, at, sent, failed, dead,
        first_position, last_position)
    VALUES (the_destination, the_lane, lease_token, number, clock, sent, failed, dead,
        first_position, last_position);
    RETURN 'done';
END
$$;

-- Files what waits, takes away what is sent and writes dead letters.
CREATE FUNCTION posthaste.file_verdicts(
    the_destination text, the_lane integer, lanes integer, verdicts jsonb, clock timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    topics text[];
    keys text[];
    routes jsonb;
    failed record;
    route record;
    let_go record;
BEGIN
    PERFORM posthaste.lock_lines(the_destination, false);
    -- The lines that are touched, and what the verdicts say of routes, before anything is changed.
    SELECT array_agg(coalesce(h.topic, v.topic)), array_agg(coalesce(h.key, v.key))
    INTO topics, keys
    FROM jsonb_to_recordset(verdicts) AS v (seq bigint, topic text, key text)
    LEFT JOIN posthaste.held h ON h.destination = the_destination AND h.seq = v.seq;
    routes := (SELECT jsonb_agg(r) FROM (
        SELECT coalesce(v.topic, h.topic, '') AS topic, coalesce(o.kind, h.kind, '') AS kind,
            coalesce(bool_or(h.state = 'unroutable' AND v.verdict IN ('sent', 'dead')), false)
                AS opened,
            max(CASE v.verdict WHEN 'unroutable' THEN v.delay ELSE 0 END) AS probe_in
        FROM jsonb_to_recordset(verdicts) AS v (seq bigint, verdict text, topic text, delay bigint)
        LEFT JOIN posthaste.held h ON h.destination = the_destination AND h.seq = v.seq
        LEFT JOIN posthaste.outbox o ON o.seq = v.seq
        WHERE h.state = 'unroutable' OR v.verdict = 'unroutable'
        GROUP BY 1, 2) r);

    -- A row that somebody has deleted meanwhile leaves a dead letter all the same.
    INSERT INTO posthaste.dead_letter (side, name, seq, id, topic, kind, key, headers,
        content_type, payload, payload_bytes, stated_at, due_at, reason, detail, attempts,
        first_failed_at, dead_at, history, parked)
    SELECT 'relay', the_destination, v.seq, o.id, coalesce(o.topic, h.topic, v.topic),
        coalesce(o.kind, h.kind), coalesce(o.key, h.key, v.key), o.headers, o.content_type,
        o.payload, o.payload_bytes, o.stated_at, o.due_at, v.reason, v.detail, v.attempts,
        coalesce(h.first_failed_at, clock), clock,
        posthaste.longer_history(coalesce(h.history, '[]'), clock, v.attempts, v.detail),
        v.park
    FROM (SELECT v.ordinality, r.* FROM jsonb_array_elements(verdicts) WITH ORDINALITY AS v (value),
            jsonb_to_record(v.value) AS r (seq bigint, verdict text, topic text, key text,
                reason text, detail text, attempts integer, park boolean)
        WHERE r.verdict = 'dead') v
    LEFT JOIN posthaste.outbox o ON o.seq = v.seq
    LEFT JOIN posthaste.held h ON h.destination = the_destination AND h.seq = v.seq
    ORDER BY v.ordinality;
    DELETE FROM posthaste.held h
    USING jsonb_to_recordset(verdicts) AS v (seq bigint, verdict text)
    WHERE h.destination = the_destination AND h.seq = v.seq AND v.verdict IN ('sent', 'dead');

    INSERT INTO posthaste.held AS h (destination, seq, hash, lane, topic, kind, key, state,
        attempts, ready_at, detail, first_failed_at, history)
    SELECT the_destination, v.seq,
        -- A row that is gone stays in the lane that it was found in.
        CASE WHEN o.seq IS NULL THEN the_lane ELSE posthaste.lane_hash(o.key, o.id) END, the_lane,
        coalesce(v.topic, ''), coalesce(o.kind, ''), v.key,
        CASE v.verdict WHEN 'dead' THEN 'parked' ELSE v.verdict END, coalesce(v.attempts, 0),
        CASE v.verdict
            WHEN 'due' THEN coalesce(o.due_at, 'epoch')
            WHEN 'retry' THEN clock + v.delay * interval '1 microsecond' END,
        nullif(v.detail, ''),
        CASE WHEN v.verdict = 'retry' AND v.detail <> '' THEN clock END,
        CASE WHEN v.verdict = 'retry' AND v.detail <> ''
            THEN posthaste.longer_history('[]', clock, v.attempts, v.detail) ELSE '[]' END
    FROM jsonb_to_recordset(verdicts) AS v (seq bigint, verdict text, topic text, key text,
        attempts integer, delay bigint, detail text, park boolean)
    LEFT JOIN posthaste.outbox o ON o.seq = v.seq
    WHERE v.verdict IN ('due', 'retry', 'behind', 'unroutable') OR v.verdict = 'dead' AND v.park
    ON CONFLICT (destination, seq) DO UPDATE SET
        state = excluded.state,
        attempts = CASE WHEN excluded.state = 'retry' THEN excluded.attempts ELSE h.attempts END,
        ready_at = excluded.ready_at,
        detail = coalesce(excluded.detail, h.detail),
        first_failed_at = coalesce(h.first_failed_at, excluded.first_failed_at),
        history = CASE WHEN excluded.history = '[]' THEN h.history
            WHEN jsonb_array_length(h.history) >= 20 THEN (h.history - 0) || excluded.history
            ELSE h.history || excluded.history END;

    SELECT array_agg(v.topic) AS topics, array_agg(v.key) AS keys, array_agg(v.seq) AS seqs
    INTO failed
    FROM (SELECT h.seq, h.topic, h.key
        FROM jsonb_to_recordset(verdicts)
            AS r (seq bigint, verdict text, delay bigint, park boolean)
        JOIN posthaste.held h ON h.destination = the_destination AND h.seq = r.seq
        WHERE r.verdict = 'retry' AND r.delay > 0 OR r.verdict = 'dead' AND r.park) v;
    PERFORM posthaste.hold_back(the_destination, failed.topics, failed.keys, failed.seqs);

    FOR route IN SELECT r.* FROM jsonb_to_recordset(routes)
        AS r (topic text, kind text, opened boolean, probe_in bigint)
    LOOP
        SELECT f.topics, f.keys INTO let_go FROM posthaste.follow_route(the_destination, the_lane,
            route.topic, route.kind, route.opened, route.probe_in, clock) f;
        topics := topics || let_go.topics;
        keys := keys || let_go.keys;
    END LOOP;
    PERFORM posthaste.free_lines(the_destination, topics, keys, clock);
END
$$;

-- What operators do with dead letters: on several of them all or nothing, each on record. A repost
-- has no reason, a discard has one.
CREATE FUNCTION posthaste.act(numbers bigint[], the_actor text, the_reason text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
DECLARE
    clock CONSTANT timestamptz := clock_timestamp();
    place record;
    wanted bigint;
    letter record;
    line record;
BEGIN
    PERFORM posthaste.refuse_foreign();
    PERFORM posthaste.refuse_isolation();
    FOR place IN SELECT DISTINCT d.name FROM posthaste.dead_letter d
        WHERE d.number = ANY (numbers) AND d.side = 'relay' ORDER BY d.name
    LOOP
        PERFORM posthaste.lock_lines(place.name, true);
    END LOOP;
    -- In one order, so that two who act on the same wait for each other in turn.
    PERFORM 1 FROM posthaste.dead_letter d WHERE d.number = ANY (numbers)
    ORDER BY d.number FOR UPDATE;
    FOREACH wanted IN ARRAY numbers LOOP
        SELECT d.number, d.side, d.name, d.seq, d.id, d.state INTO letter
        FROM posthaste.dead_letter d WHERE d.number = wanted;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'PH003', MESSAGE =
                format('posthaste: no dead letter %s; nothing was changed', wanted);
        END IF;
        IF letter.state = 'reposted' AND the_reason IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'PH003', MESSAGE = format(
                'posthaste: dead letter %s was reposted and waits for the consumer ''%s''; '
                'nothing was changed', wanted, letter.name);
        END IF;
        INSERT INTO posthaste.audit (at, actor, action, dead_letter, side, name, seq, id, topic,
            kind, key, headers, payload, payload_bytes, died_of, reason)
        SELECT clock, the_actor, CASE WHEN the_reason IS NULL THEN 'repost' ELSE 'discard' END,
            d.number, d.side, d.name, d.seq, d.id, d.topic, d.kind, d.key,
            CASE WHEN the_reason IS NOT NULL THEN d.headers END,
            CASE WHEN the_reason IS NOT NULL AND octet_length(d.payload) <= 65536
                THEN d.payload END,
            CASE WHEN the_reason IS NOT NULL AND octet_length(d.payload_bytes) <= 65536
                THEN d.payload_bytes END,
            d.reason, the_reason
        FROM posthaste.dead_letter d WHERE d.number = wanted;

        IF letter.side = 'consumer' THEN
            IF the_reason IS NULL THEN
                -- It is kept until its consumer has handled it.
                DELETE FROM posthaste.inbox i WHERE i.consumer = letter.name AND i.id = letter.id;
                DELETE FROM posthaste.attempt a WHERE a.consumer = letter.name AND a.id = letter.id;
                UPDATE posthaste.dead_letter d SET state = 'reposted' WHERE d.number = wanted;
                CONTINUE;
            END IF;
            -- Its id stays in the inbox for the usual time.
            INSERT INTO posthaste.inbox (consumer, id, outcome, done_at)
            VALUES (letter.name, letter.id, 'done', clock)
            ON CONFLICT (consumer, id) DO UPDATE SET outcome = 'done', done_at = clock;
        ELSIF the_reason IS NULL THEN
            SELECT o.topic, o.kind, o.key, posthaste.lane_hash(o.key, o.id) AS hash INTO line
            FROM posthaste.outbox o WHERE o.seq = letter.seq;
            IF NOT FOUND THEN
                RAISE EXCEPTION USING ERRCODE = 'PH003', MESSAGE = format(
                    'posthaste: the message of dead letter %s was deleted from the outbox; '
                    'publish it anew and discard the letter; nothing was changed', wanted);
            END IF;
            -- Sent again, ahead of those that wait behind it.
            INSERT INTO posthaste.held AS h (destination, seq, hash, lane, topic, kind, key, state,
                ready_at)
            VALUES (letter.name, letter.seq, coalesce(line.hash, 0),
                coalesce(line.hash, 0) % coalesce((SELECT l.now FROM posthaste.lanes l
                    WHERE l.destination = letter.name), 1),
                coalesce(line.topic, ''), coalesce(line.kind, ''), line.key, 'retry', clock)
            ON CONFLICT (destination, seq) DO UPDATE SET state = 'retry', attempts = 0,
                ready_at = clock, detail = NULL, first_failed_at = NULL, history = '[]';
            PERFORM posthaste.hold_back(
                letter.name, ARRAY[line.topic], ARRAY[line.key], ARRAY[letter.seq]);
        ELSE
            DELETE FROM posthaste.held h WHERE h.destination = letter.name
                AND h.seq = letter.seq AND h.state = 'parked'
            RETURNING h.topic, h.key INTO line;
            IF FOUND THEN
                PERFORM posthaste.free_lines(
                    letter.name, ARRAY[line.topic], ARRAY[line.key], clock);
            END IF;
        END IF;
        DELETE FROM posthaste.dead_letter d WHERE d.number = wanted;
    END LOOP;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA posthaste FROM PUBLIC;
