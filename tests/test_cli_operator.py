"""`rawpush status` and `rawpush reload`: what is asked, what is printed, and how it ends. The gateway is played."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from tests.played import Played

OVERVIEW: dict[str, Any] = {
    "version": "1.2.3",
    "node": "gw-1\x1b[2J",
    "started_at": "2026-01-25T10:00:00.000Z",
    "ready": True,
    "reasons": [],
    "connections": 1,
    "channels": 1,
    "per_second": {"frames_received": 12.5},
    "loop_lag_ms": 1.5,
    "recorder": {"queued": 3, "limit": 1000, "failing": False},
    "outbox": {"writable": True, "readable": True, "used_bytes": 4096, "limit_bytes": 8192},
    "apps": [
        {
            "id": "1001",
            "key": "k",
            "enabled": True,
            "connections": 7,
            "channels": 2,
            "backlog": 5,
            "dead_letters": 1,
            "endpoints": [
                {
                    "name": "backend",
                    "url": "http://x/",
                    "state": "backing off",
                    "why": "it answered 500",
                    "backlog": 5,
                    "dead_letters": 1,
                    "oldest_age_ms": 65_000,
                }
            ],
        },
        {"id": "1002", "key": "k2", "enabled": False, "connections": 0, "channels": 0},
    ],
}


class PlayedGateway(Played):
    """Keeps what it is asked, and answers what stands in `answer`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None, str | None]] = []
        self.answer: tuple[int, Any] = (200, OVERVIEW)
        super().__init__()

    def told(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        self.asked.append((method, target, headers["Authorization"], headers["Content-Type"]))
        return self.answer


@pytest.fixture
def gateway() -> Iterator[PlayedGateway]:
    played = PlayedGateway()
    yield played
    played.close()


@pytest.fixture
def file(tmp_path: Path, gateway: PlayedGateway) -> Path:
    file = tmp_path / "config.toml"
    # A secret this shell does not have, and a mistake: neither is needed for asking.
    file.write_text(
        f'[admin]\nport = {gateway.port}\ntoken = "s3cret-token"\n'
        '[[apps]]\nid = "1"\nkey = "k"\nsecret = "env:NOT_HERE"\nbogus = 1\n'
    )
    return file


@pytest.fixture
def rawpush(file: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def rawpush(*arguments: str) -> tuple[int, str, str]:
        code = cli.main([arguments[0], "-c", str(file), *arguments[1:]])
        printed = capsys.readouterr()
        assert "s3cret" not in printed.out + printed.err
        assert "\x1b" not in printed.out + printed.err
        return code, printed.out, printed.err

    return rawpush


def test_status_is_the_overview_for_people(gateway: PlayedGateway, rawpush: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = rawpush("status")
    assert (code, gateway.asked) == (0, [("GET", "/v1/overview?limit=500", "Bearer s3cret-token", "application/json")])
    lines = out.split("\n")
    assert lines[0] == "ready"
    assert lines[1].startswith("RawPush 1.2.3, node gw-1")
    assert lines[2] == "per second: frames received 12.5"
    assert lines[3] == "outbox writable, 4,096 of 8,192 bytes; 3 records wait; loop 1.5 ms late at worst"
    assert "1001  yes      7            2         5        1" in lines
    assert "1002  NO       0            0         ?        ?" in lines
    assert any(line.startswith("1001/backend  backing off  5        1m      1") for line in lines)
    assert "1001/backend is backing off: it answered 500" in lines


def test_a_gateway_that_takes_no_work_is_a_failure(gateway: PlayedGateway, rawpush: Callable[..., tuple[int, str, str]]) -> None:
    storage = {"writable": False, "readable": False}
    gateway.answer = (200, {**OVERVIEW, "ready": False, "reasons": ["the outbox cannot be written", "x"], "outbox": storage})
    code, out, _ = rawpush("status")
    assert code == 1
    assert out.startswith("NOT READY: the outbox cannot be written; x\n")
    assert "outbox NOT WRITABLE, NOT READABLE; 3 records" in out
    code, out, _ = rawpush("status", "--json")
    assert (code, json.loads(out)["reasons"]) == (1, ["the outbox cannot be written", "x"])


def test_reload(gateway: PlayedGateway, rawpush: Callable[..., tuple[int, str, str]]) -> None:
    gateway.answer = (200, {"reloaded": True, "apps": 1, "endpoints": 2, "at_next_start": ["server"]})
    code, out, _ = rawpush("reload")
    assert (code, gateway.asked) == (0, [("POST", "/v1/reload", "Bearer s3cret-token", "application/json")])
    assert out == "reloaded: 1 app, 2 endpoints\n[server] has changed, and takes effect at the next start\n"
    assert json.loads(rawpush("reload", "--json")[1])["endpoints"] == 2


def test_every_mistake_of_a_broken_file_is_printed(gateway: PlayedGateway, rawpush: Callable[..., tuple[int, str, str]]) -> None:
    mistakes = [
        {"file": "c.toml", "line": 5, "place": "apps[0].lingr", "error": "unknown setting"},
        {"file": "", "line": None, "place": "environment variable X", "error": "overrides nothing"},
    ]
    gateway.answer = (422, {"error": "the file has 2 mistakes; nothing was changed", "mistakes": mistakes})
    code, out, err = rawpush("reload")
    assert (code, out) == (1, "")
    assert err == (
        "c.toml:5: apps[0].lingr: unknown setting\nenvironment variable X: overrides nothing\n"
        "rawpush: the file has 2 mistakes; nothing was changed\n"
    )
    code, out, _ = rawpush("reload", "--json")
    assert (code, json.loads(out)["mistakes"]) == (1, mistakes)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((401, {"error": "no"}), "rawpush: the gateway has another admin token than the file ([admin] token)\n"),
        ((503, {"error": "the gateway does not run"}), "rawpush: the gateway does not run\n"),
        ((200, b"<html>"), "rawpush: what answered is not the gateway's API; it said '<html>'\n"),
        ((404, b"[]"), "rawpush: status 404\n"),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    gateway: PlayedGateway, rawpush: Callable[..., tuple[int, str, str]], answer: tuple[int, Any], expected: str
) -> None:
    gateway.answer = answer
    assert rawpush("reload") == (1, "", expected)


def test_nobody_at_home(file: Path, rawpush: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = rawpush("status", "--url", "http://127.0.0.1:1")
    assert code == 1
    assert err.startswith("rawpush: no answer from an admin port at http://127.0.0.1:1: ")
    assert "--url names another place" in err


def test_where_to_ask_must_be_clear(file: Path, rawpush: Callable[..., tuple[int, str, str]]) -> None:
    assert rawpush("status", "--url", "127.0.0.1:6002")[::2] == (
        2,
        "rawpush: --url must be such as http://127.0.0.1:6002, not 127.0.0.1:6002\n",
    )
    file.write_text("[admin]\nport = 0\n")
    assert rawpush("status")[::2] == (
        2,
        "rawpush: the file leaves the admin port open ([admin] port = 0); give --url, as the gateway said it at its start\n",
    )
    file.write_text("[admin]\nenabled = false\n")
    assert rawpush("reload")[0] == 2


def test_a_file_that_does_not_say_where(file: Path, rawpush: Callable[..., tuple[int, str, str]]) -> None:
    file.write_text("[[[")
    assert rawpush("reload")[0] == 1
    code, out, _ = rawpush("reload", "--json")
    assert code == 1
    assert "not TOML" in json.loads(out)["mistakes"][0]
