-- The queues' rules: what the doors and the broker's batches are made of.
--
-- Rule kept here: nobody waits for a transaction that somebody else leaves open. Rows are taken with
-- SKIP LOCKED, keys with pg_try_advisory_xact_lock. Who does not get a key leaves a row in
-- `queue_later`; it is seen when that transaction has ended, and then the key is put in order.
-- Who holds the key's lock decides, on a snapshot younger than the lock.

-- Seconds since 1970. The server's clock rules, whatever the brokers' clocks say.
CREATE OR REPLACE FUNCTION heliograph._instant() RETURNS float8 LANGUAGE sql VOLATILE AS $$
    SELECT extract(epoch FROM clock_timestamp())::float8
$$;

-- What is called often is PL/pgSQL: it keeps its plans, SQL functions are planned for each call.

CREATE OR REPLACE FUNCTION heliograph._wake(queue text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('heliograph_queue', queue);
END $$;

-- What has happened by itself, for whoever runs this batch; forgotten when it ends.
CREATE OR REPLACE FUNCTION heliograph._tell(queue text, what text, count bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF count > 0 THEN
        PERFORM set_config(
            'heliograph.events',
            coalesce(current_setting('heliograph.events', true), '')
                || queue || ' ' || what || ' ' || count || E'\n',
            true);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION heliograph._count(queue text, messages bigint, bytes bigint)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    UPDATE heliograph.queue_counter c
    SET messages = c.messages + _count.messages, bytes = c.bytes + _count.bytes
    WHERE c.queue = _count.queue AND c.slot = pg_backend_pid();
    IF NOT FOUND THEN
        INSERT INTO heliograph.queue_counter
        VALUES (_count.queue, pg_backend_pid(), _count.messages, _count.bytes);
    END IF;
END $$;

-- The counters of server processes that are no more become ours.
CREATE OR REPLACE FUNCTION heliograph._gather_counters() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH old AS (
        DELETE FROM heliograph.queue_counter WHERE (queue, slot) IN (
            SELECT c.queue, c.slot FROM heliograph.queue_counter c
            WHERE c.slot NOT IN (SELECT a.pid FROM pg_stat_activity a)
            FOR UPDATE SKIP LOCKED)
        RETURNING *)
    INSERT INTO heliograph.queue_counter AS c
    SELECT queue, pg_backend_pid(), sum(messages), sum(bytes) FROM old GROUP BY queue
    ON CONFLICT (queue, slot) DO UPDATE
        SET messages = c.messages + excluded.messages, bytes = c.bytes + excluded.bytes;
END $$;

CREATE OR REPLACE FUNCTION heliograph._totals(
    of_queue text, OUT messages bigint, OUT bytes bigint
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT coalesce(sum(c.messages), 0)::bigint, coalesce(sum(c.bytes), 0)::bigint
    INTO messages, bytes FROM heliograph.queue_counter c WHERE c.queue = of_queue;
END $$;

-- One use of payloads that lie apart has ended.
CREATE OR REPLACE FUNCTION heliograph._end_uses(of_queue text, contents bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    got bigint[];
BEGIN
    WITH used AS (
        SELECT content, count(*) AS times FROM unnest(contents) AS content
        WHERE content IS NOT NULL GROUP BY content
    ), mine AS MATERIALIZED (
        SELECT p.id FROM heliograph.queue_payload p
        WHERE p.id IN (SELECT content FROM used) FOR UPDATE SKIP LOCKED
    ), lowered AS (
        UPDATE heliograph.queue_payload p SET uses = p.uses - u.times
        FROM mine, used u WHERE p.id = mine.id AND u.content = p.id AND p.uses > u.times
    ), deleted AS (
        DELETE FROM heliograph.queue_payload p
        USING mine, used u WHERE p.id = mine.id AND u.content = p.id AND p.uses <= u.times
    )
    SELECT array_agg(id) INTO got FROM mine;
    INSERT INTO heliograph.queue_later (queue, content)
    SELECT of_queue, content FROM unnest(contents) AS content
    WHERE content <> ALL (coalesce(got, '{}'))
        AND EXISTS (SELECT FROM heliograph.queue_payload WHERE id = content);
END $$;

-- ---- keys ---------------------------------------------------------------------------------------

-- Many keys share a lock, so that no batch, however large, takes all that the server has.
CREATE OR REPLACE FUNCTION heliograph._bucket(queue text, key text) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
    SELECT hashtext(queue || ' ' || key) & 1023
$$;

-- Which of the keys are ours to put in order until this transaction ends. An older snapshot than
-- the lock's would not show what the last holder has done.
CREATE OR REPLACE FUNCTION heliograph._lock_buckets(buckets integer[]) RETURNS integer[]
LANGUAGE plpgsql AS $$
DECLARE
    got integer[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN '{}';
    END IF;
    WITH wanted AS MATERIALIZED (SELECT DISTINCT b FROM unnest(buckets) AS b)
    SELECT array_agg(b) INTO got FROM wanted WHERE pg_try_advisory_xact_lock(1214606448, b);
    RETURN coalesce(got, '{}');
END $$;

-- The oldest of a key comes forward, unless one of it is leased. False: not now. Needs the lock.
CREATE OR REPLACE FUNCTION heliograph._settle_key(of_queue text, of_key text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    head record;
    following record;
    now float8;
BEGIN
    SELECT number, state INTO head FROM heliograph.queued
    WHERE queue = of_queue AND key = of_key AND state <> 2
    ORDER BY (state = 1) DESC, number LIMIT 1;
    IF head.state = 1 THEN
        RETURN true;
    END IF;
    SELECT number, due INTO following FROM heliograph.queued
    WHERE queue = of_queue AND key = of_key AND state = 2 ORDER BY number LIMIT 1;
    IF following.number IS NULL OR head.number < following.number THEN
        RETURN true;
    END IF;
    IF head.number IS NOT NULL THEN  -- younger than what came back from the dead letters
        UPDATE heliograph.queued SET state = 2 WHERE number = (
            SELECT number FROM heliograph.queued
            WHERE number = head.number AND queue = of_queue AND state::integer IN (0, 3)
            FOR UPDATE SKIP LOCKED);
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    now := heliograph._instant();
    UPDATE heliograph.queued SET
        state = CASE WHEN due > now THEN 3 ELSE 0 END,
        due = CASE WHEN due > now THEN due END
    WHERE number = (
        SELECT number FROM heliograph.queued
        WHERE number = following.number AND queue = of_queue AND state::integer = 2
        FOR UPDATE SKIP LOCKED);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM heliograph._wake(of_queue);
    RETURN true;
END $$;

-- Something of these keys has gone or come: put them in order, now or later.
CREATE OR REPLACE FUNCTION heliograph._touch_keys(of_queue text, keys text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    got integer[];
    each record;
BEGIN
    SELECT array_agg(DISTINCT k) INTO keys FROM unnest(keys) AS k WHERE k IS NOT NULL;
    IF keys IS NULL OR NOT EXISTS (
        SELECT FROM heliograph.queue WHERE name = of_queue AND policy ->> 'order' = 'key'
    ) THEN
        RETURN;
    END IF;
    got := heliograph._lock_buckets(
        (SELECT array_agg(heliograph._bucket(of_queue, k)) FROM unnest(keys) AS k));
    FOR each IN
        SELECT k AS key, heliograph._bucket(of_queue, k) = ANY (got) AS is_ours
        FROM unnest(keys) AS k
        WHERE heliograph._bucket(of_queue, k) <> ALL (got)
            OR EXISTS (
                SELECT FROM heliograph.queued l
                WHERE l.queue = of_queue AND l.key = k AND l.state = 2)
    LOOP
        CONTINUE WHEN each.is_ours AND heliograph._settle_key(of_queue, each.key);
        INSERT INTO heliograph.queue_later (queue, key) VALUES (of_queue, each.key);
        PERFORM heliograph._wake(of_queue);
    END LOOP;
END $$;

-- What others have left to be done. How much was done.
CREATE OR REPLACE FUNCTION heliograph._do_later(of_queue text, most integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    each record;
    done integer := 0;
BEGIN
    FOR each IN
        SELECT id, key, content FROM heliograph.queue_later WHERE queue = of_queue
        ORDER BY id LIMIT most FOR UPDATE SKIP LOCKED
    LOOP
        IF each.content IS NOT NULL THEN
            DELETE FROM heliograph.queue_later WHERE id = each.id;
            PERFORM heliograph._end_uses(of_queue, ARRAY[each.content]);
        ELSIF cardinality(heliograph._lock_buckets(
                ARRAY[heliograph._bucket(of_queue, each.key)])) > 0
            AND heliograph._settle_key(of_queue, each.key)
        THEN
            DELETE FROM heliograph.queue_later WHERE id = each.id;
            done := done + 1;
        END IF;
    END LOOP;
    RETURN done;
END $$;

-- ---- queues -------------------------------------------------------------------------------------

-- As QueuePolicy() and QueuePolicy.for_dead_letters have it: filled in when this is installed.
CREATE OR REPLACE FUNCTION heliograph._default_policy() RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT '{{DEFAULT_POLICY}}'::jsonb
$$;

CREATE OR REPLACE FUNCTION heliograph._dead_letter_policy(parent jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT '{{DEAD_LETTER_POLICY}}'::jsonb || jsonb_build_object(
        'lease', parent -> 'lease',
        'prefetch', parent -> 'prefetch',
        'max_messages', parent -> 'max_messages',
        'max_bytes', parent -> 'max_bytes')
$$;

-- A queue that nobody has defined.
CREATE OR REPLACE FUNCTION heliograph._ensure(wanted text, rules jsonb) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO heliograph.queue (name, policy, origin, bindings)
    SELECT wanted, rules, 'client', '[]'
    WHERE NOT EXISTS (SELECT FROM heliograph.queue WHERE name = wanted)
    ON CONFLICT DO NOTHING
$$;

CREATE OR REPLACE FUNCTION heliograph._define(
    its_name text, its_policy jsonb, its_origin text, its_bindings text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM heliograph.queue WHERE name = its_name
            AND (origin = 'config' AND its_origin <> 'config'
                OR policy = its_policy AND origin = its_origin AND bindings = its_bindings)
    ) THEN
        RETURN;  -- without a lock on the row
    END IF;
    INSERT INTO heliograph.queue AS q (name, policy, origin, bindings)
    VALUES (its_name, its_policy, its_origin, its_bindings)
    ON CONFLICT (name) DO UPDATE
        SET policy = its_policy, origin = its_origin, bindings = its_bindings;
    -- The order may have become one by key, or have ceased to be: everything is put in order.
    IF its_policy ->> 'order' = 'key' THEN
        UPDATE heliograph.queued SET state = 2, due = CASE WHEN state = 3 THEN due END
        WHERE queue = its_name AND key IS NOT NULL AND state IN (0, 3);
        PERFORM heliograph._touch_keys(its_name, ARRAY(
            SELECT DISTINCT key FROM heliograph.queued
            WHERE queue = its_name AND key IS NOT NULL));
    ELSE
        UPDATE heliograph.queued SET state = CASE WHEN due IS NULL THEN 0 ELSE 3 END
        WHERE queue = its_name AND state = 2;
    END IF;
    PERFORM heliograph._wake(its_name);
END $$;

-- ---- what becomes of messages -------------------------------------------------------------------

-- Delete messages, whose rows are ours.
CREATE OR REPLACE FUNCTION heliograph._delete(of_queue text, numbers bigint[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    gone record;
BEGIN
    WITH deleted AS (
        DELETE FROM heliograph.queued WHERE number = ANY (numbers) RETURNING key, content, size)
    SELECT count(*) AS count, sum(size)::bigint AS size,
        array_agg(key) FILTER (WHERE key IS NOT NULL) AS keys,
        array_agg(content) FILTER (WHERE content IS NOT NULL) AS contents
    INTO gone FROM deleted;
    IF gone.count > 0 THEN
        PERFORM heliograph._count(of_queue, -gone.count, -gone.size);
        IF gone.contents IS NOT NULL THEN
            PERFORM heliograph._end_uses(of_queue, gone.contents);
        END IF;
        IF gone.keys IS NOT NULL THEN
            PERFORM heliograph._touch_keys(of_queue, gone.keys);
        END IF;
    END IF;
    RETURN gone.count;
END $$;

-- Whether a queue may hold so much; 0 is no limit.
CREATE OR REPLACE FUNCTION heliograph._fits(rules jsonb, messages bigint, bytes bigint)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT messages <= coalesce(nullif((rules ->> 'max_messages')::bigint, 0), messages)
        AND bytes <= coalesce(nullif((rules ->> 'max_bytes')::bigint, 0), bytes)
$$;

-- Make room: the oldest ready messages of the lowest priority go.
CREATE OR REPLACE FUNCTION heliograph._drop_oldest(of_queue text, rules jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    have record;
    too_many bigint;
    too_large bigint;
    victims bigint[];
BEGIN
    have := heliograph._totals(of_queue);
    IF heliograph._fits(rules, have.messages, have.bytes) THEN
        RETURN;
    END IF;
    too_many := coalesce(have.messages - nullif((rules ->> 'max_messages')::bigint, 0), 0);
    too_large := coalesce(have.bytes - nullif((rules ->> 'max_bytes')::bigint, 0), 0);
    WITH oldest AS MATERIALIZED (
        SELECT number, rank, size FROM heliograph.queued
        WHERE queue = of_queue AND state = 0
        ORDER BY rank DESC, number
        LIMIT CASE WHEN too_large <= 0 THEN too_many ELSE 1000 + greatest(too_many, 0) END
        FOR UPDATE SKIP LOCKED
    ), added AS (
        SELECT number, row_number() OVER line AS place, sum(size) OVER line - size AS before
        FROM oldest WINDOW line AS (ORDER BY rank DESC, number))
    SELECT array_agg(number) INTO victims FROM added
    WHERE place <= too_many OR before < too_large;
    PERFORM heliograph._tell(of_queue, 'dropped', heliograph._delete(of_queue, victims));
END $$;

-- A message, whose row is ours, becomes a dead letter; or is lost, where there is no place for it.
CREATE OR REPLACE FUNCTION heliograph._bury(
    message heliograph.queued, rules jsonb, why text, times_failed integer
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    target text := coalesce(nullif(rules ->> 'dead_letter_queue', ''), message.queue || '.dlq');
    target_rules jsonb;
BEGIN
    rules := coalesce(rules, heliograph._default_policy());  -- its queue has just been dropped
    IF message.queue LIKE '%.dlq' OR NOT (rules ->> 'dead_letters')::boolean
        OR target = message.queue
    THEN
        PERFORM heliograph._delete(message.queue, ARRAY[message.number]);
        PERFORM heliograph._tell(message.queue, 'lost', 1);
        RETURN;
    END IF;
    PERFORM heliograph._ensure(target, heliograph._dead_letter_policy(rules));
    SELECT policy INTO target_rules FROM heliograph.queue WHERE name = target;
    UPDATE heliograph.queued SET queue = target, due = NULL, token = NULL,
        state = CASE WHEN key IS NOT NULL AND target_rules ->> 'order' = 'key' THEN 2 ELSE 0 END,
        consumer = NULL, failures = times_failed, expires_at = NULL, dead_from = message.queue,
        dead_reason = why, dead_at = heliograph._instant()
    WHERE number = message.number;
    PERFORM heliograph._count(message.queue, -1, -message.size);
    PERFORM heliograph._count(target, 1, message.size);
    PERFORM heliograph._tell(message.queue, 'dead', 1);
    PERFORM heliograph._wake(target);
    IF message.key IS NOT NULL THEN
        PERFORM heliograph._touch_keys(message.queue, ARRAY[message.key]);
        PERFORM heliograph._touch_keys(target, ARRAY[message.key]);
    END IF;
    IF target_rules ->> 'on_full' = 'drop_oldest' THEN
        PERFORM heliograph._drop_oldest(target, target_rules);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION heliograph._retry_pause(rules jsonb, failure integer) RETURNS float8
LANGUAGE sql VOLATILE AS $$
    SELECT least(
            (rules ->> 'retry_first')::float8 * 2.0::float8 ^ least(failure - 1, 64),
            (rules ->> 'retry_longest')::float8)
        * (1.0 + (rules ->> 'retry_jitter')::float8 * (2.0 * random() - 1.0))
$$;

-- A message, whose row is ours, comes back: as a failure or not. "dead" when that was the last time.
CREATE OR REPLACE FUNCTION heliograph._come_back(
    message heliograph.queued, rules jsonb, is_failure boolean, pause float8
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    times integer := message.failures + is_failure::integer;
BEGIN
    IF is_failure AND times >= nullif((rules ->> 'max_failures')::integer, 0) THEN
        PERFORM heliograph._bury(message, rules, 'failures', times);
        RETURN 'dead';
    END IF;
    IF NOT is_failure AND message.acquisitions >= nullif((rules ->> 'max_acquisitions')::integer, 0)
    THEN
        PERFORM heliograph._bury(message, rules, 'acquisitions', times);
        RETURN 'dead';
    END IF;
    IF is_failure THEN
        pause := coalesce(pause, heliograph._retry_pause(rules, times));
    END IF;
    UPDATE heliograph.queued SET token = NULL, consumer = NULL, failures = times,
        state = CASE WHEN pause > 0 THEN 3 ELSE 0 END,
        due = CASE WHEN pause > 0 THEN heliograph._instant() + pause END
    WHERE number = message.number;
    IF message.key IS NOT NULL THEN
        PERFORM heliograph._touch_keys(message.queue, ARRAY[message.key]);
    END IF;
    PERFORM heliograph._wake(message.queue);
    RETURN 'ok';
END $$;

-- Messages, whose rows are ours, have expired.
CREATE OR REPLACE FUNCTION heliograph._expire(of_queue text, rules jsonb, numbers bigint[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    message heliograph.queued;
BEGIN
    IF rules ->> 'on_expiry' <> 'dead_letter' THEN
        PERFORM heliograph._tell(of_queue, 'expired', cardinality(numbers));
        PERFORM heliograph._delete(of_queue, numbers);
        RETURN;
    END IF;
    FOR message IN
        SELECT * FROM heliograph.queued WHERE number = ANY (numbers) ORDER BY number
    LOOP
        PERFORM heliograph._bury(message, rules, 'expired', message.failures);
    END LOOP;
END $$;

-- ---- what time does -----------------------------------------------------------------------------

-- Leases that have ended: failures, ready again at once.
CREATE OR REPLACE FUNCTION heliograph._end_leases(
    of_queue text, rules jsonb, now float8, most integer
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    message heliograph.queued;
    count integer := 0;
BEGIN
    FOR message IN
        SELECT * FROM heliograph.queued WHERE queue = of_queue AND state = 1 AND due <= now
        ORDER BY due LIMIT most FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM heliograph._come_back(message, rules, true, 0);
        count := count + 1;
    END LOOP;
    RETURN count;
END $$;

CREATE OR REPLACE FUNCTION heliograph._end_delays(of_queue text, now float8, most integer)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    count integer;
BEGIN
    UPDATE heliograph.queued SET state = 0, due = NULL WHERE number IN (
        SELECT number FROM heliograph.queued
        WHERE queue = of_queue AND state = 3 AND due <= now
        ORDER BY due LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS count = ROW_COUNT;
    RETURN count;
END $$;

CREATE OR REPLACE FUNCTION heliograph._end_lives(
    of_queue text, rules jsonb, now float8, most integer
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    numbers bigint[];
    count integer := 0;
    oldest float8 := now - (rules ->> 'retention')::float8;
    place integer;
BEGIN
    SELECT array_agg(number) INTO numbers FROM (
        SELECT number FROM heliograph.queued
        WHERE queue = of_queue AND expires_at <= now AND state <> 1
        ORDER BY expires_at LIMIT most FOR UPDATE SKIP LOCKED) AS expired;
    IF numbers IS NOT NULL THEN
        PERFORM heliograph._expire(of_queue, rules, numbers);
        count := cardinality(numbers);
    END IF;
    IF (rules ->> 'retention')::float8 <= 0 THEN
        RETURN count;
    END IF;
    -- The oldest of each priority stand in front: where the first may stay, so may the others.
    FOR place IN 0..9 LOOP
        CONTINUE WHEN NOT coalesce((
            SELECT coalesce(dead_at, enqueued_at) <= oldest FROM heliograph.queued
            WHERE queue = of_queue AND state = 0
                AND rank >= place AND rank < place + 1  -- by this index, not by number
            ORDER BY rank, number LIMIT 1), false);
        SELECT array_agg(number) INTO numbers FROM (
            SELECT number, enqueued_at, dead_at FROM heliograph.queued
            WHERE queue = of_queue AND state = 0 AND rank >= place AND rank < place + 1
            ORDER BY rank, number LIMIT most FOR UPDATE SKIP LOCKED) AS front
        WHERE coalesce(dead_at, enqueued_at) <= oldest;
        IF numbers IS NOT NULL THEN
            PERFORM heliograph._expire(of_queue, rules, numbers);
            count := count + cardinality(numbers);
        END IF;
    END LOOP;
    RETURN count;
END $$;
