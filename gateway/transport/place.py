"""Places to listen: TCP addresses of both families, and Unix sockets."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

#: A restart brings everybody back at once; the kernel cuts this down to what it allows (`somaxconn`).
BACKLOG = 16_384

#: Tries to find a port that is free on all of a name's addresses.
_TRIES = 5


def tcp_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of the host, and return the sockets, all of one port; "::" means IPv4 as well.

    Port 0 means any free one. Raises OSError if one of them cannot be had.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = {(family, address[0]): address for family, _, _, _, address in found}
    for attempt in range(_TRIES):
        try:
            return _listen(host, port, list(addresses.items()))
        except OSError as error:
            # A port that was free on the first address need not be so on the second.
            if port or error.errno != errno.EADDRINUSE or attempt == _TRIES - 1:
                raise
    raise AssertionError("the last try returns or raises")


def _listen(host: str, port: int, addresses: list[tuple[tuple[int, object], tuple[object, ...]]]) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for (family, _), address in addresses:
            one = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(one)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
            try:
                one.bind((address[0], port, *address[2:]))
            except OSError as error:
                raise OSError(error.errno, f"cannot listen on {address[0]} port {port}: {error.strerror}") from None
            port = one.getsockname()[1]
            one.listen(BACKLOG)
    except BaseException:
        for one in sockets:
            one.close()
        raise
    return sockets


class UnixPlace:
    """A Unix socket that is listened on, and its file."""

    def __init__(self, path: str, mode: int) -> None:
        """Listen; `mode` are the file's permissions.

        A socket file that nobody listens on any more is replaced. Raises OSError if somebody does, or if it is another kind
        of file.
        """
        self._path = Path(path)
        self._remove_stale()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        try:
            self.socket.bind(path)
            # Until it listens, nobody can connect, whatever the permissions are meanwhile.
            self._path.chmod(mode)
            self.socket.listen(BACKLOG)
            self._file = self._identity()
        except OSError as error:
            self.socket.close()
            raise OSError(error.errno, f"cannot listen on {path}: {error.strerror or error}") from None

    def remove(self) -> None:
        """Remove the file, unless it is somebody else's by now."""
        if self._identity() == self._file:
            self._path.unlink(missing_ok=True)

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _remove_stale(self) -> None:
        try:
            found = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise FileExistsError(errno.EEXIST, f"{self._path} is there, and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink(missing_ok=True)
                return
            except OSError as error:
                raise OSError(error.errno, f"cannot tell whether {self._path} is in use: {error.strerror}") from None
        raise OSError(errno.EADDRINUSE, f"somebody listens on {self._path} already")
