"""How the desk is asked over HTTP: feed, snapshot, why, deliveries, dead letters, replay, test, whoever the asker may be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar

from gateway.core.app import App
from gateway.core.endpoint import check_kinds, kinds_of
from gateway.core.error import RequestError
from gateway.desk.desk import Desk
from gateway.desk.feed import LONGEST_WAIT_S
from gateway.desk.replay import MOST_REPLAYED
from gateway.desk.selection import Selection

Answer = dict[str, Any]
T = TypeVar("T")

#: of one page, of whatever
_MOST = 1_000
_USUAL = 100
#: replayed in one step, unless asked otherwise
_STEP = 500

#: eighteen digits always fit into what SQLite and most languages call an integer
_NUMBER = re.compile(r"[0-9]{1,18}")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?s?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

_SELECTION = ("event", "channel", "from", "to")
_RANGE = ("after", "until", "from", "to")
_REPLAY = ("event_id", "dead_letters", *_RANGE, "event", "channel", "limit", "resume")


class Asked(Protocol):
    """A request's parameters, each with all the values it was given."""

    @property
    def parameters(self) -> Mapping[str, Sequence[str]]: ...


class Call(Asked, Protocol):
    """A request that may be answered; `name` is what its path names beside the app (an endpoint, an event), or empty."""

    @property
    def desk(self) -> Desk: ...
    @property
    def app(self) -> App: ...
    @property
    def name(self) -> str: ...

    def json(self) -> object:
        """Return the parsed body; raises RequestError 400 where it is not JSON."""
        ...

    def asked(self, name: str) -> str:
        """Return a parameter that is a comma-separated list; empty if it is not there."""
        ...


# -- receivers


async def events(call: Call) -> Answer:
    """Answer a page of the feed; with `wait`, as soon as there is something in it, `after=latest` for what is to come."""
    check_names(call.parameters, ("after", "limit", "event", "wait"))
    after = None if _last(call, "after") == "latest" else number(call, "after", 0)
    wait_s = _ask(call, "wait", _wait_s, 0.0)
    limit = number(call, "limit", _USUAL, 1, _MOST)
    return await call.desk.events(call.app.id, after=after, limit=limit, kinds=_kinds(call.asked("event")), wait_s=wait_s)


async def snapshot(call: Call) -> Answer:
    """Answer what is open, and the cursor at which it is."""
    return await call.desk.snapshot(call.app.id)


# -- operators


async def why(call: Call) -> Answer:
    """Answer what became of one event at each endpoint, and why."""
    return await call.desk.why(call.app.id, call.name)


async def endpoints(call: Call) -> Answer:
    """Answer how each endpoint is doing."""
    return await call.desk.endpoints(call.app.id)


async def deliveries(call: Call) -> Answer:
    """Answer a page of an endpoint's delivery log, newest first."""
    check_names(call.parameters, ("before", "limit"))
    before = _ask(call, "before", _integer, None)
    return await call.desk.deliveries(call.app.id, call.name, before=before, limit=number(call, "limit", _USUAL, 1, _MOST))


async def request(call: Call) -> Answer:
    """Answer one attempt of an endpoint's delivery log, the newest unless told otherwise, with what was sent."""
    check_names(call.parameters, ("number",))
    return await call.desk.request(call.app.id, call.name, _ask(call, "number", _integer, None))


async def dead_letters(call: Call) -> Answer:
    """Answer a page of an endpoint's dead letters, oldest first."""
    check_names(call.parameters, ("after", "limit", *_SELECTION))
    from_ms, to_ms = _ask(call, "from", _instant, None), _ask(call, "to", _instant, None)
    _check_order("from", from_ms, "to", to_ms)
    selection = Selection(kinds=_kinds(call.asked("event")), channel=_last(call, "channel"), from_ms=from_ms, to_ms=to_ms)
    after, limit = number(call, "after", 0), number(call, "limit", _USUAL, 1, _MOST)
    return await call.desk.dead_letters(call.app.id, call.name, selection, after=after, limit=limit)


async def test(call: Call) -> Answer:
    """Send one `webhook.test`, and answer what the endpoint said."""
    return await call.desk.test(call.app.id, call.name)


async def enable(call: Call) -> Answer:
    """Let an endpoint that answered 410 have webhooks again."""
    return await call.desk.enable(call.app.id, call.name)


async def replay(call: Call) -> Answer:
    """Send again what the body names: one event, dead letters, or a range; the latter two a step at a time."""
    body = call.json()
    if not isinstance(body, dict):
        raise RequestError(400, "the body must be a JSON object", "body")
    check_names(body, _REPLAY)
    # A program that has no value for something sends null: that must not be taken for a range without bounds.
    for name in [name for name, value in body.items() if value is None]:
        del body[name]
    ways = [name for name in ("event_id", "dead_letters") if name in body] or [name for name in _RANGE if name in body][:1]
    if len(ways) != 1:
        raise RequestError(400, 'name one of "event_id", "dead_letters" and a range ("after", "until", "from", "to")')
    desk, app_id, endpoint = call.desk, call.app.id, call.name
    if ways == ["event_id"]:
        check_names(body, ("event_id",))
        return await desk.replay_event(app_id, endpoint, _read(body, "event_id", _text, ""))
    numbers = body.get("dead_letters")
    if isinstance(numbers, list):
        check_names(body, ("dead_letters",))
        return await desk.replay_letters(app_id, endpoint, _numbers(numbers))
    from_ms, to_ms = _read(body, "from", _instant, None), _read(body, "to", _instant, None)
    _check_order("from", from_ms, "to", to_ms)
    kinds, channel = _kinds(_read(body, "event", _globs, "")), _read(body, "channel", _text, None)
    selection = Selection(kinds=kinds, channel=channel, from_ms=from_ms, to_ms=to_ms)
    limit = _within("limit", _read(body, "limit", _integer, _STEP), 1, MOST_REPLAYED)
    resume = _read(body, "resume", _text, None)
    if ways == ["dead_letters"]:
        if numbers != "all":
            raise RequestError(400, 'dead_letters must be "all" or a list of numbers', "dead_letters")
        check_names(body, ("dead_letters", "limit", "resume", *_SELECTION))
        return await desk.replay_all_letters(app_id, endpoint, selection, limit=limit, resume=resume)
    after, until = _read(body, "after", _integer, None), _read(body, "until", _integer, None)
    _check_order("after", after, "until", until)
    return await desk.replay_range(app_id, endpoint, selection, limit=limit, after=after, until=until, resume=resume)


# -- reading what was asked: each returns the value or raises ValueError with what it must be


def _integer(raw: object) -> int:
    if isinstance(raw, str) and _NUMBER.fullmatch(raw):
        return int(raw)
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 <= raw < 10**18:
        raise ValueError("a whole number that is not negative")
    return raw


def _wait_s(raw: object) -> float:
    if not isinstance(raw, str) or not _SECONDS.fullmatch(raw) or float(raw.removesuffix("s")) > LONGEST_WAIT_S:
        raise ValueError(f"seconds from 0 to {LONGEST_WAIT_S:g}")
    return float(raw.removesuffix("s"))


def _instant(raw: object) -> int:
    """Read Unix milliseconds, or RFC 3339."""
    if isinstance(raw, str) and _DATE.fullmatch(raw):
        try:
            return round(datetime.fromisoformat(_to_microseconds(raw.upper())).timestamp() * 1000)
        except (ValueError, OverflowError):
            pass  # a month of 31 days that has 30, say
    try:
        return _integer(raw)
    except ValueError:
        raise ValueError("a time: RFC 3339 (2026-01-25T10:00:00Z) or Unix milliseconds") from None


def _to_microseconds(text: str) -> str:
    return re.sub(r"(\.\d{6})\d+", r"\1", text)


def _text(raw: object) -> str:
    if not isinstance(raw, str) or not raw:
        raise ValueError("a text that is not empty")
    return raw


def _globs(raw: object) -> str:
    if isinstance(raw, list):
        return ",".join(map(_text, raw))
    return _text(raw)


def _numbers(raw: list[object]) -> list[int]:
    if not 1 <= len(raw) <= MOST_REPLAYED:
        raise RequestError(400, f"dead_letters must hold from 1 to {MOST_REPLAYED} numbers", "dead_letters")
    return [_checked(f"dead_letters[{position}]", _integer, one) for position, one in enumerate(raw)]


def _kinds(globs: str) -> frozenset[str] | None:
    """Read comma-separated globs over kinds of event; none select everything."""
    wanted = [glob for glob in globs.split(",") if glob]
    for sentence in check_kinds(wanted):
        raise RequestError(400, sentence, "event")
    return kinds_of(wanted) if wanted else None


def check_names(given: Iterable[str], names: tuple[str, ...]) -> None:
    """Raise RequestError 400 for the first name that is not one of `names`."""
    for name in given:
        if name.removesuffix("[]") not in names:
            near = get_close_matches(name, names, 1)
            hint = f'did you mean "{near[0]}"?' if near else f"there can be {', '.join(names)}"
            raise RequestError(400, f"this cannot be asked here; {hint}", name[:64])


def _last(call: Asked, name: str) -> str | None:
    values = call.parameters.get(name)
    return values[-1] if values else None


def _ask(call: Asked, name: str, read: Callable[[object], T], default: T | None) -> Any:
    raw = _last(call, name)
    return default if raw is None else _checked(name, read, raw)


def number(call: Asked, name: str, default: int, least: int = 0, most: int = 10**18) -> int:
    """Return a parameter that is a whole number; raises RequestError 400 where it is none, or out of bounds."""
    return _within(name, _ask(call, name, _integer, default), least, most)


def _within(name: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise RequestError(400, f"must be from {least} to {most}", name)
    return value


def _check_order(first: str, begins: int | None, last: str, ends: int | None) -> None:
    if begins is not None and ends is not None and ends < begins:
        raise RequestError(400, f"must not be before {first}", last)


def _read(body: Mapping[str, object], name: str, read: Callable[[object], T], default: T | None) -> Any:
    raw = body.get(name)
    return default if raw is None else _checked(name, read, raw)


def _checked(name: str, read: Callable[[object], T], raw: object) -> T:
    try:
        return read(raw)
    except ValueError as wrong:
        raise RequestError(400, f"must be {wrong}", name) from None
