"""Signatures: of channel subscriptions, of sign-ins, and of requests to the HTTP API.

All are HMAC-SHA256 over UTF-8 with the app's secret, in lower-case hex. What is said about a wrong one names the part
that failed and the string that should have been signed, never the secret and never the right digest.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from hashlib import md5
from operator import itemgetter
from urllib.parse import quote, urlencode

from gateway.core.app import App
from gateway.core.error import RequestError
from gateway.core.keyed import Keyed, keyed

#: what a signed request says besides its signature: each name once, or `name[]` once per element, in order
Parameters = dict[str, list[str]]

#: seconds a request's time stamp may be away from the gateway's clock; exactly this much is too far
GRACE_S = 600

#: characters of a signed string that an error repeats; a channel_data may be long, and the head says enough
_SHOWN = 1_000
#: and of a parameter's name
_SHOWN_NAME = 64

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
#: thirteen digits hold seconds for 300,000 years, and milliseconds, which are then refused for what they are
_SECONDS = re.compile(rb"[0-9]{1,13}")
_NUMBERED = re.compile(rb"(.+)\[[0-9]+\]", re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
#: legal in a channel name, and escaped by some who write a path
_RESERVED = re.compile(rb"[=@,;]")
_PLAIN = re.compile(r"[A-Za-z0-9_./-]*")

#: copied for each body: looking up how it is computed takes longer than computing it
_MD5 = md5(usedforsecurity=False)

_AUTH = frozenset((b"auth_key", b"auth_version", b"auth_timestamp", b"body_md5", b"auth_signature"))

_Pairs = list[tuple[bytes, bytes]]


def channel_signature_error(app: App, socket_id: str, channel: str, auth: str | None, channel_data: str | None) -> str | None:
    """Return None if `auth` signs this subscription, else a sentence that says what is wrong with it.

    Pass `channel_data` exactly as it came (None: it was not there), and a channel whose name was found legal before: a
    legal name has no colon, and only so can the signed string not be mistaken for a sign-in's.
    """
    signed = f"{socket_id}:{channel}" if channel_data is None else f"{socket_id}:{channel}:{channel_data}"
    return _auth_error(app, auth, signed)


def user_signature_error(app: App, socket_id: str, auth: str | None, user_data: str) -> str | None:
    """Return None if `auth` signs this sign-in, else a sentence that says what is wrong; `user_data` exactly as it came."""
    return _auth_error(app, auth, f"{socket_id}::user::{user_data}")


def _auth_error(app: App, auth: str | None, string_to_sign: str) -> str | None:
    if not auth:
        return "auth is missing: it must be KEY:SIGNATURE"
    key, colon, signature = auth.partition(":")
    if not colon:
        return "auth must be KEY:SIGNATURE"
    if not _equal(_bytes(key), _bytes(app.key)):
        return "the key in auth is not this app's key"
    signed = _bytes(string_to_sign)
    if not _equal(_bytes(signature), _signature(app, signed)):
        return f"the signature in auth does not match: the string to sign is {_shown(signed)}"
    return None


def verify_request(app: App, *, method: str, paths: Sequence[str], query: str, body: bytes, now_s: float) -> Parameters:
    """Return the request's own parameters (all but those of the signature) once its signature was found right.

    `paths` are the acceptable spellings of one path (see `spellings`), `query` is the raw text after the question mark,
    `body` the bytes as received, `now_s` Unix seconds. Percent escapes are decoded; a plus is a plus. Raises RequestError
    401 with a sentence that names the part that failed: key, version, time stamp, MD5 of the body, signature; and where
    a parameter holds an ampersand, which the signature could not tell from one that separates.
    """
    pairs = _parse(query)
    auth = _auth_parameters(pairs)
    _check_key(app, auth)
    _check_time(auth, now_s)
    _check_body(auth, body)
    signature = auth.get(b"auth_signature")
    if not signature:
        raise _refusal("auth_signature is missing", "auth_signature")
    if _signs(app, signature, method, paths, pairs):
        return _own(_fold(pairs)) if len(pairs) > len(auth) else {}
    folded = _fold(pairs)
    if folded != pairs and _signs(app, signature, method, paths, folded):
        return _own(folded)
    signed = _string_to_sign(method, paths[0], pairs)
    raise _refusal(
        f"auth_signature does not match: the gateway signed {_shown(signed)} (line feeds shown as \\n)", "auth_signature"
    )


def is_right(signs: Keyed, stamp: bytes, digest: bytes, signature: bytes, body: bytes, now_s: float) -> bool:
    """Tell whether a request that has the parameters of a signature, and no others, is signed as it must be.

    `signs` has taken the key and what is signed before the time stamp. False says that `verify_request` is to be asked.
    """
    return (
        stamp.isdigit()
        and abs(now_s - int(stamp)) < GRACE_S
        and _digest(body) == digest
        and _equal(signs.sign(stamp + b"&auth_version=1.0&body_md5=" + digest).encode(), signature)
    )


def claimed_key(query: str) -> str:
    """Return the key that a request says it is signed with, empty if none; nothing is verified by that."""
    return next((value.decode("utf-8", "replace") for name, value in _parse(query) if name == b"auth_key"), "")


def sign_request(
    app: App, *, method: str, path: str, parameters: Sequence[tuple[str, str]] = (), body: bytes = b"", now_s: float
) -> str:
    """Return the query of a request that `verify_request` finds right: the parameters, and those of the signature.

    `path` is what will be sent, escapes included, from its first slash on; names of parameters are in lower case and
    without equals signs, and there is no ampersand in any of them.
    """
    pairs = [(_bytes(name), _bytes(value)) for name, value in parameters]
    pairs += [(b"auth_key", _bytes(app.key)), (b"auth_timestamp", b"%d" % now_s), (b"auth_version", b"1.0")]
    if body:
        pairs.append((b"body_md5", _digest(body)))
    pairs.sort(key=itemgetter(0))
    signature = _signature(app, _string_to_sign(method, path, pairs))
    return urlencode([*pairs, (b"auth_signature", signature)], quote_via=quote)


def spellings(path: str, prefix: str = "") -> tuple[str, ...]:
    """Return the ways to write a request's path that its signature may be made over; the first is the one received.

    SDKs sign channel names literally while a proxy may have encoded them, or the other way round; the PHP SDK signs
    without the mount prefix it sends to. All spellings name the same resource: an escaped slash or control character
    could be read as another one, so a path that has one stands for itself only.
    """
    if not prefix and _PLAIN.fullmatch(path):
        return (path,)
    raw = _bytes(path)
    ways = [raw]
    decoded = _decode(raw)
    if decoded.count(b"/") == raw.count(b"/") and b"?" not in decoded and not _CONTROL.search(decoded):
        ways += [decoded, decoded.replace(b"@", b"%40"), _RESERVED.sub(_escaped, decoded)]
    if prefix:
        mount = _bytes(prefix)
        ways += [way.removeprefix(mount) if way.startswith(mount + b"/") else mount + way for way in ways]
    return tuple(dict.fromkeys(way.decode("utf-8", "surrogateescape") for way in ways))


def decode_text(raw: str) -> str:
    """Return the text with its percent escapes decoded; what is not UTF-8 then becomes U+FFFD, so it is safe to send on."""
    return _decode(_bytes(raw)).decode("utf-8", "replace")


def _parse(query: str) -> _Pairs:
    raw = _bytes(query)
    pieces = [piece.partition(b"=") for piece in raw.split(b"&") if piece]
    if b"%" not in raw:
        return [(name.lower(), value) for name, _, value in pieces]
    pairs = [(_decode(name).lower(), _decode(value)) for name, _, value in pieces]
    for name, value in pairs:
        if b"&" in name or b"=" in name or b"&" in value:
            # What is signed has no escapes: `a=1%26b=2` is signed as `a=1&b=2` is. Whoever hears a request could have it say
            # the other thing, so neither may ever be the one with the escape
            where = name.decode("utf-8", "replace")[:_SHOWN_NAME]
            raise _refusal("an escaped & (in a name also =) is signed like one that separates: send it in the body", where)
    return pairs


def _auth_parameters(pairs: _Pairs) -> dict[bytes, bytes]:
    """Return the parameters of the signature; one that comes twice could mean two things, so it is refused."""
    found: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in _AUTH:
            if name in found:
                raise _refusal(f"{name.decode()} occurs more than once", name.decode())
            found[name] = value
    return found


def _check_key(app: App, auth: dict[bytes, bytes]) -> None:
    key = auth.get(b"auth_key")
    if not key:
        raise _refusal("auth_key is missing: the request must be signed", "auth_key")
    if not _equal(key, _bytes(app.key)):
        raise _refusal("auth_key is not the key of this app", "auth_key")
    version = auth.get(b"auth_version")
    if version != b"1.0":
        raise _refusal("auth_version must be 1.0" if version else "auth_version is missing: it must be 1.0", "auth_version")


def _check_time(auth: dict[bytes, bytes], now_s: float) -> None:
    stamp = auth.get(b"auth_timestamp")
    if not stamp:
        raise _refusal("auth_timestamp is missing", "auth_timestamp")
    if _SECONDS.fullmatch(stamp) is None:
        raise _refusal("auth_timestamp must be an integer: Unix seconds", "auth_timestamp")
    if abs(now_s - int(stamp)) >= GRACE_S:
        raise _refusal(
            f"auth_timestamp is {int(stamp)}, the gateway's clock says {int(now_s)}: {GRACE_S} seconds apart is too much",
            "auth_timestamp",
        )


def _check_body(auth: dict[bytes, bytes], body: bytes) -> None:
    claimed = auth.get(b"body_md5")
    if claimed is None:
        if body:
            raise _refusal("body_md5 is missing: it is required with a body", "body_md5")
        return
    digest = _digest(body)
    if not _equal(claimed, digest):
        sentence = f"body_md5 does not match: the {len(body)} bytes received have the MD5 {digest.decode()}"
        raise _refusal(sentence, "body_md5")


def _signs(app: App, signature: bytes, method: str, paths: Sequence[str], pairs: _Pairs) -> bool:
    return any(_equal(signature, _signature(app, _string_to_sign(method, path, pairs))) for path in paths)


def _string_to_sign(method: str, path: str, pairs: _Pairs) -> bytes:
    # sorted() is stable: the elements of an array, which share a name, stay in their order
    ordered = sorted([pair for pair in pairs if pair[0] != b"auth_signature"], key=itemgetter(0))
    return b"%b\n%b\n%b" % (_bytes(method), _bytes(path), b"&".join([b"%b=%b" % pair for pair in ordered]))


def _fold(pairs: _Pairs) -> _Pairs:
    """Join `info[0]=a` and `info[1]=b` to `info=a,b`: PHP sends the first where its SDK has signed the second."""
    if not any(name.endswith(b"]") for name, _ in pairs):
        return pairs
    folded: dict[bytes, list[bytes]] = {}
    result: _Pairs = []
    for name, value in pairs:
        numbered = _NUMBERED.fullmatch(name)
        if numbered is None:
            result.append((name, value))
        else:
            folded.setdefault(numbered[1], []).append(value)
    return result + [(name, b",".join(values)) for name, values in folded.items()]


def _own(pairs: _Pairs) -> Parameters:
    own: Parameters = {}
    for name, value in pairs:
        if name not in _AUTH:
            own.setdefault(name.decode("utf-8", "replace"), []).append(value.decode("utf-8", "replace"))
    return own


def _refusal(sentence: str, where: str) -> RequestError:
    return RequestError(401, sentence, where, reason="unauthorized")


def _digest(body: bytes) -> bytes:
    digest = _MD5.copy()
    digest.update(body)
    return digest.hexdigest().encode()


def _signature(app: App, signed: bytes) -> bytes:
    return keyed(_bytes(app.secret)).sign(signed).encode()


def _equal(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)


def _bytes(text: str) -> bytes:
    # bytes that are not UTF-8 reach us as escape surrogates, and signatures are made over bytes; any other lone
    # surrogate comes from JSON and has no bytes: it only must not raise
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _decode(raw: bytes) -> bytes:
    return _ESCAPE.sub(_unescaped, raw) if b"%" in raw else raw


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode())


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]


def _shown(signed: bytes) -> str:
    text = signed.decode("utf-8", "replace").replace("\n", "\\n")
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "… (cut)"
