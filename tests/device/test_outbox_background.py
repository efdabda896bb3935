"""Who writes to the disk steps back behind the event loop; whoever is not allowed to goes on all the same."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

import pytest

from gateway.outbox import background
from gateway.outbox.sqlite import SqliteOutbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows how")


def policies() -> dict[str, int]:
    return {each.name: os.sched_getscheduler(each.native_id) for each in threading.enumerate() if each.native_id}


async def test_the_threads_that_write_step_back_and_the_loops_does_not(tmp_path: Path) -> None:
    outbox = SqliteOutbox(path=tmp_path / "outbox.sqlite", synchronous="normal", max_size=1 << 30, retention_s=3600)
    await outbox.open()
    try:
        found = policies()
    finally:
        await outbox.close()
    assert found["outbox-writer"] == os.SCHED_BATCH
    assert found["outbox-checkpoint"] == os.SCHED_BATCH
    assert found[threading.current_thread().name] == os.SCHED_OTHER


def test_where_it_is_not_allowed_that_is_only_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(background.os, "sched_setscheduler", refuse)
    with caplog.at_level(logging.DEBUG, "rawpush.gateway"):
        background.step_back()
    assert "not here" in caplog.text
