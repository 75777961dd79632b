-- What the store process calls: one call for each operation of a batch, its rows as arrays. An
-- array that is NULL is a column of NULLs.
--
-- A queue grows from nothing to a million within the life of a plan: so plans are made once, for any
-- size, and by way of the indexes. `state::integer` is for no index: who knows a message's number
-- shall not be led by way of all that are leased, however few those were when the plan was made.

-- Which of the rows are left out (2), wait behind their key (1) or are too much (3); else 0.
CREATE OR REPLACE FUNCTION heliograph._flags(
    queues text[], keys text[], dedup_ids text[], sizes bigint[], new_tokens bigint[]
) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    flags integer[] := array_fill(0, ARRAY[cardinality(queues)]);
    now float8 := heliograph._instant();
    got integer[];
    each record;
    have record;
    rivals bigint[];
BEGIN
    -- Seen before? In one order everywhere, so that two batches never wait for each other.
    FOR each IN
        SELECT u.ord, u.queue, u.dedup_id, (q.policy ->> 'dedup_window')::float8 AS lasting
        FROM unnest(queues, dedup_ids) WITH ORDINALITY AS u (queue, dedup_id, ord)
        JOIN heliograph.queue q ON q.name = u.queue
        WHERE u.dedup_id IS NOT NULL AND (q.policy ->> 'dedup_window')::float8 > 0
        ORDER BY u.queue COLLATE "C", u.dedup_id COLLATE "C", u.ord
    LOOP
        INSERT INTO heliograph.queue_seen AS s VALUES
            (each.queue, each.dedup_id, now + each.lasting)
        ON CONFLICT (queue, dedup_id) DO UPDATE SET until = excluded.until WHERE s.until <= now;
        IF NOT FOUND THEN
            flags[each.ord] := 2;
            PERFORM heliograph._tell(each.queue, 'duplicate', 1);
        END IF;
    END LOOP;
    -- Only the last value of each key?
    FOR each IN
        SELECT u.queue, u.key, array_agg(u.ord ORDER BY u.ord) AS ords
        FROM unnest(queues, keys, new_tokens, flags) WITH ORDINALITY AS u (queue, key, token, flag, ord)
        JOIN heliograph.queue q ON q.name = u.queue
        WHERE u.key IS NOT NULL AND u.token IS NULL AND u.flag = 0
            AND (q.policy ->> 'last_value')::boolean
        GROUP BY u.queue, u.key
    LOOP
        FOR place IN 1 .. cardinality(each.ords) - 1 LOOP
            flags[each.ords[place]] := 2;
        END LOOP;
        SELECT array_agg(number) INTO rivals FROM (
            SELECT number FROM heliograph.queued
            WHERE queue = each.queue AND key = each.key AND state IN (0, 3) FOR UPDATE SKIP LOCKED
        ) AS heads;
        rivals := coalesce(rivals, '{}') || ARRAY(
            SELECT number FROM heliograph.queued
            WHERE queue = each.queue AND key = each.key AND state = 2 FOR UPDATE SKIP LOCKED);
        PERFORM heliograph._delete(each.queue, rivals);
        PERFORM heliograph._tell(
            each.queue, 'replaced', cardinality(rivals) + cardinality(each.ords) - 1);
    END LOOP;
    -- Is there room?
    FOR each IN
        SELECT q.name, q.policy, count(*) AS count, sum(u.size)::bigint AS size
        FROM unnest(queues, sizes, flags) AS u (queue, size, flag)
        JOIN heliograph.queue q ON q.name = u.queue
        WHERE q.policy ->> 'on_full' = 'dead_letter' AND u.flag = 0
        GROUP BY q.name, q.policy
    LOOP
        have := heliograph._totals(each.name);
        CONTINUE WHEN heliograph._fits(
            each.policy, have.messages + each.count, have.bytes + each.size);
        FOR place IN 1 .. cardinality(queues) LOOP
            CONTINUE WHEN queues[place] <> each.name OR flags[place] <> 0
                OR new_tokens[place] IS NOT NULL;
            IF heliograph._fits(each.policy, have.messages + 1, have.bytes + sizes[place]) THEN
                have.messages := have.messages + 1;
                have.bytes := have.bytes + sizes[place];
            ELSE
                flags[place] := 3;
            END IF;
        END LOOP;
    END LOOP;
    -- Who is the first of its key?
    SELECT heliograph._lock_buckets(array_agg(heliograph._bucket(u.queue, u.key))) INTO got
    FROM unnest(queues, keys, flags) AS u (queue, key, flag)
    JOIN heliograph.queue q ON q.name = u.queue
    WHERE u.key IS NOT NULL AND u.flag = 0 AND q.policy ->> 'order' = 'key';
    IF got IS NULL THEN
        RETURN flags;
    END IF;
    WITH keyed AS MATERIALIZED (
        SELECT u.queue, u.key, u.flag, u.ord,
            row_number() OVER (PARTITION BY u.queue, u.key, u.flag ORDER BY u.ord) AS place,
            u.flag = 0 AND u.key IS NOT NULL AND q.policy ->> 'order' = 'key' AS is_keyed
        FROM unnest(queues, keys, flags) WITH ORDINALITY AS u (queue, key, flag, ord)
        LEFT JOIN heliograph.queue q ON q.name = u.queue
    ), judged AS MATERIALIZED (
        SELECT *, is_keyed AND NOT heliograph._bucket(queue, key) = ANY (got) AS is_later
        FROM keyed
    ), left_to_others AS (
        INSERT INTO heliograph.queue_later (queue, key)
        SELECT DISTINCT queue, key FROM judged WHERE is_later
    )
    SELECT array_agg(
        CASE WHEN NOT is_keyed THEN flag
        WHEN is_later OR place > 1
            OR EXISTS (
                SELECT FROM heliograph.queued h
                WHERE h.queue = judged.queue AND h.key = judged.key AND h.state <> 2)
            OR EXISTS (
                SELECT FROM heliograph.queued l
                WHERE l.queue = judged.queue AND l.key = judged.key AND l.state = 2)
        THEN 1 ELSE 0 END
        ORDER BY ord)
    INTO flags FROM judged;
    RETURN flags;
END $$;

-- Messages that are too much for their queue: dead letters before anybody had them.
CREATE OR REPLACE FUNCTION heliograph._bury_all(numbers bigint[], why text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    message heliograph.queued;
BEGIN
    FOR message IN
        SELECT * FROM heliograph.queued WHERE number = ANY (numbers) ORDER BY number
    LOOP
        PERFORM heliograph._bury(message, q.policy, why, 0)
        FROM heliograph.queue q WHERE q.name = message.queue;
    END LOOP;
END $$;

-- Put messages into queues; their numbers, in the order of the rows (NULL: not put). `at` is an
-- instant that somebody has been told.
DROP FUNCTION IF EXISTS heliograph._put(
    bigint[], text[], integer[], text[], float8[], float8[], text[], text[], bytea[], bytea[],
    integer[], text[], bigint[], bigint[], bigint[], text[], float8[]);
CREATE OR REPLACE FUNCTION heliograph._put(
    given bigint[], queues text[], ranks integer[], keys text[], delays float8[], ttls float8[],
    dedup_ids text[], topics text[], payloads bytea[], blocks bytea[], firsts integer[],
    publishers text[], sizes bigint[], contents bigint[], new_tokens bigint[], consumers text[],
    leases float8[], at float8 DEFAULT NULL
) RETURNS bigint[] LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    these record;
    flags integer[];
    numbers bigint[];
    now float8;
    each record;
BEGIN
    FOR each IN
        SELECT u.name FROM (SELECT DISTINCT unnest(queues)) AS u (name)
        WHERE NOT EXISTS (SELECT FROM heliograph.queue q WHERE q.name = u.name)
        ORDER BY u.name
    LOOP
        PERFORM heliograph._ensure(each.name, heliograph._default_policy());
    END LOOP;
    SELECT coalesce(bool_or(
            q.policy ->> 'on_full' <> 'reject'
            OR q.policy ->> 'order' = 'key'
            OR (q.policy ->> 'last_value')::boolean
            OR (q.policy ->> 'dedup_window')::float8 > 0), false) AS are_special,
        coalesce(bool_or((q.policy ->> 'ttl')::float8 > 0), false) AS have_ttl
    INTO these FROM heliograph.queue q WHERE q.name = ANY (queues);
    IF these.are_special THEN
        flags := heliograph._flags(queues, keys, dedup_ids, sizes, new_tokens);
    END IF;
    -- Numbers are taken when the keys are ours, so that they rise in the order of the commits.
    SELECT array_agg(
        CASE WHEN f = 2 THEN NULL ELSE coalesce(g, nextval('heliograph.queued_number')) END)
    INTO numbers FROM unnest(queues, given, flags) AS u (q, g, f);
    now := coalesce(at, heliograph._instant());
    INSERT INTO heliograph.queued (number, queue, state, rank, due, key, token, consumer,
        acquisitions, enqueued_at, expires_at, topic, first, publisher, size, content, properties,
        payload)
    SELECT u.number, u.queue,
        CASE WHEN u.token IS NOT NULL THEN 1 WHEN u.flag = 1 THEN 2 WHEN u.delay > 0 THEN 3
            ELSE 0 END,
        u.rank,
        CASE WHEN u.token IS NOT NULL THEN now + u.lease WHEN u.delay > 0 THEN now + u.delay END,
        u.key, u.token, u.consumer, (u.token IS NOT NULL)::integer, now,
        now + CASE WHEN u.ttl IS NOT NULL OR NOT these.have_ttl THEN u.ttl ELSE (
            SELECT nullif((q.policy ->> 'ttl')::float8, 0)
            FROM heliograph.queue q WHERE q.name = u.queue) END,
        u.topic, u.first, u.publisher, u.size, u.content, u.properties, u.payload
    FROM unnest(numbers, queues, ranks, keys, delays, ttls, topics, payloads, blocks, firsts,
        publishers, sizes, contents, new_tokens, consumers, leases, flags
    ) AS u (number, queue, rank, key, delay, ttl, topic, payload, properties, first, publisher,
        size, content, token, consumer, lease, flag)
    WHERE u.number IS NOT NULL;
    FOR each IN
        SELECT u.queue, count(*) AS count, sum(u.size)::bigint AS size,
            bool_or(u.token IS NULL) AS is_news
        FROM unnest(queues, sizes, new_tokens, numbers) AS u (queue, size, token, number)
        WHERE u.number IS NOT NULL GROUP BY u.queue
    LOOP
        PERFORM heliograph._count(each.queue, each.count, each.size);
        IF each.is_news THEN
            PERFORM heliograph._wake(each.queue);
        END IF;
    END LOOP;
    IF flags IS NOT NULL THEN
        PERFORM heliograph._after_put(queues, contents, numbers, flags);
    END IF;
    RETURN numbers;
END $$;

CREATE OR REPLACE FUNCTION heliograph._after_put(
    queues text[], contents bigint[], numbers bigint[], flags integer[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    each record;
BEGIN
    PERFORM heliograph._bury_all(
        ARRAY(SELECT n FROM unnest(numbers, flags) AS u (n, f) WHERE f = 3), 'full');
    FOR each IN
        SELECT u.queue, array_agg(u.content) AS contents
        FROM unnest(queues, contents, flags) AS u (queue, content, flag)
        WHERE u.flag = 2 AND u.content IS NOT NULL GROUP BY u.queue
    LOOP
        PERFORM heliograph._end_uses(each.queue, each.contents);
    END LOOP;
    FOR each IN  -- what came may be more than there is room for
        SELECT name, policy FROM heliograph.queue
        WHERE name = ANY (queues) AND policy ->> 'on_full' = 'drop_oldest' ORDER BY name
    LOOP
        PERFORM heliograph._drop_oldest(each.name, each.policy);
    END LOOP;
END $$;

-- The payloads' ids, in the order of the rows.
CREATE OR REPLACE FUNCTION heliograph._content(payloads bytea[], times bigint[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    ids bigint[] := ARRAY(
        SELECT nextval(pg_get_serial_sequence('heliograph.queue_payload', 'id'))
        FROM generate_series(1, cardinality(payloads)));
BEGIN
    INSERT INTO heliograph.queue_payload (id, uses, payload)
    SELECT * FROM unnest(ids, times, payloads);
    RETURN ids;
END $$;

-- Messages are done: "ok", "gone" or "lost" for each.
CREATE OR REPLACE FUNCTION heliograph._ack(numbers bigint[], tokens bigint[]) RETURNS text[]
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    now float8 := heliograph._instant();
    done bigint[];
    used bigint[];
    each record;
BEGIN
    FOR each IN
        WITH deleted AS (
            DELETE FROM heliograph.queued q
            USING unnest(numbers, tokens) AS u (number, token)
            WHERE q.number = u.number AND q.token = u.token AND q.state::integer = 1
                AND (q.due IS NULL OR q.due > now)
            RETURNING q.number, q.token, q.queue, q.key, q.content, q.size, q.consumer)
        SELECT queue, count(*) AS count, sum(size)::bigint AS size,
            array_agg(number) AS numbers, array_agg(token) AS tokens,
            array_agg(key) FILTER (WHERE key IS NOT NULL) AS keys,
            array_agg(content) FILTER (WHERE content IS NOT NULL) AS contents,
            max(consumer) AS consumer
        FROM deleted GROUP BY queue
    LOOP
        done := done || each.numbers;
        used := used || each.tokens;
        PERFORM heliograph._count(each.queue, -each.count, -each.size);
        IF each.contents IS NOT NULL THEN
            PERFORM heliograph._end_uses(each.queue, each.contents);
        END IF;
        IF each.keys IS NOT NULL THEN
            PERFORM heliograph._touch_keys(each.queue, each.keys);
        END IF;
        PERFORM heliograph._still_active(each.queue, each.consumer);
    END LOOP;
    IF cardinality(done) = cardinality(numbers) THEN
        RETURN array_fill('ok'::text, ARRAY[cardinality(numbers)]);
    END IF;
    RETURN ARRAY(
        SELECT CASE
            WHEN d.number IS NOT NULL AND u.place = 1 AND d.token = u.token THEN 'ok'
            WHEN d.token <> u.token
                OR EXISTS (SELECT FROM heliograph.queued q WHERE q.number = u.number)
            THEN 'lost' ELSE 'gone' END
        FROM (
            SELECT number, token, ord,
                row_number() OVER (PARTITION BY number, token ORDER BY ord) AS place
            FROM unnest(numbers, tokens) WITH ORDINALITY AS each (number, token, ord)
        ) AS u LEFT JOIN unnest(done, used) AS d (number, token) ON d.number = u.number
        ORDER BY u.ord);
END $$;

-- The one active consumer gives a sign of life.
CREATE OR REPLACE FUNCTION heliograph._still_active(of_queue text, who text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM heliograph.queue WHERE name = of_queue AND active = who FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        UPDATE heliograph.queue
        SET active_until = heliograph._instant() + (policy ->> 'lease')::float8
        WHERE name = of_queue;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION heliograph._fail_one(
    its_number bigint, its_token bigint, kind text, delay float8, why text
) RETURNS text LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    message heliograph.queued;
    rules jsonb;
BEGIN
    SELECT * INTO message FROM heliograph.queued
    WHERE number = its_number AND token = its_token AND state::integer = 1
        AND (due IS NULL OR due > heliograph._instant()) FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM FROM heliograph.queued WHERE number = its_number;
        RETURN CASE WHEN FOUND THEN 'lost' ELSE 'gone' END;
    END IF;
    SELECT policy INTO rules FROM heliograph.queue WHERE name = message.queue;
    IF kind = 'dead' THEN
        PERFORM heliograph._bury(
            message, rules, coalesce(nullif(why, ''), 'rejected'), message.failures);
        RETURN 'dead';
    END IF;
    IF kind = 'untouched' THEN
        message.acquisitions := message.acquisitions - 1;
        UPDATE heliograph.queued SET acquisitions = message.acquisitions
        WHERE number = message.number;
    END IF;
    RETURN heliograph._come_back(
        message, rules, kind = 'nack', CASE WHEN kind = 'nack' THEN delay END);
END $$;

CREATE OR REPLACE FUNCTION heliograph._fail(
    numbers bigint[], tokens bigint[], kinds text[], delays float8[], reasons text[]
) RETURNS text[] LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    answers text[] := '{}';
    each record;
BEGIN
    FOR each IN
        SELECT * FROM unnest(numbers, tokens, kinds, delays, reasons)
            AS u (number, token, kind, delay, reason)
    LOOP
        answers := answers || heliograph._fail_one(
            each.number, each.token, each.kind, each.delay, each.reason);
    END LOOP;
    RETURN answers;
END $$;

CREATE OR REPLACE FUNCTION heliograph._renew(
    numbers bigint[], tokens bigint[], lasting float8[]
) RETURNS text[] LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    answers text[] := '{}';
    each record;
    renewed record;
BEGIN
    FOR each IN
        SELECT * FROM unnest(numbers, tokens, lasting) AS u (number, token, seconds)
    LOOP
        UPDATE heliograph.queued
        SET due = CASE WHEN due IS NOT NULL THEN heliograph._instant() + each.seconds END
        WHERE number = each.number AND token = each.token AND state::integer = 1
            AND (due IS NULL OR due > heliograph._instant())
        RETURNING queue, consumer INTO renewed;
        IF FOUND THEN
            answers := answers || 'ok'::text;
            PERFORM heliograph._still_active(renewed.queue, renewed.consumer);
            CONTINUE;
        END IF;
        PERFORM FROM heliograph.queued WHERE number = each.number;
        answers := answers || CASE WHEN FOUND THEN 'lost' ELSE 'gone' END;
    END LOOP;
    RETURN answers;
END $$;

-- These consumers are gone: what they have comes back.
CREATE OR REPLACE FUNCTION heliograph._leave(consumers text[]) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    message heliograph.queued;
    each record;
BEGIN
    FOR message IN
        SELECT * FROM heliograph.queued
        WHERE state = 1 AND due IS NOT NULL AND consumer = ANY (consumers)
        ORDER BY number FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM heliograph._come_back(message, q.policy, false, NULL)
        FROM heliograph.queue q WHERE q.name = message.queue;
    END LOOP;
    FOR each IN
        SELECT name FROM heliograph.queue WHERE active = ANY (consumers)
        ORDER BY name FOR UPDATE SKIP LOCKED
    LOOP
        UPDATE heliograph.queue SET active = NULL, active_until = NULL WHERE name = each.name;
        PERFORM heliograph._wake(each.name);
    END LOOP;
END $$;

-- All consumers whose names begin so are gone; how many messages they had. What was lent without an
-- end stays with its session, if that is written to have it (2: lent); else nobody would get it.
CREATE OR REPLACE FUNCTION heliograph._disown(prefix text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    names text[];
    count bigint;
BEGIN
    UPDATE heliograph.queued SET due = heliograph._instant()
    WHERE state = 1 AND due IS NULL AND starts_with(consumer, prefix)
        AND number NOT IN (SELECT -lent.number FROM inflight AS lent WHERE lent.state = 2);
    SELECT array_agg(DISTINCT consumer), count(*) INTO names, count FROM heliograph.queued
    WHERE state = 1 AND due IS NOT NULL AND starts_with(consumer, prefix);
    SELECT array_agg(DISTINCT name) INTO names FROM (
        SELECT unnest(names) UNION SELECT active FROM heliograph.queue
        WHERE starts_with(active, prefix)) AS all_names (name);
    PERFORM heliograph._leave(names);
    RETURN count;
END $$;

-- What was leased with these tokens has reached nobody.
CREATE OR REPLACE FUNCTION heliograph._reclaim(of_queue text, first_token bigint, most integer)
RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    each record;
    count bigint := 0;
BEGIN
    FOR each IN
        SELECT number, token FROM heliograph.queued
        WHERE queue = of_queue AND state = 1 AND token >= first_token
            AND token < first_token + most ORDER BY number
    LOOP
        PERFORM heliograph._fail_one(each.number, each.token, 'untouched', NULL, '');
        count := count + 1;
    END LOOP;
    RETURN count;
END $$;

-- ---- leases -------------------------------------------------------------------------------------

-- Lease up to `most` messages. The last row has no number: `next_in` is when to ask again (NULL:
-- when woken; 0: at once), `clock` the instant, `note` "unknown" where there is no such queue.
CREATE OR REPLACE FUNCTION heliograph._take(
    of_queue text, who text, most integer, most_bytes bigint, seconds float8, first_token bigint
) RETURNS TABLE (
    number bigint, token bigint, key text, rank smallint, topic text, payload bytea,
    properties bytea, first smallint, publisher text, enqueued_at float8, lease_until float8,
    acquisitions integer, failures integer, expires_at float8, dead_from text, dead_reason text,
    dead_at float8, next_in float8, clock float8, note text
) LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    of heliograph.queue;
    now float8 := heliograph._instant();
    fresh_after float8;
    tokens_left float8;
    rate_next_in float8;
    rate float8;
    again float8;
    count integer := 0;
    is_alone boolean;
BEGIN
    clock := now;
    SELECT * INTO of FROM heliograph.queue WHERE name = of_queue;
    IF NOT FOUND THEN
        note := 'unknown';
        RETURN NEXT;
        RETURN;
    END IF;
    IF of.mode = 'paused' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    again := heliograph._let_time_pass(of_queue, of.policy, now, 1000);
    is_alone := of.policy ->> 'order' = 'single_active';
    rate := nullif((of.policy ->> 'max_rate')::float8, 0);
    IF is_alone OR rate IS NOT NULL THEN
        SELECT * INTO of FROM heliograph.queue WHERE name = of_queue FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN  -- somebody else is at it
            next_in := 0.1;
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    IF is_alone AND of.active <> who AND (
        of.active_until > now OR EXISTS (
            SELECT FROM heliograph.queued q
            WHERE q.queue = of_queue AND q.state = 1 AND q.consumer = of.active)
    ) THEN
        next_in := least(again, CASE WHEN of.active_until > now THEN of.active_until - now END);
        RETURN NEXT;
        RETURN;
    END IF;
    IF rate IS NOT NULL THEN
        tokens_left := least(
            greatest(rate, 1),
            coalesce(of.tokens + (now - of.tokens_at) * rate, greatest(rate, 1)));
        most := least(most, floor(tokens_left + 1e-9));
    END IF;
    fresh_after := CASE WHEN (of.policy ->> 'retention')::float8 > 0
        THEN now - (of.policy ->> 'retention')::float8 ELSE '-infinity' END;
    RETURN QUERY
        WITH front AS MATERIALIZED (
            SELECT q.number, q.rank, q.size FROM heliograph.queued q
            WHERE q.queue = of_queue AND q.state = 0
                AND (q.expires_at IS NULL OR q.expires_at > now)
                AND coalesce(q.dead_at, q.enqueued_at) > fresh_after
            ORDER BY q.rank, q.number LIMIT most FOR UPDATE SKIP LOCKED
        ), line AS (
            SELECT f.number, row_number() OVER places AS place,
                sum(f.size) OVER places AS bytes
            FROM front f WINDOW places AS (ORDER BY f.rank, f.number)
        ), leased AS (
            UPDATE heliograph.queued q SET state = 1, due = now + seconds,
                token = first_token + line.place - 1, consumer = who,
                acquisitions = q.acquisitions + 1
            FROM line
            WHERE q.number = line.number AND (line.place = 1 OR line.bytes <= most_bytes)
            RETURNING q.*)
        SELECT l.number, l.token, l.key, l.rank, l.topic, coalesce(
                l.payload, (SELECT p.payload FROM heliograph.queue_payload p WHERE p.id = l.content)),
            l.properties, l.first, l.publisher, l.enqueued_at, l.due, l.acquisitions, l.failures,
            l.expires_at, l.dead_from, l.dead_reason, l.dead_at, NULL::float8, NULL::float8,
            NULL::text
        FROM leased l ORDER BY l.token;
    GET DIAGNOSTICS count = ROW_COUNT;
    IF rate IS NOT NULL THEN
        tokens_left := tokens_left - count;
        UPDATE heliograph.queue q SET tokens = tokens_left, tokens_at = now
        WHERE q.name = of_queue;
        rate_next_in := CASE WHEN tokens_left < 1 THEN (1 - tokens_left) / rate END;
    END IF;
    IF is_alone AND (count > 0 OR of.active = who) THEN
        UPDATE heliograph.queue q SET active = who,
            active_until = now + coalesce(seconds, (of.policy ->> 'lease')::float8)
        WHERE q.name = of_queue;
    END IF;
    next_in := heliograph._next_in(of_queue, now, again, rate_next_in, count);
    RETURN NEXT;
END $$;

-- Of these queues, those where all that comes now is next, and whose policy leaves nothing to decide:
-- what is put at that instant may be put as leased. `ttl` is for messages that bring none. `along`:
-- all queues that something is put into, for the dead letters of one may come before.
CREATE OR REPLACE FUNCTION heliograph._clear(of_queues text[], along text[]) RETURNS TABLE (
    name text, now float8, ttl float8, next_in float8
) LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    asked text;
    first_due float8;
BEGIN
    now := heliograph._instant();
    FOREACH asked IN ARRAY of_queues LOOP
        SELECT q.name, nullif((q.policy ->> 'ttl')::float8, 0) INTO name, ttl
        FROM heliograph.queue q WHERE q.name = asked AND q.mode <> 'paused'
            AND q.policy ->> 'order' = 'fifo' AND q.policy ->> 'on_full' = 'reject'
            AND NOT (q.policy ->> 'last_value')::boolean
            AND (q.policy ->> 'dedup_window')::float8 <= 0
            AND (q.policy ->> 'max_rate')::float8 <= 0;
        CONTINUE WHEN NOT FOUND;
        first_due := least(
            (SELECT min(q.due) FROM heliograph.queued q WHERE q.queue = asked AND q.state = 1),
            (SELECT min(q.due) FROM heliograph.queued q WHERE q.queue = asked AND q.state = 3));
        CONTINUE WHEN first_due <= now
            OR EXISTS (SELECT FROM heliograph.queued q WHERE q.queue = asked AND q.state = 0)
            OR EXISTS (SELECT FROM heliograph.queue_later l WHERE l.queue = asked)
            OR EXISTS (SELECT FROM heliograph.queue o WHERE o.name = ANY (along)
                AND o.policy ->> 'on_full' = 'dead_letter'
                AND o.policy ->> 'dead_letter_queue' = asked);
        next_in := first_due - now;
        RETURN NEXT;
    END LOOP;
END $$;

-- When to ask again. What is ready and was not to be had is in the hands of a transaction that may
-- be rolled back, of which nobody would tell.
CREATE OR REPLACE FUNCTION heliograph._next_in(
    of_queue text, now float8, again float8, rate_next_in float8, count integer
) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    first_due float8;
BEGIN
    SELECT min(due) INTO first_due FROM heliograph.queued WHERE queue = of_queue AND state = 1;
    again := least(again, CASE WHEN first_due IS NOT NULL THEN greatest(first_due - now, 0.001) END);
    PERFORM FROM heliograph.queued WHERE queue = of_queue AND state = 0 LIMIT 1;
    IF NOT FOUND THEN
        RETURN again;
    END IF;
    IF rate_next_in IS NOT NULL THEN
        RETURN least(again, rate_next_in);
    END IF;
    RETURN CASE WHEN count > 0 THEN 0 ELSE least(again, 1.0) END;
END $$;

-- Everything whose time has come in a queue; seconds until there is more of that (NULL: never).
CREATE OR REPLACE FUNCTION heliograph._let_time_pass(
    of_queue text, rules jsonb, now float8, most integer
) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    is_later boolean;
BEGIN
    PERFORM FROM heliograph.queue_later WHERE queue = of_queue LIMIT 1;
    IF FOUND THEN
        PERFORM heliograph._do_later(of_queue, most);
        PERFORM FROM heliograph.queue_later WHERE queue = of_queue AND key IS NOT NULL LIMIT 1;
        is_later := FOUND;
    END IF;
    IF (SELECT min(due) <= now FROM heliograph.queued WHERE queue = of_queue AND state = 1) THEN
        PERFORM heliograph._end_leases(of_queue, rules, now, most);
    END IF;
    IF (SELECT min(due) <= now FROM heliograph.queued WHERE queue = of_queue AND state = 3) THEN
        PERFORM heliograph._end_delays(of_queue, now, most);
    END IF;
    IF (SELECT min(expires_at) <= now FROM heliograph.queued
            WHERE queue = of_queue AND expires_at IS NOT NULL)
        OR (SELECT coalesce(dead_at, enqueued_at) <= now - (rules ->> 'retention')::float8
            FROM heliograph.queued WHERE queue = of_queue AND state = 0
            ORDER BY rank, number LIMIT 1)
    THEN
        PERFORM heliograph._end_lives(of_queue, rules, now, most);
    END IF;
    RETURN least(
        CASE WHEN is_later THEN 0.1 END,
        (SELECT CASE WHEN min(due) IS NOT NULL THEN greatest(min(due) - now, 0.001) END
            FROM heliograph.queued WHERE queue = of_queue AND state = 3));
END $$;
