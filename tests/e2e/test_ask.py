"""What a receiver and an operator may ask: feed, snapshot, why, replay, test; over HTTP and from the command line."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from typing import Any

from tests.e2e import ledger
from tests.e2e.client import Backend, Client
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import ROOT, GatewayProcess, app, free_port
from tests.e2e.receiver import Answer, Receiver
from tests.patience import LONG_S

DISK = {"mode": "disk"}
#: two attempts, then a dead letter
SHORT = {"initial": "10ms", "max_delay": "20ms", "max_attempts": 2}


async def post(backend: Backend, path: str, body: object) -> Any:
    status, answer, _ = await backend.call("POST", f"/webhooks/{path}", json.dumps(body).encode())
    assert status == 200, answer
    return answer


async def feed(backend: Backend, **query: Any) -> tuple[list[dict[str, Any]], int]:
    """Read the whole feed, page by page."""
    events: list[dict[str, Any]] = []
    after = 0
    while True:
        page = await backend.get("/webhooks/events", after=after, limit=7, **query)
        if not page["events"]:
            return events, page["cursor"]
        assert page["cursor"] > after
        events += page["events"]
        after = page["cursor"]


async def rawpush(gateway: GatewayProcess, *arguments: str) -> tuple[int, str, str]:
    """Run the command against the gateway; return exit code, standard output and standard error."""
    process = await begin(gateway, *arguments)
    out, err = await asyncio.wait_for(process.communicate(), LONG_S)
    assert process.returncode is not None
    assert b"Traceback" not in err, err.decode()
    return process.returncode, out.decode(), err.decode()


async def begin(gateway: GatewayProcess, *arguments: str) -> asyncio.subprocess.Process:
    verb = 2 if arguments[0] == "webhooks" else 1
    line = [*arguments[:verb], "-c", str(gateway.config), *arguments[verb:]]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", *line, cwd=ROOT, stdout=pipe, stderr=pipe)


def told(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in ("cursor", "metadata")}


# -- receivers


async def test_the_feed_is_what_the_receiver_got_also_after_a_restart(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    gateway = await start_gateway(outbox=DISK)
    async with Backend(gateway.port) as backend:
        for user in ("ada", "bob"):
            client = await connect(gateway)
            await client.join("presence-room", user)
            assert await backend.publish(["presence-room", "orders"], "created", '{"name":"Zoë"}') == 200
            await client.close()
        await receiver.wait_for("connection.closed", count=2)
    assert await gateway.stop() == 0
    again = await start_gateway(outbox=DISK)
    async with Backend(again.port) as backend:
        events, _ = await feed(backend)
        got = sorted(receiver.of(), key=lambda event: event.sequence)
        assert [told(event) for event in events] == [told(event.envelope) for event in got]
        only, _ = await feed(backend, event="message.*")
        assert [event["event"] for event in only] == ["message.published"] * 4


async def test_a_receiver_can_live_on_the_feed_alone(start_gateway: StartGateway, connect: Connect) -> None:
    gateway = await start_gateway(app(feed=["channel.*"]), outbox=DISK)
    async with Backend(gateway.port) as backend:
        client = await connect(gateway)
        await client.subscribe("orders")
        assert await backend.publish("orders", "created") == 200
        await client.close()
        seen: list[str] = []
        cursor = 0
        async with asyncio.timeout(LONG_S):
            while len(seen) < 4:
                page = await backend.get("/webhooks/events", after=cursor, wait=5)
                cursor = page["cursor"]
                seen += [event["event"] for event in page["events"]]
        assert seen == ["channel.occupied", "channel.subscribed", "channel.unsubscribed", "channel.vacated"]


async def test_a_snapshot_and_the_feed_after_it_are_the_present(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    gateway = await start_gateway(outbox=DISK)
    async with Backend(gateway.port) as backend:
        clients = [await connect(gateway) for _ in range(6)]
        for number, client in enumerate(clients):
            await client.join("presence-room", f"user-{number % 4}")
            await client.subscribe(f"room-{number}")
        await clients[0].close()
        snapshot = await backend.get("/webhooks/snapshot")
        await clients[1].close()
        await clients[2].unsubscribe("room-2")
        late = await connect(gateway)
        await late.join("presence-room", "late")
        await receiver.one("channel.member_added", user_id="late")
        # room-2 and the two rooms of those that have gone
        await receiver.wait_for("channel.vacated", count=3)
        await receiver.wait_for("connection.closed", count=2)
        page = await backend.get("/webhooks/events", after=snapshot["cursor"], limit=1000)
        spans = {one["span"] for kind in ("connections", "channels", "members") for one in snapshot[kind]}
        begin = ("connection.opened", "channel.occupied", "channel.member_added")
        for event in page["events"]:
            if "span" in event["data"]:
                (spans.add if event["event"] in begin else spans.remove)(event["data"]["span"])
        now = await backend.get("/webhooks/snapshot")
    assert spans == {one["span"] for kind in ("connections", "channels", "members") for one in now[kind]}
    assert {one["socket_id"] for one in now["connections"]} == {client.socket_id for client in [*clients[2:], late]}
    assert {one["channel"] for one in now["channels"]} == {"presence-room", "room-3", "room-4", "room-5"}
    assert {one["user_id"] for one in now["members"]} == {"user-0", "user-1", "user-2", "user-3", "late"}
    assert len(now["subscriptions"]) == 5 + 3


async def test_a_long_poll_wakes_at_once_and_shutdown_does_not_wait_for_it(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(outbox=DISK)
    loop = asyncio.get_running_loop()
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "first") == 200
        after = (await backend.get("/webhooks/events", after="latest"))["cursor"]
        delays = []
        for number in range(5):
            waiting = asyncio.create_task(backend.get("/webhooks/events", after=after, wait=50))
            # a request made after it, on the same loop of the gateway, so the first one waits by now
            await backend.get("/webhooks/snapshot")
            assert not waiting.done()
            began = loop.time()
            assert await backend.publish("orders", f"event-{number}") == 200
            page = await waiting
            delays.append(loop.time() - began)
            after = page["cursor"]
            assert [event["data"]["event"] for event in page["events"]] == [f"event-{number}"]
        assert min(delays) < 0.5
        waiting = asyncio.create_task(backend.get("/webhooks/events", after=after, wait=50))
        await backend.get("/webhooks/snapshot")
        began = loop.time()
        status = await gateway.stop()
        assert (await waiting)["events"] == []
        assert status == 0
        assert loop.time() - began < 25, "half of what it would have waited, and many times what it takes"


# -- why


async def test_why_names_the_filter_and_the_attempts(start_gateway: StartGateway, receiver: Receiver) -> None:
    endpoints = [
        receiver.endpoint(retry=SHORT),
        receiver.endpoint("rooms", channels=["room-*"]),
        receiver.endpoint("quiet", exclude_event_names=["cre*"]),
        receiver.endpoint("joins", events=["channel.*"]),
    ]
    gateway = await start_gateway(app(webhooks=endpoints), outbox=DISK)
    receiver.rules = [lambda hook: Answer(500, body="<script>no</script>\x1b[2J")]
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "created") == 200
        await receiver.wait_for_hooks(lambda hook: hook.attempt == 2)
        hook = receiver.hooks[0]
        async with asyncio.timeout(LONG_S):
            while (answer := await backend.get(f"/webhooks/events/{hook.id}"))["endpoints"][0]["deliveries"][0]["state"] == "due":
                pass
    found = {one["name"]: one for one in answer["endpoints"]}
    assert {name: one.get("left_out_by") for name, one in found.items()} == {
        "all": None,
        "rooms": "channels",
        "quiet": "exclude_event_names",
        "joins": "events",
    }
    (delivery,) = found["all"]["deliveries"]
    assert (delivery["state"], delivery["sequence"]) == ("dead", 1)
    assert [(one["attempt"], one["status"], one["state"]) for one in delivery["attempts"]] == [
        (1, 500, "due"),
        (2, 500, "dead"),
    ]
    assert delivery["attempts"][1]["reason"] == "max_attempts"
    code, out, _ = await rawpush(gateway, "webhooks", "why", hook.id)
    assert code == 0
    assert "rooms: left out by channels" in out
    code, out, _ = await rawpush(gateway, "webhooks", "deliveries", "all")
    assert code == 0
    assert "500 in" in out
    assert "\x1b" not in out


async def test_what_was_sent_is_told_as_it_was_received(start_gateway: StartGateway, receiver: Receiver) -> None:
    formats = ("batch", "event")
    endpoints = [receiver.endpoint(one, format=one, retry=SHORT, headers={"X-Token": "hidden-7"}) for one in formats]
    gateway = await start_gateway(app(webhooks=endpoints), outbox=DISK)
    receiver.rules = [lambda hook: Answer(500) if hook.attempt == 1 else None]
    client = await Client.connect(gateway.port)
    await client.join("presence-room", "u-1")
    async with Backend(gateway.port) as backend:
        for number in range(30):
            assert await backend.publish(f"room-{number % 5}", "created", "é" * number) == 200
        await client.close()
        for name in formats:  # the last thing that happens
            await receiver.one("connection.closed", endpoint=name)
        async with asyncio.timeout(LONG_S):
            while any(one["backlog"] for one in (await backend.get("/webhooks/endpoints"))["endpoints"]):
                pass  # each question takes a turn; nothing is announced when the last one is delivered
        for name in formats:
            log = (await backend.get(f"/webhooks/endpoints/{name}/deliveries", limit=1000))["deliveries"]
            received = {(hook.id, hook.attempt): hook for hook in receiver.hooks if hook.path == f"/{name}"}
            assert len(log) == len(received) >= 2
            for made in log:
                told = (await backend.get(f"/webhooks/endpoints/{name}/request", number=made["number"]))["request"]
                hook = received[made["request_id"], made["attempt"]]
                assert told["body"].encode() == hook.body
                headers = {key.lower(): value for key, value in told["headers"].items()}
                assert headers.pop("x-token") == "***"
                assert headers.items() <= hook.headers.items()
                assert hook.headers.keys() - headers.keys() <= {"host", "content-length", "accept", "accept-encoding", "x-token"}
        code, out, _ = await rawpush(gateway, "webhooks", "request", "event", "999999999")
        assert (code, out) == (1, "")
        first = (await backend.get("/webhooks/endpoints/event/deliveries", limit=1))["deliveries"][0]
        code, out, _ = await rawpush(gateway, "webhooks", "request", "event", str(first["number"]))
        assert code == 0
        assert out.startswith(f"POST http://127.0.0.1:{receiver.port}/event\n")
        assert f"X-Webhook-Id: {first['request_id']}\n" in out
        assert "hidden-7" not in out


# -- replay


async def test_dead_letters_are_all_there_after_a_replay(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(retry=SHORT)]), outbox=DISK)
    receiver.rules = [lambda hook: Answer(503)]
    async with Backend(gateway.port) as backend:
        clients = [await connect(gateway) for _ in range(3)]
        for number, client in enumerate(clients):
            await client.subscribe(f"room-{number}")
            assert await backend.publish(f"room-{number}", "created") == 200
            await client.close()
        async with asyncio.timeout(LONG_S):
            while (endpoint := (await backend.get("/webhooks/endpoints"))["endpoints"][0])["backlog"] or not receiver.hooks:
                pass  # each question takes a turn; nothing is announced when the last one is given up
        assert (endpoint["dead_letters"], endpoint["last"]["status"]) == (21, 503)
        sent = {hook.id: hook.body for hook in receiver.hooks}
        assert len(sent) == 21
        first_lives = len(receiver.hooks)
        receiver.rules.clear()
        answer = await post(backend, "endpoints/all/replay", {"dead_letters": "all"})
        assert answer == {"replayed": 21, "left_out": 0, "resume": None}
        await receiver.wait_until(lambda: len(receiver.of()) == 21, "21 events")
        replays = receiver.hooks[first_lives:]
        assert {hook.id: hook.body for hook in replays} == sent
        assert {hook.headers["x-webhook-replay"] for hook in replays} == {"true"}
        assert not any(hook.is_replay for hook in receiver.hooks[:first_lives])
        receiver.check_ledger()
        # and live ones go on as before
        assert await backend.publish("orders", "later") == 200
        await receiver.one("message.published", event="later")
        assert not receiver.hooks[-1].is_replay
        assert (await backend.get("/webhooks/endpoints"))["endpoints"][0]["dead_letters"] == 0
        receiver.check_ledger()


async def test_replays_do_not_hold_up_the_live_ones(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(concurrency=1, timeout="60s")]), outbox=DISK)
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "first") == 200
        await receiver.one("message.published", event="first")
        let_go = asyncio.Event()
        receiver.rules = [lambda hook: Answer(until=let_go) if hook.is_replay else None]
        async with asyncio.timeout(LONG_S):
            while (await post_or_refused(backend, receiver.hooks[0].id)) != 200:
                pass  # until its delivery is written down it is still due
        await receiver.wait_for_hooks(lambda hook: hook.is_replay)
        assert await backend.publish("orders", "second") == 200
        await receiver.one("message.published", event="second")
        let_go.set()


async def post_or_refused(backend: Backend, event_id: str) -> int:
    status, _, _ = await backend.call("POST", "/webhooks/endpoints/all/replay", json.dumps({"event_id": event_id}).encode())
    assert status in (200, 409)
    return status


async def test_two_thousand_replays_interrupted_and_resumed(start_gateway: StartGateway, receiver: Receiver) -> None:
    total = 2_000
    endpoint = receiver.endpoint(retry={**SHORT, "max_attempts": 1}, format="batch", batch_max=50, concurrency=1)
    gateway = await start_gateway(app(webhooks=[endpoint], limits={"batch": 1000}), outbox=DISK)
    receiver.rules = [lambda hook: Answer(500)]
    async with Backend(gateway.port) as backend:
        for start in range(0, total, 1000):
            batch = [{"name": "n", "channel": "orders", "data": str(start + number)} for number in range(1000)]
            status, _, _ = await backend.call("POST", "/batch_events", json.dumps({"batch": batch}).encode())
            assert status == 200
        async with asyncio.timeout(LONG_S):
            while (await backend.get("/webhooks/endpoints"))["endpoints"][0]["dead_letters"] < total:
                pass
        receiver.rules.clear()
        # So many steps that it is interrupted in the middle of them, however late that comes.
        process = await begin(gateway, "webhooks", "replay", "all", "--dead", "--step", "1", "--json")
        assert process.stdout is not None
        replayed = json.loads(await process.stdout.readline())["replayed"]
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), LONG_S)
        replayed += sum(json.loads(line)["replayed"] for line in out.splitlines())
        assert process.returncode == 1, err.decode()
        assert 0 < replayed < total
        said = err.decode().splitlines()
        assert f"interrupted after {replayed:,}; go on with:" in said
        command = said[said.index(f"interrupted after {replayed:,}; go on with:") + 1].split()
        mark = command[command.index("--resume") + 1]
        code, out_text, err_text = await rawpush(gateway, "webhooks", "replay", "all", "--dead", "--resume", mark)
        assert (code, err_text) == (0, "")
        assert out_text == f"{total - replayed:,} replayed: handed to the endpoint's replay lane\n"
        await receiver.wait_until(lambda: len(receiver.of()) == total, f"{total} events", LONG_S)
        assert (await backend.get("/webhooks/endpoints"))["endpoints"][0]["dead_letters"] == 0
    accepted = [envelope for hook in receiver.hooks if hook.is_replay for envelope in hook.envelopes]
    # each once, in order, none missing
    assert [envelope["data"]["data"] for envelope in accepted] == [str(number) for number in range(total)]
    assert ledger.check_delivery(accepted) == []


async def test_a_newcomer_is_told_the_past(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(outbox=DISK)
    async with Backend(gateway.port) as backend:
        for number in range(5):
            assert await backend.publish("orders", f"event-{number}") == 200
        await receiver.wait_for("message.published", count=5)
    assert await gateway.stop() == 0
    endpoints = [receiver.endpoint(), receiver.endpoint("newcomer", event_names=["event-[1-3]"])]
    again = await start_gateway(app(webhooks=endpoints), outbox=DISK)
    async with Backend(again.port) as backend:
        answer = await post(backend, "endpoints/newcomer/replay", {"after": 0})
        assert answer == {"replayed": 3, "left_out": 2, "resume": None}
        got = await receiver.wait_for("message.published", endpoint="newcomer", count=3)
    assert [event.data["event"] for event in got] == ["event-1", "event-2", "event-3"]
    assert [event.sequence for event in got] == [0, 0, 0]
    # the same ids as the old endpoint was told
    assert [event.envelope["id"] for event in got] == [event.envelope["id"] for event in receiver.of()[1:4]]


async def test_a_delivered_event_is_replayed_to_the_byte_after_a_restart(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    gateway = await start_gateway(outbox=DISK)
    client = await connect(gateway)
    await client.join("presence-room", "Zoë")
    await client.close()
    await receiver.one("connection.closed")
    assert await gateway.stop() == 0
    live = {hook.id: hook.body for hook in receiver.hooks}
    again = await start_gateway(outbox=DISK)
    async with Backend(again.port) as backend:
        answer = await post(backend, "endpoints/all/replay", {"from": 0, "to": "2100-01-01T00:00:00Z"})
        assert answer["replayed"] == len(live)
        await receiver.wait_for_hooks(lambda hook: hook.is_replay, len(live))
    assert {hook.id: hook.body for hook in receiver.hooks if hook.is_replay} == live


# -- test


async def test_the_test_button(start_gateway: StartGateway, receiver: Receiver) -> None:
    dead = {"name": "dead", "url": f"http://127.0.0.1:{free_port()}/?token=s3cret", "secrets": ["s"], "timeout": "2s"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = {**dead, "name": "mute", "url": f"http://127.0.0.1:{silent.getsockname()[1]}/", "timeout": "200ms"}
        endpoints = [receiver.endpoint(), receiver.endpoint("ill"), dead, mute]
        gateway = await start_gateway(app(webhooks=endpoints), outbox=DISK)
        receiver.rules = [lambda hook: Answer(500, body="no \x1b[31m" * 1000) if hook.path == "/ill" else Answer(body="fine")]
        async with Backend(gateway.port) as backend:
            well = await post(backend, "endpoints/all/test", {})
            ill = await post(backend, "endpoints/ill/test", {})
            gone = await post(backend, "endpoints/dead/test", {})
            slow = await post(backend, "endpoints/mute/test", {})
            assert (well["ok"], well["status"], well["body"]) == (True, 200, "fine")
            assert (ill["ok"], ill["status"], len(ill["body"])) == (False, 500, 4096)
            assert (gone["ok"], gone["stage"]) == (False, "connect")
            assert (slow["ok"], slow["stage"]) == (False, "timeout")
            assert "s3cret" not in json.dumps(gone)
            (hook, _) = receiver.hooks
            assert (hook.headers["x-webhook-event"], hook.id) == ("webhook.test", well["event_id"])
            assert hook.envelopes[0]["metadata"]["sequence"] == 0
            # nothing of it is kept, and nothing tried again
            assert (await backend.get("/webhooks/events"))["events"] == []
            states = {one["name"]: one for one in (await backend.get("/webhooks/endpoints"))["endpoints"]}
            assert {one["state"] for one in states.values()} == {"healthy"}
            assert len(receiver.hooks) == 2
        code, out, _ = await rawpush(gateway, "webhooks", "test", "all")
        assert (code, out.split(",")[0]) == (0, "all: ok")
        code, out, _ = await rawpush(gateway, "webhooks", "test", "ill")
        assert code == 1
        assert "500 in" in out
        assert "\x1b" not in out


async def test_an_endpoint_that_said_gone_can_be_enabled(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(outbox=DISK)
    receiver.rules = [lambda hook: Answer(410)]
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "first") == 200
        await gateway.wait_for_line(lambda line: "disabled" in line)
        (one,) = (await backend.get("/webhooks/endpoints"))["endpoints"]
        assert (one["state"], one["why"]) == ("disabled", "it answered 410")
        assert await backend.publish("orders", "second") == 200
        receiver.rules.clear()
        assert await post(backend, "endpoints/all/enable", {}) == {"name": "all", "state": "healthy"}
        await receiver.one("message.published", event="second")
        await post(backend, "endpoints/all/replay", {"dead_letters": "all"})
        await receiver.one("message.published", event="first")


# -- the command line


async def test_the_command_line_against_a_running_gateway(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(outbox=DISK)
    assert (await rawpush(gateway, "publish", "orders", "created", '{"id":17}'))[0] == 0
    event = await receiver.one("message.published")
    assert event.data["data"] == '{"id":17}'
    code, out, _ = await rawpush(gateway, "webhooks", "list")
    assert code == 0
    assert out.splitlines()[0].split()[:3] == ["NAME", "STATE", "BACKLOG"]
    assert out.splitlines()[1].split()[:2] == ["all", "healthy"]
    code, out, _ = await rawpush(gateway, "webhooks", "events", "--json")
    page = json.loads(out)
    assert (code, page["events"][0]["id"]) == (0, event.envelope["id"])
    code, out, _ = await rawpush(gateway, "webhooks", "snapshot")
    assert (code, out) == (0, f"cursor {page['cursor']}: 0 connections, 0 channels, 0 members, 0 subscriptions\n")
    code, out, err = await rawpush(gateway, "webhooks", "dead", "al")
    assert (code, out, err) == (1, "", 'rawpush: there is no endpoint "al"; did you mean "all"?\n')
    code, out, err = await rawpush(gateway, "webhooks", "replay", "all", "--event-id", "evt_0")
    assert (code, out) == (1, "")
    assert "not in the ledger" in err
    follow = await begin(gateway, "webhooks", "events", "--follow", "--after", "latest")
    assert follow.stdout is not None
    # nothing says when it has begun; publish until it tells of one
    line = asyncio.create_task(follow.stdout.readline())
    while not line.done():
        assert (await rawpush(gateway, "publish", "orders", "later"))[0] == 0
    assert b"message.published" in line.result()
    follow.send_signal(signal.SIGINT)
    _, err_bytes = await asyncio.wait_for(follow.communicate(), LONG_S)
    assert follow.returncode == 0
    assert b"go on with: --after " in err_bytes
