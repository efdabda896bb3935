"""The load: a process on its own core that plays all clients of one server, round after round."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import traffic
from bench.machine import LOAD_CORE, cpu_s, end, spawn
from bench.native import compiled
from bench.server import ROOT, Server


@dataclass(frozen=True, slots=True)
class Round:
    """What was counted in one round; for a churn `published` counts whole lives of connections."""

    published: int
    delivered: int
    refused: int
    seconds: float
    load_cpu_s: float
    p50_us: int
    p99_us: int
    slowest_us: int
    server_cpu_s: float

    @property
    def server_share(self) -> float:
        """How much of its core the server used."""
        return self.server_cpu_s / self.seconds

    @property
    def load_share(self) -> float:
        """How much of its core the load used."""
        return self.load_cpu_s / self.seconds


class Load:
    """A load that is connected and waits for its rounds."""

    def __init__(self, process: subprocess.Popen[bytes], server: Server) -> None:
        self._process = process
        self.server = server
        self._used_s = 0.0

    def run(self, seconds: float, rate: float = 0.0) -> Round:
        """Run one round; `rate` is in publishes per second, 0 for as fast as the window lets. Raises SystemExit if it breaks."""
        self.begin(seconds, rate)
        return self.finish()

    def begin(self, seconds: float, rate: float = 0.0) -> None:
        """Begin a round, to be finished before the next one: several loads can have theirs at the same time."""
        assert self._process.stdin is not None
        self._used_s = cpu_s(self.server.pid)
        self._process.stdin.write(f"{seconds} {rate}\n".encode())
        self._process.stdin.flush()

    def finish(self) -> Round:
        """Wait for the end of the round that has begun. Raises SystemExit if it breaks."""
        fields = self._line().split()
        used = cpu_s(self.server.pid) - self._used_s
        published, delivered, refused, p50, p99, slowest = (int(fields[i]) for i in (0, 1, 2, 5, 6, 7))
        return Round(published, delivered, refused, float(fields[3]), float(fields[4]), p50, p99, slowest, used)

    def wait_until_ready(self) -> None:
        """Wait until everybody is connected and subscribed."""
        self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        if not line:
            raise SystemExit(f"no answer: the load against the {self.server.name} broke off; see above")
        return line


@contextmanager
def crowd(server: Server, scripts: Sequence[bytes], requests: Sequence[bytes], publishers: int) -> Iterator[Load]:
    """Connect subscribers and publishers; `requests` has one for each channel that `scripts` subscribe to in turn."""
    with _load("load", server, scripts, requests, publishers) as load:
        yield load


@contextmanager
def arriving(server: Server, scripts: Sequence[bytes], per_s: float) -> Iterator[Load]:
    """Let subscribers come, so many per second, who publish nothing; they are all there after `wait_until_ready`."""
    if compiled("load") is None:
        raise SystemExit("no answer: the load that holds idle connections needs a C compiler")
    request = [traffic.publish(traffic.channel(0))]
    with _load("load", server, scripts, request, 0, more=[str(per_s)], is_awaited=False) as load:
        yield load


@contextmanager
def talkers(server: Server, sockets: Sequence[socket.socket], event: bytes, at_once: int) -> Iterator[Load]:
    """Let the first `at_once` of some subscribed connections send a client event, a frame, which all others get."""
    if compiled("load") is None:
        raise SystemExit("no answer: the load that sends client events needs a C compiler")
    scripts = [piece for each in sockets for piece in (b"#%d" % each.fileno(), b"")]
    with _load("load", server, scripts, [event], at_once, [each.fileno() for each in sockets]) as load:
        yield load


@contextmanager
def churn(server: Server, scripts: Sequence[bytes], at_once: int) -> Iterator[Load]:
    """Prepare connections that come, subscribe and go, so many at once."""
    with _load("churn", server, scripts, [], at_once) as load:
        yield load


@contextmanager
def _load(
    name: str,
    server: Server,
    scripts: Sequence[bytes],
    requests: Sequence[bytes],
    count: int,
    pass_fds: Sequence[int] = (),
    *,
    more: Sequence[str] = (),
    is_awaited: bool = True,
) -> Iterator[Load]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        program = compiled(name)
        command = [str(program)] if program else [sys.executable, "-m", "bench.slow", name]
        files = [traffic.write(Path(folder, "scripts"), scripts), traffic.write(Path(folder, "requests"), requests)]
        ports = f"{server.port}:{server.publish_port or server.port}"
        process = spawn([*command, ports, *map(str, files), str(count), *more], LOAD_CORE, cwd=ROOT, pass_fds=pass_fds)
        try:
            load = Load(process, server)
            if is_awaited:
                load.wait_until_ready()
            yield load
        finally:
            end(process)
