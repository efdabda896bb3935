"""What can be seen of a running gateway from outside: open files, memory, and the state of its TCP connections."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from tests.e2e.gateway_process import GatewayProcess


def descriptors(gateway: GatewayProcess) -> int:
    """Return how many files the gateway has open, sockets included."""
    return len(list(Path(f"/proc/{gateway.pid}/fd").iterdir()))


def memory_mb(gateway: GatewayProcess) -> float:
    """Return how much memory the gateway has resident."""
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def tcp_states(gateway: GatewayProcess) -> list[str]:
    """Return the states of all connections to the gateway, as Linux numbers them: 01 established, 08 waiting to be closed."""
    return [row[3] for row in _rows(gateway) if row[3] != "0A"]


def waiting_bytes(gateway: GatewayProcess, client_port: int) -> int:
    """Return how much the kernel holds for the client at this port that has not acknowledged it."""
    return int(_row(gateway, client_port)[4].partition(":")[0], 16)


def is_read(gateway: GatewayProcess) -> bool:
    """Tell whether the gateway has read all that was sent to it: nothing waits at either end of any line."""
    port = f":{gateway.port:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sent = [row[4].partition(":")[0] for row in rows if row[2].endswith(port)]
    received = [row[4].partition(":")[2] for row in rows if row[1].endswith(port) and row[3] != "0A"]
    return not any(int(waiting, 16) for waiting in sent + received)


def socket_to(gateway: GatewayProcess, client_port: int) -> str:
    """Return the gateway's socket to the client at this port, in the form that `sockets` has it."""
    return f"socket:[{_row(gateway, client_port)[9]}]"


def sockets(gateway: GatewayProcess) -> set[str]:
    """Return all sockets the gateway has open."""
    found = set()
    for link in Path(f"/proc/{gateway.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in this moment
            found.add(os.readlink(link))
    return {target for target in found if target.startswith("socket:")}


def _row(gateway: GatewayProcess, client_port: int) -> list[str]:
    (row,) = [row for row in _rows(gateway) if row[2].endswith(f":{client_port:04X}")]
    return row


def _rows(gateway: GatewayProcess) -> list[list[str]]:
    port = f":{gateway.port:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row for row in rows if row[1].endswith(port)]
