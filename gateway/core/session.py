"""One connection's life: a frame goes in, what must be done comes out.

The laws of this file
---------------------
1. A session holds a channel from its `Subscribe` effect to its `Unsubscribe` effect, or to the `revoke` of what the
   roster refused; `channels` is exactly that. Whether others know of it yet is the node's business.
   Likewise it is signed in from its `SignIn` effect on, as one user for as long as it lives.
2. Whatever a client sends, a session does not raise, and answers with at most one `pusher:error`.
3. What fails changes nothing but counters.
4. What makes lifecycle events is bounded by the app's rates, whatever a client sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gateway.core import frame as codec
from gateway.core.app import App, Limits
from gateway.core.auth import channel_signature_error, user_signature_error
from gateway.core.channel import is_legal, kind_of
from gateway.core.effect import (
    Authenticated,
    AuthFailed,
    Close,
    Effect,
    Publish,
    Rejected,
    Reply,
    SignIn,
    Subscribe,
    Throttled,
    Unsubscribe,
)
from gateway.core.error import Code
from gateway.core.frame import (
    BadFrame,
    ClientEvent,
    ClientFrame,
    Ping,
    SignInRequest,
    SubscribeRequest,
    Unknown,
    UnsubscribeRequest,
)
from gateway.core.limit import TokenBucket, size_of
from gateway.core.publication import USER_CHANNEL, Publication
from gateway.core.roster import Member
from gateway.core.user import User, member_of, user_of

#: Frames that are no JSON object with an event which a connection may send; the next one ends it. Well-meaning clients
#: send none; twenty leave room for somebody trying things out by hand.
MOST_BAD_FRAMES = 20

#: WebSocket close code: the endpoint's policy was violated (RFC 6455 section 7.4.1)
_POLICY_VIOLATION = 1008

_NOTHING: tuple[Effect, ...] = ()
_PONG: tuple[Effect, ...] = (Reply(codec.pong()),)
_NO_CHANNELS: Mapping[str, Member | None] = MappingProxyType({})


class Session:
    """The state of one connection. `app` may be replaced by a newer version of itself at any time."""

    __slots__ = ("_bad_frames", "_channels", "_events", "_turns", "app", "authenticated", "socket_id", "user")

    def __init__(self, app: App, socket_id: str) -> None:
        self.app = app
        self.socket_id = socket_id
        #: whether a signature of this connection has been verified, and what it was for was granted
        self.authenticated = False
        #: who has signed in
        self.user: User | None = None
        # most connections send no events and make no mistakes, and there are many of them: what few need is made late
        self._channels: dict[str, Member | None] | None = None
        self._events: TokenBucket | None = None
        # Made with the first channel that is left: until then nobody can have subscribed to more than he may hold.
        self._turns: TokenBucket | None = None
        self._bad_frames = 0

    @property
    def channels(self) -> Mapping[str, Member | None]:
        """The channels held, in order of subscription, and as whom on presence channels: a live view."""
        return _NO_CHANNELS if self._channels is None else self._channels

    @property
    def is_authorised(self) -> bool:
        """Whether the connection has proved that the app's backend knows it: by a subscription, or by signing in."""
        return self.authenticated or self.user is not None

    def receive(self, frame: ClientFrame, now: float) -> Sequence[Effect]:
        """Return what a frame asks for, in the order in which it must be carried out; `now` is monotonic seconds.

        After a `Close` nothing more is done for this connection, whatever it sends.
        """
        if self._bad_frames > MOST_BAD_FRAMES:
            return _NOTHING
        match frame:
            case ClientEvent():
                return self._client_event(frame, now)
            case Ping():
                return _PONG
            case SubscribeRequest():
                return self._subscribe(frame, now)
            case UnsubscribeRequest():
                return self._unsubscribe(frame.channel)
            case SignInRequest():
                return self._sign_in(frame, now)
            case BadFrame():
                return self._bad_frame(frame)
            case Unknown():
                # answered, never counted: a newer client may know events that we do not
                return (_error(f"unknown event {_cut(frame.event, 100)}"),)
            case _:
                return _NOTHING

    def entered(self, channel: str) -> Sequence[Effect]:
        """The roster let this connection in: return what must be recorded before its subscription.

        Only now does its signature count as verified: what was refused after all has proved nothing.
        """
        if self.authenticated or not kind_of(channel).needs_auth:
            return _NOTHING
        self.authenticated = True
        return (Authenticated(channel),)

    def revoke(self, channel: str, sentence: str = "") -> Sequence[Effect]:
        """Forget a channel that was refused after all, and return what tells the client; of one not held, nothing.

        `sentence` says why; by default, that the roster found the channel full.
        """
        if channel not in self.channels:
            return _NOTHING
        self._forget(channel)
        sentence = sentence or f"the channel is full: {self.app.limits.presence_members} members"
        return _refused(channel, "LimitReached", sentence, 4100)

    def refuse_sign_in(self, before: User | None) -> Sequence[Effect]:
        """Take back a sign-in that the node has no room to record: whoever was signed in `before` is so again."""
        self.user = before
        return (_error("the event queue is full: sign in again later"),)

    def overloaded(self, publication: Publication) -> Sequence[Effect]:
        """Return what becomes of a client event that the node has no room to record."""
        sentence = "the gateway has no room for this client event now: send it again later"
        size = size_of(publication.data)
        return (
            _error(sentence, Code.CLIENT_EVENT_REFUSED),
            Rejected("overloaded", publication.channels[0], publication.event, size),
        )

    # -- who it is

    def _sign_in(self, request: SignInRequest, now: float) -> Sequence[Effect]:
        app, before = self.app, self.user
        if not app.user_signin:
            return (_error("user sign-in is switched off for this app"),)
        wrong = user_signature_error(app, self.socket_id, request.auth, request.user_data)
        if wrong is not None:
            return (_error(wrong), AuthFailed(None, wrong))
        # only now: what nobody has signed is not worth parsing
        user = user_of(request.user_data, app.limits, watches=app.watchlists)
        if isinstance(user, str):
            return (_error(user),)
        if before is not None and before.id != user.id:
            return (_error(f"this connection is signed in as {before.id}: to be somebody else, open another one"),)
        if before is not None and not self._has_turn(now):
            return (_error(self._too_often()), Throttled())
        self.user = user
        return (SignIn(user, request.user_data, before),)

    # -- subscriptions

    def _subscribe(self, request: SubscribeRequest, now: float) -> Sequence[Effect]:
        channel = request.channel
        limits = self.app.limits
        if self.user is not None and channel == USER_CHANNEL + self.user.id:
            # its events come since the sign-in; clients ask all the same, and wait for this
            return (Reply(codec.subscription_succeeded(channel, None)),)
        # the name comes first: only a legal one, which has no colon, makes the signed string unambiguous
        if not is_legal(channel, limits.channel_name):
            return _refused(channel, "InvalidChannel", _illegal(channel, limits), 400)
        if channel in self.channels:
            # no subscription_error: the client would take the subscription it has for lost
            return (_error(f"existing subscription to channel {channel}"),)
        if len(self.channels) >= limits.channels_per_connection:
            sentence = f"a connection may hold {limits.channels_per_connection} channels"
            return _refused(channel, "LimitReached", sentence, 4100)
        kind = kind_of(channel)
        if not kind.needs_auth:
            return self._hold(channel, None, now)

        wrong = channel_signature_error(self.app, self.socket_id, channel, request.auth, request.channel_data)
        if wrong is not None:
            return (*_refused(channel, "AuthError", wrong, 401), AuthFailed(channel, wrong))
        member = None
        if kind.has_members:
            # only now: what nobody has signed is not worth parsing
            if request.channel_data is None and self.user is not None:
                found = self.user.member
            else:
                found = member_of(request.channel_data, limits)
            if isinstance(found, str):
                return _refused(channel, "InvalidData", found, 400)
            member = found
        return self._hold(channel, member, now)

    def _hold(self, channel: str, member: Member | None, now: float) -> Sequence[Effect]:
        if self._turns is not None and not self._has_turn(now):
            return (*_refused(channel, "LimitReached", self._too_often(), 429), Throttled())
        if self._channels is None:
            self._channels = {}
        self._channels[channel] = member
        return (Subscribe(channel, member),)

    def _unsubscribe(self, channel: str) -> Sequence[Effect]:
        if channel not in self.channels:
            return _NOTHING
        return (Unsubscribe(channel, self._forget(channel)),)

    def _forget(self, channel: str) -> Member | None:
        assert self._channels is not None
        member = self._channels.pop(channel)
        if not self._channels:
            self._channels = None
        if self._turns is None:
            self._turns = TokenBucket(*_pace(self.app.limits))
        return member

    def _has_turn(self, now: float) -> bool:
        """Tell whether one more subscription or sign-in may be carried out now, and count it."""
        rate, burst = _pace(self.app.limits)
        if self._turns is None or (self._turns.rate, self._turns.burst) != (rate, burst):
            self._turns = TokenBucket(rate, burst)
        return rate == 0 or self._turns.take(now)

    def _too_often(self) -> str:
        rate, burst = _pace(self.app.limits)
        return f"a connection may subscribe {rate} times per second, and {burst} times at once: try again later"

    # -- client events

    def _client_event(self, frame: ClientEvent, now: float) -> Sequence[Effect]:
        app = self.app
        channel = frame.channel
        held = self._channels
        if not app.client_events:
            return self._reject("client_events_disabled", "client events are switched off for this app", frame)
        if len(frame.event) > app.limits.event_name:
            sentence = f"the name of a client event may have {app.limits.event_name} characters"
            return self._reject("invalid_event", sentence, frame)
        if held is None or channel not in held:
            return self._not_held(frame)
        if not kind_of(channel).allows_client_events:
            return self._not_allowed(frame)
        if size_of(frame.data) > app.limits.event_data:
            sentence = f"the data of a client event may have {app.limits.event_data} bytes"
            return self._reject("payload_too_large", sentence, frame, Code.CLIENT_EVENT_REFUSED)
        if self._events is None or self._events.rate != app.limits.client_events:
            self._events = TokenBucket(app.limits.client_events)
        if not self._events.take(now):
            sentence = f"a connection may send {app.limits.client_events} client events per second"
            return self._reject("rate_limited", sentence, frame, Code.CLIENT_EVENT_REFUSED)
        member = held[channel]
        user_id = None if member is None else member.user_id
        return (
            Publish(
                Publication(
                    app_id=app.id,
                    event=frame.event,
                    channels=(channel,),
                    data=frame.data,
                    except_socket_id=self.socket_id,
                    from_client=True,
                    user_id=user_id,
                )
            ),
        )

    def _not_held(self, frame: ClientEvent) -> Sequence[Effect]:
        """Say the most telling thing that is wrong with a channel which is not held."""
        if not is_legal(frame.channel, self.app.limits.channel_name):
            return self._reject("invalid_channel", _illegal(frame.channel, self.app.limits), frame)
        if not kind_of(frame.channel).allows_client_events:
            return self._not_allowed(frame)
        sentence = f"client events need a subscription: this connection is not subscribed to {frame.channel}"
        return self._reject("not_subscribed", sentence, frame)

    def _not_allowed(self, frame: ClientEvent) -> Sequence[Effect]:
        sentence = "client events go to private and presence channels only, and not to encrypted ones"
        return self._reject("not_allowed", sentence, frame)

    def _reject(self, reason: str, sentence: str, frame: ClientEvent, code: Code | None = None) -> Sequence[Effect]:
        # a name over its limit is not worth keeping; the mark that it was cut is in no legal channel name
        limits = self.app.limits
        channel, event = _cut(frame.channel, limits.channel_name), _cut(frame.event, limits.event_name)
        return (_error(sentence, code), Rejected(reason, channel, event, size_of(frame.data)))

    # -- mistakes

    def _bad_frame(self, frame: BadFrame) -> Sequence[Effect]:
        if frame.counts:
            self._bad_frames += 1
            if self._bad_frames > MOST_BAD_FRAMES:
                return (Close(_POLICY_VIOLATION, f"more than {MOST_BAD_FRAMES} messages that are no frames"),)
        if frame.event is None:
            return (_error(frame.sentence),)
        channel, event, reason = frame.event
        limits = self.app.limits
        channel = None if channel is None else _cut(channel, limits.channel_name)
        return (_error(frame.sentence), Rejected(reason, channel, _cut(event, limits.event_name), 0))


def _pace(limits: Limits) -> tuple[int, int]:
    """Return how often a connection may subscribe: per second, and at once, since a page may change all its channels."""
    return limits.subscriptions, max(limits.subscriptions, limits.channels_per_connection)


def _illegal(channel: str, limits: Limits) -> str:
    if channel.startswith("#"):
        return f"channels whose name begins with # are reserved; {USER_CHANNEL}ID is for who has signed in as ID"
    return f"a channel name has 1 to {limits.channel_name} characters out of A-Z a-z 0-9 _ - = @ , . ;"


def _refused(channel: str, type: str, sentence: str, status: int) -> tuple[Effect, ...]:
    """Return both ways to say it: the documented one, and the one that reaches the owner of the channel."""
    return (_error(sentence), Reply(codec.subscription_error(channel, type, sentence, status)))


def _error(sentence: str, code: Code | None = None) -> Reply:
    return Reply(codec.error(code, sentence))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "…"
