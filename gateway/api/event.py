"""Publishing: one event, or a batch. The answer waits until what was published is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import NamedTuple

from gateway.api.call import Call
from gateway.api.channel import counts
from gateway.core.auth import Parameters
from gateway.core.error import RequestError
from gateway.core.publication import USER_CHANNEL, Publication, describe, parse_batch, parse_event


class Published(NamedTuple):
    """What was published: one event, or a batch; `recorded` must be awaited, if there is one, before it may be answered for."""

    publications: Sequence[Publication]
    recorded: Awaitable[None] | None
    is_batch: bool

    @property
    def asks(self) -> bool:
        """Whether any event asks for attributes; else the answer is `{}`."""
        return any(publication.info for publication in self.publications)


async def publish(call: Call) -> dict[str, object]:
    """Publish one event; answer `{}`, or `{"channels": {name: attributes}}` where `info` was asked for."""
    return await answer(call, publish_now(call, is_batch=False))


async def publish_batch(call: Call) -> dict[str, object]:
    """Publish several events in order, all or none; answer `{}`, or `{"batch": [attributes]}` where any asked for `info`."""
    return await answer(call, publish_now(call, is_batch=True))


def publish_now(call: Call, *, is_batch: bool) -> Published:
    """Publish what the call asks for, and answer for it with `answer`. Raises RequestError."""
    body: object = None
    try:
        if is_batch:
            body = call.json() if call.body else {}
            publications = parse_batch(body, call.app, call.trace)
        else:
            body = call.json() if call.body else _from_query(call.parameters)
            publications = [parse_event(body, call.app, call.trace)]
        return Published(publications, call.node.publish(publications), is_batch)
    except RequestError as error:
        _reject(call, error, body)
        raise


async def answer(call: Call, published: Published) -> dict[str, object]:
    """Return what is answered for what `publish_now` published, once it is recorded."""
    if published.recorded is not None:
        await published.recorded
    if not published.asks:
        return {}
    publications = published.publications
    if published.is_batch:
        return {"batch": [(await _attributes(call, publication))[0] for publication in publications]}
    (publication,) = publications
    return {"channels": dict(zip(publication.channels, await _attributes(call, publication), strict=True))}


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
