"""Who is connected, and what channels there are, on this node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from itertools import islice

from gateway.admin.call import AppCall, Call
from gateway.admin.overview import tenants_of
from gateway.admin.page import behind, first_of, names_after
from gateway.core.channel import is_legal, kind_of
from gateway.core.error import RequestError
from gateway.core.webhook import timestamp
from gateway.desk.answer import Answer
from gateway.desk.question import number
from gateway.node import Live, Tenant
from gateway.ports import Occupancy

#: what of a connection's facts is told, where they are kept
_FACTS = ("remote_ip", "user_agent", "origin", "client", "protocol")

_MARK = re.compile(r"([0-9]{1,32}):([0-9.e+-]{1,32}):([0-9.]{1,32})", re.ASCII)


async def connections(call: Call) -> Answer:
    """Answer a page of the connections, the oldest first, app by app; `after` of the answer leads to the next one."""
    after, limit = call.page("app", "search")
    search = call.last("search").lower()
    app_id, opened_at, socket_id = _mark(after)
    told: list[Answer] = []
    for tenant in _tenants(call, app_id):
        lives = list(tenant.lives.values())  # a dict keeps the order in which they came
        start = behind(lives, opened_at, socket_id) if tenant.app.id == app_id else 0
        page = await first_of(lives, start, limit - len(told), partial(_found, search=search) if search else None)
        told += [_connection(call, live) for live in page]
        if len(told) == limit:
            return {"connections": told, "after": _mark_of(page[-1])}
    return {"connections": told}


async def connection(call: AppCall) -> Answer:
    """Answer one connection, with its channels; a page of them from `after` on."""
    limit = call.page()[1]
    start = number(call, "after", 0)
    live = find(call)
    channels = live.session.channels
    told = _connection(call, live) | {"subscribed": list(islice(channels, start, start + limit))}
    return told | ({"after": start + limit} if len(channels) > start + limit else {})


async def channels(call: Call) -> Answer:
    """Answer a page of the occupied channels, by name, app by app; counts are cluster-wide, the names those of this node."""
    after, limit = call.page("app", "prefix", "search")
    app_id, colon, name = after.partition(":")
    if after and not colon:
        raise _not_of_a_page()
    told: list[Answer] = []
    for tenant in _tenants(call, app_id):
        behind_name = name if tenant.app.id == app_id else ""
        found = await names_after(tenant.hub.names(), behind_name, call.last("prefix"), limit - len(told), call.last("search"))
        told += [_channel(tenant, one, await call.sources.node.tracker.occupancy(tenant.app.id, one)) for one in found]
        if len(told) == limit:
            return {"channels": told, "after": f"{tenant.app.id}:{told[-1]['channel']}"}
    return {"channels": told}


async def channel(call: AppCall) -> Answer:
    """Answer one channel: who is subscribed on this node, and the members of a presence channel; a page from `after` on."""
    limit = call.page()[1]
    start = number(call, "after", 0)
    tenant, tracker = _tenant(call), call.sources.node.tracker
    if not is_legal(call.name, call.app.limits.channel_name):
        raise RequestError(400, "the path holds something that is not a channel name", "path")
    subscribers = tenant.hub.subscribers(call.name)
    page = list(islice(subscribers, start, start + limit))
    told = _channel(tenant, call.name, await tracker.occupancy(call.app.id, call.name)) | {"connections": page}
    has_more = len(subscribers) > start + limit
    if kind_of(call.name).has_members:
        members = await tracker.members(call.app.id, call.name)
        told["members"] = [member.user_id for member in members[start : start + limit]]
        has_more = has_more or len(members) > start + limit
    return told | ({"after": start + limit} if has_more else {})


async def connection_timeline(call: AppCall) -> Answer:
    """Answer what has happened to a connection, open or not, as far as the ledger goes back."""
    after, limit, from_ms = _window(call)
    return await call.desk.timeline(call.app.id, socket_id=call.name, after=after, from_ms=from_ms, limit=limit)


async def channel_timeline(call: AppCall) -> Answer:
    """Answer what has happened on a channel, occupied or not, as far as the ledger goes back."""
    after, limit, from_ms = _window(call)
    return await call.desk.timeline(call.app.id, channel=call.name, after=after, from_ms=from_ms, limit=limit)


def _window(call: AppCall) -> tuple[int, int, int | None]:
    limit = call.page("from")[1]
    return number(call, "after", 0), limit, number(call, "from", 0) or None


def _found(lives: Sequence[Live], search: str) -> list[Live]:
    """Return those with the text in the socket id or in the user's id."""
    return [
        live
        for live in lives
        if search in live.socket_id or ((user := live.session.user) is not None and search in user.id.lower())
    ]


def find(call: AppCall) -> Live:
    """Return the connection the path names; raises RequestError 404 where it is not on this node."""
    live = _tenant(call).lives.get(call.name)
    if live is None:
        raise RequestError(404, f"there is no connection {call.name} of this app on this node (any more)", "path")
    return live


def _tenant(call: AppCall) -> Tenant:
    return call.sources.node.tenants[call.app.id]


def _tenants(call: Call, app_id: str) -> list[Tenant]:
    """The apps to go through, from the one on that the page before came to."""
    only = call.last("app")
    if only and only not in call.sources.node.tenants:
        raise RequestError(404, f"there is no app {only}", "app")
    return [tenant for tenant in tenants_of(call.sources.node.tenants.values(), only=only) if tenant.app.id >= app_id]


def _mark(after: str) -> tuple[str, float, str]:
    if not after:
        return "", 0.0, ""
    match = _MARK.fullmatch(after)
    try:
        if match is not None:
            return match[1], float(match[2]), match[3]
    except ValueError:
        pass  # digits and dots that are no number
    raise _not_of_a_page()


def _not_of_a_page() -> RequestError:
    return RequestError(400, "must be what the page before has answered", "after")


def _mark_of(live: Live) -> str:
    return f"{live.tenant.app.id}:{live.opened_at!r}:{live.socket_id}"


def _connection(call: Call, live: Live) -> Answer:
    clock, carried = call.sources.clock, live.connection
    open_ms = round((clock.monotonic() - live.opened_at) * 1000)
    facts = live.tenant.lifecycle.facts(live.socket_id)
    return {
        "app_id": live.tenant.app.id,
        "socket_id": live.socket_id,
        "opened_at": timestamp(clock.epoch_ms() - open_ms),
        "duration_ms": open_ms,
        **({"peer": carried.peer} if carried.peer else {}),
        **{name: facts[name] for name in _FACTS if name in facts},
        **({"user_id": live.session.user.id} if live.session.user is not None else {}),
        "channels": len(live.session.channels),
        "received_messages": carried.received_messages,
        "received_bytes": carried.received_bytes,
        "sent_messages": carried.sent_messages,
        "sent_bytes": carried.sent_bytes,
        **({"closing": live.ending[1]} if live.ending is not None else {}),
    }


def _channel(tenant: Tenant, name: str, occupancy: Occupancy) -> Answer:
    kind = kind_of(name)
    told: Answer = {"app_id": tenant.app.id, "channel": name, "type": kind.type, "subscribers": occupancy.subscribers}
    return told | ({"users": occupancy.users} if occupancy.users is not None else {})
