"""A process that is killed while it writes, again and again: nothing durable is lost, nothing is half."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.device.outbox_store import rows

CHILD = """
import asyncio, sys
from pathlib import Path
from gateway.core.delivery import Delivery, Settlement, State
from gateway.core.lifecycle import LifecycleEvent, Span, SpanClosed, SpanOpened
from gateway.outbox.sqlite import SqliteOutbox
from gateway.ports import Commit

def say(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()

async def main():
    outbox = SqliteOutbox(path=Path(sys.argv[1]), synchronous="normal", max_size=1 << 30, retention_s=1e9, epoch_ms=lambda: 0)
    recovery = await outbox.open()
    say(f"opened {recovery.sequences.get('1001/backend', 0)}")
    number = recovery.sequences.get("1001/backend", 0)

    async def append(n):
        event = LifecycleEvent(f"evt_{n}", "client_event", "1001", n, f"1001/channel/{n % 7}", {"n": n}, str(n % 7))
        spans = [SpanOpened(Span("1001", "connection", f"1.{n}", f"spn_{n}", n))]
        if n > 3:
            spans.append(SpanClosed("1001", "connection", f"1.{n - 3}"))
        await outbox.append(Commit((event, *spans), (Delivery("1001/backend", n, n % 4, f"evt_{n}", "k", n, b"%d" % n),)))
        say(f"durable {n}")

    async def drain(lane):
        while True:
            claim = await outbox.claim("1001/backend", lane, 5)
            if claim is None:
                await asyncio.sleep(0)
                continue
            first, last = claim.deliveries[0], claim.deliveries[-1]
            await outbox.settle(Settlement(
                "1001/backend", lane, "req", first.sequence, last.sequence, len(claim.deliveries), 1, 1, 1,
                State.DELIVERED, None))
            say(f"settled {lane} {last.sequence}")

    tasks = [asyncio.create_task(drain(lane)) for lane in (1, 2)]
    while True:
        await asyncio.gather(*(append(number + n) for n in range(1, 21)))
        number += 20

asyncio.run(main())
"""


def _killed(path: Path, after_s: float) -> list[str]:
    """Let a child work on the store, kill it, and return what it had said."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert child.stdout is not None
    with child:
        said = [child.stdout.readline().strip()]
        assert said[0].startswith("opened "), said
        timer = threading.Timer(after_s, child.send_signal, [signal.SIGKILL])
        timer.start()
        said += [line.strip() for line in child.stdout if line.endswith("\n")]
        timer.join()
    assert child.returncode == -signal.SIGKILL
    return said


def test_what_was_durable_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    chance = random.Random(20)
    durable = 0
    settled_to = {1: 0, 2: 0}
    rounds = 0
    while rounds < 8 or (not durable and rounds < 100):
        rounds += 1
        for line in _killed(path, chance.uniform(0.0, 0.4)):
            word, *numbers = line.split()
            if word == "durable":
                durable = max(durable, int(numbers[0]))
            elif word == "settled":
                settled_to[int(numbers[0])] = int(numbers[1])
            else:
                assert int(numbers[0]) >= durable  # no sequence is given twice
        events = [at_ms for (at_ms,) in rows(path, "SELECT at_ms FROM event ORDER BY no")]
        count = len(events)
        assert events == list(range(1, count + 1))
        assert count >= durable
        # whole commits only: the delivery, the sequence and the spans of exactly these events
        assert rows(path, "SELECT sequence FROM endpoint") == ([(count,)] if count else [])
        open_spans = {key for (key,) in rows(path, "SELECT key FROM span")}
        assert open_spans == {f'["1.{n}"]' for n in range(max(1, count - 2), count + 1)}
        cursors = dict(rows(path, "SELECT lane, cursor FROM lane"))
        for lane in range(4) if count >= 4 else ():
            assert cursors[lane] >= settled_to.get(lane, 0)
            waiting = rows(
                path,
                "SELECT key & 0xFFFFFFFFFF, envelope FROM delivery JOIN lane ON key >> 40 = lane.id "
                "WHERE key & 0xFFFFFFFFFF > cursor AND lane.lane = ? ORDER BY key",
                lane,
            )
            expected = [n for n in range(1, count + 1) if n % 4 == lane and n > cursors[lane]]
            assert waiting == [(n, b"%d" % n) for n in expected]
            assert rows(path, "SELECT depth FROM lane WHERE lane = ?", lane) == [(len(expected),)]
    assert durable > 0
