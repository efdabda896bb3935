"""The servers under test, each a process of its own on the server's core: the gateway, and the floors it is held against."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import traffic
from bench.machine import SERVER_CORE, end, spawn
from bench.native import compiled

ROOT = Path(__file__).parent.parent

#: Between two rounds the load answers no pings, and on a busy machine there may be minutes between them.
_PATIENT: Mapping[str, object] = {"activity_timeout": "1h"}


@dataclass(frozen=True, slots=True)
class Server:
    """A process that listens on loopback."""

    name: str
    pid: int
    port: int
    #: where publishes go, if to another port
    publish_port: int | None = None
    #: where the gateway tells an operator how it is
    admin_port: int | None = None
    #: what it says on standard output behind its first words, and is told on standard input
    process: subprocess.Popen[bytes] | None = None


@contextmanager
def gateway(
    *,
    outbox: str = "memory",
    webhooks: Sequence[Mapping[str, object]] = (),
    state: Path | None = None,
    limits: Mapping[str, int] | None = None,
    server: Mapping[str, object] | None = None,
    program: Sequence[str] = ("gateway", "serve"),
    core: int | None = SERVER_CORE,
) -> Iterator[Server]:
    """Run the gateway as `python -m gateway serve` does, with default settings but for these.

    A webhook's settings may name those of a table within as `table.name`. Without `state` it has a folder of its own.
    `limits` are those of the app, `server` is for that table. `program` is the module that runs it, with its first arguments;
    `core` is where, None anywhere.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        port = free_port()
        config = Path(folder, "config.toml")
        config.write_text(
            _config(port, state or Path(folder, "state"), outbox, webhooks, limits or {}, {**_PATIENT, **(server or {})})
        )
        with Path(folder, "log").open("wb") as log:
            process = spawn([sys.executable, "-m", *program, "-c", str(config)], core, stderr=log, cwd=ROOT)
        try:
            said = _wait_for(process, b"ready: ", Path(folder, "log"))
            admin = re.search(rb"admin: http://[^/]*:([0-9]+) ", said)
            yield Server("gateway", process.pid, port, admin_port=int(admin[1]) if admin else None, process=process)
        finally:
            end(process)


@contextmanager
def floor(*, in_python: bool = False) -> Iterator[Server]:
    """Run the bare loop: in C where there is a compiler, unless it is to be in Python."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        says = traffic.write(Path(folder, "says"), traffic.floor_says())
        program = None if in_python else compiled("floor")
        with listening("floor", [*([str(program)] if program else [sys.executable, "-m", "bench.holder"]), str(says)]) as server:
            yield server


@contextmanager
def responder() -> Iterator[Server]:
    """Run a bare HTTP responder on uvloop, which answers every request with a constant."""
    with listening("floor", [sys.executable, "-m", "bench.responder"]) as server:
        yield server


@contextmanager
def listening(name: str, command: Sequence[str], *, cwd: Path = ROOT) -> Iterator[Server]:
    """Run a server that prints its port, and behind it the one for publishes if that is another. Raises SystemExit."""
    process = spawn(command, SERVER_CORE, cwd=cwd)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().split()
        if not line or not all(word.isdigit() for word in line):
            raise SystemExit(f"no answer: the {name} did not start: {b' '.join(line)!r}")
        yield Server(name, process.pid, *map(int, line))
    finally:
        end(process, at_once=True)


def _config(
    port: int,
    state: Path,
    outbox: str,
    webhooks: Sequence[Mapping[str, object]],
    limits: Mapping[str, int],
    server: Mapping[str, object],
) -> str:
    # A JSON string, number or array of strings is the same in TOML.
    lines = ["[server]", f"port = {port}", f"state_dir = {json.dumps(str(state))}", 'drain = "0s"', 'shutdown_timeout = "1s"']
    lines += [f"{name} = {json.dumps(value)}" for name, value in server.items()]
    lines += ["[admin]", "port = 0", "[outbox]", f"mode = {json.dumps(outbox)}", "[[apps]]"]
    app = {"id": traffic.APP_ID, "key": traffic.KEY, "secret": traffic.SECRET}
    lines += [f"{name} = {json.dumps(value)}" for name, value in app.items()]
    lines += [f"limits.{name} = {value}" for name, value in limits.items()]
    for webhook in webhooks:
        lines.append("[[apps.webhooks]]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in webhook.items()]
    return "\n".join(lines) + "\n"


def _wait_for(process: subprocess.Popen[bytes], word: bytes, log: Path) -> bytes:
    said = b""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if word in line:
            return said
    raise SystemExit(f"no answer: the gateway did not start:\n{(said + log.read_bytes()).decode(errors='replace')}")


def free_port() -> int:
    """Return a port that nobody listens on, for a server that cannot be asked which one it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
