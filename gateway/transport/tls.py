"""The certificate of the listening port, and its successors: renewed files are served without a restart.

Whoever has a TLS session keeps it; each new handshake gets the certificate that was taken over last. A pair that cannot be
used changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from gateway.telemetry import Telemetry

#: Seconds between two looks at the files. A change counts when it has stood for two looks: certificate and key are two files.
LOOK_S = 2.0

#: Issuers' clients renew weeks before the end; so late nobody does.
_SOON = timedelta(days=7)


class Certificate:
    """Certificate chain and private key in two PEM files, and the context they are served from."""

    def __init__(
        self,
        cert: str,
        key: str,
        *,
        check: Callable[[str, str], Sequence[str]],
        expiry: Callable[[str], datetime],
        telemetry: Telemetry,
    ) -> None:
        """`check` returns what is wrong with a pair, `expiry` the end of a certificate.

        Raises OSError (ssl.SSLError is one) if the pair cannot be used.
        """
        self._files = (cert, key)
        self._check = check
        self._expiry = expiry
        self._telemetry = telemetry
        self._loaded = self._seen = self._refused = _look(self._files)
        self._timer: asyncio.TimerHandle | None = None
        #: to listen with
        self.context = self._current = _context(cert, key)
        # Asked in each handshake, whether the client names a server or not.
        self.context.sni_callback = self._choose
        self._tell()

    def watch(self) -> None:
        """Look at the files from now on, until `stop`."""
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._on_timer)

    def stop(self) -> None:
        """Look no more; stopping twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Take over what the files hold, if they have changed and come to rest."""
        before, self._seen = self._seen, _look(self._files)
        if self._seen == before and self._seen not in (self._loaded, self._refused):
            self.renew(*self._files)

    def renew(self, cert: str, key: str) -> bool:
        """Take over what these files hold now, and tell whether it can be used; if not, the log says why."""
        seen = _look((cert, key))
        problems = list(self._check(cert, key))
        if not problems:
            try:
                self._current = _context(cert, key)
            except OSError as error:  # the files have changed since they were checked
                problems.append(str(error))
        if problems:
            self._refused = seen
            why = "; ".join(problems)
            self._telemetry.note(logging.ERROR, "the certificate was not renewed, the old one is served on", why=why)
            return False
        self._files = (cert, key)
        self._loaded = self._seen = seen
        self._tell()
        return True

    def _tell(self) -> None:
        end = self._expiry(self._files[0])
        self._telemetry.certificate_expires_at = end.timestamp()
        level = logging.WARNING if end - datetime.now(UTC) < _SOON else logging.INFO
        self._telemetry.note(level, "serving a certificate", file=self._files[0], expires=f"{end:%Y-%m-%dT%H:%M:%SZ}")

    def _choose(self, connection: ssl.SSLObject, _name: str | None, context: ssl.SSLContext) -> None:
        if self._current is not context:
            connection.context = self._current

    def _on_timer(self) -> None:
        self.watch()
        self.look()


def _context(cert: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # A key with a passphrase must not make OpenSSL ask for it on the terminal.
    context.load_cert_chain(cert, key, lambda: "")
    context.set_alpn_protocols(["http/1.1"])
    return context


def _look(files: tuple[str, str]) -> tuple[object, ...]:
    """Return what tells one state of the files from another, wherever a link leads."""
    return tuple(map(_identity, files))


def _identity(file: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
