-- The SQL door: what backends call from psql or any driver. See docs/queues-sql.md.
--
-- Each of these works with its owner's rights, so that a role needs no more than EXECUTE on them.
-- Whatever they do is part of the caller's transaction.

CREATE OR REPLACE FUNCTION heliograph._time(instant float8) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$
    SELECT to_timestamp(instant)
$$;

-- A token that nobody can guess: 61 bits of chance, so that a lease of many stays within 62.
CREATE OR REPLACE FUNCTION heliograph._token() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT 1 + (('x' || substr(replace(gen_random_uuid()::text, '-', ''), 17))::bit(64)::bigint
        & 2305843009213693951)
$$;

CREATE OR REPLACE FUNCTION heliograph._must_be_queue(its_name text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT coalesce(heliograph._is_queue(its_name), false) THEN
        RAISE EXCEPTION 'there is no queue "%"', its_name USING
            ERRCODE = 'undefined_object',
            HINT = 'Those that are there: SELECT name FROM heliograph.queues';
    END IF;
END $$;

-- ---- MQTT 5 properties --------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION heliograph._word(block bytea, at integer) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
    SELECT get_byte(block, at) * 256 + get_byte(block, at + 1)
$$;

CREATE OR REPLACE FUNCTION heliograph._text(block bytea, at integer) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT convert_from(substr(block, at + 3, heliograph._word(block, at)), 'UTF8')
$$;

-- A block of MQTT 5 properties: its user properties (the last of a name) and its content type.
CREATE OR REPLACE FUNCTION heliograph._read_properties(
    block bytea, OUT user_properties jsonb, OUT content_type text
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    at integer := 0;
    kind integer;
    name text;
BEGIN
    user_properties := '{}';
    WHILE at < length(block) LOOP
        kind := get_byte(block, at);
        at := at + 1;
        IF kind = 38 THEN  -- a user property
            name := heliograph._text(block, at);
            at := at + 2 + heliograph._word(block, at);
            user_properties := user_properties
                || jsonb_build_object(name, heliograph._text(block, at));
        ELSIF kind = 3 THEN
            content_type := heliograph._text(block, at);
        END IF;
        IF kind IN (3, 8, 9, 38) THEN  -- texts and bytes
            at := at + 2 + heliograph._word(block, at);
        ELSIF kind = 11 THEN  -- a number of one to four bytes
            WHILE get_byte(block, at) > 127 LOOP
                at := at + 1;
            END LOOP;
            at := at + 1;
        ELSE
            at := at + CASE kind WHEN 1 THEN 1 WHEN 35 THEN 2 WHEN 2 THEN 4 ELSE length(block) END;
        END IF;
    END LOOP;
EXCEPTION WHEN data_exception OR array_subscript_error THEN
    RETURN;  -- what could be read of it
END $$;

CREATE OR REPLACE FUNCTION heliograph._sized(value text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    encoded bytea := convert_to(value, 'UTF8');
BEGIN
    IF length(encoded) > 65535 THEN
        RAISE EXCEPTION 'a property is longer than 65,535 bytes' USING
            ERRCODE = 'string_data_right_truncation', HINT = 'Put it into the payload.';
    END IF;
    RETURN decode(lpad(to_hex(length(encoded)), 4, '0'), 'hex') || encoded;
END $$;

CREATE OR REPLACE FUNCTION heliograph._write_properties(user_properties jsonb, content_type text)
RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN content_type IS NULL THEN '' ELSE '\x03' || heliograph._sized(content_type)
        END || coalesce((
            SELECT string_agg('\x26' || heliograph._sized(name) || heliograph._sized(value), '')
            FROM jsonb_each_text(user_properties) AS each (name, value)), '')
$$;

-- ---- work ---------------------------------------------------------------------------------------

-- Take up to `most` messages for `seconds` (NULL: as the queue's policy says). Who takes them
-- acknowledges each by its id and token before `lease_until`.
CREATE OR REPLACE FUNCTION heliograph.lease(
    queue text, most integer DEFAULT 1, consumer text DEFAULT NULL, seconds float8 DEFAULT NULL
) RETURNS TABLE (
    id bigint, token bigint, payload bytea, topic text, key text, priority integer,
    properties jsonb, content_type text, publisher text, enqueued_at timestamptz,
    expires_at timestamptz, lease_until timestamptz, delivery_count integer, failures integer,
    dead_from text, dead_reason text, dead_at timestamptz
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM heliograph._must_be_queue(lease.queue);
    IF most IS NULL OR most NOT BETWEEN 1 AND 10000 OR seconds <= 0 OR seconds > 604800 THEN
        RAISE EXCEPTION 'lease % messages for % seconds?', most, seconds USING
            ERRCODE = 'invalid_parameter_value',
            HINT = 'Take 1 to 10000 messages, for more than 0 s and at most a week.';
    END IF;
    RETURN QUERY
        SELECT t.number, t.token, t.payload, t.topic, t.key, 9 - t.rank, p.user_properties,
            p.content_type, t.publisher, heliograph._time(t.enqueued_at),
            heliograph._time(t.expires_at), heliograph._time(t.lease_until), t.acquisitions,
            t.failures, t.dead_from, t.dead_reason, heliograph._time(t.dead_at)
        FROM heliograph._take(
                lease.queue, coalesce(lease.consumer, 'sql:' || pg_backend_pid()), most,
                9223372036854775807, coalesce(seconds, (
                    SELECT (q.policy ->> 'lease')::float8 FROM heliograph.queue q
                    WHERE q.name = lease.queue)),
                heliograph._token()) AS t,
            LATERAL heliograph._read_properties(t.properties) AS p
        WHERE t.number IS NOT NULL
        ORDER BY t.token;
END $$;

-- The message is done: "ok"; "gone": there is none (it was acknowledged before); "lost": the lease
-- has ended, or is another's.
CREATE OR REPLACE FUNCTION heliograph.ack(id bigint, token bigint) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (heliograph._ack(ARRAY[id], ARRAY[token]))[1]
$$;

-- The message failed: again after `delay` seconds (NULL: the policy's pause), or straight to the
-- dead letters. "ok", "dead", "gone" or "lost".
CREATE OR REPLACE FUNCTION heliograph.nack(
    id bigint, token bigint, delay float8 DEFAULT NULL, dead boolean DEFAULT false,
    reason text DEFAULT ''
) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT heliograph._fail_one(
        id, token, CASE WHEN dead THEN 'dead' ELSE 'nack' END,
        CASE WHEN delay IS NOT NULL THEN least(greatest(delay, 0), 315360000) END, reason)
$$;

-- The same with an interval: nack(id, token, interval '1 minute').
CREATE OR REPLACE FUNCTION heliograph.nack(id bigint, token bigint, delay interval) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT heliograph._fail_one(
        id, token, 'nack', least(greatest(extract(epoch FROM delay)::float8, 0), 315360000), '')
$$;

-- The lease ends `seconds` from now: "ok", "gone" or "lost".
CREATE OR REPLACE FUNCTION heliograph.renew(id bigint, token bigint, seconds float8) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF seconds IS NULL OR seconds <= 0 OR seconds > 604800 THEN
        RAISE EXCEPTION 'renew for % seconds?', seconds USING
            ERRCODE = 'invalid_parameter_value',
            HINT = 'Renew for more than 0 s and at most a week; release() gives a message back.';
    END IF;
    RETURN (heliograph._renew(ARRAY[id], ARRAY[token], ARRAY[seconds]))[1];
END $$;

-- Give the message back unworked: no failure, and to its old place.
CREATE OR REPLACE FUNCTION heliograph.release(id bigint, token bigint) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT heliograph._fail_one(id, token, 'return', NULL, '')
$$;

-- Put a message into a queue; its id, NULL when `dedup_id` was seen before.
CREATE OR REPLACE FUNCTION heliograph.enqueue(
    queue text, payload bytea, topic text DEFAULT NULL, key text DEFAULT NULL,
    priority integer DEFAULT 4, delay float8 DEFAULT 0, ttl float8 DEFAULT NULL,
    dedup_id text DEFAULT NULL, properties jsonb DEFAULT '{}', content_type text DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    of heliograph.queue;
    have record;
    block bytea := heliograph._write_properties(properties, content_type);
    size bigint;
BEGIN
    PERFORM heliograph._must_be_queue(queue);
    SELECT * INTO of FROM heliograph.queue AS q WHERE q.name = queue;
    topic := coalesce(topic, '$queue/' || queue);
    IF payload IS NULL OR priority IS NULL OR priority NOT BETWEEN 0 AND 9
        OR delay NOT BETWEEN 0 AND 315360000 OR ttl <= 0 OR ttl > 315360000
    THEN
        RAISE EXCEPTION 'this message cannot be put into "%"', queue USING
            ERRCODE = 'invalid_parameter_value',
            HINT = 'It needs a payload (which may be empty), a priority of 0 to 9, a delay of 0 s '
                'or more and a ttl of more than 0 s, both at most 10 years.';
    END IF;
    IF of.mode = 'draining' THEN
        RAISE EXCEPTION 'queue "%" is being drained and takes nothing in', queue USING
            ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Resume it with: heliograph queue resume ' || queue;
    END IF;
    size := octet_length(convert_to(topic, 'UTF8')) + length(payload) + length(block) + 100;
    have := heliograph._totals(queue);
    IF of.policy ->> 'on_full' = 'reject'
        AND NOT heliograph._fits(of.policy, have.messages + 1, have.bytes + size)
    THEN
        RAISE EXCEPTION 'queue "%" is full', queue USING
            ERRCODE = 'configuration_limit_exceeded',
            HINT = 'Try again later, or raise max_messages and max_bytes of the queue.';
    END IF;
    RETURN (heliograph._put(
        ARRAY[NULL::bigint], ARRAY[queue], ARRAY[9 - priority], ARRAY[key], ARRAY[delay],
        ARRAY[ttl], ARRAY[dedup_id], ARRAY[topic], ARRAY[payload], ARRAY[block], ARRAY[50],
        ARRAY[''::text], ARRAY[size], ARRAY[NULL::bigint], ARRAY[NULL::bigint],
        ARRAY[NULL::text], ARRAY[NULL::float8]))[1];
END $$;

-- ---- looking ------------------------------------------------------------------------------------

CREATE OR REPLACE VIEW heliograph.queues AS
SELECT s.name, s.mode, s.messages, s.bytes, s.ready, s.leased, s.waiting, s.delayed,
    make_interval(secs => s.oldest_age) AS oldest_age, s.dead, s.active, s.origin,
    s.policy::jsonb AS policy,
    (SELECT q.bindings::jsonb FROM heliograph.queue q WHERE q.name = s.name) AS bindings
FROM heliograph._stats(NULL) AS s;

CREATE OR REPLACE VIEW heliograph.messages AS
SELECT q.number AS id, q.queue,
    (ARRAY['ready', 'leased', 'waiting', 'delayed'])[q.state + 1] AS state,
    coalesce(q.payload, (
        SELECT p.payload FROM heliograph.queue_payload p WHERE p.id = q.content)) AS payload,
    q.topic, q.key, 9 - q.rank AS priority,
    (heliograph._read_properties(q.properties)).user_properties AS properties,
    (heliograph._read_properties(q.properties)).content_type AS content_type,
    q.publisher, heliograph._time(q.enqueued_at) AS enqueued_at,
    heliograph._time(q.expires_at) AS expires_at,
    CASE WHEN q.state = 1 THEN heliograph._time(q.due) END AS lease_until,
    CASE WHEN q.state <> 1 THEN heliograph._time(q.due) END AS not_before,
    q.consumer, q.acquisitions AS delivery_count, q.failures, q.size,
    q.dead_from, q.dead_reason, heliograph._time(q.dead_at) AS dead_at
FROM heliograph.queued q;

CREATE OR REPLACE VIEW heliograph.dead_letters AS
SELECT id, dead_from, dead_reason, dead_at, payload, topic, key, priority, properties,
    content_type, publisher, enqueued_at, delivery_count, failures, queue, state
FROM heliograph.messages WHERE dead_from IS NOT NULL;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA heliograph FROM PUBLIC;
-- A view's functions are called by whoever reads it.
GRANT EXECUTE ON FUNCTION heliograph._stats, heliograph._time, heliograph._read_properties,
    heliograph._text, heliograph._word TO PUBLIC;
