"""Lines of one turn go out together and in order; whatever is urgent, or has no turn, goes out at once."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from gateway.log import TurnHandler
from gateway.telemetry import JsonFormatter, Telemetry

Log = Callable[[int, str], None]


class Stream(io.StringIO):
    """Keeps the pieces in which it was written."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.is_broken = False

    def write(self, text: str) -> int:
        if self.is_broken:
            raise BrokenPipeError("nobody reads this")
        self.pieces.append(text)
        return len(text)


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def log(stream: Stream) -> Iterator[Log]:
    logger, handler = logging.getLogger("rawpush.test.log"), TurnHandler(stream)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield logger.log
    logger.removeHandler(handler)
    handler.close()


async def test_the_lines_of_a_turn_are_one_write(log: Log, stream: Stream) -> None:
    for word in ("one", "two", "three"):
        log(logging.INFO, word)
    assert stream.pieces == []
    await asyncio.sleep(0)
    assert stream.pieces == ["one\ntwo\nthree\n"]
    log(logging.INFO, "four")
    await asyncio.sleep(0)
    assert stream.pieces[1:] == ["four\n"]


async def test_what_is_urgent_goes_out_at_once_behind_what_was_said_before(log: Log, stream: Stream) -> None:
    log(logging.INFO, "before")
    log(logging.WARNING, "urgent")
    assert stream.pieces == ["before\nurgent\n"]
    log(logging.INFO, "after")
    await asyncio.sleep(0)
    assert stream.pieces == ["before\nurgent\n", "after\n"]


async def test_a_turn_that_says_a_lot_is_not_kept_whole(log: Log, stream: Stream) -> None:
    log(logging.INFO, "x" * 40_000)
    log(logging.INFO, "y" * 40_000)
    assert len(stream.pieces) == 1
    await asyncio.sleep(0)
    assert len(stream.pieces) == 1


def test_without_a_loop_each_line_goes_out_at_once(log: Log, stream: Stream) -> None:
    log(logging.INFO, "one")
    log(logging.INFO, "two")
    assert stream.pieces == ["one\n", "two\n"]


async def test_another_thread_keeps_its_place(log: Log, stream: Stream) -> None:
    def elsewhere(word: str) -> None:
        thread = threading.Thread(target=log, args=(logging.INFO, word))
        thread.start()
        thread.join()

    elsewhere("first")
    assert stream.pieces == ["first\n"]
    log(logging.INFO, "second")
    elsewhere("third")
    log(logging.INFO, "fourth")
    await asyncio.sleep(0)
    assert stream.pieces == ["first\n", "second\nthird\nfourth\n"]


def test_at_the_end_nothing_is_left(log: Log, stream: Stream) -> None:
    async def last_words() -> None:
        log(logging.INFO, "goodbye")

    loop = asyncio.new_event_loop()
    loop.run_until_complete(last_words())
    loop.close()
    logging.shutdown()
    assert stream.pieces == ["goodbye\n"]


async def test_a_stream_that_breaks_stops_nobody(log: Log, stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    stream.is_broken = True
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    log(logging.INFO, "kept")
    await asyncio.sleep(0)
    log(logging.ERROR, "at once")
    assert faults == []
    assert capsys.readouterr().err.count("BrokenPipeError") >= 2
    stream.is_broken = False
    log(logging.ERROR, "again")
    assert stream.pieces == ["again\n"]


def test_a_record_is_what_the_library_would_make(caplog: pytest.LogCaptureFixture) -> None:
    """It is made in a shorter way; whoever handles it must not see the difference."""
    logger = logging.getLogger("rawpush.gateway")
    with caplog.at_level(logging.INFO, "rawpush"):
        Telemetry().note(logging.ERROR, "it happened", one=1, none=None)
        logger.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, "it happened", (), None, extra={"fields": {"one": 1}}))
    mine, theirs = caplog.records
    assert mine.__dict__.keys() == theirs.__dict__.keys()
    times = ("created", "msecs", "relativeCreated")
    assert {k: v for k, v in vars(mine).items() if k not in times} == {k: v for k, v in vars(theirs).items() if k not in times}
    for name in ("created", "relativeCreated"):
        assert abs(getattr(theirs, name) - getattr(mine, name)) < 1000
    assert 0 <= mine.msecs < 1000
    assert JsonFormatter().format(mine)[40:] == JsonFormatter().format(theirs)[40:]
