from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.trace import Trace, headers, of_envelope, read, told

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ENVELOPE = b'{"id":"evt_1","data":{},"metadata":{"webhook_id":"all","sequence":1,"node":"gw-1"'


@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        (PARENT, PARENT),
        (PARENT[:-2] + "ff", PARENT[:-2] + "ff"),
        # later versions: what this one has of them
        ("cc" + PARENT[2:], PARENT),
        ("cc" + PARENT[2:] + "-what-the-future-holds", PARENT),
        ("01" + PARENT[2:-2] + "fe", PARENT[:-2] + "00"),
    ],
)
def test_a_right_parent(parent: str, expected: str) -> None:
    assert read([parent], []) == Trace(expected)


@pytest.mark.parametrize(
    "parents",
    [
        [],
        [PARENT, PARENT],
        [""],
        [PARENT.upper()],
        [PARENT[:-1]],
        [PARENT + "-more"],
        [PARENT + "\n"],
        ["ff" + PARENT[2:]],
        ["cc" + PARENT[2:] + ".more"],
        [PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32)],
        [PARENT.replace("00f067aa0ba902b7", "0" * 16)],
        [PARENT.replace("4", "٤")],
        [PARENT.replace("-", "_")],
    ],
)
def test_what_is_no_parent_is_ignored_with_its_state(parents: list[str]) -> None:
    assert read(parents, ["a=1"]) is None


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["a=1"], "a=1"),
        ([" a=1 ,\tb=x y", "", ",c@d=!"], "a=1,b=x y,c@d=!"),
        (["0t/*-_=1"], "0t/*-_=1"),
        (["a=1,A=2"], ""),
        (["a=1,a=2"], ""),
        (["a=1", "b"], ""),
        (["a=ü"], ""),
        (["a=1=2"], ""),
        ([",".join(f"k{number}=1" for number in range(32))], ",".join(f"k{number}=1" for number in range(32))),
        ([",".join(f"k{number}=1" for number in range(33))], ""),
        # of what is too long whole members are kept, from the left: there are the newest
        (["a=" + "x" * 254, "b=" + "y" * 253], "a=" + "x" * 254 + ",b=" + "y" * 253),
        (["a=" + "x" * 254, "b=" + "y" * 254], "a=" + "x" * 254),
        (["a=" + "x" * 257], ""),
    ],
)
def test_a_state(states: list[str], expected: str) -> None:
    assert read([PARENT], states) == Trace(PARENT, expected)


def test_headers() -> None:
    assert headers(None) == {}
    assert headers(Trace(PARENT)) == {"traceparent": PARENT}
    assert headers(Trace(PARENT, "a=1")) == {"traceparent": PARENT, "tracestate": "a=1"}


@given(st.lists(st.from_regex(r"[a-z0-9][a-z0-9_*/@-]{0,9}=[!-+\--<>-~]{1,255}", fullmatch=True), max_size=40))
def test_what_is_told_in_an_envelope_is_found_there(states: list[str]) -> None:
    trace = read([PARENT], states)
    assert trace is not None
    assert len(trace.state) <= 512
    assert of_envelope(ENVELOPE + told(trace) + b"}}") == trace
    assert of_envelope(ENVELOPE + b"}}") is None
