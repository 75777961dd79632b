-- What people do to queues, and what they ask. NULL where there is no such queue.

CREATE OR REPLACE FUNCTION heliograph._is_queue(its_name text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM heliograph.queue WHERE name = its_name)
$$;

CREATE OR REPLACE FUNCTION heliograph._purge(of_queue text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF NOT heliograph._is_queue(of_queue) THEN
        RETURN NULL;
    END IF;
    RETURN heliograph._delete(of_queue, ARRAY(
        SELECT number FROM heliograph.queued WHERE queue = of_queue AND state <> 1
        ORDER BY number FOR UPDATE SKIP LOCKED));
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

-- The queue with all that is in it; how many that were. -1 while something is leased.
CREATE OR REPLACE FUNCTION heliograph._drop(of_queue text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    count bigint;
BEGIN
    PERFORM FROM heliograph.queue WHERE name = of_queue FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM heliograph.queued WHERE queue = of_queue AND state = 1) THEN
        RETURN -1;
    END IF;
    count := heliograph._purge(of_queue);
    IF EXISTS (SELECT FROM heliograph.queued WHERE queue = of_queue) THEN
        RETURN -1;  -- another transaction has its hand on them
    END IF;
    DELETE FROM heliograph.queue WHERE name = of_queue;
    DELETE FROM heliograph.queue_seen WHERE queue = of_queue;
    RETURN count;
END $$;

-- Dead letters go back to where they came from, or to another queue; NULL when there is none.
CREATE OR REPLACE FUNCTION heliograph._redrive(
    of_queue text, numbers bigint[], target text, new_payload bytea
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    mine bigint[];
    each record;
    moved bigint := 0;
BEGIN
    IF NOT heliograph._is_queue(of_queue) OR NOT heliograph._is_queue(coalesce(target, of_queue))
    THEN
        RETURN NULL;
    END IF;
    IF new_payload IS NOT NULL AND cardinality(numbers) IS DISTINCT FROM 1 THEN
        RETURN 0;
    END IF;
    mine := ARRAY(
        SELECT number FROM heliograph.queued
        WHERE queue = of_queue AND state <> 1 AND coalesce(target, dead_from) IS NOT NULL
            AND (numbers IS NULL OR number = ANY (numbers))
        ORDER BY number FOR UPDATE SKIP LOCKED);
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
    RETURN moved;
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

-- What waits in line is the rest: a million of it is not counted one by one.
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
BEGIN
    FOR each IN
        SELECT q.*, q.policy ->> 'order' = 'key' AS is_keyed FROM heliograph.queue q
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
        leased := (SELECT count(*) FROM heliograph.queued q
            WHERE q.queue = each.name AND q.state = 1);
        delayed := (SELECT count(*) FROM heliograph.queued q
            WHERE q.queue = each.name AND q.state = 3);
        ready := messages - leased - delayed;
        IF each.is_keyed THEN
            ready := (SELECT count(*) FROM heliograph.queued q
                WHERE q.queue = each.name AND q.state = 0);
        END IF;
        waiting := messages - leased - delayed - ready;
        oldest_age := now - heliograph._oldest(each.name);
        dead := (heliograph._totals(coalesce(
            nullif(each.policy ->> 'dead_letter_queue', ''), each.name || '.dlq'))).messages;
        IF each.name LIKE '%.dlq' THEN
            dead := 0;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- When the oldest came that is not leased. In line, it stands behind one that is.
CREATE OR REPLACE FUNCTION heliograph._oldest(of_queue text) RETURNS float8
LANGUAGE sql STABLE AS $$
    SELECT min(enqueued_at) FROM (
        SELECT front.enqueued_at FROM generate_series(0, 9) AS place, LATERAL (
            SELECT q.enqueued_at FROM heliograph.queued q
            WHERE q.queue = of_queue AND q.state = 0 AND q.rank = place
            ORDER BY q.rank, q.number LIMIT 1) AS front
        UNION ALL
        SELECT q.enqueued_at FROM heliograph.queued q WHERE q.queue = of_queue AND q.state = 3
        UNION ALL
        SELECT next.enqueued_at FROM heliograph.queued h, LATERAL (
            SELECT l.enqueued_at FROM heliograph.queued l
            WHERE l.queue = of_queue AND l.key = h.key AND l.state = 2
            ORDER BY l.number LIMIT 1) AS next
        WHERE h.queue = of_queue AND h.state = 1 AND h.key IS NOT NULL) AS candidate
$$;

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
        WHERE q.queue = of_queue AND q.number > after_number ORDER BY q.number LIMIT most
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
