"""The guard: a token or this machine, and no page in a browser."""

from __future__ import annotations

import pytest

from gateway.admin.guard import Guard, host_of
from gateway.admin.login import Logins
from gateway.core.error import RequestError
from tests.fake import FakeClock

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


# -- browsers


def by_cookie() -> tuple[Guard, dict[str, str]]:
    """A guard, and the head of a request that comes with a login's cookie."""
    logins = Logins(token="s3cret", clock=FakeClock())
    guard = Guard(token="s3cret", host="0.0.0.0", logins=logins, before_login=frozenset({"/login"}))
    return guard, {"Host": "gw.example:6002", "Cookie": f"rawpush={logins.open('s3cret')}"}


OTHERS = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://gw.example:6002"},
    {"Origin": "http://gw.example:6003"},
    {"Origin": "http://gw.example"},
    {"Origin": "null"},
    {"Origin": "http://[::1"},
]
OURS = [
    {"Sec-Fetch-Site": "same-origin"},
    {"Origin": "http://gw.example:6002"},
    {"Origin": "https://GW.example:6002"},
]


@pytest.mark.parametrize("from_where", OTHERS)
def test_no_page_of_another_origin_orders_or_opens_a_websocket(from_where: dict[str, str]) -> None:
    guard, head = by_cookie()
    open_guard, token = Guard(token="", host="gw.example"), {"Host": "gw.example:6002", "Authorization": "Bearer s3cret"}
    for judge, given in ((guard, head), (guard, token), (open_guard, {"Host": "gw.example:6002"})):
        assert refusal(judge, "POST", **given, **from_where, **JSON) == (403, "Origin")
        assert refusal(judge, path="/v1/live", **given, **from_where, Upgrade="WebSocket") == (403, "Origin")
    # nor guesses tokens with the browsers of others
    assert refusal(guard, "POST", "/login", Host="gw.example:6002", **from_where, **JSON) == (403, "Origin")


@pytest.mark.parametrize("from_where", OURS)
def test_our_own_page_does(from_where: dict[str, str]) -> None:
    guard, head = by_cookie()
    assert refusal(guard, "POST", **head, **from_where, **JSON) is None
    assert refusal(guard, path="/v1/live", **head, **from_where, Upgrade="websocket") is None
    assert refusal(guard, **head, **from_where) is None


def test_an_order_by_cookie_must_say_where_it_comes_from_and_one_by_token_need_not() -> None:
    guard, head = by_cookie()
    assert refusal(guard, "POST", **head, **JSON) == (403, "Origin")
    assert refusal(guard, "POST", **head, **JSON, Sec_Fetch_Site="none") == (403, "Origin")
    assert refusal(guard, path="/v1/live", **head, Upgrade="websocket") == (403, "Origin")
    assert refusal(guard, **head) is None
    assert refusal(guard, "POST", Host="gw.example", Authorization="Bearer s3cret", **JSON) is None


def test_a_page_of_another_origin_can_lead_here_but_not_read() -> None:
    guard, head = by_cookie()
    assert refusal(guard, path="/", **head, Sec_Fetch_Site="cross-site") is None
    for path in ("/v1/overview", "/dashboard/app.js", "/metrics"):
        assert refusal(guard, path=path, **head, Sec_Fetch_Site="cross-site") == (403, "Origin")


@pytest.mark.parametrize("cookie", ["", "rawpush=", "rawpush=x", "rawpush_6002", "other={}", "rawpush={}x"])
def test_a_cookie_that_is_none_of_ours_opens_nothing(cookie: str) -> None:
    guard, head = by_cookie()
    given = cookie.format(head["Cookie"].partition("=")[2])
    assert refusal(guard, Host="gw.example", Cookie=given) == (401, "Authorization")


def test_a_wrong_token_is_wrong_whatever_cookie_comes_with_it() -> None:
    guard, head = by_cookie()
    assert refusal(guard, **head, Authorization="Bearer other") == (401, "Authorization")


def test_the_host_of_a_header() -> None:
    assert [host_of(header) for header in ("A.b:1", "[::1]", "[::1]:5", "x")] == ["a.b", "::1", "::1", "x"]
