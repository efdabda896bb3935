"""A webhook receiver on Flask: verify, store, answer; and then work, from the store, in a thread of its own.

    pip install flask
    HOOK_SECRETS="whsec_..." python receiver_flask.py

POST /hooks takes the formats event and batch, POST /pusher takes the format pusher.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import sqlite3
import threading
import time
from contextlib import closing
from typing import Any

from flask import Flask, request
from werkzeug.datastructures import Headers

PORT = int(os.environ.get("PORT", "8080"))
STATE = os.environ.get("STATE", "inbox.sqlite")
#: separated by spaces: the new one and the old one, while a secret is being changed
SECRETS = os.environ["HOOK_SECRETS"].split()
#: for the format pusher, "key:secret" of each app, separated by spaces
APPS = dict(pair.split(":", 1) for pair in os.environ.get("APPS", "").split())
MAX_BODY = int(os.environ.get("MAX_BODY", 16 * 1024 * 1024))  # bytes
TOLERANCE_S = 300
#: how long a number may be overtaken by later ones before it counts as missing; lanes and retries make that normal
GAP_AFTER_S = float(os.environ.get("GAP_AFTER", "60"))
#: no retry and no replay is older, so an id is not needed longer
KEEP_S = 7 * 86_400

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, event TEXT NOT NULL, at REAL NOT NULL, is_done INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS waiting ON inbox (is_done) WHERE is_done = 0;
CREATE TABLE IF NOT EXISTS numbers (counter TEXT, number INTEGER, at REAL NOT NULL, PRIMARY KEY (counter, number)) WITHOUT ROWID;
"""


def handle(id_: str, event: dict[str, Any]) -> None:
    """Your work. It may take its time; after a crash it may be asked to do the last event once more."""
    subject = event["data"].get("channel") or event["data"].get("socket_id", "-")
    print(f"{id_} {event['event']} {subject}\n", end="", flush=True)  # in one piece: the server prints in another thread


# -- is it genuine


def is_genuine(headers: Headers, body: bytes) -> bool:
    """Tell whether one of our secrets signed this id, this time and these bytes, less than five minutes from now."""
    stamp = headers.get("webhook-timestamp", "")
    signed = f"{headers.get('webhook-id', '')}.{stamp}.".encode("utf-8", "replace") + body
    expected = [b"v1," + base64.b64encode(hmac.digest(key_of(secret), signed, "sha256")) for secret in SECRETS]
    given = headers.get("webhook-signature", "").encode("utf-8", "replace").split(b" ")
    matches = [hmac.compare_digest(one, other) for one in expected for other in given]
    return any(matches) and stamp.isdigit() and abs(time.time() - int(stamp)) <= TOLERANCE_S


def key_of(secret: str) -> bytes:
    return base64.b64decode(secret[6:], validate=True) if secret.startswith("whsec_") else secret.encode()


def is_genuine_pusher(headers: Headers, body: bytes) -> bool:
    """Tell whether the app whose key is given signed these bytes. It signs no time and no id: `is_genuine` must hold too."""
    secret = APPS.get(headers.get("x-pusher-key", ""))
    if secret is None:
        return False
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), headers.get("x-pusher-signature", "").encode("utf-8", "replace"))


#: id, event as JSON, the counter of its number, its number
Row = tuple[str, str, str, int]


def rows_of(body: bytes, request_id: str, is_pusher: bool) -> list[Row]:
    """Return what is to be kept of a body; raises ValueError, KeyError, TypeError or AttributeError if it is none of ours."""
    parsed = json.loads(body)
    if is_pusher:  # without ids and numbers; the request's id is the same in each attempt
        told = [{"event": one["name"], "data": one} for one in parsed["events"]]
        return [(f"{request_id}/{place}", json.dumps(event), "", 0) for place, event in enumerate(told)]
    rows = []
    for event in parsed.get("events", [parsed]):
        metadata = event["metadata"]
        counter = f"{event['app_id']}/{metadata['webhook_id']}@{metadata['node']}"
        kept = {"event": event["event"], "data": dict(event["data"]), "timestamp": event["timestamp"]}
        rows.append((event["id"], json.dumps(kept), counter, metadata["sequence"]))
    return rows


# -- the store


class Store:
    """What has been received, in SQLite; each thread has a connection of its own, and each request."""

    def __init__(self, path: str) -> None:
        self.db = sqlite3.connect(path, timeout=30)
        self.db.executescript(SCHEMA)

    def close(self) -> None:
        self.db.close()

    def add(self, rows: list[Row]) -> None:
        """Keep all of them, durably, or raise. A repeat changes nothing."""
        now = time.time()
        with self.db:
            for id_, event, counter, number in rows:
                self.db.execute("INSERT OR IGNORE INTO inbox (id, event, at) VALUES (?, ?, ?)", (id_, event, now))
                # Also if it is a repeat: for another endpoint the same event has another number.
                if number:  # 0 stands outside of the count: a test
                    self.db.execute(
                        "INSERT OR IGNORE INTO numbers SELECT ?1, ?2, ?3"
                        " WHERE ?2 > (SELECT ifnull(min(number), 0) FROM numbers WHERE counter = ?1)",
                        (counter, number, now),
                    )

    def waiting(self) -> list[tuple[str, str]]:
        return self.db.execute("SELECT id, event FROM inbox WHERE is_done = 0 ORDER BY rowid LIMIT 100").fetchall()

    def done(self, id_: str) -> None:
        with self.db:
            self.db.execute("UPDATE inbox SET is_done = 1 WHERE id = ?", (id_,))

    def tidy(self) -> list[str]:
        """Forget what is old, and tell of each gap once, when it has lasted."""
        now, gaps = time.time(), []
        with self.db:
            oldest = "SELECT rowid FROM inbox ORDER BY rowid LIMIT 200"
            self.db.execute(f"DELETE FROM inbox WHERE rowid IN ({oldest}) AND is_done = 1 AND at < ?", (now - KEEP_S,))
            for (counter,) in self.db.execute("SELECT DISTINCT counter FROM numbers").fetchall():
                floor = 0
                rows = self.db.execute("SELECT number, at FROM numbers WHERE counter = ? ORDER BY number", (counter,))
                for number, at in rows:
                    if floor and number > floor + 1:
                        if now - at < GAP_AFTER_S:
                            break
                        gaps.append(f"gap {counter} {floor + 1} to {number - 1}")
                    floor = number
                # All up to the floor is settled: a number below it does not count any more.
                self.db.execute("DELETE FROM numbers WHERE counter = ? AND number < ?", (counter, floor))
        return gaps


# -- the receiver

app = Flask(__name__)
# Beyond this the answer is 413, and what is sent in pieces is cut off: hence one byte more, to tell the two apart.
app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1
news = threading.Event()


@app.post("/hooks")
@app.post("/pusher")
def receive() -> tuple[str, int]:
    body = request.get_data()  # the raw bytes; get_json() and back again would be other ones
    if len(body) > MAX_BODY:
        return "", 413
    is_pusher = request.path == "/pusher"
    if not is_genuine(request.headers, body) or (is_pusher and not is_genuine_pusher(request.headers, body)):
        return "", 401
    try:
        rows = rows_of(body, request.headers["webhook-id"], is_pusher)
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", 400
    with closing(Store(STATE)) as store:
        store.add(rows)
    news.set()
    return "", 204


def work() -> None:
    """Handle what is stored, in the order of arrival, also what a former life has left; look for gaps each second."""
    store = Store(STATE)
    while True:
        news.clear()
        for id_, event in store.waiting():
            try:
                handle(id_, json.loads(event))
            except Exception:
                logging.exception("%s stays in the inbox", id_)
                break  # what comes after it waits, since it may depend on it
            store.done(id_)
            news.set()
        for gap in store.tidy():
            print(f"{gap}: ask the feed, GET /apps/APP_ID/webhooks/events, what was missed\n", end="", flush=True)
        news.wait(1)


def main() -> None:
    # Under a server with several processes, run work() in a process of its own: two of them would handle everything twice.
    threading.Thread(target=work, daemon=True).start()
    app.run(host="127.0.0.1", port=PORT, threaded=True)


if __name__ == "__main__":
    main()
