"""`rawpush doctor`: looks a deployment over, from the disk to the last webhook, and says what helps."""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import ssl
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from gateway.command import finding, option
from gateway.command.error import Misused, Refused
from gateway.command.finding import Finding
from gateway.config import Config, ConfigError, load
from gateway.core.app import App

if TYPE_CHECKING:
    from gateway.command.admin import AdminClient

DONE, FAILED = 0, 1

#: a metric of the running gateway, and how it is written
_FILES = re.compile(r"^process_max_fds (\S+)$", re.MULTILINE)

_ABOUT = """\
Look a deployment over: whether the gateway runs and accepts work, how many files it may open, whether the state
directory can be written, has room and is no network drive, whether a client gets in at the public address (--url: name,
TLS, certificate, upgrade, first frame), whether signed requests get through there, whether the clocks agree; and what
each endpoint answers to a webhook.test, which the gateway sends now. With --idle it then holds a connection to the public
address without a word, for as long as one can be silent, and says whether something on the way cuts it.

Each check ends as ok, warning or failed, with what helps; the exit code is 1 if any has failed. Run it on the gateway's
machine, with the gateway running.
"""

_EXAMPLES = """\
  rawpush doctor -c config.toml
  rawpush doctor -c config.toml --url wss://rt.example.com
  rawpush doctor -c config.toml --url wss://rt.example.com --idle
  rawpush doctor -c config.toml --json | jq '.checks[] | select(.state != "ok")'
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser of `rawpush`."""
    parser = option.add_parser(
        commands, "doctor", run, help="look a deployment over, and say what helps", about=_ABOUT, examples=_EXAMPLES
    )
    option.add_config(parser)
    parser.add_argument("--app", metavar="ID", help="look at this app only; default: all webhooks, and connect as the first app")
    parser.add_argument("--url", metavar="URL", help="where clients find the gateway, such as wss://rt.example.com")
    parser.add_argument(
        "--idle",
        metavar="TIME",
        nargs="?",
        const=0.0,
        type=option.seconds(1, 3600),
        help="see whether a silent connection to --url lives; for so long, such as 60s, or for [server] activity_timeout",
    )
    parser.add_argument("--admin-url", metavar="URL", help="where the admin port is; default: where [admin] of the file says")
    option.add_json(parser, "print all findings as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Look everything over and return the exit code; raises ConfigError and Misused."""
    # Not at the top, for the reason given in `webhooks.run`.
    from gateway.command.admin import AdminClient

    try:
        config = load(options.config, os.environ)
    except ConfigError as error:
        if not options.json:
            raise
        remedy = "correct the file; rawpush check says the same"
        return _end([Finding("file", "failed", str(problem), remedy) for problem in error.problems], options)
    if options.app is not None and options.app not in [entry.app.id for entry in config.apps]:
        raise Misused(f"the file has no app {options.app}")
    if options.idle is not None and options.url is None:
        raise Misused("--idle is about what stands in front of the gateway: say where that is, with --url")
    # Asked for at once, so that a mistake in an address is not found after half of the checks.
    admin = AdminClient(config.admin, options.admin_url, "--admin-url") if config.admin.enabled or options.admin_url else None
    findings = []
    for one in _checks(config, options, admin):
        findings.append(one)
        if not options.json:
            print("\n".join(finding.lines([one])), flush=True)
    return _end(findings, options)


def _end(findings: list[Finding], options: argparse.Namespace) -> int:
    failed = sum(one.state == "failed" for one in findings)
    if options.json:
        print(orjson.dumps({"ok": not failed, "checks": [one.answer() for one in findings]}).decode(), flush=True)
    return FAILED if failed else DONE


def _checks(config: Config, options: argparse.Namespace, admin: AdminClient | None) -> Iterator[Finding]:
    yield Finding("file", "ok", f"{options.config} has no mistakes")
    is_running = False
    for one in _running(admin):
        is_running |= one.state == "ok"
        yield one
    yield _open_files(admin if is_running else None)
    yield from state_directory(config)
    yield from _ways_in(config, options)
    yield from _webhooks(config, options, admin if is_running else None)
    # Last, because it takes minutes.
    if options.idle is not None:
        yield from _silence(config, options)


def _running(admin: AdminClient | None) -> Iterator[Finding]:
    if admin is None:
        yield Finding(
            "gateway", "warning", "not asked: [admin] enabled = false", "open the admin port, which harms nobody on loopback"
        )
        return
    try:
        _, overview = admin.call("GET", "/v1/overview", limit=1)
    except Refused as error:
        yield Finding("gateway", "failed", str(error), "start it: rawpush serve")
        return
    version = f"RawPush {overview['version']}"
    if overview["ready"]:
        yield Finding("gateway", "ok", f"{version} runs at {admin.url} and accepts work")
        return
    # It runs, and can be asked the rest.
    yield Finding("gateway", "ok", f"{version} runs at {admin.url}")
    yield Finding(
        "readiness", "failed", "; ".join(overview["reasons"]), "see the log, and When the disk fails in docs/operating.md"
    )


def _open_files(admin: AdminClient | None) -> Finding:
    if admin is not None:
        try:
            found = _FILES.search(admin.text("/metrics"))
        except Refused:
            found = None
        if found is not None:
            return finding.open_files(int(float(found[1])), "the gateway")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return finding.open_files(None if hard == resource.RLIM_INFINITY else hard, "what this shell starts")


def state_directory(config: Config) -> Iterator[Finding]:
    """Look at where the outbox lives, without writing anything."""
    if config.outbox.mode == "memory":
        found = "[outbox] mode is memory: webhooks that are due when the process ends are lost"
        yield Finding("state directory", "warning", found, 'set [outbox] mode = "disk"')
        return
    folder = Path(config.server.state_dir).resolve()
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        remedy = "let the user that runs the gateway write there, or change [server] state_dir"
        yield Finding("state directory", "failed", f"{nearest} cannot be written by this user", remedy)
    else:
        made = "" if nearest == folder else ", and will be made"
        yield Finding("state directory", "ok", f"{folder} can be written{made}")
    try:
        used = sum(one.stat().st_size for one in folder.iterdir() if one.is_file()) if folder.is_dir() else 0
        yield finding.space(shutil.disk_usage(nearest).free, used, config.outbox.max_size, str(folder))
        yield finding.file_system(finding.kind_of_mount(Path("/proc/self/mountinfo").read_text(), str(nearest)), str(folder))
    except OSError as error:
        yield Finding("free space", "warning", f"cannot be told: {error}", "look at it as the user that runs the gateway")


def expects_proxy_header(config: Config) -> bool:
    """Tell whether the gateway takes what connects over loopback for a proxy that begins with a header."""
    server = config.server
    loopback = ip_address("127.0.0.1")
    return server.proxy_protocol and any(loopback in ip_network(one, strict=False) for one in server.trusted_proxies)


def _ways_in(config: Config, options: argparse.Namespace) -> Iterator[Finding]:
    from gateway.command import dial
    from gateway.command.client import Client
    from gateway.command.target import Target, address, normal_url

    app = _app(config, options)
    if app is None:
        yield Finding("way in", "failed", "no app is enabled", "enable one: [[apps]] enabled = true")
        return
    here = Target(app, address(config))
    if expects_proxy_header(config):
        found = "not dialled: connections from this machine begin with a header of the PROXY protocol"
        yield Finding("local address", "warning", found, "go in by the proxy: --url wss://...")
    else:
        # The certificate names the public host, and the loopback address is none of its names.
        yield from dial.socket(here, "local address", trusts_all=True)
    if options.url is None:
        remedy = "say where clients find the gateway: --url wss://..."
        yield Finding("public address", "warning", "not checked", remedy)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        yield dial.clock(here.url, context)
        return
    public = Target(app, normal_url(options.url))
    yield from dial.socket(public, "public address")
    try:
        Client(public).get("channels")
        yield Finding("HTTP API", "ok", f"a signed request to {public.url} was answered")
    except Refused as error:
        remedy = "the proxy must pass /apps/ and its query on unchanged, and the running gateway must have this secret"
        yield Finding("HTTP API", "failed", f"a signed request to {public.url}: {error}", remedy)
    yield dial.clock(public.url)


def _silence(config: Config, options: argparse.Namespace) -> Iterator[Finding]:
    from gateway.command.progress import Progress
    from gateway.command.silence import silence
    from gateway.command.target import Target, normal_url

    app = _app(config, options)
    if app is None:
        return
    progress = Progress(sys.stderr.isatty())
    found = silence(Target(app, normal_url(options.url)), options.idle, progress.tell)
    progress.end()
    yield found


def _app(config: Config, options: argparse.Namespace) -> App | None:
    return next((entry.app for entry in config.apps if entry.app.enabled and options.app in (None, entry.app.id)), None)


def _webhooks(config: Config, options: argparse.Namespace, admin: AdminClient | None) -> Iterator[Finding]:
    for entry in config.apps:
        if options.app not in (None, entry.app.id):
            continue
        if not entry.endpoints:
            found = f"app {entry.app.id} has no webhooks: nobody is told what happens"
            yield Finding("webhooks", "warning", found, "add [[apps.webhooks]], or leave it so if that is meant")
        for endpoint in entry.endpoints:
            name = f"{entry.app.id}/{endpoint.name}"
            if admin is None:
                yield Finding(f"webhook {name}", "warning", "not tested: the gateway could not be asked", "start the gateway")
                continue
            path = f"/v1/apps/{quote(entry.app.id, safe='')}/webhooks/endpoints/{quote(endpoint.name, safe='')}/test"
            try:
                yield finding.webhook(name, admin.call("POST", path)[1])
            except Refused as error:
                remedy = "have the file read again: rawpush reload" if error.status == 404 else "see the gateway's log"
                yield Finding(f"webhook {name}", "failed", str(error), remedy)
