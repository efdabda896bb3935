"""Deliveries: what is due to an endpoint, in which states it can be, and what an attempt says about it."""

from __future__ import annotations

from enum import Enum

from gateway.core.value import value

#: the lane of an endpoint's replays, beside those of its live events: above any `concurrency`
REPLAY_LANE = 4096


@value
class Delivery:
    """One lifecycle event due to one endpoint."""

    #: the endpoint's key, `{app_id}/{name}`
    endpoint: str
    #: gapless per endpoint and node, from 1
    sequence: int
    lane: int
    event_id: str
    kind: str
    at_ms: int
    #: the finished envelope for this endpoint, UTF-8 JSON
    envelope: bytes


@value
class Request:
    """One webhook: the deliveries of one lane that travel in one body, and the very bytes of it.

    The id and the bytes are a function of the deliveries and the endpoint's format, so each attempt sends the same.
    """

    endpoint: str
    lane: int
    id: str
    #: the value of X-Webhook-Event
    event: str
    content_type: str
    body: bytes
    deliveries: tuple[Delivery, ...]

    def settlement(
        self,
        attempts: int,
        at_ms: int,
        first_at_ms: int,
        state: State,
        outcome: Outcome | None,
        *,
        due_at_ms: int = 0,
        reason: str = "",
    ) -> Settlement:
        """Return what the latest attempt did to this request; the parameters are the fields of `Settlement`."""
        deliveries = self.deliveries
        return Settlement(
            self.endpoint,
            self.lane,
            self.id,
            deliveries[0].sequence,
            deliveries[-1].sequence,
            len(deliveries),
            attempts,
            at_ms,
            first_at_ms,
            state,
            outcome,
            due_at_ms,
            reason,
        )


class Stage(Enum):
    """How far an attempt came; everything but ANSWERED is a failure by itself."""

    REFUSED = "refused"  # by ourselves: URL or address not allowed
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    SEND = "send"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"  # what came back was not HTTP
    ANSWERED = "answered"


@value
class Outcome:
    """What one attempt brought back."""

    stage: Stage
    latency_ms: float
    status: int | None = None
    #: seconds, already parsed from Retry-After (seconds or date); None if absent or nonsense
    retry_after_s: float | None = None
    #: head of the response body, at most 4 KiB, for the log
    body: bytes = b""
    #: one line saying what failed, without secrets
    error: str = ""

    @property
    def is_success(self) -> bool:
        """Any 2xx is success; a redirect is not."""
        return self.stage is Stage.ANSWERED and self.status is not None and 200 <= self.status < 300


class State(Enum):
    """The states of a request: DUE stays DUE while attempts fail, the other two are final."""

    DUE = "due"
    DELIVERED = "delivered"
    DEAD = "dead"


@value
class Settlement:
    """What an attempt did to a request, for the outbox to write in one go.

    DELIVERED and DEAD end the request and everything up to `last_sequence` of the lane; DUE leaves it at the lane's head
    with its attempt counted, and pins its bounds, so that a batch is not cut anew by the next attempt.
    """

    endpoint: str
    lane: int
    request_id: str
    first_sequence: int
    last_sequence: int
    count: int
    #: attempts made so far, this one included; 0 where a request was given up without one
    attempts: int
    #: Unix ms of this attempt, and of the first one
    at_ms: int
    first_at_ms: int
    state: State
    outcome: Outcome | None
    #: DUE: not before this time (Unix ms). DEAD: 0
    due_at_ms: int = 0
    #: DEAD: `max_age`, `max_attempts`, `gone`, `too_large`, ...; of a note (`count` 0), what it says
    reason: str = ""


@value
class Claim:
    """The head of a lane: deliveries in order, and what earlier attempts at exactly these have left behind."""

    deliveries: tuple[Delivery, ...]
    attempts: int = 0
    first_at_ms: int = 0
    due_at_ms: int = 0
