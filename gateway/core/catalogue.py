"""What each lifecycle event tells, field by field: the reference is generated from this, and tests hold the gateway to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Fact:
    """One member of an event's `data`. `type` is JSON's: string, integer, boolean, object."""

    name: str
    type: str
    meaning: str
    #: it may be absent
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One event: when it happens, what its order is kept for (`subject`), and its `data`."""

    when: str
    subject: str
    facts: tuple[Fact, ...]


_SOCKET = Fact("socket_id", "string", "the connection, as the client knows it")
_SPAN = Fact("span", "string", "the same at the event that begins and at the one that ends")
_CONNECTION = (
    _SOCKET,
    Fact("remote_ip", "string", "the client's address; behind a trusted proxy what that says", True),
    Fact("user_agent", "string", "what the client calls itself", True),
    Fact("origin", "string", "the page it was opened from", True),
    Fact("client", "string", "name and version of the client library", True),
    Fact("protocol", "integer", "protocol version the client asked for", True),
    Fact("user_id", "string", "the user, once the connection has proved who that is", True),
)
_REPEATS = Fact("repeats", "integer", "how many like it were counted instead of told, since the last one told", True)
_CHANNEL = (
    Fact("channel", "string", "its name"),
    Fact("type", "string", "`public`, `private`, `presence` or `encrypted`"),
    Fact("cache", "boolean", "`true` for a cache channel", True),
)
_SUBSCRIBERS = Fact("subscribers", "integer", "how many connections are subscribed after this")
_WHO = (
    Fact("socket_id", "string", "the connection that caused it; absent where none did", True),
    Fact("user_id", "string", "its user, on presence channels", True),
)
_MEMBER = (
    Fact("socket_id", "string", "the connection that caused it; absent where none did", True),
    Fact("user_id", "string", "the user who came or went"),
)
_MESSAGE = (
    Fact("channel", "string", "where it was published"),
    Fact("event", "string", "the event's name"),
    Fact("size", "integer", "of its data, in bytes of UTF-8"),
    Fact("recipients", "integer", "how many connections it was sent to"),
)
_PAYLOAD = Fact("data", "string", "the data as it was published; absent with `include_payload = false`", True)

#: by the event's name
ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        "connection.opened": Entry("A connection was established.", "connection", (*_CONNECTION[:1], _SPAN, *_CONNECTION[1:])),
        "connection.closed": Entry(
            "That connection ended, for whatever reason, the death of the gateway included.",
            "connection",
            (
                *_CONNECTION[:1],
                _SPAN,
                *_CONNECTION[1:],
                Fact("code", "integer", "the close code; 1006: there was none"),
                Fact(
                    "reason",
                    "string",
                    "`client`, `connection_lost`, `ping_timeout`, `slow_consumer`, `protocol_error`, `message_too_large`, "
                    "`terminated`, `unauthorised`, `app_removed`, `app_disabled`, `shutdown`, `gateway_lost`, `internal_error`",
                ),
                Fact("duration_ms", "integer", "how long it was open; after a crash, how long at most"),
                Fact("received_messages", "integer", "from the client; absent after a crash, as the next three", True),
                Fact("received_bytes", "integer", "from the client", True),
                Fact("sent_messages", "integer", "to the client", True),
                Fact("sent_bytes", "integer", "to the client", True),
                Fact("suppressed", "object", "what was counted and never told, by event", True),
            ),
        ),
        "connection.authenticated": Entry(
            "A signature of the client was verified: the first one of a subscription, and that of every sign-in.",
            "connection",
            (
                *_CONNECTION,
                Fact("channel", "string", "the channel it subscribes to; absent for a sign-in", True),
                Fact("signin", "boolean", "`true` for a sign-in", True),
            ),
        ),
        "connection.auth_failed": Entry(
            "A signature of the client was refused.",
            "connection",
            (
                *_CONNECTION,
                Fact("channel", "string", "the channel it wanted to subscribe to; absent for a sign-in", True),
                Fact("signin", "boolean", "`true` for a sign-in", True),
                Fact("reason", "string", "why, in words"),
                _REPEATS,
            ),
        ),
        "channel.subscribed": Entry("A connection joined a channel.", "channel", (*_CHANNEL, *_WHO, _SUBSCRIBERS)),
        "channel.unsubscribed": Entry(
            "A connection left a channel, by its own wish or with its end.",
            "channel",
            (*_CHANNEL, *_WHO, _SUBSCRIBERS, Fact("reason", "string", "`gateway_lost` after a crash", True)),
        ),
        "channel.occupied": Entry("A channel has its first subscriber.", "channel", (*_CHANNEL, _SPAN, *_WHO, _SUBSCRIBERS)),
        "channel.vacated": Entry(
            "A channel has no subscriber any more, and got none within the app's `linger`.",
            "channel",
            (*_CHANNEL, _SPAN, *_WHO, _SUBSCRIBERS),
        ),
        "channel.member_added": Entry(
            "A user, not a connection, joined a presence channel.", "channel", (*_CHANNEL, _SPAN, *_MEMBER, _SUBSCRIBERS)
        ),
        "channel.member_removed": Entry(
            "A user left a presence channel with his last connection, and did not come back within the app's `linger`.",
            "channel",
            (*_CHANNEL, _SPAN, *_MEMBER, _SUBSCRIBERS),
        ),
        "channel.subscription_count": Entry(
            "The number of a channel's subscribers changed; not of presence channels, and of more than 100 at most every 5 s. "
            "Only with `subscription_counts = true`.",
            "channel",
            (*_CHANNEL, _SUBSCRIBERS),
        ),
        "channel.cache_miss": Entry(
            "Somebody subscribed to a cache channel that has no event for him. Of several in a row only one in 10 s is told.",
            "channel",
            (*_CHANNEL, *_WHO, _SUBSCRIBERS),
        ),
        "message.published": Entry(
            "An event was accepted over HTTP and sent to the subscribers of a channel.", "channel", (*_MESSAGE, _PAYLOAD)
        ),
        "message.rejected": Entry(
            "An event was refused.",
            "channel",
            (
                Fact(
                    "reason",
                    "string",
                    "`rate_limited`, `payload_too_large`, `invalid_channel`, `invalid_event`, `invalid_data`, "
                    "`client_events_disabled`, `not_subscribed`, `not_allowed`, `unauthorized`, `overloaded`",
                ),
                Fact("source", "string", "`http` or `client`"),
                Fact("channel", "string", "where it was to be published, as far as that could be read", True),
                Fact("event", "string", "the event's name, as far as that could be read", True),
                Fact("size", "integer", "of what was refused, in bytes"),
                Fact("socket_id", "string", "the connection, for a client event", True),
                _REPEATS,
            ),
        ),
        "client_event": Entry(
            "A client's event was sent to the other subscribers of a channel.",
            "channel",
            (
                *_MESSAGE,
                Fact("socket_id", "string", "the connection that sent it"),
                Fact("user_id", "string", "its user, on presence channels", True),
                _PAYLOAD,
            ),
        ),
        "webhook.test": Entry(
            "Somebody asked for a test (`rawpush webhooks test`). Its sequence is 0.",
            "endpoint",
            (Fact("webhook_id", "string", "the endpoint's name"), Fact("message", "string", "a sentence")),
        ),
        "webhook.events_dropped": Entry(
            "Events for this endpoint were lost before they were delivered: its backlog was too long.",
            "endpoint",
            (
                Fact("endpoint", "string", "the endpoint's name"),
                Fact("count", "integer", "how many"),
                Fact("first_sequence", "integer", "the first that is missing"),
                Fact("last_sequence", "integer", "the last that is missing"),
            ),
        ),
    }
)
