"""One node: broker and tracker that never leave the process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set

from gateway.core.publication import Publication
from gateway.core.roster import Diff, Member, Roster
from gateway.ports import Occupancy


class LocalBroker:
    """The broker of a node that is alone: there is nobody to tell."""

    def publish(self, publication: Publication) -> None:
        """Nothing to do: no other node exists."""

    def subscribe(self, app_id: str, channel: str) -> None:
        """Nothing to do: no other node publishes."""

    def unsubscribe(self, app_id: str, channel: str) -> None:
        """Nothing to do: no other node publishes."""


class LocalTracker:
    """The tracker of a node that is alone: its rosters are the whole truth, and answer before the call returns."""

    def __init__(self) -> None:
        self._rosters: defaultdict[str, Roster] = defaultdict(Roster)
        # apart, so that a list of all channels need not pass over them
        self._own: defaultdict[str, Roster] = defaultdict(Roster)

    def enter(
        self, app_id: str, channel: str, socket_id: str, member: Member | None, max_members: int, then: Callable[[Diff], None]
    ) -> None:
        """See `Tracker.enter`."""
        then(self._roster(app_id, channel).enter(channel, socket_id, member, max_members))

    def leave(self, app_id: str, channel: str, socket_id: str, then: Callable[[Diff], None]) -> None:
        """See `Tracker.leave`."""
        then(self._roster(app_id, channel).leave(channel, socket_id))

    def occupied(self, app_id: str, channels: Sequence[str], then: Callable[[Set[str]], None]) -> None:
        """See `Tracker.occupied`."""
        then({channel for channel in channels if self._roster(app_id, channel).subscribers(channel)})

    async def channels(self, app_id: str, prefix: str = "") -> Mapping[str, Occupancy]:
        """See `Tracker.channels`."""
        return {name: Occupancy(subscribers, users) for name, subscribers, users in self._rosters[app_id].channels(prefix)}

    async def occupancy(self, app_id: str, channel: str) -> Occupancy:
        """See `Tracker.occupancy`."""
        roster = self._roster(app_id, channel)
        return Occupancy(roster.subscribers(channel), roster.users(channel))

    async def members(self, app_id: str, channel: str) -> Sequence[Member]:
        """See `Tracker.members`."""
        return list(self._rosters[app_id].members(channel).values())

    def _roster(self, app_id: str, channel: str) -> Roster:
        return (self._own if channel.startswith("#") else self._rosters)[app_id]
