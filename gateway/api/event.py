"""Publishing: one event, or a batch. The answer waits until what was published is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import NamedTuple

from gateway.api.call import Call, parsed
from gateway.api.channel import counts
from gateway.core.app import App
from gateway.core.auth import Parameters
from gateway.core.error import RequestError
from gateway.core.publication import USER_CHANNEL, Publication, describe, parse_batch, parse_event
from gateway.core.trace import Trace
from gateway.node import Node


class Published(NamedTuple):
    """What was published: one event, or a batch; `recorded` must be awaited, if there is one, before it may be answered for."""

    publications: Sequence[Publication]
    recorded: Awaitable[None] | None
    is_batch: bool
    #: whether any event asks for attributes; else the answer is `{}`
    asks: bool


async def publish(call: Call) -> dict[str, object]:
    """Publish one event; answer `{}`, or `{"channels": {name: attributes}}` where `info` was asked for."""
    return await _publish(call, is_batch=False)


async def publish_batch(call: Call) -> dict[str, object]:
    """Publish several events in order, all or none; answer `{}`, or `{"batch": [attributes]}` where any asked for `info`."""
    return await _publish(call, is_batch=True)


async def _publish(call: Call, *, is_batch: bool) -> dict[str, object]:
    published = publish_now(call.node, call.app, call.parameters, call.body, call.trace, is_batch=is_batch)
    return {} if published is None else await answer(call.node, call.app, published)


def publish_now(
    node: Node, app: App, parameters: Parameters, body: bytes, trace: Trace | None, *, is_batch: bool
) -> Published | None:
    """Publish what a request asks for whose signature was found right. Raises RequestError.

    Unless the result is None, which says that `{}` may be answered at once, answer for it with `answer`.
    """
    asked: object = None
    try:
        if is_batch:
            asked = parsed(body) if body else {}
            publications = parse_batch(asked, app, trace)
            asks = any(publication.info for publication in publications)
        else:
            asked = parsed(body) if body else _from_query(parameters)
            publication = parse_event(asked, app, trace)
            publications, asks = [publication], bool(publication.info)
        recorded = node.publish(publications)
    except RequestError as error:
        if error.reason is not None:
            channel, name, size = describe(asked, error.where)
            node.reject(app.id, error.reason, channel, name, size or len(body))
        raise
    return Published(publications, recorded, is_batch, asks) if asks or recorded is not None else None


async def answer(node: Node, app: App, published: Published) -> dict[str, object]:
    """Return what is answered for what `publish_now` published, once it is recorded."""
    if published.recorded is not None:
        await published.recorded
    if not published.asks:
        return {}
    publications = published.publications
    if published.is_batch:
        return {"batch": [(await _attributes(node, app, publication))[0] for publication in publications]}
    (publication,) = publications
    return {"channels": dict(zip(publication.channels, await _attributes(node, app, publication), strict=True))}


async def _attributes(node: Node, app: App, publication: Publication) -> list[dict[str, object]]:
    return await asyncio.gather(*(_attributes_of(node, app, name, publication.info) for name in publication.channels))


async def _attributes_of(node: Node, app: App, channel: str, info: frozenset[str]) -> dict[str, object]:
    # what is published for a user has no occupancy that could be told
    if not info or channel.startswith(USER_CHANNEL):
        return {}
    return counts(channel, info, await node.tracker.occupancy(app.id, channel))


def _from_query(parameters: Parameters) -> dict[str, object]:
    """Return the event given as parameters in the query string, in the shape of a body; documented, though no SDK does it."""
    event: dict[str, object] = {name: values[-1] for name, values in parameters.items() if not name.endswith("[]")}
    if "channels[]" in parameters:
        event["channels"] = parameters["channels[]"]
    return event
