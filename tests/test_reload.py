"""Reading the file again: one at a time, the newest file wins, and what is wrong is told to who asked and in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from gateway.config import Config, ConfigError, Problem, Server
from gateway.core.error import RequestError
from gateway.reload import Reloader
from gateway.telemetry import Telemetry


class Gateway:
    """What a reload reaches: it keeps the ports it was handed, and can be held up."""

    def __init__(self) -> None:
        self.adopted: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.failure: Exception | None = None

    async def adopt(self, config: Config) -> list[str]:
        self.entered.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.adopted.append(config.server.port)
        return ["server"]


def reloader(gateway: Gateway, load: Callable[[], Config] | None) -> Reloader:
    return Reloader(load=load, adopt=gateway.adopt, telemetry=Telemetry())


def broken() -> Config:
    raise ConfigError([Problem("apps[0].lingr", "unknown setting", "c.toml", 5), Problem("apps", "is missing")])


async def test_what_is_in_force_is_answered() -> None:
    gateway = Gateway()
    answer = await reloader(gateway, lambda: Config(server=Server(port=5))).reload()
    assert answer == (200, {"reloaded": True, "apps": 0, "endpoints": 0, "at_next_start": ["server"]})
    assert gateway.adopted == [5]


async def test_a_broken_file_changes_nothing_and_every_mistake_is_told(caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway()
    with caplog.at_level(logging.ERROR):
        status, answer = await reloader(gateway, broken).reload()
    assert (status, gateway.adopted) == (422, [])
    assert answer == {
        "error": "the file has 2 mistakes; nothing was changed",
        "mistakes": [
            {"file": "c.toml", "line": 5, "place": "apps[0].lingr", "error": "unknown setting"},
            {"file": "", "line": None, "place": "apps", "error": "is missing"},
        ],
    }
    assert len(caplog.records) == 2


async def test_two_at_once_are_done_one_after_the_other_and_the_later_reads_later() -> None:
    gateway = Gateway()
    ports = iter((1, 2))
    both = reloader(gateway, lambda: Config(server=Server(port=next(ports))))
    gateway.gate.clear()
    first, second = asyncio.ensure_future(both.reload()), asyncio.ensure_future(both.reload())
    await gateway.entered.wait()
    await asyncio.sleep(0)
    assert list(ports) == [2], "the second one has read the file before the first one was done"
    ports = iter((2,))
    gateway.gate.set()
    await asyncio.gather(first, second)
    assert gateway.adopted == [1, 2]


async def test_without_a_file_there_is_nothing_to_read() -> None:
    with pytest.raises(RequestError, match="without a file") as caught:
        await reloader(Gateway(), None).reload()
    assert caught.value.status == 409


@pytest.mark.parametrize("failure", [RequestError(503, "not now"), OSError("no space"), RuntimeError("a mistake of ours")])
async def test_after_a_failure_the_next_signal_is_heard(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway()
    gateway.failure = failure
    hang_up = asyncio.Event()
    running = asyncio.create_task(reloader(gateway, Config).run(hang_up))
    for number in range(2):
        gateway.entered.clear()
        hang_up.set()
        await gateway.entered.wait()
        gateway.failure = None
        while len(gateway.adopted) < number:  # noqa: ASYNC110 -- it is not announced
            await asyncio.sleep(0)
    running.cancel()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
