"""A client that pings every millisecond, and times the pongs: what it waits for one is what the server's loop stood still.

Called with the port. Each line on standard input is for how many seconds; the answer is a line of JSON with the microseconds
of the pongs (`waits`) and those by which the pings were sent too late (`lates`), which is the pinger's own standstill.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

from bench import traffic

_EVERY_S = 0.001
#: FIN and ping, no payload, masked with zeros (RFC 6455 section 5.5.2); and its pong
_PING, _PONG_SIZE = b"\x89\x80\x00\x00\x00\x00", 2
_PATIENCE_S = 20.0


def connect(port: int) -> socket.socket:
    """Return a connection whose first frame has come. Raises SystemExit if it is turned away."""
    line = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.sendall(traffic.hello())
    said = b""
    while b"connection_established" not in said or not said.endswith(b"}"):
        if not (more := line.recv(4096)):
            raise SystemExit("the pinger was turned away")
        said += more
    return line


def ping(line: socket.socket, seconds: float) -> tuple[list[int], list[int]]:
    """Ping for so long; return the microseconds of waiting for each pong, and of being late with each ping."""
    count, start = int(seconds / _EVERY_S), time.monotonic()
    sent_at: list[float] = []
    lates: list[int] = []
    waits: list[int] = []
    pending = 0
    while len(waits) < count:
        now = time.monotonic()
        due = start + len(sent_at) * _EVERY_S if len(sent_at) < count else None
        if due is not None and now >= due:
            line.sendall(_PING)
            sent_at.append(now)
            lates.append(int((now - due) * 1e6))
            continue
        if not select.select([line], [], [], _PATIENCE_S if due is None else due - now)[0]:
            if due is None:
                raise SystemExit("no pong came")
            continue
        came_at, said = time.monotonic(), line.recv(4096)
        if not said:
            raise SystemExit("the pinger was cut off")
        pending += len(said)
        while pending >= _PONG_SIZE:
            pending -= _PONG_SIZE
            waits.append(int((came_at - sent_at[len(waits)]) * 1e6))
    return waits, lates


def main() -> None:
    """Ping as standard input says."""
    line = connect(int(sys.argv[1]))
    for words in iter(sys.stdin.readline, ""):
        waits, lates = ping(line, float(words))
        print(json.dumps({"waits": waits, "lates": lates}), flush=True)


if __name__ == "__main__":
    main()
