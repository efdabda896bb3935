"""The machine a figure belongs to: what it is, which core does what, and what a process has used."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

#: the first and the last of those this process may use
SERVER_CORE, LOAD_CORE = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))


def spawn(
    command: Sequence[str],
    core: int | None,
    *,
    stdout: IO[bytes] | int = subprocess.PIPE,
    stderr: IO[bytes] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process whose threads, all of them, run on one core, None: on any. It is talked to over pipes by default.

    Raises SystemExit where server and load would have to share a core.
    """
    if SERVER_CORE == LOAD_CORE:
        raise SystemExit("no answer: server and load need a core each, and this machine has one")
    # Inherited, so that no thread is started before it is in force.
    with pinned(core) if core is not None else nullcontext():
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, cwd=cwd, pass_fds=pass_fds, env=env)


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run this process, and what it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def end(process: subprocess.Popen[bytes], *, at_once: bool = False) -> None:
    """End a process that `spawn` started; `at_once` for one that has nothing to finish and might take its time with it."""
    if at_once:
        process.kill()
    else:
        process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def cpu_s(pid: int) -> float:
    """Return the processor time a process has used, user and system, in seconds.

    Read from the process's own clock, to the nanosecond: /proc counts in ticks of 10 ms, and a short round may have none.
    The clock's id is what clock_getcpuclockid(3) returns, which Python does not have.
    """
    return time.clock_gettime(~pid << 3 | 2)


def resident_bytes(pid: int) -> int:
    """Return the memory of a process that is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(pid: int) -> int:
    """Return the most memory a process has ever had in RAM."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def raise_files() -> int:
    """Let this process and what it starts have as many descriptors as may be; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def describe() -> str:
    """Return the machine in a few words, with how busy it is: others' work is in every figure."""
    info = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {python}, "
        f"{platform.system()} {platform.release()}, load average {os.getloadavg()[0]:.1f}"
    )
