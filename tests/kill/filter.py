"""What an endpoint of the kill test asks for, in the file's own words, and judged here once more."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tests.kill.history import Envelope


@dataclass(frozen=True, slots=True)
class Filter:
    """The filter of one endpoint."""

    events: tuple[str, ...] = ("*",)
    channels: tuple[str, ...] = ("*",)
    exclude_channels: tuple[str, ...] = ()
    exclude_event_names: tuple[str, ...] = ()
    include_payload: bool = True

    @property
    def wants_all(self) -> bool:
        return self == Filter(include_payload=self.include_payload)

    def settings(self) -> dict[str, Any]:
        """Return it as an endpoint's settings."""
        return {
            "events": self.events,
            "channels": self.channels,
            "exclude_channels": self.exclude_channels,
            "exclude_event_names": self.exclude_event_names,
            "include_payload": self.include_payload,
        }

    def lets_pass(self, envelope: Envelope) -> bool:
        """Tell whether the endpoint must get this event."""
        kind, data = envelope["event"], envelope["data"]
        if not _any(kind, self.events):
            return False
        channel = data.get("channel")
        if channel is not None and (not _any(channel, self.channels) or _any(channel, self.exclude_channels)):
            return False
        name = data.get("event")
        return name is None or not _any(name, self.exclude_event_names)


def _any(value: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(value, glob) for glob in globs)
