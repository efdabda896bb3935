"""The fakes, one page; each passes the same conformance suite as the real thing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.delivery import Outcome, Stage
from gateway.core.webhook import Endpoint


class FakeClock:
    """Both clocks stand still until they are moved."""

    def __init__(self, monotonic: float = 1000.0, epoch_ms: int = 1_754_300_000_000) -> None:
        self.now = monotonic
        self.epoch = epoch_ms

    def monotonic(self) -> float:
        return self.now

    def epoch_ms(self) -> int:
        return self.epoch

    def move(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.now += seconds
        self.epoch += round(seconds * 1000)


class FakeConnection:
    """Keeps what it is offered; `texts` are the payloads of the WebSocket frames, parsed."""

    def __init__(self) -> None:
        self.offered: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.peer = "192.0.2.1"
        self.received_messages = 0
        self.received_bytes = 0
        self.sent_messages = 0
        self.sent_bytes = 0

    def offer(self, data: bytes) -> None:
        if self.closed is None:
            self.offered.append(data)
            self.sent_messages += 1
            self.sent_bytes += len(payload(data))

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)

    def frames(self) -> list[dict[str, Any]]:
        """Return, and forget, the frames offered since the last call."""
        taken, self.offered = self.offered, []
        return [orjson.loads(payload(data)) for data in taken]


class ScriptedSender:
    """Answers each attempt with the next outcome of its script (200 when that is used up), and keeps what was sent."""

    def __init__(self, *script: int | Outcome) -> None:
        self.script = list(script)
        self.sent: list[tuple[str, Mapping[str, str], bytes]] = []

    async def send(self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> Outcome:
        self.sent.append((endpoint.key, headers, body))
        answer = self.script.pop(0) if self.script else 200
        return Outcome(Stage.ANSWERED, 1.0, answer) if isinstance(answer, int) else answer

    async def forget(self, endpoint_key: str) -> None:
        pass

    async def close(self) -> None:
        pass


def payload(data: bytes) -> bytes:
    """Return the payload of an unmasked server frame (RFC 6455 section 5.2)."""
    length = data[1]
    start = 2 if length < 126 else 4 if length == 126 else 10
    return data[start:]
