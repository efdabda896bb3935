"""Which app a command speaks for, and where its gateway is."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.command.error import Misused
from gateway.command.option import read_secret
from gateway.config import AppEntry, Config, load
from gateway.core.app import App

#: where `rawpush dev` and a file without [server] listen
_USUAL = "http://127.0.0.1:6001"

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Target:
    """An app and where it is served: `url` is http or https, with the mount prefix and without a slash at its end."""

    app: App
    url: str
    #: where the answer was in a file; else None
    config: Config | None = None

    @property
    def entry(self) -> AppEntry | None:
        """What the file says of the app, if there is one."""
        if self.config is None:
            return None
        return next(entry for entry in self.config.apps if entry.app.id == self.app.id)

    @property
    def socket(self) -> str:
        """The URL of the app's WebSockets."""
        return f"ws{self.url.removeprefix('http')}/app/{self.app.key}"


def target(options: argparse.Namespace, *, needs_id: bool = True) -> Target:
    """Return what the options (see `option.add_app`) say; raises ConfigError, and Misused where it is not clear."""
    if options.key is None and options.secret is None:
        config = load(options.config, os.environ)
        return Target(_app(config, options.app), normal_url(options.url or address(config)), config)
    if options.key is None or options.secret is None:
        raise Misused("--key and --secret go together, and stand for the file")
    if options.app is None and needs_id:
        raise Misused("--key and --secret need the app's id too, since it stands in the paths of the API: --app ID")
    app = App(options.app or "", options.key, read_secret("--secret", options.secret))
    return Target(app, normal_url(options.url or _USUAL))


def address(config: Config) -> str:
    """Return the URL of the API of a gateway that runs on this machine with this configuration."""
    server = config.server
    return f"http{'s' if server.tls else ''}://{reachable(server.host)}:{server.port}{server.path_prefix}"


def reachable(host: str) -> str:
    """Return the host of a URL at which one reaches what listens there: nobody can connect to "all addresses"."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def normal_url(text: str) -> str:
    """Return a URL of --url as http or https, without a slash at its end; raises Misused where it is none."""
    url = text.rstrip("/")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in _SCHEMES or parts.query or parts.fragment or parts.username is not None:
        raise Misused(f"--url must be such as http://127.0.0.1:6001, not {text}")
    return parts._replace(scheme=_SCHEMES[parts.scheme]).geturl()


def _app(config: Config, app_id: str | None) -> App:
    apps = {entry.app.id: entry.app for entry in config.apps}
    if app_id is None and len(apps) == 1:
        return next(iter(apps.values()))
    if app_id is None:
        raise Misused(f"the file has several apps; say which with --app: {', '.join(apps)}")
    if app_id not in apps:
        raise Misused(f"the file has no app {app_id}; there is {', '.join(apps)}")
    return apps[app_id]
