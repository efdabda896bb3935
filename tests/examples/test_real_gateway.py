"""Each receiver under examples/ behind a real gateway, through churn and through its own death."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Backend, Client
from tests.e2e.conftest import StartGateway, cleared_away, receiver, start_gateway
from tests.e2e.gateway_process import KEY, SECRET, app
from tests.e2e.ledger import subject
from tests.e2e.receiver import RETRY, Receiver
from tests.examples.receiver_process import RUNTIMES, ReceiverProcess
from tests.examples.sender import NEW, OLD

__all__ = ["cleared_away", "receiver", "start_gateway"]

#: what the format pusher has of our events
PUSHER = {
    "channel.occupied": "channel_occupied",
    "channel.vacated": "channel_vacated",
    "channel.member_added": "member_added",
    "channel.member_removed": "member_removed",
    "client_event": "client_event",
}


@pytest.fixture(params=RUNTIMES)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReceiverProcess]:
    """A receiver that knows two secrets, running."""
    runtime = RUNTIMES[request.param]
    runtime.require()
    example = runtime.start(tmp_path / "example", HOOK_SECRETS=f"{NEW} {OLD}", APPS=f"{KEY}:{SECRET}", GAP_AFTER="60")
    yield example
    example.kill()


def endpoints(port: int) -> list[dict[str, object]]:
    """Each event comes in one of the formats event and batch, those of connections in both; and in the format pusher besides."""
    common = {"retry": RETRY, "timeout": "5s"}
    hooks = f"http://127.0.0.1:{port}/hooks"
    return [
        {"name": "one", "url": hooks, "secrets": [OLD], "exclude_channels": ["*-b"], **common},
        {"name": "many", "url": hooks, "secrets": [NEW, OLD], "format": "batch", "exclude_channels": ["*-a"], **common},
        {
            "name": "old",
            "url": f"http://127.0.0.1:{port}/pusher",
            "secrets": ["a-secret-nobody-knows-yet", NEW],
            "format": "pusher",
            **common,
        },
    ]


async def churn(port: int) -> None:
    """Have clients come, say something, and go."""
    clients = [await Client.connect(port) for _ in range(4)]
    async with Backend(port) as backend:
        for number, client in enumerate(clients):
            await client.subscribe("room-a")
            await client.subscribe("private-b")
            await client.join("presence-a", f"u-{number % 2}")
            await client.send("client-said", {"number": number, "text": "東京"}, "private-b")
            assert await backend.publish("room-a", "told", '"Zoë 🦊"') == 200
        for number, client in enumerate(clients):
            await client.unsubscribe("room-a" if number % 2 else "presence-a")
            await client.settle()
            if number % 2:
                client.reset()
            else:
                await client.close()


async def test_it_gets_everything_from_a_real_gateway(
    example: ReceiverProcess, receiver: Receiver, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(
        app(webhooks=[receiver.endpoint(), *endpoints(example.port)]),
        server={"shutdown_timeout": "20s"},  # for the slowest disk
    )
    await churn(gateway.port)
    # Killed while webhooks come in, it is started again, and the gateway tries again what was not answered.
    second = asyncio.create_task(churn(gateway.port))
    await receiver.wait_for("connection.opened", count=6)
    await asyncio.to_thread(example.kill)
    await asyncio.to_thread(example.start)
    await second
    await receiver.wait_for("connection.closed", count=8)
    assert await gateway.stop(within_s=30) == 0
    receiver.check_ledger()

    happened = {event.envelope["id"]: event for event in receiver.of()}
    of_pusher = Counter((PUSHER[event.kind], event.data["channel"]) for event in happened.values() if event.kind in PUSHER)
    everything = len(happened) + of_pusher.total()
    await asyncio.to_thread(example.wait_until, lambda: len({id_ for id_, _, _ in handled(example)}) >= everything, "everything")
    assert set(told(example)) == happened.keys()
    assert told_to_pusher(example) == of_pusher
    # What was under way at the kill may have been done twice, and nothing else.
    assert len(handled(example)) - everything <= 1
    assert example.count("gap") == 0
    by_subject: dict[str, list[int]] = {}
    for event in map(happened.__getitem__, told(example)):
        # A connection's events come over two endpoints here, and order is kept at each of them.
        if not event.kind.startswith("connection."):
            by_subject.setdefault(subject(event.envelope), []).append(event.sequence)
    assert by_subject == {name: sorted(numbers) for name, numbers in by_subject.items()}


def handled(example: ReceiverProcess) -> list[list[str]]:
    """Return what its lines say of events: id, kind and subject, in order."""
    return [line.split() for line in example.lines if line.startswith(("evt_", "whb_"))]


def told(example: ReceiverProcess) -> list[str]:
    """Return the ids that came in the formats with ids, each once, in order."""
    return list(dict.fromkeys(id_ for id_, _, _ in handled(example) if "/" not in id_))


def told_to_pusher(example: ReceiverProcess) -> Counter[tuple[str, str]]:
    """Return what came in the format pusher, where each id counts once."""
    return Counter({id_: (kind, channel) for id_, kind, channel in handled(example) if "/" in id_}.values())
