"""Endpoints: where webhooks go, which events go there, and what can be wrong with an entry of the file."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from gateway.core.format import FORMATS
from gateway.core.retry import RetryPolicy
from gateway.core.span import CATALOGUE

#: marks a secret whose key is base64 (Standard Webhooks)
BASE64_SECRET = "whsec_"

#: names an endpoint's own headers must not take, lower case: those the gateway sets, and those that belong to HTTP
RESERVED_HEADERS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
        "x-pusher-key",
        "x-pusher-signature",
        "x-webhook-attempt",
        "x-webhook-event",
        "x-webhook-id",
        "x-webhook-replay",
        "x-webhook-signature",
        "x-webhook-timestamp",
        "x-webhook-version",
    }
)

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_FIELD_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")  # RFC 9110, section 5.5, without obs-text
#: Octal, hexadecimal, fewer than four numbers: resolvers read these as IPv4 addresses, each in its own way.
_ENDS_IN_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)\.?$")
_IPV4 = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f]")


def kinds_of(globs: Iterable[str]) -> frozenset[str]:
    """Return the kinds of event that shell globs select."""
    globs = tuple(globs)
    return frozenset(kind for kind in CATALOGUE if any(fnmatchcase(kind, glob) for glob in globs))


def check_kinds(globs: Iterable[str]) -> Iterator[str]:
    """Say of each glob that selects no kind of event that it does not, with the nearest kind."""
    for glob in globs:
        if not kinds_of((glob,)):
            near = get_close_matches(glob, CATALOGUE, n=1)
            yield f"{glob!r} matches no event" + (f"; did you mean {near[0]!r}?" if near else "")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where webhooks go: one `[[apps.webhooks]]` entry. Two endpoints may share a URL, never a name within an app."""

    app_id: str
    name: str
    url: str
    #: the first signs X-Webhook-Signature, all sign webhook-signature; `whsec_...` is a base64 key
    secrets: tuple[str, ...] = field(repr=False)
    #: shell globs over event kinds
    events: tuple[str, ...] = ("*",)
    #: shell globs over channel names; events without a channel pass
    channels: tuple[str, ...] = ("*",)
    exclude_channels: tuple[str, ...] = ()
    #: shell globs over the name inside a `message.*` or `client_event`; other events pass
    event_names: tuple[str, ...] = ("*",)
    exclude_event_names: tuple[str, ...] = ()
    #: a row of `format.FORMATS`
    format: str = "event"
    batch_max: int = 500
    #: lanes
    concurrency: int = 8
    timeout_s: float = 10.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    include_payload: bool = True
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: the app's key and secret, where the format is signed with them
    pusher_key: str = ""
    pusher_secret: str = field(default="", repr=False)

    @property
    def key(self) -> str:
        """What the outbox, the pool and the metrics know it by."""
        return f"{self.app_id}/{self.name}"


def key_of(secret: str) -> bytes:
    """Return the Standard Webhooks key of a secret: what is base64 behind `whsec_`, else its UTF-8 bytes.

    Raises ValueError if it is not base64.
    """
    if not secret.startswith(BASE64_SECRET):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(BASE64_SECRET), validate=True)
    except (binascii.Error, ValueError):
        # Not chained: a secret, or the shape of one, must not get into a log by way of a traceback.
        raise ValueError("what follows whsec_ is not base64") from None


def shown_url(url: str) -> str:
    """Return the URL without its query, which can hold a token that is nobody's business but the receiver's."""
    before, mark, _ = url.partition("?")
    return f"{before}?..." if mark else before


def check(endpoint: Endpoint) -> list[tuple[str, str]]:
    """Return everything that is wrong with the endpoint: the name of the field, as in the file, and a sentence.

    Secrets are never shown, nor is a URL, which may hold one.
    """
    return [
        *_url(endpoint.url),
        *_secrets(endpoint.secrets),
        *(("events", sentence) for sentence in check_kinds(endpoint.events)),
        *_headers(endpoint.headers),
        *_format(endpoint),
        *_numbers(endpoint),
        *_retry(endpoint.retry),
    ]


def _url(url: str) -> Iterator[tuple[str, str]]:
    if _NOT_IN_URL.search(url):
        yield "url", "holds a space or a control character"
        return
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        yield "url", "is not a URL: its host or its port cannot be read"
        return
    if parts.scheme not in ("http", "https"):
        yield "url", f"must begin with http:// or https://, not with {parts.scheme or 'no scheme'}"
    elif not host:
        yield "url", "names no host"
    elif ":" not in host and _ENDS_IN_NUMBER.search(host) and not _IPV4.fullmatch(host):
        yield "url", "its host is a number; write an address as four decimal numbers, such as 192.0.2.7"
    if port == 0:
        yield "url", "port 0 cannot be connected to"
    if "@" in parts.netloc:
        yield "url", "must not hold a user name or password; use `headers` for credentials"
    if "#" in url:
        yield "url", "must not hold a fragment (#...); it would never be sent"


def _secrets(secrets: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if not secrets:
        yield "secrets", "at least one secret is needed"
    for place, secret in enumerate(secrets, 1):
        try:
            if not key_of(secret):
                yield "secrets", f"secret {place} is empty"
        except ValueError as wrong:
            yield "secrets", f"secret {place}: {wrong}"
    if len(set(secrets)) < len(secrets):
        yield "secrets", "the same secret stands there twice"


def _headers(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    seen = set[str]()
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            yield "headers", f"{name!r} is not the name of a header"
        elif name.lower() in RESERVED_HEADERS:
            yield "headers", f"{name!r} is set by the gateway itself"
        elif name.lower() in seen:
            yield "headers", f"{name!r} stands there twice, in different case"
        seen.add(name.lower())
        if not _FIELD_VALUE.fullmatch(value):
            yield "headers", f"the value of {name!r} may hold only printable ASCII, and neither begin nor end with a space"


def _format(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    form = FORMATS.get(endpoint.format)
    if form is None:
        near = get_close_matches(endpoint.format, FORMATS, n=1)
        yield "format", f"must be one of {', '.join(FORMATS)}" + (f"; did you mean {near[0]!r}?" if near else "")
        return
    for glob in endpoint.events:
        if (kinds := kinds_of((glob,))) and not kinds & form.kinds:
            yield "events", f"{glob!r} matches no event that exists in the format {endpoint.format}"
    if form.needs_app and not (endpoint.pusher_key and endpoint.pusher_secret):
        yield "format", f"{endpoint.format} is signed with the key and the secret of the app, and they are missing"


def _numbers(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    if not 1 <= endpoint.concurrency <= 256:
        yield "concurrency", "must be from 1 to 256"
    if not 1 <= endpoint.batch_max <= 10_000:
        yield "batch_max", "must be from 1 to 10000"
    if not endpoint.timeout_s > 0:
        yield "timeout", "must be more than nothing"


def _retry(policy: RetryPolicy) -> Iterator[tuple[str, str]]:
    if not policy.initial_s > 0:
        yield "retry.initial", "must be more than nothing"
    if not policy.factor >= 1:
        yield "retry.factor", "must be at least 1"
    if not policy.max_delay_s >= policy.initial_s:
        yield "retry.max_delay", "must not be shorter than retry.initial"
    if not policy.max_age_s >= 0:
        yield "retry.max_age", "must not be negative"
    if policy.max_attempts < 0:
        yield "retry.max_attempts", "must not be negative; 0 means no limit"
    if not all(delay > 0 for delay in policy.schedule_s):
        yield "retry.schedule", "each delay must be more than nothing"
