"""Watching live: who watches what, and what of it he has not seen yet. Costs nothing while nobody watches.

What is recorded is shown once it is durable, with its id, so that what became of its webhooks can be looked up. What happens
and is not recorded, because neither an endpoint nor the feed wants its kind, is shown as it happens, without one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Any

from gateway.admin.sources import Sources
from gateway.core.lifecycle import LifecycleEvent, Record
from gateway.desk import answer
from gateway.desk.answer import Answer

#: Events that wait for one watcher: what is shown in a quarter of a second, and more than anybody reads in that time.
MOST_WAITING = 200

#: Characters of a payload that are shown.
PAYLOAD = 2_000


@dataclass(frozen=True, slots=True)
class Filter:
    """What somebody wants to see; what is empty lets everything pass. A text without `*` is looked for anywhere in the name."""

    app: str = ""
    channel: str = ""
    socket_id: str = ""
    #: a kind of lifecycle event, or the name of a published one
    event: str = ""

    def ready(self) -> Callable[[LifecycleEvent], bool]:
        """Return what tells whether an event passes."""
        channel, wanted = _pattern(self.channel), _pattern(self.event)
        app, socket_id = self.app, self.socket_id

        def takes(event: LifecycleEvent) -> bool:
            data = event.data
            return (
                (not app or event.app_id == app)
                and (channel is None or _fits(channel, data.get("channel")))
                and (not socket_id or data.get("socket_id") == socket_id)
                and (wanted is None or _fits(wanted, event.kind) or _fits(wanted, data.get("event")))
            )

        return takes


class Watcher:
    """One who watches: the newest of what he has not seen, and how much more there was."""

    __slots__ = ("_queue", "_skipped", "_takes")

    def __init__(self) -> None:
        self._queue: deque[LifecycleEvent] = deque(maxlen=MOST_WAITING)
        self._skipped = 0
        self.wants(Filter())

    def wants(self, what: Filter) -> None:
        """From now on it is this that is wanted; what waits is forgotten."""
        self._takes = what.ready()
        self._queue.clear()
        self._skipped = 0

    def offer(self, event: LifecycleEvent) -> None:
        """Something has happened. Never blocks: who does not keep up misses the older ones."""
        if self._takes(event):
            self._skipped += len(self._queue) == MOST_WAITING
            self._queue.append(event)

    def take(self) -> tuple[list[Answer], int]:
        """Return what has not been seen yet, oldest first, and how much was skipped before it."""
        if not self._queue:
            return [], 0
        events, skipped = [shown(event) for event in self._queue], self._skipped
        self._queue.clear()
        self._skipped = 0
        return events, skipped


class Watch:
    """Everybody who watches."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._watchers: dict[Watcher, None] = {}

    def enter(self, watcher: Watcher) -> None:
        """From now on the watcher is told."""
        if not self._watchers:
            self._sources.telemetry.onlooker = self
            self._sources.desk.listener = self.announce
        self._watchers[watcher] = None

    def leave(self, watcher: Watcher) -> None:
        """Tell the watcher nothing more; more than once is as good as once."""
        self._watchers.pop(watcher, None)
        if not self._watchers:
            self._sources.telemetry.onlooker = None
            self._sources.desk.listener = None

    def saw(self, kind: str, app_id: str, data: Mapping[str, object]) -> None:
        """Something happens; see `telemetry.Onlooker`. What will be recorded is left to `announce`."""
        tenant = self._sources.node.tenants.get(app_id)
        if tenant is not None and kind not in tenant.lifecycle.wanted:
            self._offer(LifecycleEvent("", kind, app_id, self._sources.clock.epoch_ms(), "", data))

    def announce(self, records: Sequence[Record]) -> None:
        """These records are durable."""
        for record in records:
            if isinstance(record, LifecycleEvent):
                self._offer(record)

    def _offer(self, event: LifecycleEvent) -> None:
        for watcher in self._watchers:
            watcher.offer(event)


def shown(event: LifecycleEvent) -> Answer:
    """Return the event as it is shown: a long payload is cut, and says how long it was."""
    told = answer.event(event)
    data: dict[str, Any] = told["data"]
    payload = data.get("data")
    if isinstance(payload, str) and len(payload) > PAYLOAD:
        told["data"] = data | {"data": payload[:PAYLOAD]}
        told["cut"] = len(payload)
    return told


def _pattern(text: str) -> re.Pattern[str] | None:
    if not text:
        return None
    return re.compile(translate(text if "*" in text else f"*{text}*"), re.IGNORECASE)


def _fits(pattern: re.Pattern[str], name: object) -> bool:
    return isinstance(name, str) and pattern.match(name) is not None
