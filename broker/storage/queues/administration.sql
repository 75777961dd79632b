-- What people do to queues, and what they ask. NULL where there is no such queue.

CREATE OR REPLACE FUNCTION heliograph._is_queue(its_name text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM heliograph.queue WHERE name = its_name)
$$;

-- What version 3 had under the names that follow stays beside them, for brokers that still run it.

-- A slice of what was there when the first was asked for, with up_to NULL; what it then says is to
-- be asked for the next with, until up_to is NULL again. Each slice is a transaction of its own, so
-- that the work of others goes on between them. `deleted` NULL: there is no such queue.
CREATE OR REPLACE FUNCTION heliograph._purge(
    of_queue text, most integer, INOUT up_to bigint, INOUT since float8, OUT deleted bigint
) LANGUAGE plpgsql AS $$
BEGIN
    IF NOT heliograph._is_queue(of_queue) THEN
        up_to := NULL;
        RETURN;
    END IF;
    IF up_to IS NULL THEN
        up_to := (SELECT last_value FROM heliograph.queued_number);
        since := heliograph._instant();
    END IF;
    deleted := heliograph._delete(
        of_queue, heliograph._not_leased(of_queue, most, up_to, since));
    IF deleted < most THEN
        up_to := NULL;
    END IF;
END $$;

-- Some of what is not leased and came before, and whose rows are ours now. What is in line goes
-- first: then nothing has to come forward that goes, too.
CREATE OR REPLACE FUNCTION heliograph._not_leased(
    of_queue text, most integer, up_to bigint, since float8
) RETURNS bigint[] LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off
SET jit = off AS $$
DECLARE
    found bigint[] := ARRAY(
        SELECT q.number FROM heliograph.queued q
        WHERE q.queue = of_queue AND q.state = 2 AND q.number <= up_to
            AND coalesce(q.dead_at, q.enqueued_at) <= since
        ORDER BY q.due LIMIT most FOR UPDATE SKIP LOCKED);
BEGIN
    found := found || ARRAY(
        SELECT q.number FROM heliograph.queued q
        WHERE q.queue = of_queue AND q.state = 3 AND q.number <= up_to
            AND coalesce(q.dead_at, q.enqueued_at) <= since
        ORDER BY q.due LIMIT most - cardinality(found) FOR UPDATE SKIP LOCKED);
    FOR place IN 0..9 LOOP
        CONTINUE WHEN cardinality(found) >= most;
        found := found || ARRAY(
            SELECT q.number FROM heliograph.queued q
            WHERE q.queue = of_queue AND q.state = 0
                AND q.rank >= place AND q.rank < place + 1  -- by this index, not by number
                AND q.number <= up_to AND coalesce(q.dead_at, q.enqueued_at) <= since
            ORDER BY q.rank, q.number LIMIT most - cardinality(found) FOR UPDATE SKIP LOCKED);
    END LOOP;
    RETURN found;
END $$;

CREATE OR REPLACE FUNCTION heliograph._delete_one(of_queue text, its_number bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT heliograph._is_queue(of_queue) THEN
        RETURN NULL;
    END IF;
    RETURN heliograph._delete(of_queue, ARRAY(
        SELECT number FROM heliograph.queued
        WHERE number = its_number AND queue = of_queue AND state <> 1 FOR UPDATE SKIP LOCKED));
END $$;

CREATE OR REPLACE FUNCTION heliograph._set_mode(of_queue text, its_mode text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE heliograph.queue SET mode = its_mode WHERE name = of_queue;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM heliograph._wake(of_queue);
    RETURN its_mode;
END $$;

-- A slice, as of _purge, and with the last one the queue itself. -1: something is leased, or has come
-- since, or another transaction has its hand on it.
CREATE OR REPLACE FUNCTION heliograph._drop(
    of_queue text, most integer, INOUT up_to bigint, INOUT since float8, OUT dropped bigint
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM heliograph.queue WHERE name = of_queue FOR UPDATE;
    IF NOT FOUND THEN
        up_to := NULL;
        RETURN;
    END IF;
    dropped := -1;
    IF EXISTS (SELECT FROM heliograph.queued WHERE queue = of_queue AND state = 1) THEN
        up_to := NULL;
        RETURN;
    END IF;
    SELECT p.up_to, p.since, p.deleted INTO up_to, since, dropped
    FROM heliograph._purge(of_queue, most, up_to, since) AS p;
    IF up_to IS NOT NULL THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM heliograph.queued WHERE queue = of_queue) THEN
        dropped := -1;
        RETURN;
    END IF;
    DELETE FROM heliograph.queue WHERE name = of_queue;
    DELETE FROM heliograph.queue_seen WHERE queue = of_queue;
END $$;

-- Dead letters go back to where they came from, or to another queue: a slice, as of _purge, by their
-- numbers; after_number NULL: it was the last.
CREATE OR REPLACE FUNCTION heliograph._redrive(
    of_queue text, numbers bigint[], target text, new_payload bytea, most integer,
    INOUT after_number bigint, INOUT up_to bigint, INOUT since float8, OUT moved bigint
) LANGUAGE plpgsql AS $$
DECLARE
    looked_at bigint[];
    mine bigint[];
    each record;
BEGIN
    IF NOT heliograph._is_queue(of_queue) OR NOT heliograph._is_queue(coalesce(target, of_queue))
    THEN
        after_number := NULL;
        RETURN;
    END IF;
    moved := 0;
    IF new_payload IS NOT NULL AND cardinality(numbers) IS DISTINCT FROM 1 THEN
        after_number := NULL;
        RETURN;
    END IF;
    IF up_to IS NULL THEN
        after_number := 0;
        up_to := (SELECT last_value FROM heliograph.queued_number);
        since := heliograph._instant();
    END IF;
    IF numbers IS NULL THEN
        looked_at := heliograph._behind(of_queue, after_number, most);
    ELSE
        looked_at := ARRAY(
            SELECT DISTINCT n FROM unnest(numbers) AS n WHERE n > after_number
            ORDER BY n LIMIT most);
    END IF;
    after_number := looked_at[most];
    IF after_number >= up_to THEN
        after_number := NULL;
    END IF;
    mine := ARRAY(
        SELECT q.number FROM heliograph.queued q
        WHERE q.number = ANY (looked_at) AND q.queue = of_queue AND q.state <> 1
            AND q.number <= up_to AND coalesce(q.dead_at, q.enqueued_at) <= since
            AND coalesce(target, q.dead_from) IS NOT NULL
        ORDER BY q.number FOR UPDATE SKIP LOCKED);
    IF new_payload IS NOT NULL THEN
        PERFORM heliograph._edit(of_queue, number, new_payload) FROM unnest(mine) AS number;
    END IF;
    FOR each IN
        SELECT coalesce(target, q.dead_from) AS name, count(*) AS count,
            sum(q.size)::bigint AS size, array_agg(q.number) AS numbers, array_agg(q.key) AS keys
        FROM heliograph.queued q WHERE q.number = ANY (mine) GROUP BY 1 ORDER BY 1
    LOOP
        PERFORM heliograph._ensure(each.name, heliograph._default_policy());
        UPDATE heliograph.queued SET queue = each.name, failures = 0, acquisitions = 0,
            due = NULL, expires_at = NULL, dead_from = NULL, dead_reason = NULL, dead_at = NULL,
            enqueued_at = heliograph._instant(),
            state = CASE WHEN key IS NOT NULL AND (
                SELECT policy ->> 'order' = 'key' FROM heliograph.queue WHERE name = each.name
            ) THEN 2 ELSE 0 END
        WHERE number = ANY (each.numbers);
        PERFORM heliograph._count(of_queue, -each.count, -each.size);
        PERFORM heliograph._count(each.name, each.count, each.size);
        PERFORM heliograph._touch_keys(each.name, each.keys);
        PERFORM heliograph._touch_keys(of_queue, each.keys);
        PERFORM heliograph._wake(each.name);
        moved := moved + each.count;
    END LOOP;
END $$;

-- Another payload for a message, whose row is ours.
CREATE OR REPLACE FUNCTION heliograph._edit(of_queue text, its_number bigint, new_payload bytea)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    old record;
    new_size bigint;
BEGIN
    SELECT size, content, topic, properties INTO old FROM heliograph.queued
    WHERE number = its_number;
    new_size := octet_length(convert_to(old.topic, 'UTF8')) + length(old.properties)
        + length(new_payload) + 100;
    UPDATE heliograph.queued SET payload = new_payload, content = NULL, size = new_size
    WHERE number = its_number;
    PERFORM heliograph._count(of_queue, 0, new_size - old.size);
    IF old.content IS NOT NULL THEN
        PERFORM heliograph._end_uses(of_queue, ARRAY[old.content]);
    END IF;
END $$;

-- Everything whose time has come, and what others have left to be done; how much that was.
CREATE OR REPLACE FUNCTION heliograph._reap(of_queue text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    each record;
    now float8 := heliograph._instant();
    count bigint := 0;
    seen bigint;
BEGIN
    IF of_queue <> '' AND NOT heliograph._is_queue(of_queue) THEN
        RETURN NULL;
    END IF;
    FOR each IN
        SELECT name, policy FROM heliograph.queue WHERE of_queue IN ('', name) ORDER BY name
    LOOP
        count := count + heliograph._do_later(each.name, 1000)
            + heliograph._end_leases(each.name, each.policy, now, 1000)
            + heliograph._end_delays(each.name, now, 1000)
            + heliograph._end_lives(each.name, each.policy, now, 1000);
    END LOOP;
    DELETE FROM heliograph.queue_seen WHERE (queue, dedup_id) IN (
        SELECT queue, dedup_id FROM heliograph.queue_seen
        WHERE until <= now AND of_queue IN ('', queue) ORDER BY until LIMIT 1000
        FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS seen = ROW_COUNT;
    PERFORM heliograph._gather_counters();
    RETURN count + seen;
END $$;

-- ---- questions ----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION heliograph._stats(of_queue text) RETURNS TABLE (
    name text, mode text, origin text, policy text, messages bigint, bytes bigint, ready bigint,
    leased bigint, waiting bigint, delayed bigint, oldest_age float8, dead bigint, active text
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    now float8 := heliograph._instant();
    each record;
    have record;
    counts bigint[];
BEGIN
    FOR each IN
        SELECT q.* FROM heliograph.queue q
        WHERE of_queue IS NULL OR q.name = of_queue ORDER BY q.name
    LOOP
        have := heliograph._totals(each.name);
        name := each.name;
        mode := each.mode;
        origin := each.origin;
        policy := each.policy::text;
        messages := have.messages;
        bytes := have.bytes;
        active := each.active;
        counts := heliograph._by_state(each.name, messages);
        ready := counts[1];
        leased := counts[2];
        waiting := counts[3];
        delayed := counts[4];
        oldest_age := now - heliograph._oldest(each.name);
        dead := (heliograph._totals(coalesce(
            nullif(each.policy ->> 'dead_letter_queue', ''), each.name || '.dlq'))).messages;
        IF each.name LIKE '%.dlq' THEN
            dead := 0;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Ready, leased, waiting, delayed. The sum is known: so most of them, a million perhaps, need not be
-- counted.
CREATE OR REPLACE FUNCTION heliograph._by_state(of_queue text, messages bigint) RETURNS bigint[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    most bigint := 1000;
    counts bigint[];
    largest integer;
BEGIN
    LOOP
        counts := ARRAY(
            SELECT count(*) FROM (
                SELECT FROM heliograph.queued q WHERE q.queue = of_queue AND q.state = 0
                ORDER BY q.rank, q.number LIMIT most) AS ready)
            || ARRAY(
            SELECT (SELECT count(*) FROM (
                SELECT FROM heliograph.queued q
                WHERE q.queue = of_queue AND q.state = kind AND q.state <> 0
                ORDER BY q.due LIMIT most) AS one)
            FROM generate_series(1, 3) AS kind ORDER BY kind);
        EXIT WHEN (SELECT count(*) FROM unnest(counts) AS c WHERE c >= most) <= 1;
        most := most * 8;
    END LOOP;
    SELECT ord INTO largest FROM unnest(counts) WITH ORDINALITY AS u (c, ord)
    ORDER BY c DESC LIMIT 1;
    counts[largest] := messages - (SELECT sum(c) FROM unnest(counts) AS c) + counts[largest];
    RETURN counts;
END $$;

-- When the oldest came that is not leased. In line, it stands behind one that is. Of those that are
-- delayed, the next are looked at.
CREATE OR REPLACE FUNCTION heliograph._oldest(of_queue text) RETURNS float8
LANGUAGE plpgsql STABLE AS $$
DECLARE
    oldest float8;
BEGIN
    FOR place IN 0..9 LOOP
        oldest := least(oldest, (
            SELECT q.enqueued_at FROM heliograph.queued q
            WHERE q.queue = of_queue AND q.state = 0
                AND q.rank >= place AND q.rank < place + 1  -- by this index, not by number
            ORDER BY q.rank, q.number LIMIT 1));
    END LOOP;
    RETURN least(
        oldest,
        (SELECT min(next.enqueued_at) FROM (
            SELECT q.enqueued_at FROM heliograph.queued q
            WHERE q.queue = of_queue AND q.state = 3 ORDER BY q.due LIMIT 1000) AS next),
        (SELECT min(next.enqueued_at) FROM (
            SELECT q.key FROM heliograph.queued q
            WHERE q.queue = of_queue AND q.state = 1 AND q.key IS NOT NULL
            ORDER BY q.due LIMIT 1000) AS h, LATERAL (
            SELECT l.enqueued_at FROM heliograph.queued l
            WHERE l.queue = of_queue AND l.key = h.key AND l.state = 2
            ORDER BY l.number LIMIT 1) AS next));
END $$;

-- The numbers of the next messages of a queue, in their order. Where rows of other queues lie
-- between them, it is done state by state.
CREATE OR REPLACE FUNCTION heliograph._behind(of_queue text, after_number bigint, most integer)
RETURNS bigint[] LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off
SET jit = off AS $$
DECLARE
    found bigint[] := ARRAY(
        SELECT near.number FROM (
            SELECT q.number, q.queue FROM heliograph.queued q
            WHERE q.number > after_number ORDER BY q.number LIMIT 1000) AS near
        WHERE near.queue = of_queue ORDER BY near.number LIMIT most);
BEGIN
    IF cardinality(found) = most THEN
        RETURN found;
    END IF;
    found := ARRAY(
        SELECT busy.number FROM generate_series(1, 3) AS kind, LATERAL (
            SELECT q.number FROM heliograph.queued q
            WHERE q.queue = of_queue AND q.state = kind AND q.state <> 0
                AND q.number + 0 > after_number  -- so not by all numbers
            ORDER BY q.number + 0 LIMIT most) AS busy);
    FOR place IN 0..9 LOOP
        found := found || ARRAY(
            SELECT q.number FROM heliograph.queued q
            WHERE q.queue = of_queue AND q.state = 0 AND q.rank < place + 1
                AND (q.rank, q.number) > (place, after_number)
            ORDER BY q.rank, q.number LIMIT most);
    END LOOP;
    RETURN ARRAY(SELECT n FROM unnest(found) AS n ORDER BY n LIMIT most);
END $$;

-- A look without any effect.
CREATE OR REPLACE FUNCTION heliograph._peek(
    of_queue text, after_number bigint, most integer, most_bytes bigint
) RETURNS TABLE (
    number bigint, token bigint, key text, rank smallint, topic text, payload bytea,
    properties bytea, first smallint, publisher text, enqueued_at float8, lease_until float8,
    acquisitions integer, failures integer, expires_at float8, dead_from text, dead_reason text,
    dead_at float8, state smallint, due float8, consumer text
) LANGUAGE sql STABLE SET plan_cache_mode = force_custom_plan AS $$
    WITH found AS (
        SELECT q.number, q.size FROM heliograph.queued q
        WHERE q.number = ANY (heliograph._behind(of_queue, after_number, most))
            AND q.queue = of_queue
    ), added AS (
        SELECT number, row_number() OVER places AS place, sum(size) OVER places AS bytes
        FROM found WINDOW places AS (ORDER BY number))
    SELECT q.number, 0::bigint, q.key, q.rank, q.topic, coalesce(
            q.payload, (SELECT p.payload FROM heliograph.queue_payload p WHERE p.id = q.content)),
        q.properties, q.first, q.publisher, q.enqueued_at,
        CASE WHEN q.state = 1 THEN q.due END, q.acquisitions, q.failures, q.expires_at,
        q.dead_from, q.dead_reason, q.dead_at, q.state, q.due, q.consumer
    FROM added a JOIN heliograph.queued q ON q.number = a.number
    WHERE a.place = 1 OR a.bytes <= most_bytes ORDER BY q.number
$$;

-- Of every queue that this transaction has touched; and what has happened by itself.
CREATE OR REPLACE FUNCTION heliograph._touched() RETURNS TABLE (
    queue text, messages bigint, bytes bigint
) LANGUAGE sql STABLE AS $$
    SELECT c.queue, sum(c.messages)::bigint, sum(c.bytes)::bigint
    FROM heliograph.queue_counter c
    WHERE c.queue IN (
        SELECT own.queue FROM heliograph.queue_counter own
        WHERE own.slot = pg_backend_pid() AND own.xmin = pg_current_xact_id_if_assigned()::xid)
    GROUP BY c.queue
$$;
