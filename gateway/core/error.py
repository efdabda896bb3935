"""Everything the protocol can answer with when something is wrong: codes on a WebSocket, RequestError on the HTTP API.

Codes and their ranges are those of the Pusher protocol: 4000-4099 do not come back unchanged, 4100-4199 come back after
a second, 4200-4299 come back at once, 4300-4399 stay connected. Swift clients know only the documented numbers, so no
other number in that range may be sent.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """The documented error and close codes."""

    TLS_REQUIRED = 4000
    UNKNOWN_APP = 4001
    APP_DISABLED = 4003
    OVER_QUOTA = 4004
    PATH_NOT_FOUND = 4005
    BAD_VERSION = 4006
    UNSUPPORTED_PROTOCOL = 4007
    NO_PROTOCOL = 4008
    UNAUTHORISED = 4009
    OVER_CAPACITY = 4100
    RECONNECT = 4200
    NO_PONG = 4201
    INACTIVE = 4202
    CLIENT_EVENT_REFUSED = 4301
    WATCHLIST_TOO_LONG = 4302


class GatewayError(Exception):
    """The root of the gateway's own exceptions."""


class RequestError(GatewayError):
    """An HTTP request cannot be done: `status`, a sentence with the remedy, and `where` (a JSON path, a parameter)."""

    def __init__(self, status: int, sentence: str, where: str | None = None, *, reason: str | None = None) -> None:
        super().__init__(status, sentence, where, reason)
        self.status = status
        self.sentence = sentence
        self.where = where
        #: the `message.rejected` reason this refusal is recorded under, if it is one
        self.reason = reason

    @property
    def answer(self) -> dict[str, object]:
        """What the client is answered, as a JSON object."""
        return {"error": self.sentence} if self.where is None else {"error": self.sentence, "where": self.where}

    @property
    def retry_after_s(self) -> int | None:
        """Seconds until trying again makes sense, for refusals that pass by themselves."""
        return 1 if self.status in (429, 503) else None

    def __str__(self) -> str:
        return f"{self.status}: {self.sentence}" + (f" (at {self.where})" if self.where else "")
