"""Forms of publishes: what is recognised, what is not, and nothing that the full reading would refuse or read otherwise."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import form
from gateway.api.call import verified
from gateway.api.form import Forms
from gateway.api.plain import Reader
from gateway.core.app import Limits
from gateway.core.error import RequestError
from gateway.core.trace import Trace
from tests.device.served import APP, OTHER, FakeNode
from tests.fake import FakeClock
from tests.mutation import Edit, edits, mutate

PATH = f"/apps/{APP.id}/events"
NAMES = ("auth_key", "auth_timestamp", "auth_version", "body_md5", "auth_signature")
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Kit:
    """Forms over a node, and what a back end sends."""

    def __init__(self, prefix: str = "") -> None:
        self.node = FakeNode(APP, OTHER)
        self.clock = FakeClock()
        self.prefix = prefix
        self.forms = Forms(node=self.node, clock=self.clock, prefix=prefix)

    def request(
        self,
        body: bytes = b"{}",
        *,
        names: tuple[str, ...] = NAMES,
        path: str = PATH,
        signed: str = "",
        lines: str = "",
        ago: int = 0,
    ) -> bytes:
        values = {"auth_key": APP.key, "auth_version": "1.0", "body_md5": hashlib.md5(body).hexdigest()}
        values["auth_timestamp"] = str(self.clock.epoch_ms() // 1000 - ago)
        string = f"POST\n{signed or path}\n" + "&".join(f"{name}={values[name]}" for name in sorted(values))
        values["auth_signature"] = hmac.digest(APP.secret.encode(), string.encode(), "sha256").hex()
        query = "&".join(f"{name}={values[name]}" for name in names)
        return f"POST {path}?{query} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def learn(self, data: bytes) -> None:
        """Do with it what is done with a publish of no form: read it in full, and keep its form if it is right."""
        head = Reader(self.prefix).read(data)
        assert head is not None
        verified(APP, "POST", head.path, self.prefix, head.query, data[head.start :], self.clock)
        self.forms.learn(data, head, APP)


@pytest.mark.parametrize("names", [*permutations(NAMES)])
def test_a_form_is_known_from_its_second_request_on(names: tuple[str, ...]) -> None:
    kit = Kit()
    assert kit.forms.read(kit.request(names=names)) is None
    kit.learn(kit.request(names=names))
    if names[0] in ("auth_key", "auth_version"):
        found = kit.forms.read(kit.request(b"[1]", names=names, ago=1, lines=f"traceparent: {PARENT}\r\n"))
        assert found is not None
        known, body, trace = found
        assert (known.app, known.path, known.is_batch, body, trace) == (APP, PATH, False, b"[1]", Trace(PARENT))
    else:  # it begins with what changes, so that no other can be known by its beginning
        assert kit.forms.read(kit.request(names=names)) is None


def test_forms_are_told_apart() -> None:
    kit = Kit()
    others = [("auth_key", *names) for names in (NAMES[2:] + NAMES[1:2], NAMES[3:] + NAMES[1:3])]
    batch = kit.request(path=f"/apps/{APP.id}/batch_events")
    for data in (kit.request(), batch, *[kit.request(names=names) for names in others]):
        kit.learn(data)
    found = kit.forms.read(batch)
    assert found is not None
    assert found[0].is_batch
    for names in (NAMES, *others):
        assert kit.forms.read(kit.request(names=names)) is not None


@pytest.mark.parametrize("signed", [f"/rt{PATH}", PATH])
@pytest.mark.parametrize("path", [f"/rt{PATH}", PATH])
def test_the_mount_prefix_signed_or_not(path: str, signed: str) -> None:
    kit = Kit("/rt")
    kit.learn(kit.request(path=path, signed=signed))
    found = kit.forms.read(kit.request(b"[1]", path=path, signed=signed))
    assert found is not None
    assert found[0].path == path


def not_recognised(kit: Kit) -> dict[str, bytes]:
    data = kit.request(b"[1]")
    return {
        "cut off": data[:-1],
        "only begun": data[:100],
        "another behind it": data * 2,
        "another body": data[:-1] + b" ",
        "another signature": kit.request(signed="/apps/1/events"),
        "another order": kit.request(names=("auth_key", "auth_timestamp", "body_md5", "auth_version", "auth_signature")),
        "a parameter more": data.replace(b" HTTP", b"&info=user_count HTTP"),
        "an older version": data.replace(b"HTTP/1.1", b"HTTP/1.0"),
        "a time stamp of ten characters": data.replace(b"_timestamp=1", b"_timestamp=+"),
        "too old": kit.request(ago=600),
        "too new": kit.request(ago=-600),
        "chunks": kit.request(lines="Transfer-Encoding: chunked\r\n"),
        "the last": kit.request(lines="Connection: close\r\n"),
        "without a body": kit.request(b""),
        "a body longer than it says": data.replace(b"Length: 3", b"Length: 2"),
        "too large": kit.request(b"x" * (APP.limits.request + 1)),
        "nothing": b"",
    }


@pytest.mark.parametrize("what", [*not_recognised(Kit())])
def test_what_is_left_to_the_full_reading(what: str) -> None:
    kit = Kit()
    kit.learn(kit.request())
    assert kit.forms.read(not_recognised(kit)[what]) is None


@pytest.mark.parametrize("change", [{"secret": "another"}, {"key": "another"}, {"enabled": False}, {"limits": Limits(request=1)}])
def test_a_reload_makes_forms_void(change: dict[str, object]) -> None:
    kit = Kit()
    kit.learn(kit.request())
    kit.node.apps[APP.id] = replace(APP, **change)  # type: ignore[arg-type]
    assert kit.forms.read(kit.request()) is None
    del kit.node.apps[APP.id]
    assert kit.forms.read(kit.request()) is None


def test_a_fault_of_the_node_is_for_the_full_reading_to_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit()
    kit.learn(kit.request())
    monkeypatch.setattr(kit.node, "app", None)
    assert kit.forms.read(kit.request()) is None


def test_what_has_no_form() -> None:
    kit = Kit()
    right = kit.request()
    reader = Reader("")
    for data in (right.replace(b"auth_key", b"Auth_Key"), right.replace(b"1.0&", b"1.0&a=b&"), kit.request(names=NAMES[:4])):
        head = reader.read(data)
        assert head is not None
        kit.forms.learn(data, head, APP)
        assert kit.forms.read(data) is None
    # nor has what is wrong
    wrong = right.replace(b"signature=", b"signature=0")[: -len(b"0")]
    head = reader.read(wrong)
    assert head is not None
    kit.forms.learn(wrong, head, APP)
    assert kit.forms.read(right) is None


def test_so_many_forms_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "_MOST", 2)
    kit = Kit()
    forms = [kit.request(names=("auth_key", *names, "auth_version")) for names in permutations(NAMES[1:2] + NAMES[3:])]
    for data in forms:
        kit.learn(data)
        assert kit.forms.read(data) is not None
    assert sum(kit.forms.read(data) is not None for data in forms) <= 2


@given(edits, st.sampled_from(["", "/rt", f"/apps/{APP.id}"]), st.binary(max_size=20))
def test_what_is_recognised_is_what_the_full_reading_finds(changes: list[Edit], prefix: str, body: bytes) -> None:
    kit = Kit(prefix)
    kit.learn(kit.request(path=prefix + PATH))
    data = mutate(kit.request(b"1" + body, path=prefix + PATH), changes)
    found = kit.forms.read(data)
    if found is None:
        return
    known, body, trace = found
    head = Reader(prefix).read(data)
    assert head is not None
    assert (head.path, head.app_id, head.is_batch, head.trace) == (known.path, known.app.id, known.is_batch, trace)
    assert (len(data), data[head.start :]) == (head.start + head.length, body)
    try:
        assert verified(known.app, "POST", head.path, prefix, head.query, body, kit.clock) == {}
    except RequestError as error:
        raise AssertionError("a refused request was recognised") from error
