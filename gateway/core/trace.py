"""The trace a publish belongs to: read from the headers of its request, carried to the webhooks it causes.

W3C Trace Context, sections 3.2 and 3.3. The gateway takes no part in the trace: it makes no spans and hands on what it was
given. Headers that are not as they should be are ignored, as the recommendation has it; nobody is refused for them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import orjson

#: headers of a request, in lower case
PARENT, STATE = "traceparent", "tracestate"

#: characters of a tracestate that are handed on (section 3.3.1.5: at least so many should be)
_MOST_STATE = 512
#: members of a tracestate (section 3.3.1.1)
_MOST_MEMBERS = 32
#: characters of an envelope's end that hold a trace, if it has one: all of a tracestate may have to be escaped
_END = 2 * _MOST_STATE + 128

_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_MEMBER = re.compile(r"([a-z0-9][a-z0-9_*/@-]{0,255})=[ -+\--<>-~]{0,255}[!-+\--<>-~]", re.ASCII)
_BEGINNING = b',"traceparent":"'
_TOLD = re.compile(_BEGINNING + rb'([0-9a-f-]{55})"(?:,"tracestate":("(?:[^"\\]|\\.)*"))?\}\}\Z')


class Trace(NamedTuple):
    """A right `traceparent`, and the `tracestate` that came with it, empty if none did."""

    parent: str
    state: str = ""


def read(parents: Sequence[str], states: Sequence[str]) -> Trace | None:
    """Return the trace that these values of the two headers name, None if it is none; more than one parent is none."""
    match = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version != "00":
        # Of a later version we know what is in this one, and say no more than that (section 4.3).
        flags = f"{int(flags, 16) & 1:02x}"
    elif more is not None:
        return None
    return Trace(f"00-{trace_id}-{parent_id}-{flags}", _state(states))


def told(trace: Trace) -> bytes:
    """Return the last members of an envelope's metadata."""
    state = b',"tracestate":' + orjson.dumps(trace.state) if trace.state else b""
    return b',"traceparent":"' + trace.parent.encode() + b'"' + state


def of_envelope(envelope: bytes) -> Trace | None:
    """Return the trace that an envelope ends with."""
    # Looking from the front is quicker by far, and mostly there is nothing to be found.
    if envelope.find(_BEGINNING, -_END) < 0:
        return None
    match = _TOLD.match(envelope, envelope.rfind(_BEGINNING))
    return None if match is None else Trace(match[1].decode(), orjson.loads(match[2]) if match[2] else "")


def headers(trace: Trace | None) -> dict[str, str]:
    """Return the headers that hand the trace on."""
    if trace is None:
        return {}
    return {PARENT: trace.parent} | ({STATE: trace.state} if trace.state else {})


def _state(values: Sequence[str]) -> str:
    """Return one value of what several lines say, cut behind its last member that fits; empty if any of it is malformed."""
    members = [member for member in (part.strip(" \t") for value in values for part in value.split(",")) if member]
    keys = [match[1] if (match := _MEMBER.fullmatch(member)) else "" for member in members]
    if len(members) > _MOST_MEMBERS or "" in keys or len(set(keys)) < len(keys):
        return ""
    while sum(map(len, members)) + len(members) - 1 > _MOST_STATE:
        del members[-1]
    return ",".join(members)
