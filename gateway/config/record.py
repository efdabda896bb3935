"""The whole configuration as frozen records. Every default that is not the core's own stands here, once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gateway.core.app import App
from gateway.core.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate chain and private key of the listening port: two PEM files."""

    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class Server:
    """The listening port and the process. Times in seconds, sizes in bytes; relative paths start at the working directory."""

    host: str = "127.0.0.1"
    #: the file allows 1 to 65535; a program may pass 0 for any free port
    port: int = 6001
    #: begins with a slash and does not end with one, or is empty
    path_prefix: str = ""
    #: empty: the host's name
    node: str = ""
    state_dir: str = "state"
    #: closing all sockets at once would bring all clients back at once
    drain_s: float = 5.0
    #: what process supervisors commonly grant before they kill
    shutdown_timeout_s: float = 30.0
    recovery_linger_s: float = 30.0
    #: a path to listen on besides the port; empty: none
    unix_socket: str = ""
    #: its permissions: the user and the group may connect
    unix_socket_mode: str = "660"
    #: networks whose X-Forwarded-For is believed
    trusted_proxies: tuple[str, ...] = ()
    #: their connections begin with a header of the PROXY protocol
    proxy_protocol: bool = False
    #: what the protocol documents: silence for so long asks for a ping, and so long is waited for the answer
    activity_timeout_s: float = 120.0
    pong_timeout_s: float = 30.0
    handshake_timeout_s: float = 10.0
    #: connections that one address may open: a second, and at once; 0: any number
    newcomers_per_address: int = 0
    #: as many as sit in a large office, and reconnect together
    newcomers_burst: int = 500
    #: per connection; who has more waiting is cut off as a slow consumer
    send_buffer: int = 1_048_576
    compression: bool = False
    #: smaller messages fit one packet as they are, and gain little
    compression_min: int = 512
    #: bits: 4 KB are enough for one message, which is all that is looked back upon, and cheap to set up
    compression_window: int = 12
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """Where events and deliveries wait."""

    mode: Literal["disk", "memory"] = "disk"
    synchronous: Literal["normal", "full"] = "normal"
    queue_capacity: int = 100_000
    max_size: int = 2 * 1024**3
    retention_s: float = 259_200.0


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Where webhooks may go, whatever an endpoint's URL says or its name resolves to; networks in CIDR notation."""

    #: False: not to private and loopback addresses
    allow_private: bool = True
    refuse_networks: tuple[str, ...] = ()
    #: comes before all refusals, those that need no asking included
    allow_networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Admin:
    """The operator's port: health, metrics, questions and orders, for who runs the gateway."""

    enabled: bool = True
    host: str = "127.0.0.1"
    #: 0: any free one
    port: int = 6002
    #: empty: none, which only a loopback address may have
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged, and how it looks."""

    level: str = "info"
    #: `auto`: text on a terminal, else json
    format: str = "auto"


@dataclass(frozen=True, slots=True)
class AppEntry:
    """One `[[apps]]` entry: the tenant and where its webhooks go."""

    app: App
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration without mistakes."""

    server: Server = field(default_factory=Server)
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    admin: Admin = field(default_factory=Admin)
    log: Log = field(default_factory=Log)
    apps: tuple[AppEntry, ...] = ()
