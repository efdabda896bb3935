"""What a backend can ask about channels and their members. Counts are cluster-wide: the tracker is asked.

`user_count` is there on presence channels only, `subscription_count` on all others; asked of a presence channel it is left
out, since backends ask for both at once.
"""

from __future__ import annotations

from collections.abc import Set

from gateway.api.call import Call
from gateway.core.channel import is_legal, kind_of
from gateway.core.error import RequestError
from gateway.core.publication import ATTRIBUTES, parse_info
from gateway.ports import Occupancy


async def channels(call: Call) -> dict[str, object]:
    """Answer the occupied channels: `{"channels": {name: attributes}}`."""
    prefix = call.parameters.get("filter_by_prefix", [""])[-1]
    info = _known(call, ATTRIBUTES)
    if "user_count" in info and not prefix.startswith("presence-"):
        raise RequestError(400, "user_count needs a filter_by_prefix that begins with presence-", "info")
    found = await call.node.tracker.channels(call.app.id, prefix)
    return {"channels": {name: counts(name, info, occupancy) for name, occupancy in found.items()}}


async def channel(call: Call) -> dict[str, object]:
    """Answer whether one channel is occupied, and the attributes asked for; a count of users it cannot have is an error."""
    name = _legal(call)
    info = _known(call, ATTRIBUTES | {"cache"})
    kind = kind_of(name)
    if "user_count" in info and not kind.has_members:
        raise RequestError(400, "user_count is there on presence channels only", "info")
    if "cache" in info and not kind.caches:
        raise RequestError(400, "cache is there on cache channels only", "info")
    occupancy = await call.node.tracker.occupancy(call.app.id, name)
    answer: dict[str, object] = {"occupied": occupancy.subscribers > 0, **counts(name, info, occupancy)}
    if "cache" in info:
        kept = call.node.cached(call.app.id, name)
        answer["cache"] = None if kept is None else {"data": kept[0], "ttl": kept[1]}
    return answer


async def users(call: Call) -> dict[str, object]:
    """Answer who is on a presence channel, each user once."""
    name = _legal(call)
    if not kind_of(name).has_members:
        raise RequestError(400, "only presence channels have users: the name must begin with presence-", "channel")
    members = await call.node.tracker.members(call.app.id, name)
    return {"users": [{"id": member.user_id} for member in members]}


def counts(name: str, info: Set[str], occupancy: Occupancy) -> dict[str, object]:
    """Return those of the attributes asked for that a channel of this name has."""
    if kind_of(name).has_members:
        return {"user_count": occupancy.users or 0} if "user_count" in info else {}
    return {"subscription_count": occupancy.subscribers} if "subscription_count" in info else {}


def _legal(call: Call) -> str:
    longest = call.app.limits.channel_name
    if not is_legal(call.name, longest):
        sentence = f"the path names no channel: it must have 1 to {longest} letters, digits and characters of _-=@,.;"
        raise RequestError(400, sentence, "channel")
    return call.name


def _known(call: Call, known: Set[str]) -> frozenset[str]:
    info = parse_info(call.asked("info"))
    if not info <= known:
        raise RequestError(400, f"info can name {', '.join(sorted(known))}", "info")
    return info
