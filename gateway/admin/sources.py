"""What the operator's port looks at. It owns none of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.admin.pulse import Pulse
from gateway.admin.stock import Stock
from gateway.desk import Desk
from gateway.node import Node
from gateway.ports import Clock, Storage
from gateway.telemetry import Telemetry


class Queue(Protocol):
    """What is to be known of the recorder."""

    @property
    def queued(self) -> int: ...
    @property
    def is_failing(self) -> bool: ...
    @property
    def dropped_deliveries(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Everything there is to be told about."""

    version: str
    #: what this process is called in the webhooks' metadata
    name: str
    node: Node
    desk: Desk
    telemetry: Telemetry
    clock: Clock
    pulse: Pulse
    stock: Stock
    recorder: Queue
    #: how many records may wait to be written
    capacity: int
    storage: Callable[[], Storage]
    #: by endpoint: dead letters that had to make room
    dead_letters_dropped: Callable[[], Mapping[str, int]]

    @property
    def is_writable(self) -> bool:
        """Whether events can be recorded, as far as is known."""
        return self.storage().is_writable and not self.recorder.is_failing
