"""Listening sockets that this process was handed, so that a restart turns nobody away: their queue outlives the process."""

from __future__ import annotations

import socket
from collections.abc import Mapping

#: sd_listen_fds(3): the first descriptor after those every process has
_FIRST = 3


def inherited(environ: Mapping[str, str], pid: int, first: int = _FIRST) -> list[socket.socket]:
    """Return the sockets that systemd, or whatever else speaks its protocol (sd_listen_fds(3)), has passed to this process.

    The caller owns them. Empty if there are none, or if they were meant for another process. Raises OSError if one is no
    TCP socket that listens.
    """
    if environ.get("LISTEN_PID") != str(pid) or not environ.get("LISTEN_FDS", "").isdecimal():
        return []
    return [_listening(first + number) for number in range(int(environ["LISTEN_FDS"]))]


def _listening(descriptor: int) -> socket.socket:
    # This closes what it cannot use; nobody else is going to.
    taken = socket.socket(fileno=descriptor)
    is_tcp = taken.family in (socket.AF_INET, socket.AF_INET6) and taken.type == socket.SOCK_STREAM
    if not is_tcp or not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        taken.close()
        raise OSError(f"descriptor {descriptor} is no listening TCP socket; give ListenStream= an address and a port")
    taken.set_inheritable(False)
    return taken
