"""What a receiver and an operator may ask about webhooks, and have done: the same answers for every way of asking."""

from __future__ import annotations

from gateway.desk.desk import Deliverer, Desk, Health
from gateway.desk.feed import LONGEST_WAIT_S, Feed
from gateway.desk.replay import MOST_REPLAYED, Replayed
from gateway.desk.selection import Selection

__all__ = ["LONGEST_WAIT_S", "MOST_REPLAYED", "Deliverer", "Desk", "Feed", "Health", "Replayed", "Selection"]
