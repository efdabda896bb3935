"""Plain requests: what may be read without a full parser, and what must not."""

from __future__ import annotations

import pytest

from gateway.api.plain import Publish, Reader, is_whole

HEAD = b"POST /apps/17/events?auth_key=k&x=%41 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
QUERY = "auth_key=k&x=%41"


@pytest.mark.parametrize(
    "lines",
    [
        b"Host: x\r\nContent-Length: 2",
        b"content-length:2\r\nHOST:x",
        b"Host: x\r\nConnection: Keep-Alive\r\nContent-Length:   2  \r\nAccept: */*\r\nX-Empty:",
    ],
)
def test_a_plain_publish_is_read(lines: bytes) -> None:
    data = b"POST /apps/17/events?auth_key=k&x=%41 HTTP/1.1\r\n" + lines + b"\r\n\r\n"
    assert Reader("").read(data + b"{}POST") == Publish("/apps/17/events", "17", QUERY, 2, len(data), False)
    assert is_whole(data + b"{}")
    assert not is_whole(data + b"{")
    assert not is_whole(data + b"{}\n")


def test_a_plain_batch_is_read() -> None:
    data = HEAD.replace(b"events", b"batch_events")
    assert Reader("").read(data + b"{}") == Publish("/apps/17/batch_events", "17", QUERY, 2, len(data), True)


ODD = {
    "no length": HEAD.replace(b"Content-Length: 2\r\n", b""),
    "two lengths": HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n"),
    "a list of lengths": HEAD.replace(b": 2", b": 2, 2"),
    "a sign": HEAD.replace(b": 2", b": +2"),
    "a zero in front": HEAD.replace(b": 2", b": 02"),
    "an endless length": HEAD.replace(b": 2", b": 2000000000"),
    "other digits": HEAD.replace(b": 2", b": \xb2"),
    "chunks": HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a coding": HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"),
    "an expectation": HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"),
    "an upgrade": HEAD.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
    "the last": HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    "for the proxy": HEAD.replace(b"\r\n\r\n", b"\r\nProxy-Connection: close\r\n\r\n"),
    "a folded line": HEAD.replace(b"Host: x", b"Host: x\r\n y"),
    "no host": HEAD.replace(b"Host: x\r\n", b""),
    "a host without name": HEAD.replace(b"Host: x", b"Host:"),
    "two hosts": HEAD.replace(b"Host: x", b"Host: x\r\nhost: x"),
    "a header twice": HEAD.replace(b"\r\n\r\n", b"\r\nA: b\r\na: b\r\n\r\n"),
    "a space before the colon": HEAD.replace(b"Content-Length:", b"Content-Length :"),
    "a space in a name": HEAD.replace(b"Content-Length:", b"Content Length:"),
    "no colon": HEAD.replace(b"Host: x", b"Host: x\r\nA"),
    "no name": HEAD.replace(b"Host: x", b"Host: x\r\n: a"),
    "a tab": HEAD.replace(b": 2", b":\t2"),
    "a nul": HEAD.replace(b"Host: x", b"Host: x\0"),
    "a bare line feed": HEAD.replace(b"Host: x", b"Host: x\nA: b"),
    "a bare carriage return": HEAD.replace(b"Host: x", b"Host: x\rA: b"),
    "line feeds only": HEAD.replace(b"\r\n", b"\n"),
    "bytes beyond ASCII": HEAD.replace(b"Host: x", b"Host: \xc3\xa9"),
    "an older version": HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a later version": HEAD.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "a space more": HEAD.replace(b" HTTP", b"  HTTP"),
    "an empty line first": b"\r\n" + HEAD,
    "another method": HEAD.replace(b"POST", b"PUT"),
    "a method in lower case": HEAD.replace(b"POST", b"post"),
    "the absolute form": HEAD.replace(b" /", b" http://x/"),
    "a fragment": HEAD.replace(b"=k", b"=k#"),
    "a large head": HEAD.replace(b"Host: x", b"Host: x\r\nA: " + b"a" * 4_096),
    "half a head": HEAD[:-1],
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_what_is_not_plain(data: bytes) -> None:
    assert Reader("").read(data + b"{}") is None
    if data is not ODD["no length"]:  # which is as plain as can be, without the body
        assert not is_whole(data + b"{}")


def test_a_body_must_be_there_and_an_event_on_its_path() -> None:
    others = [(b"events", name) for name in (b"batch_event", b"batch_batch_events", b"channels")]
    for old, new in ((b": 2", b": 0"), *others, (b"/17", b"/1%37"), (b"/17", b"//17"), (b"/17", b"/")):
        assert Reader("").read(HEAD.replace(old, new)) is None
    assert Reader("").read(b"POST /apps/17/events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}") is None


def test_a_plain_request_of_another_kind_is_known_to_be_whole() -> None:
    get = b"GET /apps/17/channels/presence-a%40b,c;d/users?info=user_count HTTP/1.1\r\nHost: x\r\n\r\n"
    assert is_whole(get)
    assert not is_whole(get + get)
    assert not is_whole(get[:-1])
    assert not is_whole(HEAD.replace(b": 2", b": 20000") + b"x" * 20_000)


def test_the_mount_prefix() -> None:
    mounted = HEAD.replace(b"/apps", b"/r.t/apps")
    for data, path in ((mounted, "/r.t/apps/17/events"), (HEAD, "/apps/17/events")):
        head = Reader("/r.t").read(data)
        assert head is not None
        assert (head.path, head.app_id) == (path, "17")
    assert Reader("").read(mounted) is None
    assert Reader("/r.t").read(mounted.replace(b"r.t", b"rxt")) is None
    # what is below the prefix is looked for there
    assert Reader("/apps/17").read(HEAD) is None
    assert Reader("/apps/17").read(HEAD.replace(b"/apps", b"/apps/17/apps")) is not None
