"""The tracker of a node that is alone; its broker has nobody to tell."""

from __future__ import annotations

from gateway.backplane.local import LocalTracker
from gateway.ports import Tracker
from tests.conformance.tracker_suite import TrackerSuite


class TestLocalTracker(TrackerSuite):
    def make(self) -> Tracker:
        return LocalTracker()
