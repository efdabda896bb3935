"""Asks the feed for what never came, and puts it into the inbox of a receiver that keeps one in SQLite.

    GATEWAY=http://127.0.0.1:6001 APP_ID=1001 KEY=... SECRET=... STATE=inbox.sqlite python catch_up.py

Run it when a receiver tells of a gap, after it was down for long, or from time to time. What is in the inbox already is passed
over.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

GATEWAY, APP_ID, KEY, SECRET = (os.environ[name] for name in ("GATEWAY", "APP_ID", "KEY", "SECRET"))
STATE = os.environ.get("STATE", "inbox.sqlite")


def feed(after: int) -> dict[str, Any]:
    """Return the next page behind a cursor; the request is signed like a publish."""
    path = f"/apps/{APP_ID}/webhooks/events"
    query = {"after": after, "auth_key": KEY, "auth_timestamp": int(time.time()), "auth_version": "1.0", "limit": 1000}
    signed = "\n".join(["GET", path, "&".join(f"{name}={value}" for name, value in query.items())])  # sorted by name
    signature = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).hexdigest()
    with urlopen(f"{GATEWAY}{path}?{urlencode({**query, 'auth_signature': signature})}", timeout=30) as answer:
        page: dict[str, Any] = json.load(answer)
    return page


def main() -> None:
    db = sqlite3.connect(STATE, timeout=30)
    db.execute("CREATE TABLE IF NOT EXISTS feed (app_id TEXT PRIMARY KEY, cursor INTEGER NOT NULL)")
    row = db.execute("SELECT cursor FROM feed WHERE app_id = ?", (APP_ID,)).fetchone()
    cursor, found = row[0] if row else 0, 0
    while True:
        page = feed(cursor)
        if row and page["forgotten"] > cursor:
            sys.exit("the gateway has forgotten what came next: begin again with GET /apps/APP_ID/webhooks/snapshot")
        with db:  # the events and the cursor behind them, or neither
            for event in page["events"]:
                kept = json.dumps({name: event[name] for name in ("event", "data", "timestamp")})
                added = db.execute(
                    "INSERT OR IGNORE INTO inbox (id, event, at) VALUES (?, ?, ?)", (event["id"], kept, time.time())
                )
                found += added.rowcount
            db.execute("INSERT OR REPLACE INTO feed VALUES (?, ?)", (APP_ID, page["cursor"]))
        if page["cursor"] == cursor:  # an empty page whose cursor has moved is not the end
            break
        cursor, row = page["cursor"], (page["cursor"],)
    db.close()
    print(f"{found} events had been missed; they are in the inbox now")


if __name__ == "__main__":
    main()
