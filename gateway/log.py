"""Where log lines go out: those of one turn of the event loop with one system call, urgent ones at once.

Ten thousand clients that come back after a restart end ten thousand connections, and each end is a line. No timer is involved:
lines are written when the turn that made them is over, so a process that is killed loses those of one turn at most.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TextIO

#: From this level on a line is not kept for an instant: it may be the last one.
_URGENT = logging.WARNING

#: Characters kept at most; a turn that says more is written in several pieces.
_MOST = 65_536


class TurnHandler(logging.StreamHandler[TextIO]):
    """A stream handler that joins the lines of one turn; where no event loop runs and nothing is kept, it writes at once.

    Lines go out in the order in which they were logged, whatever their level and thread.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """`stream` None: standard error."""
        super().__init__(stream)
        self._lines: list[str] = []
        self._kept = 0

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`; called with the lock held."""
        try:
            line = self.format(record)
            is_first = not self._lines
            self._lines.append(line)
            self._kept += len(line)
            if record.levelno >= _URGENT or self._kept > _MOST or (is_first and not self._keep(record)):
                self.flush()
        except Exception:  # noqa: BLE001 -- as every handler does: what cannot be logged must not stop the work it tells of
            self.handleError(record)

    def flush(self) -> None:
        """Write what is kept; called at the end of the process as well."""
        self.acquire()
        try:
            lines, self._lines, self._kept = self._lines, [], 0
            if lines:
                lines.append("")
                self.stream.write(self.terminator.join(lines))
            super().flush()
        finally:
            self.release()

    def _keep(self, record: logging.LogRecord) -> bool:
        """Have this turn's lines written at its end; False if there is none."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        loop.call_soon(self._turn_over, record)
        return True

    def _turn_over(self, record: logging.LogRecord) -> None:
        try:
            self.flush()
        except Exception:  # noqa: BLE001 -- as above
            self.handleError(record)
