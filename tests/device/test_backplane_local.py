"""The tracker and the broker of a node that is alone."""

from __future__ import annotations

from gateway.backplane.local import LocalBroker, LocalTracker
from gateway.core.publication import Publication
from gateway.ports import Broker, Tracker
from tests.conformance.tracker_suite import TrackerSuite


class TestLocalTracker(TrackerSuite):
    def make(self) -> Tracker:
        return LocalTracker()


def test_the_local_broker_tells_nobody() -> None:
    broker: Broker = LocalBroker()
    broker.subscribe("1001", "c")
    broker.publish(Publication("1001", "e", ("c",), "{}"))
    broker.unsubscribe("1001", "c")
