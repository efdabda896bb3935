"""A tenant: its identity, its secrets, its limits and what it may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Limits:
    """The documented limits of the Pusher protocol are the defaults.

    Names and ids are counted in characters, everything else that has a size in bytes of UTF-8; rates are per second.
    """

    #: concurrent connections of the app; 0: no limit
    connections: int = 0
    channel_name: int = 164
    event_name: int = 200
    event_data: int = 10_240
    channels_per_publish: int = 100
    batch: int = 10
    #: client events per second and connection, with a burst of the same size
    client_events: int = 10
    #: events an app may publish over HTTP per second, and questions it may ask; 0: no limit
    publishes: int = 0
    reads: int = 0
    presence_members: int = 100
    presence_user_id: int = 128
    presence_user_info: int = 1_024
    #: users a connection may watch; of a longer list the first ones count
    watchlist: int = 100
    #: channels one connection may hold; no hosted limit is published, this one bounds a hostile client's memory
    channels_per_connection: int = 1_000
    #: subscriptions and repeated sign-ins per second and connection, after a burst of as many as it may hold; 0: no limit.
    #: Not well founded: each makes some eight lifecycle events at most, and nobody turns ten pages a second for long
    subscriptions: int = 10
    #: kept events of the app's cache channels, all together with what keeping them takes; 0: none is kept
    cache: int = 16_777_216
    #: one inbound WebSocket message, all fragments together. Room for a client event of full size whose data is escaped six-fold
    message: int = 65_536
    #: one HTTP request body: ten events of full size, escaped six-fold, with a hundred long channel names
    request: int = 1_048_576


@dataclass(frozen=True, slots=True)
class App:
    """One `[[apps]]` entry of the file, without its endpoints."""

    id: str
    key: str
    secret: str = field(repr=False)
    enabled: bool = True
    client_events: bool = True
    #: whether connections may sign in as users, and be told who of their watchlist comes and goes
    user_signin: bool = True
    watchlists: bool = True
    #: True: who has neither signed in nor got into a private or presence channel after so many seconds is sent away
    authorised_connections: bool = False
    authorisation_timeout_s: float = 30.0
    #: seconds a departure waits before it counts; 0 turns the wait off
    linger_s: float = 3.0
    #: seconds for which a cache channel keeps its last event: the longest the protocol documents
    cache_lifetime_s: float = 1_800.0
    #: True: subscribers are told their number, on all channels but presence channels
    subscription_counts: bool = False
    #: hosts (with * as a wildcard) whose pages may connect; a missing Origin is always allowed
    allowed_origins: tuple[str, ...] = ("*",)
    #: True: a full app answers 4004, which stops clients for good; False: 4100, come back later
    hard_connection_limit: bool = False
    #: True: a plain connection is refused with 4000, and clients come back over TLS
    needs_tls: bool = False
    #: True: a handshake without `protocol` is refused with 4008; False: it counts as 7
    needs_protocol: bool = True
    #: globs over kinds of event that are recorded for the feed although no endpoint wants them
    feed: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


def allows_origin(app: App, origin: str | None) -> bool:
    """Tell whether a page of this Origin may connect: its host is matched, `*` stands for anything, none is allowed."""
    if origin is None or "*" in app.allowed_origins:
        return True
    try:
        host = urlsplit(origin).hostname or origin
    except ValueError:
        host = origin
    return any(fnmatchcase(host, pattern.lower()) for pattern in app.allowed_origins)
