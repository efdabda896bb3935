"""The named statements of `query.sql`, the text of the schema's files, and the one statement that writes a group."""

from __future__ import annotations

import re
from importlib.resources import files


def read(name: str) -> str:
    """Return the text of an SQL file that is shipped beside this one."""
    return (files(__package__) / name).read_text("utf-8")


def named(text: str) -> dict[str, str]:
    """Split a file of statements at its `-- name:` lines; comments are left out."""
    statements: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("-- name: "):
            lines = statements.setdefault(line.removeprefix("-- name: ").strip(), [])
        elif not line.startswith("--"):
            lines.append(line)
    return {name: "\n".join(lines).strip() for name, lines in statements.items()}


#: read once, when the outbox is imported
QUERY = named(read("query.sql"))
SCHEMA = read("schema.sql")
SCHEMA_2 = read("schema_2.sql")
SCHEMA_3 = read("schema_3.sql")

#: what the writing of a group consists of, in this order
STEPS = (
    "add_events",
    "add_deliveries",
    "add_to_lanes",
    "count_sequences",
    "drop_spans",
    "put_spans",
    "mark_spans",
    "add_dead_requests",
    "add_dead_letters",
    "move_lanes",
    "log_attempts",
)

_PARAMETER = re.compile(r":([a-z_]+)")

#: the parameters of these, each the column of one row
COLUMNS = tuple(dict.fromkeys(name for step in STEPS for name in _PARAMETER.findall(QUERY[step])))

#: Makes them one statement, for a connection's life. Python's `sqlite3` takes the interpreter lock back after each statement,
#: and where the event loop is busy each time costs a switch interval; so a group is a single statement, its own transaction.
INBOX = "\n".join(
    (
        f"CREATE TEMP VIEW inbox AS SELECT {', '.join(f'NULL AS {column}' for column in COLUMNS)};",
        "CREATE TEMP TRIGGER write_group INSTEAD OF INSERT ON inbox BEGIN",
        *(_PARAMETER.sub(r"NEW.\1", QUERY[step]) + ";" for step in STEPS),
        "END;",
    )
)
WRITE = f"INSERT INTO inbox VALUES ({', '.join(f':{column}' for column in COLUMNS)})"
