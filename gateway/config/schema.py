"""Every setting of the file: its name, its table, and what it may be. Defaults are those of the records."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from gateway.config.kind import (
    Kind,
    choice,
    duration,
    durations,
    flag,
    headers,
    networks,
    number,
    secret,
    secrets,
    size,
    text,
    texts,
    url,
    whole,
)
from gateway.config.record import Admin, Config, DeliverySettings, Log, OutboxSettings, Server, Tls
from gateway.core.app import App, Limits
from gateway.core.endpoint import Endpoint
from gateway.core.format import FORMATS
from gateway.core.retry import RetryPolicy

_KB, _MB, _GB, _TB = 1024, 1024**2, 1024**3, 1024**4
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86_400, 31_536_000


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the file and the record it becomes."""

    record: type[Any]
    settings: Mapping[str, Kind]
    #: tables inside it
    tables: Mapping[str, Table] = field(default_factory=dict)
    #: lists of tables inside it
    lists: Mapping[str, Table] = field(default_factory=dict)
    #: what people write from habit -> what it is here
    hints: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Everything that may stand in the table."""
        return [*self.settings, *self.tables, *self.lists]

    def defaults(self) -> dict[str, Any]:
        """Return the default of each setting that has one, by the setting's name; the others are required."""
        known: dict[str, Any] = {}
        for one in fields(self.record):
            if one.default is not MISSING:
                known[one.name] = one.default
            elif one.default_factory is not MISSING:
                known[one.name] = one.default_factory()
        return {name: known[name + kind.suffix] for name, kind in self.settings.items() if name + kind.suffix in known}


def _is_host(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", value) is not None
    return True


def _is_prefix(value: str) -> bool:
    return re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", value) is not None


def _is_socket_path(value: str) -> bool:
    """The system has room for 107 bytes (unix(7))."""
    return len(value.encode()) <= 100 and "\0" not in value


def _is_origin(value: str) -> bool:
    """Only the host of an Origin is compared, so anything more would never match."""
    return re.fullmatch(r"[^\s/:?#@]+|[0-9a-f:]*::[0-9a-f:]*", value) is not None


TLS = Table(Tls, {"cert": text("the path of a PEM file"), "key": text("the path of a PEM file")})

SERVER = Table(
    Server,
    {
        "host": text('an address or a host name, such as "0.0.0.0" (the port is a setting of its own)', _is_host),
        "port": whole(1, 65_535),
        "path_prefix": text('empty or a path such as "/realtime" (a slash in front, none at the end)', _is_prefix),
        "node": text("up to 64 letters, digits, dots, hyphens and underscores", re.compile(r"[\w.-]{0,64}", re.ASCII).fullmatch),
        "state_dir": text("the path of a directory"),
        "drain": duration(0, _HOUR),
        "shutdown_timeout": duration(0, _HOUR),
        "recovery_linger": duration(0, _DAY),
        "unix_socket": text("empty or a path of at most 100 bytes", _is_socket_path),
        "unix_socket_mode": text('permissions as chmod takes them, such as "660"', re.compile(r"[0-7]{3}").fullmatch),
        "trusted_proxies": networks(),
        "proxy_protocol": flag(),
        "activity_timeout": duration(1, _HOUR, whole_seconds=True),
        "pong_timeout": duration(1, _HOUR),
        "handshake_timeout": duration(0.1, 10 * _MINUTE),
        "newcomers_per_address": whole(0, 1_000_000),
        "newcomers_burst": whole(1, 1_000_000),
        "send_buffer": size(16 * _KB, _GB),
        "compression": flag(),
        "compression_min": size(0, _GB),
        "compression_window": whole(9, 15),
    },
    {"tls": TLS},
    hints={"address": 'it is called "host"', "bind": 'it is called "host"'},
)

OUTBOX = Table(
    OutboxSettings,
    {
        "mode": choice("disk", "memory"),
        "synchronous": choice("normal", "full"),
        "queue_capacity": whole(1, 100_000_000),
        "max_size": size(_MB, 1024 * _TB),
        "retention": duration(0, 10 * _YEAR),
    },
)

DELIVERY = Table(
    DeliverySettings,
    {"allow_private": flag(), "refuse_networks": networks(), "allow_networks": networks()},
)

ADMIN = Table(
    Admin,
    {
        "enabled": flag(),
        "host": text('an address or a host name, such as "0.0.0.0" (the port is a setting of its own)', _is_host),
        "port": whole(0, 65_535),
        "token": secret(),
    },
    hints={"address": 'it is called "host"', "bind": 'it is called "host"', "password": 'it is called "token"'},
)

LOG = Table(Log, {"level": choice("debug", "info", "warning", "error"), "format": choice("auto", "text", "json")})

LIMITS = Table(
    Limits,
    {
        "connections": whole(0, 100_000_000),
        "channel_name": whole(1, 10_000),
        "event_name": whole(1, 10_000),
        "event_data": size(1, 64 * _MB),
        "channels_per_publish": whole(1, 100_000),
        "batch": whole(1, 100_000),
        "client_events": whole(1, 1_000_000),
        "publishes": whole(0, 10_000_000),
        "reads": whole(0, 10_000_000),
        "presence_members": whole(1, 1_000_000),
        "presence_user_id": whole(1, 10_000),
        "presence_user_info": size(1, 64 * _MB),
        "watchlist": whole(1, 100_000),
        "channels_per_connection": whole(1, 1_000_000),
        "subscriptions": whole(0, 1_000_000),
        "cache": size(0, 64 * _GB),
        "message": size(_KB, 256 * _MB),
        "request": size(_KB, 256 * _MB),
    },
)

RETRY = Table(
    RetryPolicy,
    {
        "initial": duration(0.01, _DAY),
        "factor": number(1, 100),
        "max_delay": duration(0.01, 7 * _DAY),
        "max_age": duration(0, _YEAR),
        "max_attempts": whole(0, 1_000_000),
        "schedule": durations(0.01, 7 * _DAY),
    },
)

WEBHOOK = Table(
    Endpoint,
    {
        "name": text("letters, digits, dots, hyphens and underscores", re.compile(r"[\w.-]{1,64}", re.ASCII).fullmatch),
        "url": url(),
        "secrets": secrets(),
        "events": texts(),
        "channels": texts(),
        "exclude_channels": texts(),
        "event_names": texts(),
        "exclude_event_names": texts(),
        "format": choice(*FORMATS),
        "batch_max": whole(1, 10_000),
        "concurrency": whole(1, 256),
        "timeout": duration(0.1, 10 * _MINUTE),
        "headers": headers(),
        "include_payload": flag(),
    },
    {"retry": RETRY},
    hints={"secret": 'here it is a list: secrets = ["…"]', "event_types": 'it is called "events"'},
)

APP = Table(
    App,
    {
        "id": text("digits only (the Python SDK takes nothing else)", re.compile(r"[0-9]{1,32}").fullmatch),
        "key": text("letters, digits, hyphens and underscores", re.compile(r"[\w-]{1,128}", re.ASCII).fullmatch),
        "secret": secret(),
        "enabled": flag(),
        "client_events": flag(),
        "user_signin": flag(),
        "watchlists": flag(),
        "authorised_connections": flag(),
        "authorisation_timeout": duration(0.1, _DAY),
        "linger": duration(0, _DAY),
        "cache_lifetime": duration(1, _YEAR),
        "subscription_counts": flag(),
        "allowed_origins": texts('a host such as "*.example.com", without scheme, port and path', _is_origin),
        "needs_protocol": flag(),
        "needs_tls": flag(),
        "hard_connection_limit": flag(),
        "feed": texts(),
    },
    {"limits": LIMITS},
    {"webhooks": WEBHOOK},
    hints={
        "app_id": 'it is called "id"',
        "app_key": 'it is called "key"',
        "app_secret": 'it is called "secret"',
        "enable_client_messages": 'it is called "client_events"',
        "enable_user_authentication": 'it is called "user_signin"',
        "user_authentication_timeout": 'it is called "authorisation_timeout"',
        "enable_watchlist_events": 'it is called "watchlists"',
        "authorized_connections": 'it is called "authorised_connections"',
        "max_connections": 'it is "connections" in [apps.limits]',
    },
)

FILE = Table(Config, {}, {"server": SERVER, "outbox": OUTBOX, "delivery": DELIVERY, "admin": ADMIN, "log": LOG}, {"apps": APP})

#: tables by the way they are written in the file
TABLES = {
    "[server]": SERVER,
    "[outbox]": OUTBOX,
    "[delivery]": DELIVERY,
    "[admin]": ADMIN,
    "[log]": LOG,
    "[[apps]]": APP,
    "[apps.limits]": LIMITS,
    "[[apps.webhooks]]": WEBHOOK,
    "[apps.webhooks.retry]": RETRY,
}

#: what is documented for later versions; who writes it down must hear that it does nothing yet
NOT_YET = {
    "cluster": "running several nodes is",
}
