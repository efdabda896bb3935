"""Plain requests: the few that can be read in one way only, and so need no parser that knows all of HTTP.

Everything is refused here that any two readers of HTTP/1.1 could take differently, or that asks anything of a connection
(RFC 9112 sections 2.2, 5, 6.3 and 11.2): a head that has not come whole, white space anywhere but where it must be, a
header twice, a length that is not digits, transfer codings, expectations, upgrades. It is then for the full parser, which
gets the very same bytes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gateway.core.trace import PARENT, STATE, Trace
from gateway.core.trace import read as read_trace

#: bytes of a head, well below the bounds that the full parser has for a line and for a field
_MOST_HEAD = 4_096
#: bytes of a request with its body that `is_whole` looks at, well below the amount at which the full parser stops to take breath
_MOST_WHOLE = 16_384

#: nothing that is ever decoded, and no fragment
_QUERY = rb"[A-Za-z0-9_.~=&%:,\[\]-]*"

_ANY = re.compile(rb"(?:GET|POST|HEAD) /[A-Za-z0-9_.~/%:,@;-]*(?:\?" + _QUERY + rb")? HTTP/1\.1\r\n")
_FIELD = re.compile(rb"([A-Za-z0-9-]+):([ -~]*)")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,8}")

#: they say how the rest is to be read, or what is to become of the connection
_NOT_PLAIN = frozenset(
    (b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"proxy-connection", b"te", b"trailer", b"http2-settings")
)

_PARENT, _STATE = PARENT.encode(), STATE.encode()

#: what is said of fields that are not plain
_NOT = (-1, None)


class Publish(NamedTuple):
    """The head of a plain request to publish one event, or a batch; the body is `length` bytes, at least one, from `start` on."""

    path: str
    app_id: str
    query: str
    length: int
    start: int
    is_batch: bool
    trace: Trace | None = None


class Reader:
    """Reads plain heads of requests to publish, at `prefix` or without it; `prefix` has no slash at its end."""

    def __init__(self, prefix: str) -> None:
        mount = re.escape(prefix.encode("utf-8", "surrogateescape"))
        # Whatever is below the prefix is found there, even where it looks like a path without one.
        start = rb"(?:%b|(?!%b/))" % (mount, mount) if mount else b""
        self._line = re.compile(
            rb"POST (" + start + rb"/apps/([A-Za-z0-9_.~-]+)/(batch_)?events)\?(" + _QUERY + rb") HTTP/1\.1\r\n"
        )

    def read(self, data: bytes) -> Publish | None:
        """Return the head of a plain publish that `data` begins with, None if it begins with anything else."""
        line = self._line.match(data)
        if line is None:
            return None
        length, trace, start = read_rest(data, line.end())
        if length < 1:
            return None
        path, app_id, batch, query = line.groups()
        return Publish(path.decode(), app_id.decode(), query.decode(), length, start, batch is not None, trace)


def read_rest(data: bytes, fields_at: int) -> tuple[int, Trace | None, int]:
    """Return how long a plain request's body is, its trace, and where the body begins; the length is -1 where it is not plain.

    `fields_at` is where its first line has ended.
    """
    end = data.find(b"\r\n\r\n", fields_at, _MOST_HEAD)
    return (*_read_fields(data[fields_at:end]), end + 4) if end >= 0 else (*_NOT, 0)


def is_whole(data: bytes) -> bool:
    """Tell whether this is one plain request of any kind, head and body, and nothing besides."""
    line = _ANY.match(data) if len(data) <= _MOST_WHOLE else None
    if line is None:
        return False
    end = data.find(b"\r\n\r\n", line.end(), _MOST_HEAD)
    return end >= 0 and _read_fields(data[line.end() : end])[0] == len(data) - end - 4


# A client sends the same header with every publish but for the length, so there are as many as there are sizes of bodies. All of
# them together take a megabyte as clients write them, and nine at most.
@lru_cache(maxsize=2048)
def _read_fields(fields: bytes) -> tuple[int, Trace | None]:
    """Return how long the body is, 0 where there is none, -1 where these lines of a head are not plain; and the trace."""
    found: dict[bytes, bytes] = {}
    for text in fields.split(b"\r\n"):
        field = _FIELD.fullmatch(text)
        if field is None:
            return _NOT
        name = field[1].lower()
        if name in found or name in _NOT_PLAIN:
            return _NOT
        found[name] = field[2].strip(b" ")
    if not found.get(b"host") or found.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return _NOT
    length = found.get(b"content-length", b"0")
    if not _LENGTH.fullmatch(length):
        return _NOT
    parent = found.get(_PARENT)
    return int(length), None if parent is None else read_trace([parent.decode()], [found.get(_STATE, b"").decode()])
