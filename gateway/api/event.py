"""Publishing: one event, or a batch. The answer waits until what was published is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from gateway.api.call import Call
from gateway.api.channel import counts
from gateway.core.auth import Parameters
from gateway.core.error import RequestError
from gateway.core.publication import USER_CHANNEL, Publication, describe, parse_batch, parse_event


async def publish(call: Call) -> dict[str, object]:
    """Publish one event; answer `{}`, or `{"channels": {name: attributes}}` where `info` was asked for."""
    publication, recorded = publish_now(call)
    return await answer(call, publication, recorded)


def publish_now(call: Call) -> tuple[Publication, Awaitable[None] | None]:
    """Publish one event; return it, and what must be awaited before it may be answered for. Raises RequestError."""
    body: object = None
    try:
        body = call.json() if call.body else _from_query(call.parameters)
        publication = parse_event(body, call.app)
        return publication, call.node.publish([publication])
    except RequestError as error:
        _reject(call, error, body)
        raise


async def answer(call: Call, publication: Publication, recorded: Awaitable[None] | None) -> dict[str, object]:
    """Return what is answered for an event of `publish_now`, once it is recorded."""
    if recorded is not None:
        await recorded
    if not publication.info:
        return {}
    return {"channels": dict(zip(publication.channels, await _attributes(call, publication), strict=True))}


async def publish_batch(call: Call) -> dict[str, object]:
    """Publish several events in order, all or none; answer `{}`, or `{"batch": [attributes]}` where any asked for `info`."""
    body: object = None
    try:
        body = call.json() if call.body else {}
        publications = parse_batch(body, call.app)
        recorded = call.node.publish(publications)
    except RequestError as error:
        _reject(call, error, body)
        raise
    if recorded is not None:
        await recorded
    if not any(publication.info for publication in publications):
        return {}
    return {"batch": [(await _attributes(call, publication))[0] for publication in publications]}


async def _attributes(call: Call, publication: Publication) -> list[dict[str, object]]:
    return await asyncio.gather(*(_attributes_of(call, name, publication.info) for name in publication.channels))


async def _attributes_of(call: Call, channel: str, info: frozenset[str]) -> dict[str, object]:
    # what is published for a user has no occupancy that could be told
    if not info or channel.startswith(USER_CHANNEL):
        return {}
    return counts(channel, info, await call.node.tracker.occupancy(call.app.id, channel))


def _from_query(parameters: Parameters) -> dict[str, object]:
    """Return the event given as parameters in the query string, in the shape of a body; documented, though no SDK does it."""
    event: dict[str, object] = {name: values[-1] for name, values in parameters.items() if not name.endswith("[]")}
    if "channels[]" in parameters:
        event["channels"] = parameters["channels[]"]
    return event


def _reject(call: Call, error: RequestError, body: object) -> None:
    if error.reason is not None:
        channel, event, size = describe(body, error.where)
        call.node.reject(call.app.id, error.reason, channel, event, size or len(call.body))
