"""The thread that only reads: it waits for no writer, and no writer for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from gateway.outbox.store import connect_reader, trouble

T = TypeVar("T")


class Reader:
    """Answers questions in a thread of its own, one after the other; each sees everything that was committed before it."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        """`check` raises OSError if the file is not in its place: before it is opened, for not even reading would be safe."""
        self._path = path
        self._check = check
        self._thread = ThreadPoolExecutor(1, "outbox-reader")
        self._connection: sqlite3.Connection | None = None

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return what the question returns. Raises OSError if the file cannot be read now."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)

    def _answer(self, question: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._check()
                self._connection = connect_reader(self._path)
            return question(self._connection)
        except (sqlite3.Error, ValueError) as error:
            self._forget()
            found = trouble(self._path, error)
            if found is None:
                raise
            raise found from error

    def _forget(self) -> None:
        # what a connection knows of a file it could not read may be wrong later
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def close(self) -> None:
        """Answer what was asked, then let go; nothing may be asked any more."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._forget)
        self._thread.shutdown(wait=False)
