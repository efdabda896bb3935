"""What a machine that has other things to do keeps from a test and its gateway, so that it is not held against the gateway."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

_BEAT_S = 0.02
#: so late the watch itself may be for what the test does
_USUAL_S = 0.05


class Machine:
    """Watches this process and the main thread of another, or of itself, while inside `with`, or from `begin` to `end`."""

    def __init__(self, pid: int) -> None:
        self._statistics = Path(f"/proc/{pid}/schedstat")
        self._overslept_s = 0.0
        self._ended = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)

    def begin(self) -> None:
        self._watching.start()

    def end(self) -> None:
        self._ended.set()
        self._watching.join()

    def __enter__(self) -> Machine:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def time(self) -> float:
        """Return seconds as a clock would show them that stands still while one of the two could run and did not."""
        # Of the second number Linux says: nanoseconds spent waiting for a processor.
        queued_s = int(self._statistics.read_text().split()[1]) / 1e9 if self._statistics.exists() else 0.0
        return time.monotonic() - self._overslept_s - queued_s

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(_BEAT_S):
            now = time.monotonic()
            late_s = now - before - _BEAT_S
            if late_s > _USUAL_S:
                self._overslept_s += late_s
            before = now
