"""Small changes to signed requests, and what a request means: what may differ between two that say the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from hypothesis import strategies as st

#: what separates, escapes or ends something somewhere on the way
PIECES = [b"%", b"&", b"=", b"/", b"?", b"+", b";", b",", b"@", b"#", b".", b"[]", b"[0]", b"%2F", b"%26", b"%00", b"%zz", b" "]
PIECES += [b"\0", b"\xff", b"\xc3\xa9", b"\r\n", b"0", b"a", b"A", b"auth_key", b"&info=user_count", b"&auth_signature=0", b"://"]

Edit = tuple[str, int, int, bytes]

edits: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.sampled_from("insert delete replace repeat case escape unescape cut".split()),
        st.integers(0, 1_000),
        st.integers(0, 8),
        st.sampled_from(PIECES) | st.binary(min_size=1, max_size=2),
    ),
    min_size=1,
    max_size=3,
)


def mutate(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Return the bytes after these edits; places are counted round and round."""
    for what, place, length, piece in edits:
        start = place % (len(data) + 1)
        before, touched, after = data[:start], data[start : start + length], data[start + length :]
        match what:
            case "insert":
                data = before + piece + touched + after
            case "delete":
                data = before + after
            case "replace":
                data = before + piece + after
            case "repeat":
                data = before + touched * 2 + after
            case "case":
                data = before + touched.swapcase() + after
            case "escape":
                data = before + b"".join(b"%%%02x" % byte for byte in touched) + after
            case "unescape":
                data = before + unquote_to_bytes(touched + after)
            case "cut":
                data = before
    return data


Meaning = tuple[bytes, list[tuple[bytes, list[bytes]]]]


def meaning(target: bytes, prefix: bytes = b"") -> Meaning:
    """Return what a target says, its signature included: path and parameters, spelling and order of names apart."""
    if not target.startswith(b"/"):  # the absolute form
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    path, _, query = target.partition(b"?")
    path = unquote_to_bytes(path)
    if prefix and path.startswith(prefix + b"/"):
        path = path[len(prefix) :]
    values: dict[bytes, list[bytes]] = {}
    for piece in query.split(b"&"):
        if piece:
            name, _, value = piece.partition(b"=")
            name = re.sub(rb"\[[0-9]+\]\Z", b"", unquote_to_bytes(name).lower())
            values.setdefault(name, []).append(unquote_to_bytes(value))
    return path, sorted((name, [b",".join(several)]) for name, several in values.items())
