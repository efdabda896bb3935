-- Version 2 of the store: what the reading side of the ledger and the bounds of the dead letters need.

-- In a lane the numbers and the sequences of attempts grow together, so by the former the latter are found too.
DROP INDEX attempt_by_lane;
CREATE INDEX attempt_by_lane ON attempt (lane);

-- Up to where an app's events were forgotten.
CREATE TABLE forgotten (
    app TEXT PRIMARY KEY,
    no  INTEGER NOT NULL                   -- event.no of the newest that is not there any more
) STRICT, WITHOUT ROWID;

-- A replay takes dead letters away by their event; a request goes with the last of its letters.
CREATE INDEX dead_letter_by_event ON dead_letter (endpoint, event_id);
CREATE INDEX dead_letter_by_request ON dead_letter (request);

-- How many dead letters there are and what they take, so that neither needs to be counted.
ALTER TABLE endpoint ADD COLUMN dead INTEGER NOT NULL DEFAULT 0;
ALTER TABLE endpoint ADD COLUMN dead_size INTEGER NOT NULL DEFAULT 0;
UPDATE endpoint SET
    dead = (SELECT count(*) FROM dead_letter WHERE dead_letter.endpoint = endpoint.key),
    dead_size = (SELECT coalesce(sum(length(envelope)), 0) FROM dead_letter WHERE dead_letter.endpoint = endpoint.key)
        + (SELECT coalesce(sum(length(settlement)), 0) FROM dead_request WHERE dead_request.endpoint = endpoint.key);
CREATE TRIGGER dead_letter_added AFTER INSERT ON dead_letter BEGIN
    UPDATE endpoint SET dead = dead + 1, dead_size = dead_size + length(NEW.envelope) WHERE key = NEW.endpoint;
END;
CREATE TRIGGER dead_letter_removed AFTER DELETE ON dead_letter BEGIN
    UPDATE endpoint SET dead = dead - 1, dead_size = dead_size - length(OLD.envelope) WHERE key = OLD.endpoint;
    DELETE FROM dead_request WHERE no = OLD.request AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE request = OLD.request);
END;
CREATE TRIGGER dead_request_added AFTER INSERT ON dead_request BEGIN
    UPDATE endpoint SET dead_size = dead_size + length(NEW.settlement) WHERE key = NEW.endpoint;
END;
CREATE TRIGGER dead_request_removed AFTER DELETE ON dead_request BEGIN
    UPDATE endpoint SET dead_size = dead_size - length(OLD.settlement) WHERE key = OLD.endpoint;
END;
