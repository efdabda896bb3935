"""The answers that are due in one turn of the event loop, written in a row when it ends.

A write to a client that waits for it costs most by waking that client up. Between two publishes it would have gone to sleep
again; a row of answers finds it awake.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

_logger = logging.getLogger("rawpush.api")

#: answers that are written without waiting for the end: those to the first of a thousand publishes that came at once should
#: not wait for the last
_MOST = 64


class Debtor(Protocol):
    """Who owes an answer."""

    def answer_now(self) -> None:
        """Write it."""
        ...

    def force_close(self) -> None:
        """Cut the line."""
        ...


class Turn:
    """Whose answers are due; must be made on the running event loop."""

    __slots__ = ("_debtors", "_loop")

    def __init__(self) -> None:
        self._debtors: list[Debtor] = []
        self._loop = asyncio.get_running_loop()

    def answer_later(self, debtor: Debtor) -> None:
        """Have the answer written when this turn is over; to be called once for each."""
        debtors = self._debtors
        if not debtors:
            self._loop.call_soon(self._end)
        debtors.append(debtor)
        if len(debtors) >= _MOST:
            self._end()

    def _end(self) -> None:
        debtors, self._debtors = self._debtors, []
        for debtor in debtors:
            try:
                debtor.answer_now()
            except Exception:  # whatever is wrong with one connection, the others get their answers
                _logger.exception("an answer could not be written")
                debtor.force_close()
