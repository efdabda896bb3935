"""How many files the process may have open: every connection takes one, and so does all the gateway's own work."""

from __future__ import annotations

import resource

#: Descriptors that no connection of a client gets: webhooks under way, the outbox, the log and the rest.
_RESERVE = 512
#: Where that would be most of them, this part.
_RESERVE_SHARE = 0.25

#: What Linux allows at most unless it is told otherwise (`fs.nr_open`); who may have any number gets this one.
_MOST = 1_048_576


def raise_limit() -> tuple[int, int]:
    """Raise the limit of open files as far as the system lets; returns it as it was and as it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft, soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return soft, wanted


def ceiling() -> int | None:
    """Return the lowest descriptor that no newcomer may have; None: there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    return soft - min(_RESERVE, int(soft * _RESERVE_SHARE))
