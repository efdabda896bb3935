"""Publishes in a form that was seen before.

A back end sends the same request over and over: of its first line only the time stamp, the digest and the signature change,
and each of them keeps its length. Once such a request was found right by the full reading, the next ones are cut at the same
places instead of being read. Whatever does not fit to the byte, or is not right, is left to the full reading, which gets the
same bytes and says why; so nothing is refused here, and nothing is taken that it would refuse.
"""

from __future__ import annotations

import re
from operator import itemgetter
from struct import Struct

from gateway.api.plain import Publish, read_rest
from gateway.core.app import App
from gateway.core.auth import is_right, spellings
from gateway.core.keyed import Keyed
from gateway.core.trace import Trace
from gateway.node import Node
from gateway.ports import Clock

#: forms that are kept at a time: far more than there are ways in which a few hundred apps are published to
_MOST = 1_024
#: bytes of a first line within which its first parameter must end
_MOST_START = 1_024
#: bytes behind the first parameter that tell the second one from all others
_AHEAD = len("&auth_t")

#: bytes of a time stamp, a digest and a signature; no two are equally long
_LENGTHS = (10, 32, 64)
_CHANGING = re.compile(
    r"(?<=\bauth_timestamp=)[0-9]{10}(?=&|$)|(?<=\bbody_md5=)[0-9a-f]{32}(?=&|$)|(?<=\bauth_signature=)[0-9a-f]{64}(?=&|$)"
)


class Form:
    """The first line of an app's publishes as one of its back ends writes it."""

    __slots__ = ("_constant", "_cut", "_keyed", "_pick", "app", "is_batch", "path", "size")

    def __init__(self, head: Publish, app: App, signed_path: str) -> None:
        """Take over the form of a request. Raises ValueError where it says more than its signature, or writes it unusually."""
        fixed = _CHANGING.split(head.query)
        parameters = ["auth_key=" + app.key, "auth_signature=", "auth_timestamp=", "auth_version=1.0", "body_md5="]
        if sorted("".join(fixed).split("&")) != sorted(parameters):
            raise ValueError("the query is of no form")
        if head.query.startswith(("auth_timestamp=", "body_md5=", "auth_signature=")):
            raise ValueError("no request of this form begins like another")
        fixed[0] = f"POST {head.path}?{fixed[0]}"
        fixed[-1] += " HTTP/1.1\r\n"
        lengths = [len(value) for value in _CHANGING.findall(head.query)]
        cut = Struct("".join([f"{len(text)}s{length}s" for text, length in zip(fixed, [*lengths, 0], strict=True)]))
        self._cut = cut.unpack_from
        self._constant = tuple(text.encode() for text in fixed)
        self._pick = itemgetter(*[2 * lengths.index(length) + 1 for length in _LENGTHS])
        # A signature is made over the parameters in the order of their names, whatever order they are sent in.
        self._keyed = Keyed(app.secret.encode(), f"POST\n{signed_path}\nauth_key={app.key}&auth_timestamp=".encode())
        self.app = app
        self.is_batch = head.is_batch
        self.path = head.path
        self.size = cut.size

    def read(self, data: bytes, now_s: float) -> Recognised | None:
        """Return a whole request of this form if it is right at this time, in Unix seconds; None: it is not."""
        if len(data) < self.size:
            return None
        pieces = self._cut(data)
        if pieces[:-1:2] != self._constant:
            return None
        length, trace, start = read_rest(data, self.size)
        body = data[start:]
        if length < 1 or length > self.app.limits.request or len(body) != length:
            return None
        stamp, digest, signature = self._pick(pieces)
        return (self, body, trace) if is_right(self._keyed, stamp, digest, signature, body, now_s) else None


#: the form of a request, its body and its trace
Recognised = tuple[Form, bytes, Trace | None]


class Forms:
    """The forms that are known; `prefix` is where the API is mounted."""

    def __init__(self, *, node: Node, clock: Clock, prefix: str) -> None:
        self._node = node
        self._clock = clock
        self._prefix = prefix
        self._known: dict[bytes, Form] = {}

    def read(self, data: bytes) -> Recognised | None:
        """Return a whole and right publish of a known form; None where the full reading is to decide."""
        form = self._known.get(_beginning(data))
        if form is None:
            return None
        app = form.app
        try:
            # A reload brings other apps, perhaps with another secret.
            if not app.enabled or self._node.app(app.id) is not app:
                return None
        except Exception:  # noqa: BLE001 -- the full reading meets with the same, logs it and answers it
            return None
        return form.read(data, self._clock.epoch_ms() / 1000)

    def learn(self, data: bytes, head: Publish, app: App) -> None:
        """Keep the form of a whole publish that was found right, if it has one."""
        try:
            for path in spellings(head.path, self._prefix):
                form = Form(head, app, path)
                if form.read(data, self._clock.epoch_ms() / 1000) is not None:
                    if len(self._known) >= _MOST:
                        self._known.clear()
                    self._known[_beginning(data)] = form
                    return
        except ValueError:
            return


def _beginning(data: bytes) -> bytes:
    """Return what tells forms from each other: method, path, first parameter, and the beginning of the second."""
    return data[: data.find(b"&", 0, _MOST_START) + _AHEAD]
