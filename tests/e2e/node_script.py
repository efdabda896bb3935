"""Node, its packages, and scripts that speak JSON lines with a test: waiting is for messages."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.script import Script
from tests.patience import LONG_S

HERE = Path(__file__).resolve().parent
MODULES = HERE / "node_modules"


def node_home() -> Path:
    """Return the folder of the `node` and `npm` that belong to this Python environment."""
    return Path(sys.executable).parent


def install_packages() -> None:
    """Have npm install what the lock file says, unless it has been done; raises RuntimeError with npm's own words."""
    with (HERE / "package-lock.json").open() as lock:
        # Test processes run side by side, and npm empties the folder first.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(lock.read())


def _install(wanted: str) -> None:
    stamp = MODULES / ".installed-lock.json"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    npm = node_home() / "npm"
    if not npm.exists():
        raise RuntimeError(f"{npm} is missing: install the project with its extra, pip install -e '.[test]'")
    environment = {**os.environ, "PATH": f"{node_home()}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [str(npm), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"npm could not install the stock clients into {MODULES}:\n{done.stderr or done.stdout}")
    stamp.write_text(wanted)


class NodeScript(Script):
    """One running script of this folder, under Node."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        self._process = process
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, name: str) -> NodeScript:
        """Run a script of this folder."""
        process = await asyncio.create_subprocess_exec(
            node_home() / "node",
            HERE / name,
            cwd=HERE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=4 * 1024 * 1024,
        )
        return cls(process)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.hear(json.loads(line))
        self.hear({"type": "ended"})

    def send(self, do: str, **command: Any) -> None:
        """Give the script a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **command}).encode() + b"\n")

    async def stop(self) -> None:
        """Close its standard input, at which it ends, and wait for that."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(LONG_S):
                await self._process.wait()
                await self._reader
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise AssertionError("the script did not end with its standard input") from None
