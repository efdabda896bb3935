"""The benchmarks in their smallest form: each measures something and says it in a line, or refuses."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
    pytest.skip("server and load need a core each, on Linux", allow_module_level=True)

from bench import (
    backlog,
    client_event,
    connect,
    contest,
    fanout,
    inside,
    liveness,
    memory,
    neighbour,
    peer,
    pinger,
    publish,
    stock,
    stop,
    storm,
    traffic,
    watched,
    webhook,
)
from bench import (
    churn as churning,
)
from bench.load import Round, arriving, churn, crowd
from bench.machine import describe
from bench.probe import probe, probed_bodies
from bench.receiver import Receiver
from bench.report import Result, answer, beside, collected, compare, saturated, summarize
from bench.server import Server, floor, gateway

#: reasons to refuse an answer that there may well be on a machine that is busy with tests
BUSY = ("the load was the limit", "the pinger itself was late")

SHORT = ["--rounds", "1", "--seconds", "0.2"]
ROUND = Round(10, 10, 0, 1.0, 0.5, 100, 200, 300, 0.9)
RESULT = Result(per_s=10.0, cpu_us=5.0, p50_us=1.0, p99_us=2.0, server_share=0.95, load_share=0.5, done=10)

Main = Callable[[Sequence[str]], int]


@pytest.mark.parametrize(
    ("main", "arguments", "begin"),
    [
        (fanout.main, ["--subscribers", "20", *SHORT], "fan-out to 20 subscribers"),
        (fanout.main, ["--subscribers", "20", "--rate", "500", *SHORT], "fan-out to 20 subscribers"),
        (publish.main, ["--channels", "10", "--connections", "4", *SHORT], "signed publishes"),
        (connect.main, ["--at-once", "8", "--channels", "5", *SHORT], "connect, subscribe and close"),
        (client_event.main, ["--receivers", "4", "--window", "2", *SHORT], "client events to 4 receivers, 2 in flight"),
        (memory.main, ["--connections", "1000", "--channels", "20"], "1000 idle connections"),
        (backlog.main, ["--events", "20000"], "a backlog of 20,000 events"),
    ],
)
def test_a_benchmark_answers_in_one_line_with_a_ratio_and_the_machine(
    main: Main, arguments: list[str], begin: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code = main(arguments)
    said = capfd.readouterr()
    if any(reason in said.err for reason in BUSY):
        assert code == 1
        return
    assert code == 0, said.err
    (line,) = said.out.splitlines()
    assert line.startswith(begin)
    assert " x the floor's " in line
    assert line.partition(" | ")[2].rpartition(",")[0] == describe().rpartition(",")[0]


def test_the_wait_of_a_ping_beside_a_storm_is_told_beside_the_floor(capfd: pytest.CaptureFixture[str]) -> None:
    code = storm.main(["--at-once", "50", "--seconds", "0.5"])
    said = capfd.readouterr()
    if any(reason in said.err for reason in BUSY):
        assert code == 1
        return
    assert code == 0, said.err
    (line,) = said.out.splitlines()
    assert line.startswith("a ping beside 50 clients that connect at once, ")
    assert "; the floor, " in line
    assert line.partition(" | ")[2].rpartition(",")[0] == describe().rpartition(",")[0]


def test_webhooks_are_answered_for_rate_latency_idle_and_busy_and_burden(capfd: pytest.CaptureFixture[str]) -> None:
    code = webhook.main(["--outboxes", "disk", "--formats", "batch", "--samples", "20", "--subscribers", "5", *SHORT])
    said = capfd.readouterr()
    assert code == 0 or "the load was the limit" in said.err or "kept only a pace" in said.err
    kinds = ("webhooks, format batch", "webhook after a publish on", "webhook after a publish beside", "publish to 5 subscribers")
    assert all(line.startswith(kinds) for line in said.out.splitlines())
    assert len(said.out.splitlines()) + len(said.err.splitlines()) == 4


def test_a_neighbour_that_refuses_or_hangs_is_told_beside_a_healthy_one(capfd: pytest.CaptureFixture[str]) -> None:
    assert neighbour.main(["--rate", "200", "--rounds", "1", "--samples", "20"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(",")[0].rpartition("neighbour ")[2] for line in lines] == ["refuses", "hangs", "is healthy too"]
    assert all(" x the time without the neighbour " in line for line in lines)
    assert [" x the time beside a neighbour that is healthy" in line for line in lines] == [True, True, False]


def test_the_longest_wait_of_a_ping_is_told_beside_idle_and_floor(capfd: pytest.CaptureFixture[str]) -> None:
    code = webhook.main(["--stall", "--outboxes", "memory", "--formats", "batch", "--seconds", "0.3"])
    said = capfd.readouterr()
    assert code == 0 or "the pinger itself was late" in said.err
    assert code == 1 or said.out.startswith("a ping beside ")


def test_stops_of_the_loop_are_told_with_webhooks_and_without(capfd: pytest.CaptureFixture[str]) -> None:
    with collected() as answers:
        assert stop.main(["--seconds", "0.5"]) == 0
    (told,) = answers
    assert told.figures["events_per_s"] > 0
    assert 0 <= told.figures["stopped_p999_ms"] <= told.figures["stopped_max_ms"] < 500
    assert told.figures["turn_max_ms"] > 0


def test_a_thread_that_keeps_the_interpreter_is_seen_as_a_stop_and_work_of_the_loop_is_not(
    capfd: pytest.CaptureFixture[str],
) -> None:
    size = 4_000_000

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        watched._Watch(loop, 0.5)
        await asyncio.sleep(0)
        # `sorted` on numbers never gives the interpreter up.
        numbers = [-number for number in range(size // 20)]
        if is_thread:
            await asyncio.to_thread(lambda: sorted(numbers * 20))
        else:
            sorted(numbers * 20)
        await asyncio.sleep(0.6)

    worst = {}
    for is_thread in (False, True):
        asyncio.run(watch())
        said = json.loads(capfd.readouterr().out)
        worst[is_thread] = (said["stopped"]["max_us"], said["turn"]["max_us"])
    assert worst[True][0] > 10_000 > worst[False][0]
    assert worst[False][1] > 10_000


def test_a_ping_of_the_gateway_has_its_pong_and_is_counted() -> None:
    with (
        gateway(server={"activity_timeout": "1s", "pong_timeout": "1s"}) as server,
        crowd(server, traffic.subscribers(3, 1), [traffic.publish(traffic.channel(0))], 0) as load,
    ):
        one = load.run(4.5)
    assert one.published >= 6


@pytest.mark.parametrize(
    ("connections", "most", "held"), [(50_000, 19_400, [16_667, 16_667, 16_666]), (50_000, 50_000, [50_000]), (3, 2, [2, 1])]
)
def test_connections_are_held_by_as_few_gateways_as_can_be(connections: int, most: int, held: list[int]) -> None:
    assert liveness.shares(connections, most) == held


@pytest.mark.parametrize(("descriptors", "by"), [(1000, "one gateway"), (liveness.SPARE + 15, "2 gateways")])
def test_idle_connections_are_held_and_their_liveness_told(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, descriptors: int, by: str
) -> None:
    monkeypatch.setattr(liveness, "raise_files", lambda: descriptors)
    with collected() as answers:
        assert liveness.main("--connections 30 --silence 1 --seconds 4 --rounds 1".split()) == 0
    figures = answers[0].figures
    assert (figures["connections"], figures["processes"]) == (30, int(by != "one gateway") + 1)
    assert figures["pings_per_s"] == pytest.approx(30 / 1.5, rel=0.4)
    # Of so few the pings are less than what the idle gateway's own time varies by, so they may seem to cost nothing.
    by_default = figures["idle_share_percent"] + figures["ping_us"] / 1e4 * 30 / liveness.DEFAULT_S
    assert figures["share_percent"] == pytest.approx(by_default)
    assert by_default > 0
    assert capfd.readouterr().out.startswith(f"30 idle connections held by {by} (")


def test_there_is_no_answer_where_pings_were_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "DUE_PART", 1000)
    with pytest.raises(SystemExit, match=r"no answer: .* pings a second were answered, where 10 are due"):
        liveness.main("--connections 20 --silence 1 --seconds 0.5 --rounds 1".split())


def test_subscribers_arrive_at_the_pace_they_were_given() -> None:
    with floor() as server:
        start = time.monotonic()
        with arriving(server, traffic.subscribers(21, 1), 20) as load:
            load.wait_until_ready()
            assert time.monotonic() - start > 1.0
            load.begin(0.2)
            assert load.finish().published == 0


def test_a_stock_is_written_once_and_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled: list[int] = []

    async def fill(path: Path, count: int) -> float:
        filled.append(count)
        path.write_text(str(count))  # noqa: ASYNC240 -- nobody else is on this loop
        return 5.0

    monkeypatch.setattr(stock, "_fill", fill)
    stock._kept.cache_clear()
    assert [stock.stock(tmp_path / name, count) for name, count in (("one", 7), ("two", 7), ("three", 8))] == [5.0] * 3
    assert filled == [7, 8]
    assert [(tmp_path / name / "outbox.sqlite").read_text() for name in ("one", "two", "three")] == ["7", "7", "8"]
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700
    stock._kept.cache_clear()


def test_connections_in_process_answer_their_pings() -> None:
    async def live() -> tuple[int, int]:
        house = inside.House()
        for _ in range(300):
            house.connect("room")
        for _ in range(130):
            await house.beat()
        first = house.pings
        for _ in range(120):
            await house.beat()
        return first, house.pings

    assert asyncio.run(live()) == (300, 600)


@pytest.mark.parametrize("without_compiler", [False, True])
def test_every_ping_has_its_pong(without_compiler: bool) -> None:
    with floor(in_python=without_compiler) as server, closing(pinger.connect(server.port)) as line:
        waits, lates = pinger.ping(line, 0.1)
    assert len(waits) == len(lates) == 100
    assert min(waits) > 0
    assert min(lates) >= 0


def test_a_publisher_that_was_cut_off_between_two_rounds_calls_again() -> None:
    async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while not reader.at_eof() and await reader.read(1000):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async def cut_off() -> None:
        for each in writers:
            each.close()
            await each.wait_closed()

    def load_it(port: int, loop: asyncio.AbstractEventLoop) -> list[Round]:
        with crowd(Server("idle", os.getpid(), port), [], [b"POST / HTTP/1.1\r\n\r\n"], 2) as load:
            first = load.run(0.1)
            asyncio.run_coroutine_threadsafe(cut_off(), loop).result()
            return [first, load.run(0.1)]

    async def serve() -> list[Round]:
        server = await asyncio.start_server(answer_all, "127.0.0.1", 0)
        async with server:
            loop = asyncio.get_running_loop()
            return await asyncio.to_thread(load_it, server.sockets[0].getsockname()[1], loop)

    writers: list[asyncio.StreamWriter] = []
    assert all(one.published > 0 for one in asyncio.run(serve()))
    assert len(writers) == 4


def test_memory_over_many_connects_is_told_for_each_of_them(capfd: pytest.CaptureFixture[str]) -> None:
    with collected() as answers:
        assert churning.main(["--connects", "200", "--seconds", "20"]) == 0
    assert answers[0].figures["connects"] >= 200
    assert "bytes for each that came between" in capfd.readouterr().out


def test_a_crowd_may_hold_several_channels_on_each_connection() -> None:
    names = [traffic.channel(number) for number in range(6)]
    scripts = [
        piece for first in (0, 3) for piece in (traffic.hello(), b"".join(map(traffic.subscription, names[first : first + 3])))
    ]
    with gateway() as server, crowd(server, scripts, [traffic.publish(name) for name in names], 2) as load:
        one = load.run(0.2)
    assert one.delivered == one.published > 0


def test_a_refused_client_event_gives_no_answer(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_event, "_UNLIMITED", {"client_events": 1})
    with pytest.raises(SystemExit, match="broke off"):
        client_event.main(["--receivers", "2", "--window", "1", *SHORT])
    assert "a client event was refused" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["soketi", "uWebSockets.js", "ws", "Socket.IO", "websockets", "nchan"])
def test_a_peer_that_is_installed_delivers_every_message_to_every_subscriber(name: str) -> None:
    (found,) = [each for each in peer.peers() if each.name == name] or [None]
    if found is None:
        # Nobody needs peers; what is not there has its reason told.
        assert peer.absent()[name]
        return
    with found.run() as server:
        with crowd(server, found.scripts(6, 2), found.requests(2), 2) as load:
            one = load.run(0.2)
        with churn(server, found.scripts(2, 2), 2) as load:
            lives = load.run(0.2)
    assert one.delivered == one.published * 3 > 0
    assert one.refused == 0
    assert lives.published > 0


def test_other_servers_are_told_beside_the_gateway_and_one_that_fails_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (sound,) = [each for each in peer.peers() if each.name == "websockets"]
    broken = replace(sound, name="broken", run=peer._told("broken", [sys.executable, "-c", "print('no port')"], Path.cwd()))
    monkeypatch.setattr(contest, "peers", lambda: [broken, sound])
    fanout.main(["--subscribers", "4", "--peers", *SHORT])
    said = capfd.readouterr()
    assert "broken is left out: the broken did not start" in said.err
    if said.out:
        assert " x the CPU of websockets" in said.out
        assert "; broken is left out: the broken did not start" in said.out
    monkeypatch.setattr(contest, "peers", lambda: [broken])
    assert memory.main(["--connections", "2000", "--peers"]) == 0
    assert "; broken is left out: the broken did not start" in capfd.readouterr().out


def test_a_server_that_closes_after_each_answer_is_connected_to_again() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(10_000):
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    def load_it(port: int) -> Round:
        with crowd(Server("closing", os.getpid(), port), [], [traffic.publish(traffic.channel(0))], 2) as load:
            return load.run(0.2)

    async def serve() -> Round:
        server = await asyncio.start_server(close, "127.0.0.1", 0)
        async with server:
            return await asyncio.to_thread(load_it, server.sockets[0].getsockname()[1])

    assert asyncio.run(serve()).published > 2


def test_a_peer_whose_load_was_the_limit_has_its_cpu_told_and_no_rate() -> None:
    assert "2.00 x the rate and 1.00 x the CPU of other" in beside("other", RESULT, replace(RESULT, per_s=5.0))
    said = beside("other", RESULT, replace(RESULT, load_share=0.99, server_share=0.5))
    assert "1.00 x the CPU of other" in said
    assert "x the rate" not in said


def test_a_probe_is_timed_and_told_from_the_load_beside_it() -> None:
    requests = [traffic.publish(traffic.channel(0))]
    with (
        Receiver() as receiver,
        gateway(webhooks=[receiver.webhook(events=["message.published"])]) as server,
        crowd(server, [], requests, 2) as load,
    ):
        delays, one = probe(receiver, load, 1, 50, 40, 100)
        assert len(probed_bodies(receiver)) == 40
    assert len(delays) == 40
    assert min(delays) > 0
    assert receiver.events == 40 + one.published


def test_without_a_compiler_load_and_floor_are_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    scripts = traffic.subscribers(6, 2)
    requests = [traffic.publish(traffic.channel(number)) for number in range(2)]
    with gateway() as server:
        with crowd(server, scripts, requests, 3) as load:
            one = load.run(0.2)
            paced = load.run(0.3, 20)
        with churn(server, scripts, 2) as load:
            lives = load.run(0.2)
    assert one.published >= 3
    assert one.delivered == one.published * 3
    assert one.refused == 0
    assert 0 < one.p50_us <= one.p99_us <= one.slowest_us
    assert 3 <= paced.published <= 9
    assert lives.published >= 2
    with floor() as server, crowd(server, traffic.subscribers(5, 1), requests[:1], 2) as load:
        one = load.run(0.2)
    assert one.delivered == one.published * 5 > 0


def test_the_load_counts_every_delivery_and_keeps_a_pace() -> None:
    with floor() as server, crowd(server, traffic.subscribers(50, 1), [traffic.publish(traffic.channel(0))], 4) as load:
        one = load.run(0.2)
        paced = load.run(0.5, 100)
    assert one.delivered == one.published * 50 > 0
    assert paced.published == 50
    assert 0 < one.p50_us <= one.p99_us <= one.slowest_us


def test_a_refused_publish_is_counted_and_gives_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    forged = traffic.publish(traffic.channel(0)).replace(b"auth_signature=", b"auth_signature=0")
    with gateway() as server, crowd(server, traffic.subscribers(1, 1), [forged], 1) as load:
        one = load.run(0.1)
    assert one.refused == one.published > 0
    assert one.delivered == 0
    assert "401" in capfd.readouterr().err
    with pytest.raises(SystemExit, match="refused"):
        summarize([one], lambda one: one.published)


def test_a_load_that_is_turned_away_gives_no_answer() -> None:
    script = [piece.replace(traffic.KEY.encode(), b"nobody") for piece in traffic.subscribers(1, 1)]
    with gateway() as server, pytest.raises(SystemExit, match="broke off"), crowd(server, script, [], 0):
        pass


@pytest.mark.parametrize("nothing", [replace(ROUND, delivered=0), replace(ROUND, server_cpu_s=0.0)])
def test_a_round_that_measured_nothing_gives_no_answer(nothing: Round) -> None:
    with pytest.raises(SystemExit, match="measured nothing"):
        summarize([ROUND, nothing], lambda one: one.delivered)


def test_the_medians_of_the_rounds_are_told() -> None:
    rounds = [replace(ROUND, delivered=count) for count in (10, 1000, 20)]
    result = summarize(rounds, lambda one: one.delivered)
    assert (result.per_s, result.done) == (20, 1030)
    assert result.cpu_us == pytest.approx(45_000)


def test_an_answer_is_refused_if_the_load_was_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer("it is so", RESULT, RESULT) == 0
    assert capsys.readouterr().out == f"it is so | {describe()}\n"
    assert answer("it is so", replace(RESULT, load_share=0.99, server_share=0.8), RESULT) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("no answer: the load was the limit")
    assert answer("it is so", replace(RESULT, load_share=0.6, server_share=0.5), RESULT) == 1
    # The floor's limit is said in the line, and leaves the ratio of the CPU times as it is.
    assert answer("it is so", RESULT, replace(RESULT, load_share=0.99, server_share=0.5)) == 0
    assert "could do more" in compare("things", "thing", RESULT, replace(RESULT, server_share=0.5), "floor")
    # With both full nobody can say that the server could have done more.
    assert answer("it is so", RESULT, replace(RESULT, load_share=0.99)) == 0


def test_answers_are_collected_with_their_figures_and_their_refusals() -> None:
    with collected() as answers:
        answer("it is so", RESULT, RESULT, peers={"other": RESULT}, figures={"sizes": 3.0})
        answer("it is not", replace(RESULT, load_share=0.99, server_share=0.8))
    answer("nobody listens", RESULT)
    told, refused = answers
    assert list(told.results) == ["gateway", "floor", "other"]
    assert told.figures == {"sizes": 3.0}
    assert refused.is_refused
    assert not told.is_refused
    assert refused.sentence.startswith("the load was the limit")


def test_it_is_said_whose_core_was_full() -> None:
    assert saturated(RESULT) == "server"
    assert saturated(replace(RESULT, load_share=0.99)) == "server and load"
    assert saturated(replace(RESULT, server_share=0.5)) == "neither"


def test_the_receiver_counts_events_not_requests() -> None:
    receiver = Receiver()
    receiver.take(b'{"events":[{"metadata":{"sequence":1}},{"metadata":{"sequence":2}}]}')
    assert receiver.events == 2
    assert receiver.wait(2, 0)
    assert not receiver.wait(3, 0)


def test_a_receiver_may_keep_the_first_bodies_only() -> None:
    receiver = Receiver(keep=1)
    for number in range(3):
        receiver.take(b'{"sequence":%d}' % number)
    assert receiver.bodies == [b'{"sequence":0}']
    assert (receiver.events, len(receiver.came_at)) == (3, 3)


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    records = [b"", b"\x00" * 300, b"x"]
    assert traffic.read(traffic.write(tmp_path / "records", records)) == records
