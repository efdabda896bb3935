"""The reading of a request head, without a socket."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.server import ServerProtocol

from gateway.node import Handshake
from gateway.transport import upgrade
from tests.device.front_kit import TEXT, UPGRADE, request, wire


def fields(**changed: str | None) -> dict[bytes, bytes]:
    merged = UPGRADE | {name.replace("_", "-"): value for name, value in changed.items()}
    return {name.lower().encode(): value.encode() for name, value in merged.items() if value is not None}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"GET /app/key?protocol=7 HTTP/1.1", upgrade.Start(b"GET", b"/app/key", b"protocol=7", True)),
        (b"POST / HTTP/1.0", upgrade.Start(b"POST", b"/", b"", False)),
        (b"GET /a?b?c HTTP/1.1", upgrade.Start(b"GET", b"/a", b"b?c", True)),
        (b"GET /\xff HTTP/1.1", upgrade.Start(b"GET", b"/\xff", b"", True)),
        (b"GET  / HTTP/1.1", None),
        (b"GET / HTTP/9.9", None),
        (b"GET / HTTP/2.0", None),
        (b"GET / HTTP/1.1 ", None),
        (b"GET /", None),
        (b"get / HTTP/1.1", None),
        (b"GET /\x00 HTTP/1.1", None),
        (b"GET /\r HTTP/1.1", None),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443", None),
        (b"PRI * HTTP/2.0", None),
        (b"", None),
    ],
)
def test_first_lines(line: bytes, expected: upgrade.Start | None) -> None:
    assert upgrade.read_start(line) == expected


@pytest.mark.parametrize(
    "beginning", [b"G", b"GET", b"GET ", b"GET /app/\xe9", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r", b"PROXY TCP4"]
)
def test_what_may_become_a_request(beginning: bytes) -> None:
    assert upgrade.is_promising(beginning)


@pytest.mark.parametrize(
    "beginning",
    [b"\x16\x03\x01", b"\r", b"\x00", b"g", b" GET", b"GET\r", b"GET /\x00", b"SSH-2.0", b"A" * 33, b"GET / HTTP/1.1\rX"],
)
def test_what_cannot(beginning: bytes) -> None:
    assert not upgrade.is_promising(beginning)


def test_header_fields() -> None:
    lines = b"Host: a\r\nX-Forwarded-For:1.1.1.1\r\nEmpty:\r\nx-forwarded-for: \t2.2.2.2 \r\nUser-Agent: a\tb \xff"
    assert upgrade.read_fields(lines) == {
        b"host": b"a",
        b"x-forwarded-for": b"1.1.1.1, 2.2.2.2",
        b"empty": b"",
        b"user-agent": b"a\tb \xff",
    }


@pytest.mark.parametrize(
    "line", [b"no colon", b": x", b" folded: x", b"a b: x", b"a : x", b"a: \x00", b"a: b\nc: d", b"a: \r", b"", b"\xff: x"]
)
def test_malformed_header_fields(line: bytes) -> None:
    assert upgrade.read_fields(b"Host: a\r\n" + line) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/app/key", b"key"),
        (b"/app/key/", b"key"),
        (b"/app/", b""),
        (b"/app/a/b", b"a/b"),
        (b"/app/../key", b"../key"),
        (b"/rt/app/key", b"key"),
        (b"/rt/app/key/", b"key"),
        (b"/app", None),
        (b"/apps/1001/events", None),
        (b"/rt/apps/1001/events", None),
        (b"/APP/key", None),
        (b"//app/key", None),
        (b"/other/app/key", None),
        (b"/", None),
        (b"*", None),
    ],
)
def test_paths(path: bytes, expected: bytes | None) -> None:
    assert upgrade.app_key(path, b"/rt") == expected


GET = upgrade.Start(b"GET", b"/app/key", b"", True)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "upgrade"},
        {"Upgrade": "WebSocket"},
        {"Sec_WebSocket_Version": "8, 13"},
        {"Content_Length": "0"},
        {"Sec_WebSocket_Protocol": ""},
        {"Sec_WebSocket_Extensions": "permessage-deflate; ;;"},
        {"Host": None, "Origin": None},
    ],
)
def test_proper_upgrades(changed: dict[str, str | None]) -> None:
    assert upgrade.wants_websocket(fields(**changed))
    assert upgrade.is_proper(GET, fields(**changed))


@pytest.mark.parametrize(
    ("start", "changed"),
    [
        (upgrade.Start(b"POST", b"/app/key", b"", True), {}),
        (upgrade.Start(b"GET", b"/app/key", b"", False), {}),
        (GET, {"Connection": "keep-alive"}),
        (GET, {"Connection": None}),
        (GET, {"Sec_WebSocket_Version": "8"}),
        (GET, {"Sec_WebSocket_Version": None}),
        (GET, {"Sec_WebSocket_Key": None}),
        (GET, {"Sec_WebSocket_Key": "c2hvcnQ="}),
        (GET, {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZ!=="}),
        (GET, {"Sec_WebSocket_Key": "\u00e9" * 12}),
        (GET, {"Content_Length": "5"}),
        (GET, {"Transfer_Encoding": "chunked"}),
    ],
)
def test_improper_upgrades(start: upgrade.Start, changed: dict[str, str | None]) -> None:
    assert upgrade.wants_websocket(fields(**changed))
    assert not upgrade.is_proper(start, fields(**changed))


@pytest.mark.parametrize("value", ["h2c", "websockets", None, ""])
def test_other_upgrades(value: str | None) -> None:
    assert not upgrade.wants_websocket(fields(Upgrade=value))


def test_the_answer_of_the_rfc() -> None:
    answer = upgrade.accept(b"dGhlIHNhbXBsZSBub25jZQ==")
    assert answer.startswith(b"HTTP/1.1 101 ")
    # RFC 6455 section 1.3
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


NONCES = [b"dGhlIHNhbXBsZSBub25jZQ==", b"AAAAAAAAAAAAAAAAAAAAAA==", b"//////////////////////=="]


@pytest.mark.parametrize("name", [b"Sec-WebSocket-Key", b"sec-websocket-key"])
@pytest.mark.parametrize("nonce", NONCES)
def test_a_head_is_recognised_whatever_its_nonce(nonce: bytes, name: bytes) -> None:
    head = request("/rt/app/key/?protocol=7&client=js", Origin="https://a.test", X_Forwarded_For="192.0.2.1")
    head = head.replace(NONCES[0], nonce).replace(b"Sec-WebSocket-Key", name)
    said = upgrade.Wish("key", "7", "js", None, "https://a.test", None, b"192.0.2.1", None, None)
    assert upgrade.recognised(head, b"/rt") == (said, nonce)


@pytest.mark.parametrize(
    "head",
    [
        request(Sec_WebSocket_Key=None),
        request(Sec_WebSocket_Key="c2hvcnQ="),
        request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZ!=="),
        request(Sec_WebSocket_Key=NONCES[0].decode() + "x"),
        request() + wire(TEXT, "at once"),
        request() + b"\r\n\r\n",
        request()[:-2],
        request()[:-1],
        request().replace(b"Host", b"Sec-WebSocket-Key: " + NONCES[1] + b"\r\nHost"),
        request().replace(b"Host", b"sec-websocket-key: " + NONCES[1] + b"\r\nHost"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request().replace(b"GET", b"POST"),
        request().replace(b"Host: ", b"Host\t"),
        request("/apps/1001/events"),
        request(Upgrade="h2c"),
        request(Content_Length="5"),
        b"",
    ],
)
def test_what_is_out_of_the_ordinary_is_not_recognised(head: bytes) -> None:
    assert upgrade.recognised(head, b"/rt") is None
    assert upgrade.recognised(head, b"/rt") is None


def test_one_kind_of_client_is_read_once() -> None:
    upgrade._known.cache_clear()
    for nonce in NONCES:
        assert upgrade.recognised(request(User_Agent="x/1").replace(NONCES[0], nonce), b"") is not None
    assert upgrade._known.cache_info().misses == 1


def test_what_the_library_accepts_is_accepted() -> None:
    head = "".join(["GET /app/key HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in UPGRADE.items())]).encode()
    answer, accepts = upgrade.judge(head + b"Sec-WebSocket-Protocol: \xff,,\r\nSec-WebSocket-Extensions: ;;\r\n\r\n")
    assert accepts
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
    assert b"Sec-WebSocket-Protocol" not in answer
    assert b"Sec-WebSocket-Extensions" not in answer


def test_a_head_without_sense_has_no_answer() -> None:
    assert upgrade.judge(b"nonsense\r\n\r\n") == (b"", False)


@pytest.mark.parametrize("head", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", request(Sec_WebSocket_Key="!")])
def test_judging_leaves_nothing_for_the_collector(head: bytes) -> None:
    gc.collect()
    gc.disable()
    try:
        upgrade.judge(head)
        assert not any(isinstance(thing, ServerProtocol) for thing in gc.get_objects())
    finally:
        gc.enable()


def read(query: bytes = b"", key: bytes = b"key", **changed: str | None) -> Handshake:
    return upgrade.wish(key, query, fields(**changed)).handshake("203.0.113.9", False)


def test_what_clients_really_send() -> None:
    assert read(b"protocol=7&client=js&version=8.6.0&flash=false", Origin="https://a.test", User_Agent="x/1") == Handshake(
        "key", "7", "js", "8.6.0", "https://a.test", "x/1", "203.0.113.9"
    )
    assert read(b"client=java-client&protocol=5&version=2.4") == Handshake(
        "key", "5", "java-client", "2.4", None, None, "203.0.113.9"
    )
    assert read() == Handshake("key", None, None, None, None, None, "203.0.113.9")


@pytest.mark.parametrize(
    ("query", "protocol"),
    [
        (b"protocol=", ""),
        (b"protocol", ""),
        (b"protocol=7&protocol=3", "7"),
        (b"&&x=1&=&protocol=%37&", "7"),
        (b"Protocol=7", None),
        (b"protocol=7;client=js", "7;client=js"),
        (b"protocol=7=8", "7=8"),
        (b"protocol=+7", " 7"),
    ],
)
def test_odd_queries(query: bytes, protocol: str | None) -> None:
    assert read(query).protocol == protocol


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"%FF", "\ufffd"),
        (b"%00", "\ufffd"),
        (b"%ED%A0%80", "\ufffd" * 3),
        (b"%C3%28", "\ufffd("),
        (b"\xe9", "\ufffd"),
        (b"a%09b%7F%C2%85", "a\ufffdb\ufffd\ufffd"),
        (b"%F0%9F%98%80", "😀"),
        (b"%zz%", "%zz%"),
        (b"a%20b", "a b"),
        (b"..", ".."),
        (b"x" * 10_000, "x" * 512),
    ],
)
def test_odd_bytes_become_harmless_text(raw: bytes, text: str) -> None:
    handshake = read(b"client=" + raw + b"&version=" + raw, key=raw)
    assert (handshake.key, handshake.client, handshake.version) == (text, text, text)


def test_a_plus_in_the_path_is_a_plus() -> None:
    assert read(b"client=a+b", key=b"a+b").key == "a+b"
    assert read(b"client=a+b", key=b"a+b").client == "a b"


@given(st.binary(max_size=600), st.binary(max_size=600), st.binary(max_size=600))
def test_no_bytes_at_all_make_text_that_cannot_be_stored(key: bytes, query: bytes, header: bytes) -> None:
    odd = {b"origin": header, b"user-agent": header}
    handshake = upgrade.wish(key, b"protocol=" + query + b"&client=" + query, odd).handshake("::1", True)
    for text in (handshake.key, handshake.protocol, handshake.client, handshake.origin, handshake.user_agent):
        if text is not None:
            text.encode()
            assert len(text) <= 512
            assert not any(char < " " or "\x7f" <= char < "\xa0" for char in text)


@given(st.binary(max_size=300))
def test_no_bytes_at_all_break_the_reading(data: bytes) -> None:
    upgrade.is_promising(data)
    upgrade.read_start(data)
    upgrade.read_fields(data)
    answer, accepts = upgrade.judge(data + b"\r\n\r\n")
    assert not accepts
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
