"""Terminating a user's connections over HTTP, as SDKs write it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.device.served import APP, OTHER, USERS, Served, serve


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serve() as served:
        yield served


@pytest.mark.parametrize("body", [b"{}", b""])
async def test_the_path_names_the_user(served: Served, body: bytes) -> None:
    answer = await served.ask("POST", f"{USERS}/u-42/terminate_connections", body)
    assert (answer.status, answer.json) == (200, {})
    assert served.node.fake_users.terminated == [(APP.id, "u-42")]


@pytest.mark.parametrize(
    ("written", "user_id"),
    [("a%2Fb", "a/b"), ("a%20b", "a b"), ("%F0%9F%98%80", "😀"), ("x" * 200, "x" * 200), ("%2e%2e", ".."), ("%FF", "\ufffd")],
)
async def test_a_user_may_be_called_anything(served: Served, written: str, user_id: str) -> None:
    for path in (f"{USERS}/{written}", f"/users/{written}"):
        answer = await served.ask("POST", f"{path}/terminate_connections", {})
        assert (answer.status, answer.json) == (200, {})
    assert served.node.fake_users.terminated == [(APP.id, user_id)] * 2


async def test_a_path_without_the_app_is_that_of_the_key(served: Served) -> None:
    assert (await served.ask("POST", "/users/u-42/terminate_connections", {})).status == 200
    assert served.node.fake_users.terminated == [(APP.id, "u-42")]
    assert (await served.ask("POST", "/users/u-42/terminate_connections", {}, app=OTHER)).status == 403, "it is disabled"


@pytest.mark.parametrize("path", [f"{USERS}/u-42/terminate_connections", "/users/u-42/terminate_connections"])
async def test_nobody_is_terminated_without_a_right_signature(served: Served, path: str) -> None:
    right = served.signed("POST", path, b"{}")
    wrongs = [
        path,
        right.replace("auth_key=a1", "auth_key=a2"),
        right.replace("auth_signature=", "auth_signature=0"),
        path + "?auth_key=",
    ]
    wrongs.append(served.signed("POST", path.replace("u-42", "u-43"), b"{}").replace("u-43", "u-42"))
    for wrong in wrongs:
        assert (await served.send("POST", wrong, b"{}")).status == 401, wrong
    # a signature over the one path does not open the other
    other = "/users/u-42/terminate_connections" if path.startswith("/apps") else f"{USERS}/u-42/terminate_connections"
    assert (await served.send("POST", right.replace(path, other), b"{}")).status == 401
    assert served.node.fake_users.terminated == []
    assert (await served.send("GET", right)).status == 405
