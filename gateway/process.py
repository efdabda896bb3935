"""The gateway as a process of its own: its log, its signals, its exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable

import uvloop

from gateway.admin.pulse import BEAT_S, until
from gateway.bootstrap import Gateway
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.garbage import Collector
from gateway.log import TurnHandler
from gateway.signals import deaf_at_the_end, on
from gateway.telemetry import JsonFormatter, TextFormatter
from gateway.transport.descriptor import raise_limit
from gateway.transport.outlet import IS_COMPILED

#: Seconds a thread may keep the interpreter while another waits for it. The default of 5 ms is longer than a turn of a busy
#: event loop, which gives the interpreter up for an instant each turn and takes it right back: whoever waits begins to wait
#: anew and never gets it. Measured with turns of 0.3 ms: the outbox wrote nothing at all, with this 20,000 events a second.
_SWITCH_INTERVAL_S = 0.0001


def serve(
    config: Config,
    *,
    ready: Callable[[Gateway], None] | None = None,
    load: Callable[[], Config] | None = None,
) -> int:
    """Run the gateway until SIGTERM or SIGINT; returns the exit code.

    `ready` is called once it accepts work. On SIGHUP the configuration is read again with `load`, which raises ConfigError
    for a file with mistakes: it then changes nothing, and the log has each of them.
    """
    configure_logging(config)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)

    async def run() -> int:
        before, files = raise_limit()
        gateway = Gateway(config, load=load)
        gateway.telemetry.note(logging.INFO, "open files", limit=files, raised_from=before if before != files else None)
        gateway.telemetry.note(logging.INFO, "fan-out", walk="compiled" if IS_COMPILED else "in Python")
        stop = asyncio.Event()
        hang_up = asyncio.Event()
        # From the first instruction on, so that a signal during start-up is a shutdown too; a second one changes nothing.
        on(signal.SIGTERM, stop.set)
        on(signal.SIGINT, stop.set)
        on(signal.SIGHUP, hang_up.set)
        collector = Collector(SystemClock())
        collector.hold()
        try:
            await gateway.start()
        except OSError as error:
            print(f"rawpush: cannot start: {error}", file=sys.stderr)
            collector.end()
            return 1
        loop = asyncio.get_running_loop()
        # Together with the pulse: an idle loop is not woken for this.
        collector.begin(loop.call_later, lambda: until(loop.time(), BEAT_S))
        if ready is not None and not stop.is_set():
            ready(gateway)
        reloading = asyncio.create_task(gateway.reloader.run(hang_up), name="reload")
        await stop.wait()
        await gateway.stop()
        collector.end()
        reloading.cancel()
        await asyncio.gather(reloading, return_exceptions=True)
        return 0

    return uvloop.run(deaf_at_the_end(run()))


def configure_logging(config: Config) -> None:
    """Send the gateway's log to standard error: text on a terminal, JSON elsewhere, unless the file says which."""
    handler = TurnHandler()
    is_text = config.log.format == "text" or (config.log.format == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if is_text else JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("rawpush").setLevel(config.log.level.upper())
    # Neither format tells thread, process or task, and looking them up is a third of what a line costs.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    if sys.version_info >= (3, 12):
        logging.logAsyncioTasks = False
