"""How a command fails; what can be said of it is the exception's text."""

from __future__ import annotations

from gateway.core.error import GatewayError


class Refused(GatewayError):
    """The gateway did not do it, or was not there (`status` 0)."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class Misused(GatewayError):
    """What was asked cannot be meant; the text says what could be."""
