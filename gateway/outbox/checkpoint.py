"""Copying the write-ahead log to its places in the file, beside the writer and not within its commits.

A checkpoint forces the disk twice, which may take a good part of a second. Done in a thread of its own it holds up nobody;
but under constant load there is always something behind it in the log, which therefore would never begin anew. So when it
has become long, the writer copies the little that came since, between two groups: that is `finish`.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from gateway.outbox.background import step_back
from gateway.telemetry import gateway_log

#: bytes given to the file between two checkpoints: about three times as much in the log
EVERY = 8 << 20
#: and between two that the writer has finished, should the thread lag behind
MOST = 8 * EVERY
#: pages of 4 KiB in the log from which on the writer lends a hand: 64 MiB
LONG = 16_000

_CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpointer:
    """Copies in a thread of its own whenever enough was written. All methods belong to the writer thread.

    It never opens the file by itself: were another one in its place by then, SQLite would take our log for that one's and
    cut it off. So the writer, which has just looked, attaches and detaches it together with its own connection.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._work = threading.Event()
        self._is_ending = False
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None
        self._copied_at = 0
        self._finished_at = 0
        self._is_long = False

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._live, name="outbox-checkpoint", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the checkpoint it may be at."""
        self._is_ending = True
        self._work.set()
        if self._thread is not None:
            self._thread.join()

    def attach(self) -> None:
        """Open the file, which the caller knows to be in its place. Raises sqlite3.Error."""
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0.0, check_same_thread=False)
        try:
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()  # opens the log too
        except sqlite3.Error:
            connection.close()
            raise
        with self._lock:
            self._connection = connection

    def detach(self) -> None:
        """Let go of the file, after the checkpoint that may be under way. Raises sqlite3.Error."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def written(self, total: int, *, is_idle: bool) -> None:
        """Be told how many bytes were written since the start; `is_idle`: nothing more is coming just now."""
        if self.is_long(total):
            return  # it is the writer's turn, and only one can be at it
        if total - self._copied_at >= EVERY or (is_idle and self.is_behind(total)):
            self._copied_at = total
            self._work.set()

    def is_behind(self, total: int) -> bool:
        """Tell whether something was written since the latest checkpoint began."""
        return total > self._copied_at

    def is_long(self, total: int) -> bool:
        """Tell whether the log is long, and but for its end copied."""
        return self._is_long or total - self._finished_at >= MOST

    def finish(self, connection: sqlite3.Connection, total: int) -> None:
        """Copy the rest of a long log with the writer's own connection, so that it begins anew. Raises sqlite3.Error."""
        is_busy, pages, copied = connection.execute(_CHECKPOINT).fetchone()
        if not is_busy and pages == copied:  # else the thread is still at it, or a reader somewhere in the log
            self._is_long = False
            self._copied_at = self._finished_at = total

    def _live(self) -> None:
        step_back()
        while True:
            self._work.wait()
            self._work.clear()
            if self._is_ending:
                return
            try:
                self._copy()
            except sqlite3.Error as error:
                # the writer meets the same trouble, and it is the one to tell
                gateway_log.debug("the log could not be checkpointed: %s", error)

    def _copy(self) -> None:
        with self._lock:
            if self._connection is not None:
                _, pages, _ = self._connection.execute(_CHECKPOINT).fetchone()
                if pages >= LONG:
                    # What came meanwhile, half a second's worth, would all have to be forced to the disk by the writer.
                    self._connection.execute(_CHECKPOINT).fetchone()
                    self._is_long = True
