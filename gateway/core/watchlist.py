"""Who watches whom on this node, and which coming or going they have yet to be told of.

The laws of this file
---------------------
1. A watcher is told the present state once, then each change, and never the same state of a user twice in a row.
2. Someone who comes back before his going was told has not gone. So however often a user comes and goes, his watchers are
   told at most one change for each look at what is due, and a departure at most once in its linger.
3. What nobody watches is not kept, and the work for a user is that for his own watchers.

Who is online is for the tracker to say; here it only arrives, through `observe`. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import Generic, TypeVar

#: what the node keeps per watcher; never looked into here
S = TypeVar("S")


class _Watched(Generic[S]):
    """One user whom somebody watches."""

    __slots__ = ("due_at", "is_online", "is_queued", "told", "user_id", "watchers")

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.watchers: dict[str, S] = {}
        #: as last observed; as his watchers know it. None: nothing has been observed yet
        self.is_online: bool | None = None
        self.told: bool | None = None
        #: when the difference between the two is to be told; None: there is none
        self.due_at: float | None = None
        #: it has its one entry in the queue, which may be too early
        self.is_queued = False


class Watchlists(Generic[S]):
    """The watchlists of one app's connections on this node."""

    __slots__ = ("_number", "_queue", "_watched")

    def __init__(self) -> None:
        self._watched: dict[str, _Watched[S]] = {}
        self._queue: list[tuple[float, int, _Watched[S]]] = []
        self._number = 0

    def watch(self, socket_id: str, watcher: S, user_ids: Iterable[str]) -> list[str]:
        """Let the watcher be told of these users, and return those whose state is not known.

        The caller must `observe` the latter, and then tell the watcher the `state` of all. Watching twice is watching once.
        """
        unknown: list[str] = []
        for user_id in user_ids:
            watched = self._watched.get(user_id)
            if watched is None:
                watched = self._watched[user_id] = _Watched(user_id)
            if watched.told is None:
                unknown.append(user_id)
            watched.watchers[socket_id] = watcher
        return unknown

    def unwatch(self, socket_id: str, user_ids: Iterable[str]) -> None:
        """Let the watcher be told of these users no more."""
        for user_id in user_ids:
            watched = self._watched.get(user_id)
            if watched is not None and watched.watchers.pop(socket_id, None) is not None and not watched.watchers:
                del self._watched[user_id]

    def is_watched(self, user_id: str) -> bool:
        """Tell whether anybody wants to hear of the user."""
        return user_id in self._watched

    def state(self, user_ids: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return who of them is online and who is not, as their watchers know it: what is `due` still comes as a change."""
        online: list[str] = []
        offline: list[str] = []
        for user_id in user_ids:
            watched = self._watched.get(user_id)
            (online if watched is not None and watched.told else offline).append(user_id)
        return online, offline

    def observe(self, user_id: str, is_online: bool, now: float, linger_s: float) -> None:
        """Take note of what is true now; of one whom nobody watches, nothing."""
        watched = self._watched.get(user_id)
        if watched is None or watched.is_online == is_online:
            return
        watched.is_online = is_online
        if watched.told is None:
            watched.told = is_online
        elif watched.told == is_online:
            watched.due_at = None
        else:
            watched.due_at = now if is_online else now + linger_s
            if not watched.is_queued:
                self._put(watched, watched.due_at)

    def next_at(self) -> float | None:
        """Return when `due` has something to look at; None: nobody is to be told anything."""
        return self._queue[0][0] if self._queue else None

    def due(self, now: float) -> list[str]:
        """Return the users whose change is to be told; the caller must `tell` each of them."""
        found: list[str] = []
        while self._queue and self._queue[0][0] <= now:
            watched = heappop(self._queue)[2]
            watched.is_queued = False
            if watched.due_at is None or self._watched.get(watched.user_id) is not watched:
                continue
            if watched.due_at <= now:
                found.append(watched.user_id)
            else:  # he came back and went again
                self._put(watched, watched.due_at)
        return found

    def tell(self, user_id: str, now: float) -> tuple[bool, Mapping[str, S]] | None:
        """Return whether the user is online now, and whom to tell, by socket id: a live view. None: there is no news yet."""
        watched = self._watched.get(user_id)
        if watched is None or watched.is_online is None or watched.due_at is None or watched.due_at > now:
            return None
        watched.due_at = None
        watched.told = watched.is_online
        return watched.is_online, watched.watchers

    def _put(self, watched: _Watched[S], at: float) -> None:
        self._number += 1
        watched.is_queued = True
        heappush(self._queue, (at, self._number, watched))
