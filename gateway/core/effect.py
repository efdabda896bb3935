"""The closed list of things a session can ask the node for; the node carries them out in order.

One effect per decision, never one per subscriber.
"""

from __future__ import annotations

from gateway.core.publication import Publication
from gateway.core.roster import Member
from gateway.core.user import User
from gateway.core.value import value


@value
class Reply:
    """Offer this frame (JSON text, UTF-8) to the session's own connection."""

    frame: bytes


@value
class Subscribe:
    """Enter the channel; the node answers the client, since only the roster knows the members.

    If the roster refuses (channel full), the node calls `Session.revoke`, else `Session.entered`, and carries out what that
    returns.
    """

    channel: str
    member: Member | None


@value
class Unsubscribe:
    """Leave the channel; the session has already forgotten it, so `member` says as whom it was there."""

    channel: str
    member: Member | None


@value
class Publish:
    """Fan a client event out to the other subscribers and record it.

    If the node has no room to record it, it offers `Session.overloaded()` instead.
    """

    publication: Publication


@value
class Close:
    """Close the connection with this code; where `sentence` is not empty a `pusher:error` frame precedes it."""

    code: int
    sentence: str


@value
class SignIn:
    """Let the connection be known as this user, and answer with `user_data` as it came; who was signed in `before` is the same.

    If the node has no room to record it, it carries out what `Session.refuse_sign_in` returns instead.
    """

    user: User
    user_data: str
    before: User | None


@value
class Authenticated:
    """Record that a signature was verified: the first one of a subscription to a channel."""

    channel: str


@value
class AuthFailed:
    """Record that a signature was refused, and why; channel None: that of a sign-in."""

    channel: str | None
    reason: str


@value
class Throttled:
    """Count a subscription or a sign-in that came too soon; it has changed nothing, so there is nothing to record."""


@value
class Rejected:
    """Record that a client event was refused; `reason` is one of the `message.rejected` reasons of the catalogue."""

    reason: str
    #: None: it named none
    channel: str | None
    event: str
    size: int


Effect = Reply | Subscribe | Unsubscribe | Publish | Close | SignIn | Authenticated | AuthFailed | Throttled | Rejected
