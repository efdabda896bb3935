"""Signs of life of work that takes long, on standard error, so that what is printed stays what was asked for."""

from __future__ import annotations

import sys
import time

#: seconds between two signs of life where the output is no terminal
_LINE_EVERY_S = 5.0


class Progress:
    """A text that stays in its line on a terminal, and a line every few seconds elsewhere. Call `end` before anything else."""

    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._is_open = False
        self._told_at = time.monotonic()

    def tell(self, text: str) -> None:
        """Say how far it is."""
        if self._is_terminal:
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()
            self._is_open = True
        elif time.monotonic() - self._told_at >= _LINE_EVERY_S:
            self._told_at = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self._is_open:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._is_open = False
