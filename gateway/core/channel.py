"""Channel names and the table of kinds.

A kind is found by prefix, first match, and the hyphen belongs to the prefix (Pusher protocol: channel types).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LEGAL = re.compile(r"[A-Za-z0-9_\-=@,.;]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table: what channels with this prefix can do."""

    prefix: str
    #: `public`, `private`, `presence` or `encrypted`
    type: str
    needs_auth: bool
    has_members: bool
    allows_client_events: bool
    #: keeps its last publication
    caches: bool


KINDS = (
    #    prefix                      type         auth   members client caches
    Kind("private-encrypted-cache-", "encrypted", True, False, False, True),
    Kind("private-encrypted-", "encrypted", True, False, False, False),
    Kind("private-cache-", "private", True, False, True, True),
    Kind("private-", "private", True, False, True, False),
    Kind("presence-cache-", "presence", True, True, True, True),
    Kind("presence-", "presence", True, True, True, False),
    Kind("cache-", "public", False, False, False, True),
    Kind("", "public", False, False, False, False),
)


_PUBLIC = KINDS[-1]
_OTHERS = tuple(kind.prefix for kind in KINDS[:-1])


def kind_of(name: str) -> Kind:
    """Return the row of the table for a channel name; any string has one."""
    if not name.startswith(_OTHERS):  # most names: not to be held against each prefix in turn
        return _PUBLIC
    for kind in KINDS:
        if name.startswith(kind.prefix):
            return kind
    raise AssertionError("the last row matches everything")


def caches(name: str) -> bool:
    """Tell whether the channel keeps its last event; asked for each publication, so most names must end the question early."""
    return "cache-" in name and kind_of(name).caches


def is_legal(name: str, max_length: int = 164) -> bool:
    """Tell whether a channel may have this name, for subscribing and for publishing (Pusher protocol: channel names)."""
    return len(name) <= max_length and _LEGAL.fullmatch(name) is not None
