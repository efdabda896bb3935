"""The named statements of `query.sql`, and the text of `schema.sql`."""

from __future__ import annotations

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
