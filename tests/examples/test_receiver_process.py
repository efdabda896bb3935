"""What is heard of a receiver that is killed."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.examples.receiver_process import Runtime

SCRIPT = """
import os, time
os.write(1, b"whole\\nevt_1 half of")
os.write(2, b"http://127.0.0.1:%d\\n" % int(os.environ["PORT"]))
time.sleep(60)
"""


def test_half_a_line_at_its_death_is_not_taken_for_one(tmp_path: Path) -> None:
    receiver = Runtime("none", lambda file, port: [[sys.executable, "-c", SCRIPT]], [], "").start(tmp_path / "torn")
    receiver.wait_for("whole")
    receiver.kill()
    assert receiver.count("whole") == 1
    assert receiver.count("evt_") == 0
