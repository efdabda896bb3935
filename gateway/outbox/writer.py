"""The thread that writes: it takes all that is there, writes it in one transaction, and cleans up when nobody waits."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from gateway.core.delivery import Settlement, State
from gateway.outbox import store
from gateway.outbox.background import step_back
from gateway.outbox.books import Books
from gateway.outbox.checkpoint import Checkpointer
from gateway.outbox.history import CHUNK, HISTORY_SHARE, History
from gateway.outbox.query import QUERY
from gateway.ports import Commit, Recovery, Storage
from gateway.telemetry import gateway_log

#: seconds between trials whether a disk that failed is back
PROBE_S = 1.0
#: seconds between looks for what is too old
HOUSEKEEPING_S = 60.0
#: seconds between looks whether the file is still in its place
PRESENCE_S = 1.0
#: settled deliveries that may lie about while there is other work; a thousand deletions take about as long as a commit
LITTER = 1_000
#: seconds between looks how much of the file is in use, and the part of `max_size` that may be written in between
MEASURE_S = 0.1
MEASURE_SHARE = 0.01
#: seconds without work after which settled deliveries are deleted, however few: a transaction for each one would double their
#: number where they come singly
REST_S = 0.05
#: seconds without work after which the log is copied to its places
IDLE_S = 2.0

#: settlements in a tuple are written together or not at all
Payload = Commit | Settlement | tuple[Settlement, ...] | Callable[[sqlite3.Connection], object]


@dataclass(frozen=True, slots=True)
class Job:
    """Something to write and who waits for it; the result of a callable is its answer, that of the others None."""

    payload: Payload
    future: asyncio.Future[object]


class Writer:
    """Runs from `start` to `stop`, whatever the disk does in between."""

    def __init__(
        self,
        path: Path,
        *,
        synchronous: str,
        max_size: int,
        retention_s: float,
        busy_timeout_s: float,
        epoch_ms: Callable[[], int],
    ) -> None:
        self.books = Books()
        self.dead_letters_dropped: Counter[str] = Counter()
        self._path = path
        self._synchronous = synchronous
        self._max_size = max_size
        self._history = History(max_size, int(retention_s * 1000), self.dead_letters_dropped)
        self._checkpointer = Checkpointer(path)
        self._busy_timeout_s = busy_timeout_s
        self._epoch_ms = epoch_ms
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        #: what was given in this turn of the loop and can wait for its end
        self._gathered: list[Job] = []
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._present_until = 0.0
        self._housekeeping_at = 0.0
        self._measure_at = 0.0
        self._measured = 0
        self._used = 0
        self._failure: OSError | None = None

    # -- from the event loop

    async def start(self) -> Recovery:
        """Start the thread, open the store in it and return what was left behind. Raises store.StoreUnusable."""
        loop = asyncio.get_running_loop()
        recovered: asyncio.Future[Recovery] = loop.create_future()
        self._stopped: asyncio.Future[None] = loop.create_future()
        threading.Thread(target=self._live, args=(loop, recovered), name="outbox-writer", daemon=True).start()
        return await recovered

    async def write(self, payload: Payload) -> object:
        """Return when the payload is durable. Raises OSError if it cannot be written, and nothing of it was then."""
        return await self.submit(payload)

    def submit(self, payload: Payload) -> asyncio.Future[object]:
        """Do the same, for who does not wait here; payloads are written in the order of these calls."""
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._jobs.put(Job(payload, future))
        return future

    def submit_soon(self, payload: Payload) -> asyncio.Future[object]:
        """Do the same at the end of this turn of the loop, so that what others give in it is written together with this."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        if not self._gathered:
            loop.call_soon(self._hand_over)
        self._gathered.append(Job(payload, future))
        return future

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        for job in gathered:
            self._jobs.put(job)

    async def stop(self) -> None:
        """Write what was given before, then end the thread and let go of the store."""
        self._hand_over()
        self._jobs.put(None)
        await asyncio.shield(self._stopped)

    @property
    def is_full(self) -> bool:
        """The file has reached its size, or the last try to write it failed. Never blocks."""
        return self._failure is not None or self._used >= self._max_size

    def storage(self) -> Storage:
        """Return how the file is: whether the last try to write it succeeded, what is in use of it, and its limit."""
        return Storage(self._failure is None, self._used, self._max_size)

    # -- in the thread

    def _live(self, loop: asyncio.AbstractEventLoop, recovered: asyncio.Future[Recovery]) -> None:
        step_back()
        lock: int | None = None
        try:
            lock = store.lock(self._path)
            recovery = self._open()
        except Exception as error:  # noqa: BLE001 -- whoever waits for the opening is told, whatever it is
            self._let_go(lock)
            _call(loop, _resolve, [(recovered, None, error), (self._stopped, None, None)])
            return
        self._checkpointer.start()
        try:
            _call(loop, _resolve, [(recovered, recovery, None)])
            self._work(loop)
        finally:
            self._checkpointer.stop()
            self._let_go(lock)
            _call(loop, _resolve, [(self._stopped, None, None)])

    def _let_go(self, lock: int | None) -> None:
        self._disconnect()
        if lock is not None:
            os.close(lock)

    def _open(self) -> Recovery:
        store.prepare(self._path)
        try:
            connection = self._connected()
            recovery = self.books.load(connection)
            self._measure(connection)
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise store.damaged(self._path, error) from error
        return recovery

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            jobs, is_last = self._take()
            if jobs:
                _call(loop, _resolve, self._serve(jobs))
            if is_last:
                return
            self._checkpointer.written(self.books.written, is_idle=not jobs and not self.books.is_littered)
            if not jobs or self.books.litter >= LITTER or self._is_tight or self._is_log_long or self._is_due:
                self._tidy(max(CHUNK, 2 * len(jobs)))

    def _take(self) -> tuple[list[Job], bool]:
        """Return all that is there, waiting until there is something or something else to do; and whether it is the last."""
        if self._failure is not None:
            wait = PROBE_S
        elif self.books.is_littered:
            wait = REST_S
        else:
            wait = max(0.0, self._housekeeping_at - time.monotonic())
            if self._checkpointer.is_behind(self.books.written):
                wait = min(IDLE_S, wait)
        jobs: list[Job] = []
        try:
            job = self._jobs.get(timeout=wait) if wait else self._jobs.get_nowait()
            while job is not None:
                jobs.append(job)
                job = self._jobs.get_nowait()
        except Empty:
            return jobs, False
        return jobs, True

    def _serve(self, jobs: Sequence[Job]) -> list[_Result]:
        """Do the jobs and return what came of each, in their order."""
        writes = [job for job in jobs if isinstance(job.payload, (Commit, Settlement, tuple))]
        results = self._write(writes)
        for job in jobs:
            if not isinstance(job.payload, (Commit, Settlement, tuple)):
                results.append(self._try(job, job.payload))
        return results

    def _write(self, jobs: Sequence[Job]) -> list[_Result]:
        if not jobs:
            return []
        commits = [job.payload for job in jobs if isinstance(job.payload, Commit)]
        settlements: list[Settlement] = []
        for job in jobs:
            if isinstance(job.payload, Settlement):
                settlements.append(job.payload)
            elif isinstance(job.payload, tuple):
                settlements += job.payload
        *_, error = self._try(jobs[0], lambda connection: self.books.write(connection, commits, settlements))
        if any(settlement.state is State.DEAD for settlement in settlements):
            self._housekeeping_at = min(self._housekeeping_at, time.monotonic() + PROBE_S)  # there may be too many now
        if error is None or isinstance(error, OSError) or len(jobs) == 1:
            return [(job.future, None, error) for job in jobs]
        # one of them is not writable at all; the others must not suffer for it
        return [result for job in jobs for result in self._write([job])]

    def _try(self, job: Job, action: Callable[[sqlite3.Connection], object]) -> _Result:
        try:
            connection = self._connected()
            answer = action(connection)
        except (sqlite3.Error, OSError) as error:
            return job.future, None, self._failed(error)
        except Exception as error:  # noqa: BLE001 -- the one who gave the job is told; the thread must live on
            return job.future, None, error
        try:
            self._succeeded(connection)
        except sqlite3.Error as error:
            self._failed(error)  # what was written is written all the same
        return job.future, answer, None

    def _succeeded(self, connection: sqlite3.Connection) -> None:
        unknown = self.books.written - self._measured
        if unknown >= MEASURE_SHARE * self._max_size or time.monotonic() >= self._measure_at:
            self._measure(connection)
        if self._failure is not None:
            self._failure = None
            gateway_log.warning("the outbox can be written again")

    def _failed(self, error: sqlite3.Error | OSError) -> Exception:
        """Note that the disk does not do its part, and return what to tell; an error of the statement's own is passed on."""
        found = store.trouble(self._path, error) if isinstance(error, sqlite3.Error) else error
        if found is None:
            return error
        if self._failure is None:
            gateway_log.error("the outbox cannot be written: %s", found)
        self._failure = found
        if found.errno not in (errno.ENOSPC, errno.EAGAIN):
            # what the connection knows of the file may be wrong when it is back
            self._disconnect()
        return found

    def _connected(self) -> sqlite3.Connection:
        now = time.monotonic()
        if now >= self._present_until:
            self.check_presence()
            self._present_until = now + PRESENCE_S
        if self._connection is None:
            connection = store.connect(self._path, synchronous=self._synchronous, busy_timeout_s=self._busy_timeout_s)
            try:
                if self._failure is not None:
                    self.books.reload(connection)
                self._checkpointer.attach()
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def check_presence(self) -> None:
        """Raise OSError if the file is not the one that was opened: what is written to it would be gone at the next start.

        May be called from any thread.
        """
        sentence = "the file was removed or replaced while in use; put it back"
        try:
            found = self._path.stat()
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, sentence, str(self._path)) from error
        identity = (found.st_dev, found.st_ino)
        if self._identity is None:
            self._identity = identity
        elif identity != self._identity:
            raise OSError(errno.ESTALE, sentence, str(self._path))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._present_until = 0.0
        if connection is None:
            return
        try:
            self._checkpointer.detach()
            connection.close()
        except sqlite3.Error as error:
            gateway_log.error("the outbox could not be closed: %s", error)

    def _measure(self, connection: sqlite3.Connection) -> None:
        was_tight = self._is_tight
        (self._used,) = connection.execute(QUERY["used_size"]).fetchone()
        self._measured = self.books.written
        self._measure_at = time.monotonic() + MEASURE_S
        if self._is_tight and not was_tight:
            self._housekeeping_at = 0.0

    @property
    def _is_log_long(self) -> bool:
        return self._checkpointer.is_long(self.books.written)

    @property
    def _is_due(self) -> bool:
        return time.monotonic() >= self._housekeeping_at

    @property
    def _is_tight(self) -> bool:
        return self._used >= HISTORY_SHARE * self._max_size

    def _tidy(self, limit: int) -> None:
        """Do what nobody waits for: see whether the disk is back, delete what was delivered, forget what is old."""
        try:
            connection = self._connected()
            if self._failure is not None:
                connection.execute(QUERY["probe"])
            if self.books.is_littered:
                self.books.sweep(connection, limit)
            if time.monotonic() >= self._housekeeping_at:
                self._forget_history(connection, limit)
            if self._is_log_long:
                self._checkpointer.finish(connection, self.books.written)
            self._measure_at = 0.0
            self._succeeded(connection)
        except (sqlite3.Error, OSError) as error:
            if self._failed(error) is error and not isinstance(error, OSError):
                # a statement of ours is wrong: said once, tried again at the pace of a probe, and no new work until then
                self._failure = OSError(errno.EIO, f"cleaning up failed ({error})", str(self._path))
                gateway_log.error("the outbox cannot clean up", exc_info=error)

    def _forget_history(self, connection: sqlite3.Connection, limit: int) -> None:
        is_tight = self._is_tight
        is_unfinished = self._history.forget(connection, self._epoch_ms(), limit, is_tight=is_tight)
        wait = 0.0 if is_unfinished else PROBE_S if is_tight else HOUSEKEEPING_S
        self._housekeeping_at = time.monotonic() + wait


#: who waits, for what, or for which error
_Result = tuple["asyncio.Future[Any]", object, Exception | None]


def _resolve(results: Sequence[_Result]) -> None:
    for future, answer, error in results:
        if future.done():  # its waiter was cancelled
            continue
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)


def _call(loop: asyncio.AbstractEventLoop, then: Callable[[Sequence[_Result]], None], results: Sequence[_Result]) -> None:
    try:
        loop.call_soon_threadsafe(then, results)
    except RuntimeError:
        # the loop was closed: nobody waits any more, and what was written is written
        gateway_log.debug("the event loop ended before the outbox")
