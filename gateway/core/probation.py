"""Who has yet to prove that the app's backend knows him: one line for all, instead of a timer for each."""

from __future__ import annotations


class Probation:
    """The connections on probation, those longest there first. `now` is monotonic seconds and never runs backwards."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        # All wait equally long, so the order of arrival, which a dict keeps, is the order of the deadlines.
        self._since: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def begin(self, socket_id: str, now: float) -> None:
        """Put the connection on probation; one that is on it already stays where it is."""
        self._since.setdefault(socket_id, now)

    def end(self, socket_id: str) -> None:
        """The connection has proved itself, or has gone; of one that is not on probation, nothing."""
        self._since.pop(socket_id, None)

    def clear(self) -> None:
        """Let everybody off."""
        self._since.clear()

    def next_at(self, wait_s: float) -> float | None:
        """Return when the first of them has been on it for `wait_s`; None: there is nobody."""
        first = next(iter(self._since.values()), None)
        return None if first is None else first + wait_s

    def due(self, now: float, wait_s: float, limit: int) -> list[str]:
        """Take off, and return, at most `limit` connections that have been on it for `wait_s`."""
        found: list[str] = []
        for socket_id, since in self._since.items():
            if len(found) == limit or since + wait_s > now:
                break
            found.append(socket_id)
        for socket_id in found:
            del self._since[socket_id]
        return found
