"""The command `rawpush`: what was asked for, and what is printed about it.

Exit codes: 0 done, 1 the thing failed, 2 wrong usage.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway import __version__
from gateway.command.error import Misused, Refused
from gateway.command.parser import command_line
from gateway.config import AppEntry, Config, ConfigError, is_loopback, load, printable, resolve, shown_duration, shown_url
from gateway.core.endpoint import Endpoint
from gateway.core.error import GatewayError

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

DONE, FAILED, WRONG_USAGE = 0, 1, 2

#: Below so many open files a gateway is a toy: it is what shells grant by default.
_FEW_FILES = 4096


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; wrong usage ends in SystemExit(2), as argparse does it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character must not turn a sentence about it into a stack trace.
            stream.reconfigure(errors="backslashreplace")
    parser = command_line()
    options = parser.parse_args(arguments)
    try:
        match options.command:
            case "serve":
                return _serve(options.config)
            case "check":
                return (_check_for_programs if options.json else _check)(options.config, options.resolved)
            case "dev":
                return _dev(options.port)
            case None:
                parser.print_help(sys.stderr)
                return WRONG_USAGE
        code: int = options.run(options)
        return code
    except ConfigError as error:
        return _broken(error)
    except Misused as error:
        print(f"rawpush: {printable(str(error))}", file=sys.stderr)
        return WRONG_USAGE
    except Refused as error:
        print(f"rawpush: {printable(str(error))}", file=sys.stderr)
        return FAILED
    except GatewayError as error:
        print(f"rawpush: cannot start: {printable(str(error))}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # Whoever read the output has gone. Pointing it nowhere keeps the interpreter's last flush silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return FAILED


# -- the commands


def _serve(path: Path) -> int:
    config = load(path, os.environ)
    for line in start_up_lines(config, path):
        _say(line)
    # Not at the top: `check` and a broken file must answer at once, and need none of it.
    from gateway.process import serve

    return serve(config, ready=_ready, load=lambda: load(path, os.environ))


def _ready(gateway: Gateway) -> None:
    server = gateway.config.server
    secure = "s" if server.tls else ""
    if gateway.admin_port:
        admin = gateway.config.admin
        token = "with the token" if admin.token else "no token: open to every program on this machine"
        _say(f"admin: http://{_bracketed(admin.host)}:{gateway.admin_port} (/metrics, /readyz, /v1/...; {token})")
    where = f"{_bracketed(server.host)}:{gateway.port}{server.path_prefix}"
    _say(f"ready: ws{secure}://{where}/app/KEY for clients, http{secure}://{where}/apps/ID/... for back ends")


def _check(path: Path, is_resolved: bool) -> int:
    resolved = resolve(path, os.environ)
    if is_resolved:
        wide = max(len(printable(row.place)) for row in resolved.rows)
        for row in resolved.rows:
            _say(f"{printable(row.place):{wide}} = {printable(row.value):24}  # {printable(row.source)}")
    apps = resolved.config.apps
    endpoints = sum(len(entry.endpoints) for entry in apps)
    mark = "# " if is_resolved else ""
    _say(f"{mark}{printable(str(path))}: no mistakes; {_count(len(apps), 'app')}, {_count(endpoints, 'endpoint')}")
    for hint in hints(resolved.config):
        _say(f"{mark}hint: {hint}")
    return DONE


def _check_for_programs(path: Path, is_resolved: bool) -> int:
    # Not at the top: nobody else needs them.
    import orjson

    from gateway.reload import mistakes

    try:
        resolved = resolve(path, os.environ)
    except ConfigError as error:
        _say(orjson.dumps({"ok": False, "mistakes": mistakes(error)}).decode())
        return FAILED
    apps = resolved.config.apps
    told: dict[str, object] = {"ok": True, "mistakes": [], "hints": list(hints(resolved.config)), "apps": len(apps)}
    told["endpoints"] = sum(len(entry.endpoints) for entry in apps)
    if is_resolved:
        told["values"] = [{"place": row.place, "value": row.value, "source": row.source} for row in resolved.rows]
    _say(orjson.dumps(told).decode())
    return DONE


def _dev(port: int | None) -> int:
    # Not at the top, for the same reason as above.
    from gateway.dev import run

    return run(port)


def _broken(error: ConfigError) -> int:
    for problem in error.problems:
        print(printable(str(problem)), file=sys.stderr)
    print(f"rawpush: {_count(len(error.problems), 'mistake')}; nothing was started", file=sys.stderr)
    if len(error.problems) == 1 and "No such file" in error.problems[0].sentence and not error.problems[0].place:
        print('hint: -c names the file; start from config.example.toml, or try "rawpush dev", which needs none', file=sys.stderr)
    return FAILED


# -- what is printed


def start_up_lines(config: Config, path: Path) -> Iterator[str]:
    """What is about to run, one line for each app and each endpoint, and what its operator may not have thought of."""
    outbox = config.outbox
    where = f"in {config.server.state_dir}, synchronous {outbox.synchronous}" if outbox.mode == "disk" else "in memory"
    yield f"RawPush {__version__}, {printable(str(path))}, outbox {printable(where)}"
    for entry in config.apps:
        yield _app_line(entry)
        for endpoint in entry.endpoints:
            yield _endpoint_line(endpoint)
    for hint in hints(config):
        yield f"hint: {hint}"


def _app_line(entry: AppEntry) -> str:
    app = entry.app
    parts = [
        f"key {app.key}",
        "secret set" if app.secret else "secret not set",
        f"client events {'on' if app.client_events else 'off'}",
        f"linger {shown_duration(app.linger_s)}",
        f"connections {app.limits.connections or 'unlimited'}",
    ]
    if app.allowed_origins != ("*",):
        parts.append("origins " + " ".join(app.allowed_origins or ("none",)))
    if not app.enabled:
        parts.append("DISABLED")
    return printable(f"app {app.id}: {', '.join(parts)}")


def _endpoint_line(endpoint: Endpoint) -> str:
    count = len(endpoint.secrets)
    parts = [
        shown_url(endpoint.url),
        f"{count} secrets set" if count > 1 else "secret set" if count else "secret not set",
        f"format {endpoint.format}",
        f"concurrency {endpoint.concurrency}",
        f"events {' '.join(endpoint.events) or 'none'}",
    ]
    if endpoint.channels != ("*",) or endpoint.exclude_channels:
        parts.append("channels " + " ".join([*endpoint.channels, *(f"not {glob}" for glob in endpoint.exclude_channels)]))
    if endpoint.headers:
        parts.append(f"headers {' '.join(endpoint.headers)}")
    return printable(f"  webhook {endpoint.name} -> {', '.join(parts)}")


def hints(config: Config) -> Iterator[str]:
    """One sentence for each thing that works as written, but perhaps not as meant."""
    server = config.server
    if not is_loopback(server.host) and server.tls is None:
        yield "TLS is left to a proxy in front; without one, everything crosses the network in clear"
    if config.admin.enabled and not is_loopback(config.admin.host):
        yield "the admin port speaks plain HTTP: keep it, and its token, inside a network you trust"
    if config.outbox.mode == "memory":
        yield "outbox.mode is memory: webhooks that are not delivered when the process ends are lost"
    for entry in config.apps:
        if not entry.endpoints:
            yield f"app {entry.app.id} has no webhooks: nobody is told what happens"
        for endpoint in entry.endpoints:
            parts = urlsplit(endpoint.url)
            if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
                yield f'webhook "{printable(endpoint.name)}" is sent over http: signed, but readable on the way'
    # The gateway takes all that it is allowed to take.
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < _FEW_FILES:
        yield f"the limit of open files is {files}, and every connection takes one; raise it (ulimit -Hn, LimitNOFILE=)"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _say(line: str) -> None:
    # Flushed line by line: who waits for "ready" on a pipe must get it.
    print(line, flush=True)
