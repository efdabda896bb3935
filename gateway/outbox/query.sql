-- Every statement of the outbox. `-- name:` begins one; the comment below it says what it is for.
-- A group of rows travels as one JSON array and is written by one statement: the interpreter lock is held only while
-- that array is made, and not once for each row.

-- name: begin
-- Take the write lock at once: a transaction that upgrades later may fail half-way.
BEGIN IMMEDIATE

-- name: commit
-- Durable from here on.
COMMIT

-- name: rollback
-- Nothing of it was written.
ROLLBACK

-- name: add_events
-- Enter events into the ledger; an event that is there already is not entered twice.
INSERT INTO event (id, app, kind, at_ms, entry, deliveries)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value -> 4, value ->> 5 FROM json_each(?1) WHERE true
ON CONFLICT (id) DO NOTHING

-- name: add_deliveries
-- Put deliveries into their lanes; ?2 is all envelopes in one piece, of which each row names its part.
INSERT INTO delivery (key, event_id, kind, at_ms, envelope)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, substr(?2, value ->> 4, value ->> 5) FROM json_each(?1)

-- name: add_to_lanes
-- Lengthen lanes, and make those that are new.
INSERT INTO lane (id, endpoint, lane, depth, tail)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?1) WHERE true
ON CONFLICT (id) DO UPDATE SET depth = depth + excluded.depth, tail = excluded.tail

-- name: count_sequences
-- Remember the last sequence given out; it never falls.
INSERT INTO endpoint (key, sequence) SELECT value ->> 0, value ->> 1 FROM json_each(?1) WHERE true
ON CONFLICT (key) DO UPDATE SET sequence = max(sequence, excluded.sequence)

-- name: put_spans
-- Remember open spans.
INSERT INTO span (app, kind, key, entry, departs_at_ms)
SELECT value ->> 0, value ->> 1, value -> 2, value -> 3, value ->> 4 FROM json_each(?1) WHERE true
ON CONFLICT (app, kind, key) DO UPDATE SET entry = excluded.entry, departs_at_ms = excluded.departs_at_ms

-- name: mark_spans
-- Note a pending departure, or that it was called off.
UPDATE span SET departs_at_ms = new.departs_at_ms
FROM (SELECT value ->> 0 AS app, value ->> 1 AS kind, value -> 2 AS key, value ->> 3 AS departs_at_ms FROM json_each(?1)) AS new
WHERE (span.app, span.kind, span.key) = (new.app, new.kind, new.key)

-- name: drop_spans
-- Forget closed spans.
DELETE FROM span WHERE (app, kind, key) IN (SELECT value ->> 0, value ->> 1, value -> 2 FROM json_each(?1))

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
    FROM json_each(?1)
) AS new
WHERE lane.id = new.id

-- name: log_attempts
-- Write settlements into the delivery log.
INSERT INTO attempt (lane, first_sequence, last_sequence, at_ms, settlement)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value -> 4 FROM json_each(?1)

-- name: add_dead_request
-- Remember how a request came to be given up.
INSERT INTO dead_request (endpoint, lane, settlement) VALUES (?, ?, ?)

-- name: add_dead_letters
-- Keep the deliveries of the request just given up: ?4 < key <= ?5.
INSERT INTO dead_letter (request, endpoint, dead_at_ms, sequence, event_id, kind, at_ms, envelope)
SELECT ?1, ?2, ?3, key & 0xFFFFFFFFFF, event_id, kind, at_ms, envelope FROM delivery WHERE key > ?4 AND key <= ?5 ORDER BY key

-- name: sweep
-- Delete at most ?2 settled deliveries; ?1 is the lanes as [first key, last key], the first one excluded.
DELETE FROM delivery WHERE key IN (
    SELECT delivery.key FROM json_each(?1) AS lane
    CROSS JOIN delivery ON delivery.key > lane.value ->> 0 AND delivery.key <= lane.value ->> 1
    LIMIT ?2
)

-- name: needed_from
-- The oldest event of the ledger that some lane has still to deliver; NULL: none.
SELECT min(event.no) FROM lane
JOIN delivery ON delivery.key = (
    SELECT min(key) FROM delivery AS head WHERE head.key > (lane.id << 40 | lane.cursor) AND head.key <= (lane.id << 40 | lane.tail)
)
JOIN event ON event.id = delivery.event_id
WHERE lane.depth > 0

-- name: prune_events
-- Forget at most ?1 of the oldest events that are older than ?2 and come before number ?3.
DELETE FROM event WHERE no IN (SELECT no FROM event WHERE no < ?3 ORDER BY no LIMIT ?1) AND at_ms < ?2

-- name: prune_attempts
-- Forget at most ?1 of the oldest attempts that are older than ?2.
DELETE FROM attempt WHERE no IN (SELECT no FROM attempt ORDER BY no LIMIT ?1) AND at_ms < ?2

-- name: prune_dead_letters
-- Forget at most ?1 of the oldest dead letters that died before ?2.
DELETE FROM dead_letter WHERE no IN (SELECT no FROM dead_letter ORDER BY no LIMIT ?1) AND dead_at_ms < ?2

-- name: prune_dead_requests
-- Forget requests of which no dead letter is left.
DELETE FROM dead_request WHERE no < (SELECT coalesce(min(request), 0x7FFFFFFFFFFFFFFF) FROM dead_letter)

-- name: probe
-- Find out whether writing is possible.
UPDATE probe SET count = count + 1

-- name: used_size
-- Bytes of the file that hold something; pages that were freed are used again before the file grows.
SELECT (pages.page_count - free.freelist_count) * size.page_size
FROM pragma_page_count AS pages, pragma_freelist_count AS free, pragma_page_size AS size

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
-- The newest ?2 dead letters of an endpoint, newest first.
SELECT dead_request.lane, sequence, event_id, kind, at_ms, envelope, settlement
FROM dead_letter JOIN dead_request ON dead_request.no = dead_letter.request
WHERE dead_letter.endpoint = ?1 ORDER BY dead_letter.no DESC LIMIT ?2
