from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.endpoint import Endpoint, check, key_of
from gateway.core.retry import RetryPolicy

GOOD = Endpoint("1001", "backend", "https://backend.example.com/hooks?a=b", ("s3cret",), headers={"X-Tenant": "7"})


def complaints(**changes: object) -> list[tuple[str, str]]:
    return check(replace(GOOD, **changes))  # type: ignore[arg-type]


def test_a_good_endpoint_has_nothing_wrong() -> None:
    assert check(GOOD) == []
    assert complaints(events=("channel.*", "client_event", "message.[pr]*"), secrets=("new", "whsec_AAAA"), format="batch") == []


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8080",
        "https://[::1]:443/x",
        "http://[::ffff:10.0.0.1]/",
        "HTTP://EXAMPLE.com",
        "http://10.0.0.1/a%20b",
        "http://host-7.example7",
        "https://bücher.example/ü",
    ],
)
def test_urls_that_can_be_used(url: str) -> None:
    assert complaints(url=url) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com", "not with ftp"),
        ("example.com/hook", "not with no scheme"),
        ("", "http:// or https://"),
        ("https://", "no host"),
        ("https:///path", "no host"),
        ("https://:8080/", "no host"),
        ("https://u:hunter2@example.com/", "user name or password"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com:99999/", "cannot be read"),
        ("https://example.com:0/", "port 0"),
        ("https://[::1/", "cannot be read"),
        ("https://example.com/a b", "space"),
        ("https://exam\nple.com/", "control character"),
        ("http://2130706433/", "is a number"),
        ("http://127.1/", "is a number"),
        ("http://0177.0.0.1/", "is a number"),
        ("http://0x7F000001:80/", "is a number"),
        ("http://127.0.0.1./", "is a number"),
    ],
)
def test_urls_that_cannot(url: str, words: str) -> None:
    ((place, sentence),) = complaints(url=url)
    assert place == "url"
    assert words in sentence
    assert "hunter2" not in sentence


@given(st.text(max_size=40))
def test_no_url_whatever_raises(url: str) -> None:
    assert all(place == "url" for place, _ in complaints(url=url))


def test_an_event_that_does_not_exist_gets_the_nearest_one_that_does() -> None:
    assert complaints(events=("chanel.occupied", "channel.*", "zzz")) == [
        ("events", "'chanel.occupied' matches no event; did you mean 'channel.occupied'?"),
        ("events", "'zzz' matches no event"),
    ]


def test_event_globs_are_case_sensitive() -> None:
    assert [place for place, _ in complaints(events=("Channel.*",))] == ["events"]


@pytest.mark.parametrize(
    ("secrets", "words"),
    [
        ((), "at least one"),
        (("good", ""), "secret 2 is empty"),
        (("whsec_",), "secret 1 is empty"),
        (("whsec_hunter2!",), "not base64"),
        (("whsec_hunter2",), "not base64"),  # seven digits: the padding is missing
        (("whsec_hünter2",), "not base64"),
        (("same", "same"), "twice"),
    ],
)
def test_bad_secrets_are_refused_and_never_shown(secrets: tuple[str, ...], words: str) -> None:
    ((place, sentence),) = complaints(secrets=secrets)
    assert place == "secrets"
    assert words in sentence
    assert "nter2" not in sentence


def test_an_endpoint_does_not_show_its_secrets_or_headers() -> None:
    assert "hunter2" not in repr(replace(GOOD, secrets=("hunter2",), headers={"Authorization": "hunter2"}))


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"": "x"}, "not the name of a header"),
        ({"X Y": "x"}, "not the name of a header"),
        ({"X:Y": "x"}, "not the name of a header"),
        ({"X-ü": "x"}, "not the name of a header"),
        ({"Content-Length": "5"}, "set by the gateway"),
        ({"WEBHOOK-ID": "5"}, "set by the gateway"),
        ({"X-A": "1", "x-a": "2"}, "twice"),
        ({"X-A": "1\r\nX-B: 2"}, "printable ASCII"),
        ({"X-A": "ü"}, "printable ASCII"),
        ({"X-A": " 1"}, "printable ASCII"),
        ({"X-A": "1\n"}, "printable ASCII"),
    ],
)
def test_bad_headers(headers: dict[str, str], words: str) -> None:
    ((place, sentence),) = complaints(headers=headers)
    assert place == "headers"
    assert words in sentence


@pytest.mark.parametrize("value", ["", "7", "Bearer a.b-c", "a\tb"])
def test_good_header_values(value: str) -> None:
    assert complaints(headers={"X-A": value}) == []


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"format": "batches"}, "format"),
        ({"format": "pusher", "pusher_key": "k"}, "format"),
        ({"format": "pusher", "pusher_key": "k", "pusher_secret": "s", "events": ("message.*", "*")}, "events"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 257}, "concurrency"),
        ({"batch_max": 0}, "batch_max"),
        ({"batch_max": 10_001}, "batch_max"),
        ({"timeout_s": 0.0}, "timeout"),
        ({"timeout_s": float("nan")}, "timeout"),
        ({"retry": RetryPolicy(initial_s=0)}, "retry.initial"),
        ({"retry": RetryPolicy(factor=0.5)}, "retry.factor"),
        ({"retry": RetryPolicy(initial_s=10, max_delay_s=5)}, "retry.max_delay"),
        ({"retry": RetryPolicy(max_age_s=-1)}, "retry.max_age"),
        ({"retry": RetryPolicy(max_attempts=-1)}, "retry.max_attempts"),
        ({"retry": RetryPolicy(schedule_s=(5, 0))}, "retry.schedule"),
    ],
)
def test_numbers_out_of_range(changes: dict[str, object], place: str) -> None:
    assert [where for where, _ in complaints(**changes)] == [place]


def test_the_ends_of_the_ranges_are_fine() -> None:
    assert complaints(concurrency=1, batch_max=1) == complaints(concurrency=256, batch_max=10_000) == []


def test_everything_wrong_is_said_at_once() -> None:
    found = complaints(url="x", secrets=(), events=("y",), headers={"Host": "z"}, format="", concurrency=0)
    assert [place for place, _ in found] == ["url", "secrets", "events", "headers", "format", "concurrency"]


def test_the_key_of_a_secret() -> None:
    assert key_of("whsec_AAEC") == b"\0\1\2"
    assert key_of("sécret") == "sécret".encode()
