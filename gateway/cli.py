"""The command `rawpush`: what was asked for, and what is printed about it.

Exit codes: 0 done, 1 the thing failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway import __version__
from gateway.command import doctor, listen, operator, publish, tail, webhooks
from gateway.command.error import Misused, Refused
from gateway.config import AppEntry, Config, ConfigError, is_loopback, load, printable, resolve, shown_duration, shown_url
from gateway.core.endpoint import Endpoint
from gateway.core.error import GatewayError

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

DONE, FAILED, WRONG_USAGE = 0, 1, 2

#: Below so many open files a gateway is a toy: it is what shells grant by default.
_FEW_FILES = 4096

_ABOUT = """\
RawPush Gateway: Pusher Channels over WebSockets, with signed webhooks whose ledger balances.

Browsers and apps connect with the client library they have (pusher-js, Laravel Echo, ...), back ends publish with
the Pusher HTTP SDK they have, and the gateway tells them through webhooks what happens: who connected, which
channel woke up or fell empty, what was published, what was refused.
"""

_EXAMPLES = """\
the first five minutes:
  rawpush dev                                everything in one terminal, no file needed

with a file (config.example.toml lists every setting):
  rawpush check -c config.toml               all mistakes, with their places
  rawpush check -c config.toml --resolved    every value, and where it came from
  rawpush serve -c config.toml               run it; SIGTERM or Ctrl-C stops it, and loses nothing

against a running gateway:
  rawpush status -c config.toml              is it well, and what is happening
  rawpush doctor -c config.toml --url wss://rt.example.com
  rawpush reload -c config.toml              read the file again; connections stay
  rawpush publish -c config.toml room-7 created '{"id":17}'
  rawpush tail -c config.toml room-7         what arrives on a channel
  rawpush listen -c config.toml --forward http://localhost:3000/webhooks
  rawpush webhooks list -c config.toml       state, backlog and dead letters of each endpoint
  rawpush webhooks replay -c config.toml backend --dead

exit codes: 0 done, 1 it failed, 2 wrong usage
"""

_SERVE = """\
Run the gateway. The file is checked first: with any mistake in it nothing is started and the port stays closed.
Start-up lines and "ready" go to standard output, the log to standard error.

SIGTERM or Ctrl-C: no new connections, the live ones are sent away over [server] drain, what is due is delivered for
at most [server] shutdown_timeout, and the rest waits in the outbox for the next start.

Any setting of [server], [outbox] and [log] can be overridden from the environment, for example
RAWPUSH_SERVER__PORT=8001 or RAWPUSH_LOG__LEVEL=debug.
"""

_CHECK = """\
Read the file and the environment as "serve" would, without starting anything. Every mistake is printed, with its
line, its place and, for a misspelt name, the nearest valid one; the exit code is 1 if there is any.
"""

_DEV = """\
A gateway on this machine's loopback address with an app that lives as long as the command, and a receiver that
verifies every webhook and prints it in one line. Prints what to paste into a page, into Node and into Python, and
answers at /pusher/auth, so that private and presence channels work without a back end. Nothing is kept.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; wrong usage ends in SystemExit(2), as argparse does it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character must not turn a sentence about it into a stack trace.
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        match options.command:
            case "serve":
                return _serve(options.config)
            case "check":
                return _check(options.config, options.resolved)
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


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("rawpush", description=_ABOUT, epilog=_EXAMPLES, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"rawpush {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the gateway", description=_SERVE, formatter_class=raw)
    check = commands.add_parser("check", help="say what is wrong in a file", description=_CHECK, formatter_class=raw)
    dev = commands.add_parser("dev", help="try everything out, without a file", description=_DEV, formatter_class=raw)
    for room in (doctor, publish, tail, listen, webhooks):
        room.add_parser(commands)
    operator.add_parsers(commands)
    for command in (serve, check):
        command.add_argument(
            "-c", "--config", type=Path, default=Path("config.toml"), metavar="FILE", help="default: config.toml"
        )
    check.add_argument("--resolved", action="store_true", help="print every value and where it came from; secrets only as set")
    dev.add_argument("--port", type=_port, metavar="N", help="0: any free port; default: 6001, or a free one if that is taken")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: it must be a number from 0 to 65535")
    return int(text)


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
