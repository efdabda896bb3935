-- Every statement of the outbox. `-- name:` begins one; the comment below it says what it is for.
-- A group of rows travels as a few parameters and is written by one statement: the interpreter lock is held only while these
-- are made, and not once for each row. Most are JSON arrays of rows. What there is much of, events and deliveries, are
-- columns instead, cut at known places: each look into a row that is JSON reads all of that row again.

-- name: begin
-- Take the write lock at once: a transaction that upgrades later may fail half-way.
BEGIN IMMEDIATE

-- name: commit
-- Durable from here on.
COMMIT

-- name: rollback
-- Nothing of it was written.
ROLLBACK

-- The statements from here to `log_attempts` are the steps of one: see `query.INBOX`. Parameters without rows are NULL.

-- name: add_events
-- Enter events into the ledger; an event that is there already is not entered twice. :event_caused has the keys of its deliveries
-- for each; for the others see column.py. What applications send is not parsed here.
INSERT INTO event (no, id, app, kind, at_ms, entry, deliveries)
SELECT :first_event + key,
    CAST(substr(:event_ids, id_place, id_end - id_place) AS TEXT), :event_apps ->> class, :event_kinds ->> class, at_ms,
    CAST(substr(:entries, place, entry_end - place) AS TEXT), value
FROM (
    SELECT key, value,
        CAST(substr(:event_id_places, 12 * key + 3, 10) AS INTEGER) AS id_place,
        CAST(substr(:event_id_places, 12 * key + 15, 10) AS INTEGER) AS id_end,
        CAST(substr(:event_classes, 7 * key + 3, 5) AS INTEGER) AS class,
        CAST(substr(:event_times, 17 * key + 3, 15) AS INTEGER) AS at_ms,
        CAST(substr(:entry_places, 12 * key + 3, 10) AS INTEGER) AS place,
        CAST(substr(:entry_places, 12 * key + 15, 10) AS INTEGER) AS entry_end
    FROM json_each(:event_caused)
) WHERE true
ON CONFLICT (id) DO NOTHING

-- name: add_deliveries
-- Put deliveries into their lanes; :delivery_keys has the key of each.
INSERT INTO delivery (key, event_id, kind, at_ms, envelope)
SELECT value,
    CAST(substr(:delivery_ids, id_place, id_end - id_place) AS TEXT), :delivery_kinds ->> class, at_ms,
    substr(:envelopes, place, envelope_end - place)
FROM (
    SELECT value,
        CAST(substr(:delivery_id_places, 12 * key + 3, 10) AS INTEGER) AS id_place,
        CAST(substr(:delivery_id_places, 12 * key + 15, 10) AS INTEGER) AS id_end,
        CAST(substr(:delivery_classes, 7 * key + 3, 5) AS INTEGER) AS class,
        CAST(substr(:delivery_times, 17 * key + 3, 15) AS INTEGER) AS at_ms,
        CAST(substr(:envelope_places, 12 * key + 3, 10) AS INTEGER) AS place,
        CAST(substr(:envelope_places, 12 * key + 15, 10) AS INTEGER) AS envelope_end
    FROM json_each(:delivery_keys)
)

-- name: add_to_lanes
-- Lengthen lanes, and make those that are new.
INSERT INTO lane (id, endpoint, lane, depth, tail)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(:grown) WHERE true
ON CONFLICT (id) DO UPDATE SET depth = depth + excluded.depth, tail = excluded.tail

-- name: count_sequences
-- Remember the last sequence given out; it never falls.
INSERT INTO endpoint (key, sequence) SELECT value ->> 0, value ->> 1 FROM json_each(:sequences) WHERE true
ON CONFLICT (key) DO UPDATE SET sequence = max(sequence, excluded.sequence)

-- name: drop_spans
-- Forget closed spans.
DELETE FROM span WHERE (app, kind, key) IN (SELECT value ->> 0, value ->> 1, value -> 2 FROM json_each(:dropped))

-- name: put_spans
-- Remember open spans.
INSERT INTO span (app, kind, key, entry, departs_at_ms)
SELECT value ->> 0, value ->> 1, value -> 2, value -> 3, value ->> 4 FROM json_each(:put) WHERE true
ON CONFLICT (app, kind, key) DO UPDATE SET entry = excluded.entry, departs_at_ms = excluded.departs_at_ms

-- name: mark_spans
-- Note a pending departure, or that it was called off.
UPDATE span SET departs_at_ms = new.departs_at_ms
FROM (
    SELECT value ->> 0 AS app, value ->> 1 AS kind, value -> 2 AS key, value ->> 3 AS departs_at_ms FROM json_each(:marked)
) AS new
WHERE (span.app, span.kind, span.key) = (new.app, new.kind, new.key)

-- name: add_dead_requests
-- Remember how requests came to be given up; :dead is [number, endpoint, lane, settlement, after key, last key, when].
INSERT INTO dead_request (no, endpoint, lane, settlement)
SELECT value ->> 0, value ->> 1, value ->> 2, value -> 3 FROM json_each(:dead)

-- name: add_dead_letters
-- Keep the deliveries of the requests just given up.
INSERT INTO dead_letter (request, endpoint, dead_at_ms, sequence, event_id, kind, at_ms, envelope)
SELECT value ->> 0, value ->> 1, value ->> 6, key & 0xFFFFFFFFFF, event_id, delivery.kind, at_ms, envelope
FROM (SELECT value FROM json_each(:dead))
CROSS JOIN delivery ON delivery.key > value ->> 4 AND delivery.key <= value ->> 5

-- name: move_lanes
-- Move cursors and heads to where a group of settlements has brought them; one row a lane.
UPDATE lane SET
    depth = depth - (
        SELECT count(*) FROM delivery
        WHERE delivery.key > (lane.id << 40 | lane.cursor) AND delivery.key <= (lane.id << 40 | new.cursor)
    ),
    cursor = new.cursor, pinned = new.pinned, attempts = new.attempts, first_at_ms = new.first_at_ms, due_at_ms = new.due_at_ms
FROM (
    SELECT value ->> 0 AS id, value ->> 1 AS cursor, value ->> 2 AS pinned, value ->> 3 AS attempts,
        value ->> 4 AS first_at_ms, value ->> 5 AS due_at_ms
    FROM json_each(:moved)
) AS new
WHERE lane.id = new.id

-- name: log_attempts
-- Write settlements into the delivery log.
INSERT INTO attempt (lane, first_sequence, last_sequence, at_ms, settlement)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value -> 4 FROM json_each(:attempts)

-- name: number_anew
-- Note in the ledger where replays of events went; ?1 is [event id, key].
UPDATE event SET deliveries = json_insert(coalesce(deliveries, '[]'), '$[#]', new.key)
FROM (SELECT value ->> 0 AS id, value ->> 1 AS key FROM json_each(?1)) AS new
WHERE event.id = new.id

-- name: revive
-- Take away the dead letters of endpoint ?1 that are replayed; ?2 is [event id, first byte, size] of each, within ?3.
DELETE FROM dead_letter WHERE no IN (
    SELECT dead_letter.no FROM json_each(?2)
    CROSS JOIN dead_letter ON dead_letter.endpoint = ?1 AND dead_letter.event_id = value ->> 0
    WHERE dead_letter.envelope = substr(?3, value ->> 1, value ->> 2)
)

-- name: next_due
-- How many deliveries there are with ?1 < key <= ?2, the first ?3 of them at most, and the first and last of these.
SELECT count(*), min(key), max(key) FROM (SELECT key FROM delivery WHERE key > ?1 AND key <= ?2 ORDER BY key LIMIT ?3)

-- name: sweep
-- Delete at most ?2 settled deliveries; ?1 is the lanes as [first key, last key], the first one excluded.
DELETE FROM delivery WHERE key IN (
    SELECT delivery.key FROM json_each(?1) AS lane
    CROSS JOIN delivery ON delivery.key > lane.value ->> 0 AND delivery.key <= lane.value ->> 1
    LIMIT ?2
)

-- name: needed_from
-- The oldest event of the ledger that some lane has still to deliver; NULL: none. Replays (lane 4096) are of the past anyway.
SELECT min(event.no) FROM lane
JOIN delivery ON delivery.key = (
    SELECT min(key) FROM delivery AS head WHERE head.key > (lane.id << 40 | lane.cursor) AND head.key <= (lane.id << 40 | lane.tail)
)
JOIN event ON event.id = delivery.event_id
WHERE lane.depth > 0 AND lane.lane < 4096

-- name: note_forgotten
-- Note up to where each app will have been forgotten by `prune_events` with the same parameters.
INSERT INTO forgotten (app, no)
SELECT app, max(no) FROM (SELECT * FROM event WHERE no < ?3 ORDER BY no LIMIT ?1) WHERE at_ms < ?2 GROUP BY app
ON CONFLICT (app) DO UPDATE SET no = max(no, excluded.no)

-- name: prune_events
-- Forget at most ?1 of the oldest events that are older than ?2 and come before number ?3.
DELETE FROM event WHERE no IN (SELECT no FROM event WHERE no < ?3 ORDER BY no LIMIT ?1) AND at_ms < ?2

-- name: prune_attempts
-- Forget at most ?1 of the oldest attempts that are older than ?2.
DELETE FROM attempt WHERE no IN (SELECT no FROM attempt ORDER BY no LIMIT ?1) AND at_ms < ?2

-- name: old_dead_letters
-- At most ?1 of the oldest dead letters, as far as they died before ?2: how many, by endpoint.
SELECT endpoint, count(*) FROM (SELECT endpoint, dead_at_ms FROM dead_letter ORDER BY no LIMIT ?1) WHERE dead_at_ms < ?2
GROUP BY endpoint

-- name: prune_dead_letters
-- Forget these.
DELETE FROM dead_letter WHERE no IN (SELECT no FROM dead_letter ORDER BY no LIMIT ?1) AND dead_at_ms < ?2

-- name: dead_size
-- What all dead letters take together.
SELECT coalesce(sum(dead_size), 0) FROM endpoint

-- name: most_dead
-- The endpoint whose dead letters take most: how many, and how much.
SELECT key, dead, dead_size FROM endpoint ORDER BY dead_size DESC LIMIT 1

-- name: drop_dead_letters
-- Forget the ?2 oldest dead letters of endpoint ?1.
DELETE FROM dead_letter WHERE no IN (SELECT no FROM dead_letter WHERE endpoint = ?1 ORDER BY no LIMIT ?2)

-- name: probe
-- Find out whether writing is possible.
UPDATE probe SET count = count + 1

-- name: used_size
-- Bytes of the file that hold something; pages that were freed are used again before the file grows.
SELECT (pages.page_count - free.freelist_count) * size.page_size
FROM pragma_page_count AS pages, pragma_freelist_count AS free, pragma_page_size AS size

-- name: next_numbers
-- The numbers that the next event and the next dead request get.
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0) + 1,
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'dead_request'), 0) + 1

-- name: all_latest
-- The newest event of each app, forgotten ones included; the index is not walked but leapt along.
WITH RECURSIVE known (app) AS (
    SELECT min(app) FROM event
    UNION ALL SELECT (SELECT min(app) FROM event WHERE app > known.app) FROM known WHERE known.app IS NOT NULL
)
SELECT app, max(no) FROM (
    SELECT app, (SELECT max(no) FROM event WHERE event.app = known.app) AS no FROM known WHERE app IS NOT NULL
    UNION ALL SELECT app, no FROM forgotten
) GROUP BY app

-- name: all_lanes
-- The lanes as they are, to be kept in memory.
SELECT id, endpoint, lane, tail, cursor, pinned, attempts, first_at_ms, due_at_ms FROM lane

-- name: all_sequences
-- How far each endpoint has counted.
SELECT key, sequence FROM endpoint

-- name: waiting_lanes
-- Lanes that hold something.
SELECT endpoint, lane FROM lane WHERE depth > 0

-- name: all_spans
-- Spans that a former life left open.
SELECT app, kind, key, entry, departs_at_ms FROM span

-- name: head
-- At most ?3 deliveries with ?1 < key <= ?2, in one row: fetched row by row, each would wait for the interpreter lock.
SELECT json_group_array(json_array(key, event_id, kind, at_ms, length(envelope))), CAST(group_concat(envelope, '') AS BLOB)
FROM (SELECT * FROM delivery WHERE key > ?1 AND key <= ?2 ORDER BY key LIMIT ?3)

-- name: backlog
-- What is still due to an endpoint, and the time of the oldest event among the heads of its lanes.
SELECT coalesce(sum(depth), 0), min((
    SELECT at_ms FROM delivery WHERE key > (lane.id << 40 | lane.cursor) AND key <= (lane.id << 40 | lane.tail) ORDER BY key LIMIT 1
)) FROM lane WHERE endpoint = ?1 AND depth > 0

-- name: dead_letters
-- The newest ?2 dead letters of an endpoint, in one row: the oldest of them first.
SELECT json_group_array(json_array(no, lane, sequence, event_id, kind, at_ms, length(envelope), settlement)),
    CAST(group_concat(envelope, '') AS BLOB)
FROM (
    SELECT * FROM (
        SELECT dead_letter.no, dead_request.lane, sequence, event_id, kind, at_ms, envelope, settlement
        FROM dead_letter JOIN dead_request ON dead_request.no = dead_letter.request
        WHERE dead_letter.endpoint = ?1 ORDER BY dead_letter.no DESC LIMIT ?2
    ) ORDER BY no
)

-- name: dead_after
-- The first ?2 dead letters of an endpoint after number ?3, in one row.
SELECT json_group_array(json_array(no, lane, sequence, event_id, kind, at_ms, length(envelope), settlement)),
    CAST(group_concat(envelope, '') AS BLOB)
FROM (
    SELECT dead_letter.no, dead_request.lane, sequence, event_id, kind, at_ms, envelope, settlement
    FROM dead_letter JOIN dead_request ON dead_request.no = dead_letter.request
    WHERE dead_letter.endpoint = ?1 AND dead_letter.no > ?3 ORDER BY dead_letter.no LIMIT ?2
)

-- name: count_dead
-- How many dead letters an endpoint has.
SELECT dead FROM endpoint WHERE key = ?1

-- name: feed
-- The first ?3 events of app ?1 after number ?2, in one row; then their last number, and up to where the app was forgotten.
SELECT json_group_array(json_array(no, id, kind, at_ms)), '[' || group_concat(entry) || ']', max(no),
    (SELECT no FROM forgotten WHERE app = ?1)
FROM (SELECT no, id, kind, at_ms, entry FROM event WHERE app = ?1 AND no > ?2 ORDER BY no LIMIT ?3)

-- name: feed_of_kinds
-- The same, but of the kinds in ?4 only, and among the first ?5 events; the last number is that of those looked at.
SELECT json_group_array(json_array(no, id, kind, at_ms)), '[' || group_concat(entry) || ']',
    (SELECT max(no) FROM (SELECT no FROM event WHERE app = ?1 AND no > ?2 ORDER BY no LIMIT ?5)),
    (SELECT no FROM forgotten WHERE app = ?1)
FROM (
    SELECT * FROM (SELECT no, id, kind, at_ms, entry FROM event WHERE app = ?1 AND no > ?2 ORDER BY no LIMIT ?5)
    WHERE kind IN (SELECT value FROM json_each(?4)) LIMIT ?3
)

-- name: snapshot
-- An app's open spans in one row, and the number of its newest event.
SELECT coalesce((SELECT max(no) FROM event WHERE app = ?1), (SELECT no FROM forgotten WHERE app = ?1), 0),
    json_group_array(json_array(app, kind, key, entry, departs_at_ms))
FROM span WHERE app = ?1

-- name: find
-- One event of an app, and where its deliveries went.
SELECT no, id, kind, at_ms, entry, deliveries FROM event WHERE id = ?2 AND app = ?1

-- name: past
-- Where the deliveries of events (ids ?3) of app ?1 to endpoint ?2 went, as far as anything is known of them: due ones, those
-- whose lane's oldest attempt is no younger (attempts of a lane leave no gap), and dead ones. [id, lane, sequence, due], in one row.
SELECT json_group_array(json_array(id, lane, place, place > cursor)) FROM (
    SELECT event.id, lane.id AS lane_id, lane.lane, lane.cursor, caused.value & 0xFFFFFFFFFF AS place
    FROM json_each(?3) AS wanted
    CROSS JOIN event ON event.id = wanted.value AND event.app = ?1
    CROSS JOIN json_each(event.deliveries) AS caused
    CROSS JOIN lane ON lane.id = caused.value >> 40
    WHERE lane.endpoint = ?2
)
WHERE place > cursor
    OR place >= (SELECT first_sequence FROM attempt WHERE attempt.lane = lane_id ORDER BY no LIMIT 1)
    OR EXISTS (SELECT 1 FROM dead_letter WHERE endpoint = ?2 AND event_id = id AND sequence = place)

-- name: lane_of
-- Whose lane it is, and how far it has come.
SELECT endpoint, lane, cursor FROM lane WHERE id = ?1

-- name: attempt_from
-- The first attempt in a lane from number ?2 on.
SELECT no, last_sequence FROM attempt WHERE lane = ?1 AND no >= ?2 ORDER BY no LIMIT 1

-- name: attempt_bounds
-- The numbers between which a lane's attempts lie.
SELECT (SELECT min(no) FROM attempt WHERE lane = ?1), (SELECT max(no) FROM attempt WHERE lane = ?1)

-- name: attempts_at
-- The attempts in a lane with ?2 <= number < ?3 at sequence ?4, in one row.
SELECT json_group_array(json_array(no, settlement)) FROM (
    SELECT no, settlement FROM attempt WHERE lane = ?1 AND no >= ?2 AND no < ?3 AND first_sequence <= ?4 ORDER BY no
)

-- name: is_dead
-- Whether there is a dead letter of endpoint ?1 for event ?2 with sequence ?3.
SELECT EXISTS (SELECT 1 FROM dead_letter WHERE endpoint = ?1 AND event_id = ?2 AND sequence = ?3)

-- name: attempts
-- The newest ?3 attempts of endpoint ?1 before number ?2, newest first, in one row: the newest of each lane are merged.
SELECT json_group_array(json_array(no, lane, settlement)) FROM (
    SELECT attempt.no, lane.lane, attempt.settlement FROM lane
    CROSS JOIN attempt ON attempt.no IN (
        SELECT no FROM attempt AS other WHERE other.lane = lane.id AND other.no < ?2 ORDER BY other.no DESC LIMIT ?3
    )
    WHERE lane.endpoint = ?1 ORDER BY attempt.no DESC LIMIT ?3
)
