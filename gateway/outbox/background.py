"""Threads that are in no hurry: whoever waits for them is the event loop itself."""

from __future__ import annotations

import os
import sys

from gateway.telemetry import gateway_log


def step_back() -> None:
    """Let the calling thread, when it wakes up, wait until the one that has the core goes to sleep or has had its share.

    The share stays the same, so it is not kept waiting for long with the interpreter in its hands. Woken as usual it takes the
    core away from the loop that has just given it something to do, only to wait for the interpreter, which the loop holds.
    Known to Linux alone (sched(7), SCHED_BATCH), and of use only where there are no more cores than threads at work.
    """
    if sys.platform == "linux":
        try:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        except OSError as error:  # it is not allowed here, and not needed
            gateway_log.debug("a thread that writes cannot step back: %s", error)
