"""Answers of the API for people: columns that line up, ages instead of stamps. Nothing in them can move the cursor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.config import printable

#: characters of a body's head, an error or a payload that fit beside the rest of a line
_LONGEST = 100

Answer = Mapping[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield lines with aligned columns; the last one is as long as it is."""
    cells = [list(head), *([text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def text(value: object) -> str:
    """Return a value as one printable piece of a line; what is not there is a dash."""
    if value is None or value == "":
        return "-"
    return printable(value if isinstance(value, str) else f"{value}", _LONGEST)


def whole_text(value: str) -> str:
    """Return a text uncut, as a piece of a line: what moves the cursor is escaped."""
    return printable(value) or "-"


def age(ms: float) -> str:
    """Return a duration roughly, in its largest fitting unit."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if ms >= size:
            return f"{ms / size:.0f}{unit}"
    return f"{ms:.0f}ms"


def came_back(outcome: Answer) -> str:
    """Return what an attempt brought back, in a few words."""
    if "status" in outcome:
        said = f"{outcome['status']}"
    elif "error" in outcome:
        said = f"{outcome['error']}"
    else:
        return outcome.get("reason") or "-"
    return f"{said} in {outcome['latency_ms']:.0f} ms" if "latency_ms" in outcome else said


def endpoints(answer: Answer) -> Iterator[str]:
    """One line for each endpoint, and one more where something is wrong with it."""
    found = answer["endpoints"]
    if not found:
        yield "the app has no webhooks"
        return
    rows = []
    for one in found:
        oldest = age(one["oldest_age_ms"]) if "oldest_age_ms" in one else None
        last = one.get("last")
        rows.append(
            [
                one["name"],
                one["state"],
                one["backlog"],
                oldest,
                one["dead_letters"],
                came_back(last) if last else None,
                one["url"],
            ]
        )
    yield from table(("NAME", "STATE", "BACKLOG", "OLDEST", "DEAD", "LAST ANSWER", "URL"), rows)
    for one in found:
        if "why" in one:
            yield f"{text(one['name'])} is {text(one['state'])}: {text(one['why'])}"


def deliveries(answer: Answer) -> Iterator[str]:
    """One line for each attempt, newest first."""
    rows = [
        [
            one["number"],
            one["at"],
            one["request_id"],
            one["events"],
            f"{one['attempt']}{' replay' if one['replay'] else ''}",
            one["state"],
            came_back(one),
            one.get("next_attempt_at") or one.get("reason"),
        ]
        for one in answer["deliveries"]
    ]
    yield from table(("NUMBER", "AT", "REQUEST", "EVENTS", "ATTEMPT", "STATE", "ANSWER", "THEN"), rows)
    if "before" in answer:
        yield f"more: --before {answer['before']}"


def request(answer: Answer) -> Iterator[str]:
    """What an attempt sent, as HTTP has it, and what came back."""
    sent = answer["request"]
    if "unknown" in sent:
        yield f"not known: {text(sent['unknown'])}"
    else:
        yield f"{sent['method']} {whole_text(sent['url'])}"
        for name, value in sent["headers"].items():
            yield f"{whole_text(name)}: {whole_text(value)}"
        yield ""
        yield whole_text(sent["body"])
    yield ""
    yield f"attempt {answer['attempt']} at {text(answer['at'])}: {came_back(answer)}"
    if answer.get("body"):
        yield f"it said: {text(answer['body'])}"


def dead_letters(answer: Answer) -> Iterator[str]:
    """One line for each dead letter, oldest first."""
    rows = [
        [
            one["number"],
            one["timestamp"],
            one["event"],
            one["envelope"]["data"].get("channel"),
            one["attempts"],
            one["reason"],
            came_back(one),
            one["event_id"],
        ]
        for one in answer["dead_letters"]
    ]
    yield from table(("NUMBER", "HAPPENED", "EVENT", "CHANNEL", "ATTEMPTS", "REASON", "LAST ANSWER", "ID"), rows)
    if "after" in answer:
        yield f"more: --after {answer['after']}"


def why(answer: Answer) -> Iterator[str]:
    """The event, and a paragraph for each endpoint."""
    yield event(answer["event"])
    for one in answer["endpoints"]:
        name = text(one["name"])
        if one.get("removed"):
            yield f"{name}: is not in the file any more"
        elif one["matches"]:
            yield f"{name}: wants it" if one["deliveries"] else f"{name}: wants it now, but it was never due to it"
        else:
            yield f"{name}: left out by {text(one['left_out_by'])}"
        for delivery in one["deliveries"]:
            what = "replay" if delivery["replay"] else f"sequence {delivery['sequence']}"
            yield f"  {what}, lane {delivery['lane']}: {text(delivery['state'])}"
            for made in delivery["attempts"]:
                then = made.get("next_attempt_at") or made.get("reason")
                said = f"    {text(made['at'])}  attempt {made['attempt']} (number {made['number']}): {text(came_back(made))}"
                yield f"{said}, then {text(then)}" if then else said


def event(told: Answer) -> str:
    """Return an event in one line."""
    data = printable(orjson.dumps(told["data"]).decode(), _LONGEST)
    return f"{told['cursor']:>8}  {text(told['timestamp'])}  {text(told['event']):26}  {text(told['id'])}  {data}"


def snapshot(answer: Answer) -> Iterator[str]:
    """How much is open, then what."""
    kinds = ("connections", "channels", "members", "subscriptions")
    yield f"cursor {answer['cursor']}: " + ", ".join(f"{len(answer[kind])} {kind}" for kind in kinds)
    for channel in answer["channels"]:
        leaving = f"  (vacated at {text(channel['departs_at'])})" if "departs_at" in channel else ""
        yield f"channel     {text(channel['channel'])}  since {text(channel['opened_at'])}{leaving}"
    for member in answer["members"]:
        leaving = f"  (removed at {text(member['departs_at'])})" if "departs_at" in member else ""
        yield f"member      {text(member['channel'])}  {text(member['user_id'])}  since {text(member['opened_at'])}{leaving}"
    for connection in answer["connections"]:
        yield f"connection  {text(connection['socket_id'])}  since {text(connection['opened_at'])}"


def tested(name: str, answer: Answer) -> Iterator[str]:
    """What an endpoint said to a test."""
    yield f"{text(name)}: {'ok' if answer['ok'] else 'FAILED'}, {text(came_back(answer))} ({text(answer['stage'])})"
    if answer.get("body"):
        yield f"it said: {text(answer['body'])}"


def overview(answer: Answer) -> Iterator[str]:
    """Is it well, what is happening, and a line for each app and each endpoint."""
    yield "ready" if answer["ready"] else f"NOT READY: {text('; '.join(answer['reasons']))}"
    yield f"RawPush {text(answer['version'])}, node {text(answer['node'])}, since {text(answer['started_at'])}"
    rates = ", ".join(f"{text(name.replace('_', ' '))} {rate:g}" for name, rate in answer["per_second"].items())
    yield f"per second: {rates}"
    outbox, recorder = answer["outbox"], answer["recorder"]
    size = f", {outbox['used_bytes']:,} of {outbox['limit_bytes']:,} bytes" if "used_bytes" in outbox else ""
    states = f"{'writable' if outbox['writable'] else 'NOT WRITABLE'}{'' if outbox['readable'] else ', NOT READABLE'}"
    yield f"outbox {states}{size}; {recorder['queued']:,} records wait; loop {answer['loop_lag_ms']:g} ms late at worst"
    yield ""
    rows = [
        [
            one["id"],
            "yes" if one["enabled"] else "NO",
            one["connections"],
            one["channels"],
            one.get("backlog", "?"),
            one.get("dead_letters", "?"),
        ]
        for one in answer["apps"]
    ]
    yield from table(("APP", "ENABLED", "CONNECTIONS", "CHANNELS", "BACKLOG", "DEAD"), rows)
    named = [
        {**endpoint, "name": f"{one['id']}/{endpoint['name']}"} for one in answer["apps"] for endpoint in one.get("endpoints", ())
    ]
    if named:
        yield ""
        yield from endpoints({"endpoints": named})
    if "after" in answer:
        yield "there are more apps: ask /v1/overview page by page"


def mistake(told: Answer) -> str:
    """One mistake of a file, as `rawpush check` prints it."""
    where = f"{told['file']}:{told['line']}" if told["file"] and told["line"] else told["file"]
    return printable(": ".join(part for part in (where, told["place"], told["error"]) if part))


def reloaded(answer: Answer) -> Iterator[str]:
    """What is in force now."""
    counts = [f"{answer[noun]} {noun[:-1] if answer[noun] == 1 else noun}" for noun in ("apps", "endpoints")]
    yield f"reloaded: {', '.join(counts)}"
    for section in answer["at_next_start"]:
        yield f"[{text(section)}] has changed, and takes effect at the next start"
