"""The guard: a token or this machine, and no page in a browser."""

from __future__ import annotations

import pytest

from gateway.admin.guard import Guard, host_of
from gateway.core.error import RequestError

JSON = {"Content-Type": "application/json"}


def refusal(guard: Guard, method: str = "GET", path: str = "/v1/overview", **headers: str) -> tuple[int, str | None] | None:
    try:
        guard.check(method, path, {name.replace("_", "-"): value for name, value in headers.items()})
    except RequestError as error:
        return error.status, error.where if "s3cret" not in error.sentence else "the secret!"
    return None


@pytest.mark.parametrize("authorization", ["Bearer s3cret", "bearer s3cret", "Bearer   s3cret "])
def test_the_token_opens(authorization: str) -> None:
    assert refusal(Guard(token="s3cret", host="0.0.0.0"), Host="admin.example.com", Authorization=authorization) is None


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "s3cret", "Bearer é\udcff"]
)
def test_anything_else_does_not(authorization: str) -> None:
    guard = Guard(token="s3cret", host="127.0.0.1")
    assert refusal(guard, Host="127.0.0.1", Authorization=authorization) == (401, "Authorization")
    assert refusal(guard, "POST", Host="127.0.0.1", Authorization=authorization, **JSON) == (401, "Authorization")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_for_everybody(path: str) -> None:
    assert refusal(Guard(token="s3cret", host="0.0.0.0"), path=path, Host="10.1.2.3:6002") is None
    assert refusal(Guard(token="", host="127.0.0.1"), path=path, Host="gateway.internal") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:6002", "localhost:6002", "LOCALHOST", "[::1]:6002", "127.1.2.3"])
def test_without_a_token_loopback_names_are_let_in(host: str) -> None:
    assert refusal(Guard(token="", host="127.0.0.1"), Host=host) is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:6002", "127.0.0.1.evil.example", "127.evil.example", "localhost.evil.example", "10.0.0.1"],
)
def test_and_a_name_that_was_pointed_at_loopback_is_not(host: str) -> None:
    assert refusal(Guard(token="", host="127.0.0.1"), Host=host) == (403, "Host")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "given", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain; application/json"]
)
def test_what_a_page_can_send_without_asking_changes_nothing(method: str, given: str) -> None:
    for guard in (Guard(token="", host="127.0.0.1"), Guard(token="s3cret", host="127.0.0.1")):
        told = refusal(guard, method, Host="127.0.0.1", Authorization="Bearer s3cret", Content_Type=given)
        assert told == (415, "Content-Type")


@pytest.mark.parametrize("given", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_let_in(given: str) -> None:
    assert refusal(Guard(token="", host="127.0.0.1"), "POST", Host="127.0.0.1", Content_Type=given) is None


def test_the_host_of_a_header() -> None:
    assert [host_of(header) for header in ("A.b:1", "[::1]", "[::1]:5", "x")] == ["a.b", "::1", "::1", "x"]
