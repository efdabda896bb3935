"""The configuration: one TOML file and the environment, read into frozen records; every mistake is reported at once.

`load(path, environ)` answers a `Config` or raises `ConfigError`. Relative paths start at the working directory. A secret
may be written as `env:NAME` or `file:PATH`; `RAWPUSH_SECTION__SETTING` overrides any setting that stands once in a file.
"""

from __future__ import annotations

from gateway.config.certificate import check_pair, expiry
from gateway.config.kind import is_loopback, printable, shown_duration
from gateway.config.problem import ConfigError, Problem
from gateway.config.reader import Resolved, Row, load, load_admin, resolve
from gateway.config.record import Admin, AppEntry, Config, DeliverySettings, Log, OutboxSettings, Server, Tls
from gateway.core.endpoint import shown_url

__all__ = [
    "Admin",
    "AppEntry",
    "Config",
    "ConfigError",
    "DeliverySettings",
    "Log",
    "OutboxSettings",
    "Problem",
    "Resolved",
    "Row",
    "Server",
    "Tls",
    "check_pair",
    "expiry",
    "is_loopback",
    "load",
    "load_admin",
    "printable",
    "resolve",
    "shown_duration",
    "shown_url",
]
