-- Version 1 of the store. A change is a further migration in store.py, never an edit of this file.
--
-- Texts that come from outside may hold any character, U+0000 too, at which SQLite's JSON functions would cut a bare
-- string. So they are kept inside JSON arrays, which SQLite passes on as written.

-- The ledger, in order. AUTOINCREMENT: a number is a cursor held by others, so it is not given out twice.
CREATE TABLE event (
    no         INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    app        TEXT NOT NULL,
    kind       TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    entry      TEXT NOT NULL,              -- [subject, channel, name, data]
    deliveries TEXT                        -- [key of each delivery it caused, ...]; NULL: none
) STRICT;
CREATE INDEX event_by_app ON event (app, no);

-- How far each endpoint has counted.
CREATE TABLE endpoint (
    key      TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL              -- the last one given out
) STRICT, WITHOUT ROWID;

-- A lane is strictly in order, so one cursor tells what has been delivered.
CREATE TABLE lane (
    id          INTEGER PRIMARY KEY,
    endpoint    TEXT NOT NULL,
    lane        INTEGER NOT NULL,
    depth       INTEGER NOT NULL DEFAULT 0, -- deliveries past the cursor
    tail        INTEGER NOT NULL DEFAULT 0, -- sequence of the newest delivery
    cursor      INTEGER NOT NULL DEFAULT 0, -- everything up to this sequence is settled
    pinned      INTEGER NOT NULL DEFAULT 0, -- the head ends at this sequence, whatever came later; 0: it has no history
    attempts    INTEGER NOT NULL DEFAULT 0,
    first_at_ms INTEGER NOT NULL DEFAULT 0,
    due_at_ms   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (endpoint, lane)
) STRICT;

-- What is undelivered, and for a moment what was just settled. The key is lane.id << 40 | sequence: a lane lies in one
-- piece, its head is found by one look-up, and no second index is written.
CREATE TABLE delivery (
    key      INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    kind     TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    envelope BLOB NOT NULL
) STRICT;

-- What is open now and must be closed whatever happens.
CREATE TABLE span (
    app          TEXT NOT NULL,
    kind         TEXT NOT NULL,
    key          TEXT NOT NULL,            -- [key]
    entry        TEXT NOT NULL,            -- [id, opened_at_ms, facts]
    departs_at_ms INTEGER,
    PRIMARY KEY (app, kind, key)
) STRICT, WITHOUT ROWID;

-- The delivery log: one row a settlement.
CREATE TABLE attempt (
    no             INTEGER PRIMARY KEY AUTOINCREMENT,
    lane           INTEGER NOT NULL,       -- lane.id
    first_sequence INTEGER NOT NULL,
    last_sequence  INTEGER NOT NULL,
    at_ms          INTEGER NOT NULL,
    settlement     TEXT NOT NULL           -- see row.settlement_row
) STRICT;
CREATE INDEX attempt_by_lane ON attempt (lane, last_sequence);

-- Requests that were given up, and the deliveries that were in them.
CREATE TABLE dead_request (
    no         INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint   TEXT NOT NULL,
    lane       INTEGER NOT NULL,
    settlement TEXT NOT NULL
) STRICT;
CREATE TABLE dead_letter (
    no       INTEGER PRIMARY KEY AUTOINCREMENT,
    request  INTEGER NOT NULL,             -- dead_request.no
    endpoint TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    kind     TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    dead_at_ms INTEGER NOT NULL,
    envelope BLOB NOT NULL
) STRICT;
CREATE INDEX dead_letter_by_endpoint ON dead_letter (endpoint, no);

-- One row that is written to find out whether writing is possible again.
CREATE TABLE probe (count INTEGER NOT NULL) STRICT;
INSERT INTO probe VALUES (0);
