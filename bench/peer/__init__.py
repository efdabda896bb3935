"""Other servers, measured beside the gateway where they are installed; only their fan-out, for only that is the same everywhere.

Subscribing is connecting, the message is one and the same frame of the gateway's size, and a publish is the same HTTP request.
None of them checks a signature, none reads the request's body, and of none anything else is asked.

    ws           Node's WebSocket library, its broadcast loop        npm: `python -m bench --install-peers`
    websockets   the Python library, `broadcast()`, on uvloop        there, the gateway needs it
    nchan        nginx's publish/subscribe module, in C              Debian: libnginx-mod-nchan
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template

from bench import traffic
from bench.machine import SERVER_CORE, end, spawn
from bench.server import ROOT, Server, free_port, listening

HERE = Path(__file__).parent
#: where npm puts what it installs
NODE_FOLDER = ROOT / "bench" / "out" / "peer"
_NODE_PACKAGES = ("ws@8",)
_NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_START_S = 10.0

#: what the run would like to have beside it and cannot: known beforehand
_NEVER = {
    "soketi": "its WebSockets come from a git repository (uWebSockets.js v20.10.0) and not from a package registry",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that can be run here."""

    name: str
    version: str
    run: Callable[[], AbstractContextManager[Server]]
    request: Callable[[], bytes]
    path: str = "/"

    def scripts(self, count: int) -> list[bytes]:
        """Return what so many clients send: an upgrade, and nothing more."""
        return [piece for _ in range(count) for piece in (traffic.hello(self.path), b"")]


def peers() -> list[Peer]:
    """Return the peers that are installed."""
    return [found for found in _look().values() if isinstance(found, Peer)]


def absent() -> Mapping[str, str]:
    """Return the peers that are not, each with the reason."""
    return {name: found for name, found in _look().items() if isinstance(found, str)} | _NEVER


def install() -> None:
    """Install what npm has, into a folder beside the results. Raises CalledProcessError, FileNotFoundError."""
    NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--prefix", str(NODE_FOLDER), "--no-audit", "--no-fund", "--ignore-scripts", *_NODE_PACKAGES]
    subprocess.run(command, check=True)


def _look() -> dict[str, Peer | str]:
    return {"ws": _ws(), "websockets": _websockets(), "nchan": _nchan()}


def _publish() -> bytes:
    return traffic.publish(traffic.channel(0))


def _ws() -> Peer | str:
    package, node = NODE_FOLDER / "node_modules" / "ws" / "package.json", shutil.which("node")
    if node is None:
        return "there is no Node"
    if not package.exists():
        return "not installed: python -m bench --install-peers"
    # The one in the path may be a script that starts another process, whose processor time it would be.
    node = subprocess.run([node, "-p", "process.execPath"], capture_output=True, text=True, check=True).stdout.strip()
    command = [node, str(HERE / "broadcast.js")]
    release = f"{json.loads(package.read_text())['version']}, Node {_said([node, '--version']).removeprefix('v')}"
    return Peer("ws", release, lambda: _told("ws", command, NODE_FOLDER), _publish)


def _websockets() -> Peer:
    command = [sys.executable, "-m", "bench.peer.broadcast"]
    return Peer("websockets", version("websockets"), lambda: _told("websockets", command, ROOT), _publish)


@contextmanager
def _told(name: str, command: list[str], cwd: Path) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        message = Path(folder, "message")
        message.write_bytes(traffic.message())
        with listening(name, [*command, str(message)], cwd=cwd) as server:
            yield server


def _nchan() -> Peer | str:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None or not _NCHAN.exists():
        return "not installed: Debian has it as libnginx-mod-nchan"
    release = re.sub(r".*/", "nginx ", _said([nginx, "-v"]))
    return Peer("nchan", release, lambda: _run_nchan(nginx), _nchan_request, path="/sub?id=a")


def _nchan_request() -> bytes:
    body = traffic.message()
    return b"POST /pub?id=a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@contextmanager
def _run_nchan(nginx: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        port, config, log = free_port(), Path(folder, "nginx.conf"), Path(folder, "log")
        config.write_text(Template((HERE / "nginx.conf").read_text()).safe_substitute(MODULE=_NCHAN, PORT=port))
        with log.open("wb") as errors:
            process = spawn([nginx, "-p", folder, "-c", str(config)], SERVER_CORE, stderr=errors)
        try:
            # It says nothing when it is ready; this file is written after its sockets listen.
            deadline = time.monotonic() + _START_S
            while not Path(folder, "pid").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"no answer: nchan did not start:\n{log.read_text()}")
                time.sleep(0.01)
            yield Server("nchan", process.pid, port)
        finally:
            end(process)


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).strip()
