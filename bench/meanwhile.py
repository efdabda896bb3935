"""Work for a later question that is done while this one waits and measures nothing; each can do without it.

A run plans it; a question that has to wait for long lets it `begin`, and has it settled before it measures again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_planned: list[Callable[[], object]] = []
_begun: list[threading.Thread] = []


def plan(work: Callable[[], object]) -> None:
    """Have this done when there is time; what goes wrong with it is for the question to say that needs it."""
    _planned.append(work)


def begin() -> None:
    """Say that nothing will be measured for a while."""
    while _planned:
        # Not to be waited for by a run that is broken off.
        worker = threading.Thread(target=_planned.pop(), daemon=True)
        _begun.append(worker)
        worker.start()


def settle() -> None:
    """Wait until what has begun is done."""
    while _begun:
        _begun.pop().join()
