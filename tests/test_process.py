"""The gateway as a process of its own: what it takes over from the interpreter, and gives back."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import weakref
from multiprocessing.connection import Connection
from pathlib import Path

import gateway.process
from gateway.bootstrap import Gateway
from gateway.config import Admin, AppEntry, Config, Server
from gateway.core.app import App
from gateway.process import serve

PATIENCE_S = 30


class Knot:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.me = self


def run(folder: str, told: Connection) -> None:
    """Serve; in another thread, make garbage until some of it is gone; tell which have collected, and if any could before."""
    threads: set[str] = set()
    gone = threading.Event()

    def litter() -> None:
        weakref.finalize(Knot(), gone.set)
        while not gone.wait(0.0001):
            for _ in range(100):
                Knot()
        os.kill(os.getpid(), signal.SIGTERM)

    def ready(_: Gateway) -> None:
        gc.callbacks.append(lambda phase, info: threads.add(threading.current_thread().name))
        threading.Thread(target=litter, name="litter").start()

    is_held: list[bool] = []

    class Observed(Gateway):
        async def start(self) -> None:
            await super().start()
            is_held.append(not gc.isenabled())

    gateway.process.Gateway = Observed  # type: ignore[attr-defined]
    server = Server(port=0, state_dir=folder, drain_s=0.0, shutdown_timeout_s=1.0)
    config = Config(server=server, admin=Admin(enabled=False), apps=(AppEntry(App("1", "key", "s"), ()),))
    code = serve(config, ready=ready)
    told.send((code, threads - {"litter"}, "litter" in threads, gc.isenabled(), is_held))


def test_while_it_runs_only_the_loops_thread_collects_garbage(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=run, args=(str(tmp_path), there))
    process.start()
    there.close()
    try:
        assert here.poll(PATIENCE_S)
        code, threads, has_litter_collected, is_left_to_the_interpreter, is_held = here.recv()
    finally:
        process.kill()
        process.join()
    assert code == 0
    assert threads == {"MainThread"}
    assert not has_litter_collected
    assert is_left_to_the_interpreter
    assert is_held == [True], "what a start makes is looked through again and again"
