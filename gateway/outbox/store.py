"""Opening the store: one process at a time, one schema, and never a silent fresh start."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from gateway.core.error import GatewayError
from gateway.outbox.query import INBOX, SCHEMA, SCHEMA_2, SCHEMA_3

#: "RawP" in the file's header: tells our files from other SQLite databases
APPLICATION_ID = 0x52617750

#: Script number n brings the store from version n to n + 1; released ones are never edited. What the columns hold counts as
#: much as which there are: another form of it, however slight, is another version, or older gateways would misread it.
MIGRATIONS: tuple[str, ...] = (SCHEMA, SCHEMA_2, SCHEMA_3)

#: `STRICT` came with SQLite 3.37, `->>` with 3.38
OLDEST_SQLITE = (3, 38, 0)

#: Bytes of the log that are kept once it is copied; what a burst made longer is given back. Well beyond the length at which a
#: log begins anew (`checkpoint.LONG`), for the first commit afterwards has to wait until the file is cut off: 80 ms on ext4.
LOG_KEPT = 256 << 20


class StoreUnusable(GatewayError):
    """The store cannot be opened, and must not be replaced by an empty one; the sentence names the file and the remedy."""

    def __init__(self, path: Path, sentence: str) -> None:
        super().__init__(path, sentence)
        self.path = path
        self.sentence = sentence

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}"


def lock(path: Path) -> int:
    """Take the store for this process and return the descriptor that holds it; closing that, or dying, gives it back.

    Raises StoreUnusable, naming the process that has it.
    """
    place = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(path, f"cannot be locked ({place}: {error.strerror}); make the directory writable") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except OSError as error:
        holder = os.pread(descriptor, 20, 0).strip().decode("ascii", "replace") or "unknown"
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise StoreUnusable(path, f"cannot be locked ({place}: {error.strerror})") from error
        raise StoreUnusable(
            path, f"is in use by another gateway (process {holder}); stop it, or give this one a state directory of its own"
        ) from error
    return descriptor


def prepare(path: Path, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Make the store if there is none, and bring it to the newest version; the caller holds its lock.

    Raises StoreUnusable for a file that is damaged, not ours, or written by a later version.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise StoreUnusable(path, f"needs SQLite {needed} or later, this Python has {sqlite3.sqlite_version}")
    try:
        if not path.exists():
            _create(path, migrations)
        else:
            _upgrade(path, migrations)
    except (sqlite3.Error, ValueError) as error:
        raise damaged(path, error) from error
    except OSError as error:
        raise StoreUnusable(path, f"cannot be made ({error.strerror}); check the directory's permissions and space") from error


def damaged(path: Path, error: Exception) -> StoreUnusable:
    """Return the refusal for a file that SQLite cannot make sense of or get at, or that holds what is not of this gateway."""
    if _primary(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
        remedy = "restore it from a backup, or move it away to begin with an empty one (undelivered events in it are lost)"
        return StoreUnusable(path, f"is damaged ({error}); {remedy}")
    return StoreUnusable(path, f"cannot be opened ({error}); check permissions, space and other programs that hold it")


def _create(path: Path, migrations: Sequence[str]) -> None:
    if path.with_name(f"{path.name}-wal").exists():
        raise StoreUnusable(
            path,
            "is missing, but its write-ahead log is there: restore the file from where it went, "
            f"or remove {path.name}-wal to begin with an empty one",
        )
    # under another name until it is whole: so a file under the right name that is empty or without tables is damage
    new = path.with_name(f"{path.name}.new")
    for leftover in (new, path.with_name(f"{new.name}-journal")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(new, isolation_level=None)
    try:
        _migrate(connection, 0, migrations)
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _upgrade(path: Path, migrations: Sequence[str]) -> None:
    if path.stat().st_size == 0:
        raise StoreUnusable(path, "is damaged (it is empty); restore it from a backup, or remove it to begin with a new one")
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        (ours,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if ours != APPLICATION_ID or version < 1:
            raise StoreUnusable(path, "is an SQLite database, but not one of this gateway; name another file")
        if version > len(migrations):
            raise StoreUnusable(
                path,
                f"was written by a later version of the gateway (schema {version}, this one knows {len(migrations)}); "
                "run that version, or give this one a state directory of its own",
            )
        _migrate(connection, version, migrations)
    finally:
        connection.close()


def _migrate(connection: sqlite3.Connection, version: int, migrations: Sequence[str]) -> None:
    for number, script in enumerate(migrations[version:], version + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {script}\n; {marks} COMMIT;")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def connect(path: Path, *, synchronous: str, busy_timeout_s: float) -> sqlite3.Connection:
    """Return the writer's connection; it may be closed by another thread than used it. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=busy_timeout_s, check_same_thread=False
    )
    try:
        for setting in (
            f"synchronous = {synchronous}",
            "wal_autocheckpoint = 0",  # see checkpoint.py
            f"journal_size_limit = {LOG_KEPT}",
            "temp_store = MEMORY",
            "cache_size = -16000",  # KiB: the inner pages of a backlog of millions stay in memory
        ):
            connection.execute(f"PRAGMA {setting}").fetchall()
        connection.executescript(INBOX)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot write and, the log being what it is, never holds up who does. Raises sqlite3.Error."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)


#: SQLite's own error codes, by what the operating system would have said, and what to do about it
_TROUBLE = {
    sqlite3.SQLITE_FULL: (errno.ENOSPC, "the disk is full; free some space"),
    sqlite3.SQLITE_BUSY: (errno.EAGAIN, "another program holds the file locked; end it"),
    sqlite3.SQLITE_LOCKED: (errno.EAGAIN, "another program holds the file locked; end it"),
    sqlite3.SQLITE_PROTOCOL: (errno.EAGAIN, "another program holds the file locked; end it"),
    sqlite3.SQLITE_READONLY: (errno.EROFS, "the file or its file system is read-only; make it writable"),
    sqlite3.SQLITE_PERM: (errno.EACCES, "access is denied; make the file writable"),
    sqlite3.SQLITE_CANTOPEN: (errno.EIO, "the file cannot be opened; check that it is there and writable"),
    sqlite3.SQLITE_IOERR: (errno.EIO, "reading or writing failed; check the disk"),
    sqlite3.SQLITE_NOMEM: (errno.ENOMEM, "memory ran out"),
    sqlite3.SQLITE_CORRUPT: (errno.EIO, "the file is damaged; stop the gateway and restore it from a backup"),
    sqlite3.SQLITE_NOTADB: (errno.EIO, "the file is damaged; stop the gateway and restore it from a backup"),
}


def trouble(path: Path, error: Exception) -> OSError | None:
    """Return what a failure of the world around the file means; None if the statement itself was at fault."""
    found = _TROUBLE.get(_primary(error))
    return None if found is None else OSError(found[0], f"{found[1]} ({error})", str(path))


def _primary(error: Exception) -> int:
    # What is read is what was written: if it is no text or no JSON, the disk has changed it. Python's module says that of
    # text in an error of its own, and such (of a closed connection, for one) have no code.
    if isinstance(error, (ValueError, TypeError)) or str(error).startswith("Could not decode to UTF-8"):
        return sqlite3.SQLITE_CORRUPT
    code = getattr(error, "sqlite_errorcode", None)
    return sqlite3.SQLITE_MISUSE if code is None else code & 0xFF
