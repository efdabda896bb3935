"""What the events of a channel tell in common."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.channel import kind_of
from gateway.core.roster import Member


def cause_of(socket_id: str, member: Member | None) -> dict[str, object]:
    """Return what an event tells of the connection that caused it."""
    return {"socket_id": socket_id} if member is None else {"socket_id": socket_id, "user_id": member.user_id}


def channel_facts(channel: str, subscribers: int, cause: Mapping[str, object], span: str | None = None) -> dict[str, object]:
    """Return what every event of a channel tells."""
    kind = kind_of(channel)
    data: dict[str, object] = {"channel": channel, "type": kind.type}
    if kind.caches:
        data["cache"] = True
    if span is not None:
        data["span"] = span
    data.update(cause)
    data["subscribers"] = subscribers
    return data
