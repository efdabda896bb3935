"""All members of a large presence channel go at once: newcomers are not held up, and each departure counts once or not at all."""

from __future__ import annotations

import json
from collections import Counter

from tests.e2e.client import Client
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.crowd import Crowd
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.receiver import Receiver
from tests.machine import Machine

HALL = "presence-hall"
USERS = [f"u-{number}" for number in range(600)]
#: enough of them for what takes no long look
FEW = USERS[:100]
#: one user with many connections: each of them is told of each departure, and its coming costs nothing
WATCHERS = ["watcher"] * 250
LIMITS = {"presence_members": 10_000}


async def newcomer(gateway: GatewayProcess, machine: Machine, number: int) -> tuple[float, int]:
    """Connect and join the hall as somebody new; return how long that took, and how many of the crowd were still there."""
    began_at = machine.time()
    client = await Client.connect(gateway.port)
    left = await here(client, f"new-{number}")
    took_s = machine.time() - began_at
    client.reset()
    return took_s, left


async def here(client: Client, user_id: str) -> int:
    """Join the hall, and return how many of the crowd were still there."""
    frame = await client.join(HALL, user_id)
    return len(set(USERS).intersection(json.loads(frame["data"])["presence"]["ids"]))


def told(receiver: Receiver, kind: str) -> Counter[str]:
    return Counter(event.data["user_id"] for event in receiver.of() if event.kind == kind and event.data["user_id"] in USERS)


async def test_nobody_waits_for_those_who_leave_and_each_of_them_is_told_of_once(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(format="batch")], limits=LIMITS))
    observer = await connect(gateway)
    await observer.join(HALL, "observer")
    watchers = await Crowd.gather(gateway.port, HALL, WATCHERS)
    crowd = await Crowd.gather(gateway.port, HALL, USERS)
    # They only have to join, so that many of them do while the crowd leaves.
    quick = [await connect(gateway) for _ in range(20)]
    await observer.settle()
    waits: list[float] = []
    left: list[int] = []
    with Machine(gateway.pid) as machine:
        crowd.vanish()
        for number, client in enumerate(quick):
            left.append(await here(client, f"new-quick-{number}"))
            if number % 4 == 1:
                took_s, count = await newcomer(gateway, machine, number)
                waits.append(took_s)
                left.append(count)
    assert max(waits) < 1.0
    # They do come in between. That departures are worked off in slices is for the tests of `Sweep` to say: a crowd leaves within
    # so few round trips of one who joins that their number proves nothing.
    assert any(0 < count < len(USERS) for count in left), left
    await receiver.wait_until(lambda: len(told(receiver, "channel.member_removed")) == len(USERS), "everybody's departure")
    removed = [frame for frame in await observer.settle() if frame["event"] == "pusher_internal:member_removed"]
    gone = Counter(json.loads(frame["data"])["user_id"] for frame in removed)
    assert {user: count for user, count in gone.items() if not user.startswith("new-")} == Counter(USERS)
    watchers.vanish()
    await observer.close()
    assert await gateway.stop() == 0
    assert told(receiver, "channel.member_removed") == told(receiver, "channel.member_added") == Counter(USERS)
    receiver.check_ledger()


async def test_who_comes_back_in_time_has_not_been_away(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(format="batch")], limits=LIMITS, linger="1h"))
    crowd = await Crowd.gather(gateway.port, HALL, FEW)
    crowd.vanish()
    again = await Crowd.gather(gateway.port, HALL, FEW)
    await receiver.wait_for("connection.closed", count=len(FEW))
    # What is told of a channel is told in order: had somebody been away, it would have come before this.
    # It hears of everybody who goes, and would not read its own farewell behind all that it has not asked for.
    last = await connect(gateway, max_queue=None)
    await last.join(HALL, "last")
    await receiver.one("channel.member_added", user_id="last")
    kinds = Counter(event.kind for event in receiver.of() if event.data.get("channel") == HALL)
    assert kinds["channel.subscribed"] == 2 * len(FEW) + 1
    assert (kinds["channel.occupied"], kinds["channel.vacated"], kinds["channel.member_removed"]) == (1, 0, 0)
    assert told(receiver, "channel.member_added") == Counter(FEW)
    again.vanish()
    await last.close()
    await receiver.wait_for("connection.closed", count=2 * len(FEW) + 1)
    assert told(receiver, "channel.member_removed") == Counter()
    # The outbox is in memory: with its end everything counts.
    assert await gateway.stop() == 0
    assert told(receiver, "channel.member_removed") == Counter(FEW)
    receiver.check_ledger()
