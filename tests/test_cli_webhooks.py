"""`rawpush webhooks` and `rawpush publish`: what is sent, what is printed, and how it ends. The gateway is played."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from gateway import cli
from gateway.command.target import address
from gateway.config import Config, Server, Tls
from gateway.core.app import App
from gateway.core.auth import decode_text, verify_request
from gateway.core.error import RequestError
from tests.patience import LONG_S
from tests.played import Played

ROOT = Path(__file__).parent.parent
KEYS = {"1001": App("1001", "key-1", "s3cret-1"), "1002": App("1002", "key-2", "s3cret-2")}

#: method, path without the app, parameters, body
Asked = tuple[str, str, dict[str, str], Any]


class PlayedGateway(Played):
    """Verifies what it is asked, keeps it, and answers what `answer` says: an object, or a status and an object."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.apps: list[str] = []
        self.wrong: list[str] = []
        self.answer: Callable[[Asked], Any] = lambda asked: {}
        super().__init__()

    def told(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any] | None:
        parts = urlsplit(target)
        _, _, app_id, path = parts.path.split("/", 3)
        now_s = int(next(pair for pair in parts.query.split("&") if "auth_timestamp" in pair).partition("=")[2])
        try:
            parameters = verify_request(
                KEYS[app_id], method=method, paths=[parts.path], query=parts.query, body=body, now_s=now_s
            )
        except RequestError as error:
            self.wrong.append(str(error))
            return None
        found = {name: values[-1] for name, values in parameters.items()}
        asked = (method, path, found, json.loads(body) if body else None)
        self.asked.append(asked)
        self.apps.append(app_id)
        answer = self.answer(asked)
        return answer if isinstance(answer, tuple) else (200, answer)

    def close(self) -> None:
        super().close()
        assert self.wrong == []


@pytest.fixture
def gateway() -> Iterator[PlayedGateway]:
    played = PlayedGateway()
    yield played
    played.close()


def app(app_id: str) -> str:
    return f'[[apps]]\nid = "{app_id}"\nkey = "{KEYS[app_id].key}"\nsecret = "{KEYS[app_id].secret}"\n'


@pytest.fixture
def file(tmp_path: Path, gateway: PlayedGateway) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(f"[server]\nport = {gateway.port}\n" + app("1001"))
    return file


def begun(file: Path, *arguments: str) -> subprocess.Popen[str]:
    """Begin a command of its own process, for those that are interrupted."""
    line = [sys.executable, "-m", "gateway", *arguments[:2], "-c", str(file), *arguments[2:]]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def rawpush(file: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def rawpush(*arguments: str) -> tuple[int, str, str]:
        verb = 2 if arguments[0] == "webhooks" else 1
        try:
            code = cli.main([*arguments[:verb], "-c", str(file), *arguments[verb:]])
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        assert "s3cret" not in printed.out + printed.err
        assert "\x1b" not in printed.out + printed.err
        return code, printed.out, printed.err

    return rawpush


Rawpush = Callable[..., tuple[int, str, str]]

ENDPOINT = {
    "name": "backend",
    "url": "https://example.com/hooks?...",
    "state": "backing off",
    "why": "it answered \x1b[31m503",
    "backlog": 12,
    "oldest_age_ms": 90_000,
    "dead_letters": 3,
    "last": {"at": "2026-01-25T10:00:00.000Z", "stage": "answered", "status": 503, "latency_ms": 12.34},
}


# -- asking


def test_list_lines_up_its_columns(rawpush: Rawpush, gateway: PlayedGateway) -> None:
    gateway.answer = lambda asked: {
        "endpoints": [ENDPOINT, {"name": "b", "url": "u", "state": "healthy", "backlog": 0, "dead_letters": 0}]
    }
    code, out, err = rawpush("webhooks", "list")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "NAME     STATE        BACKLOG  OLDEST  DEAD  LAST ANSWER   URL",
        "backend  backing off  12       2m      3     503 in 12 ms  https://example.com/hooks?...",
        "b        healthy      0        -       0     -             u",
        "backend is backing off: it answered \\x1b[31m503",
    ]
    assert gateway.asked == [("GET", "webhooks/endpoints", {}, None)]


def test_json_is_the_answer_as_it_came(rawpush: Rawpush, gateway: PlayedGateway) -> None:
    events = ["events", "--after", "5"]
    for arguments in (
        ["list"],
        ["deliveries", "b"],
        ["request", "b", "7"],
        ["dead", "b"],
        ["why", "evt_1"],
        events,
        ["snapshot"],
        ["enable", "b"],
    ):
        gateway.answer = lambda asked: {"events": [], "cursor": 5, "forgotten": 0, "text": "é\x1b"}
        code, out, _ = rawpush("webhooks", *arguments, "--json")
        assert code == 0
        assert out.count("\n") == 1
        assert json.loads(out)["text"] == "é\x1b"


def test_parameters_go_into_the_query(rawpush: Rawpush, gateway: PlayedGateway) -> None:
    gateway.answer = lambda asked: {"deliveries": [], "dead_letters": [], "events": [], "cursor": 7, "forgotten": 0, "before": 4}
    assert rawpush("webhooks", "deliveries", "a/b ü", "--before", "9", "--limit", "5")[1].endswith("more: --before 4\n")
    rawpush("webhooks", "dead", "b", "--event", "channel.*", "--channel", "room + co=*", "--from", "2026-01-25T10:00:00+01:00")
    rawpush("webhooks", "events", "--after", "latest", "--event", "client_event")
    rawpush("webhooks", "request", "b", "1042", "--json")
    assert [(method, decode_text(path), parameters) for method, path, parameters, _ in gateway.asked] == [
        ("GET", "webhooks/endpoints/a/b ü/deliveries", {"before": "9", "limit": "5"}),
        (
            "GET",
            "webhooks/endpoints/b/dead_letters",
            {"limit": "100", "event": "channel.*", "channel": "room + co=*", "from": "2026-01-25T10:00:00+01:00"},
        ),
        ("GET", "webhooks/events", {"after": "latest", "limit": "100", "event": "client_event"}),
        ("GET", "webhooks/endpoints/b/request", {"number": "1042"}),
    ]
    assert unquote(gateway.asked[0][1]) != gateway.asked[0][1]


def test_what_others_have_written_cannot_move_the_cursor(rawpush: Rawpush, gateway: PlayedGateway) -> None:
    evil = "\x1b[2J\r\n\x00<script>" + "x" * 500
    event = {"id": evil, "event": evil, "timestamp": evil, "data": {"channel": evil}, "cursor": 1}
    made = {"at": evil, "attempt": 1, "state": evil, "stage": "answered", "status": 500, "body": evil, "number": 1}
    made |= {"events": 1, "request_id": evil, "replay": False, "reason": evil, "latency_ms": 1.0}
    letter = {"number": 1, "event_id": evil, "event": evil, "timestamp": evil, "given_up_at": evil, "reason": evil, "attempts": 1}
    letter |= {"error": evil, "envelope": {"data": {"channel": evil}}}
    delivery = {"state": evil, "lane": 1, "replay": False, "sequence": 1, "attempts": [made]}
    spans = {"channels": [{"channel": evil, "opened_at": evil}], "connections": [{"socket_id": evil, "opened_at": evil}]}
    spans |= {"members": [{"channel": evil, "user_id": evil, "opened_at": evil, "departs_at": evil}], "subscriptions": []}
    answers: dict[tuple[str, ...], Any] = {
        ("events",): {"events": [event], "cursor": 1, "forgotten": 0},
        ("deliveries", "b"): {"deliveries": [made]},
        ("request", "b", "1"): made | {"request": {"method": "POST", "url": evil, "headers": {"X-A": evil}, "body": evil}},
        ("request", "b", "2"): made | {"request": {"unknown": evil}},
        ("dead", "b"): {"dead_letters": [letter]},
        ("why", "e"): {
            "event": event,
            "endpoints": [
                {"name": evil, "matches": True, "deliveries": [delivery]},
                {"name": "c", "matches": False, "left_out_by": "channels", "deliveries": []},
                {"name": "d", "removed": True, "deliveries": []},
            ],
        },
        ("snapshot",): {"cursor": 1, **spans},
        ("test", "b"): {"ok": False, "event_id": evil, "stage": "answered", "status": 500, "latency_ms": 1.0, "body": evil},
    }
    for arguments, answer in answers.items():
        gateway.answer = lambda asked, answer=answer: answer
        _, out, _ = rawpush("webhooks", *arguments)
        assert not any(char in out for char in "\x1b\r\x00"), arguments
        assert all(len(line) < 900 for line in out.splitlines())
        assert "\\x1b[2J" in out
    gateway.answer = lambda asked: (404, {"error": evil})
    code, _, err = rawpush("webhooks", "list")
    assert (code, err.count("\n")) == (1, 1)


def test_events_looks_on_until_it_finds_some_or_the_end(rawpush: Rawpush, gateway: PlayedGateway) -> None:
    event = {"id": "evt_1", "event": "client_event", "timestamp": "T", "data": {"n": 1}, "cursor": 9}
    answers = [{"events": [], "cursor": 5, "forgotten": 0}, {"events": [event], "cursor": 9, "forgotten": 0}]
    gateway.answer = lambda asked: answers[len(gateway.asked) - 1]
    code, out, _ = rawpush("webhooks", "events", "--event", "client_event")
    assert code == 0
    assert out == '       9  T  client_event                evt_1  {"n":1}\ncursor 9\n'
    assert [parameters.get("after") for _, _, parameters, _ in gateway.asked] == [None, "5"]


def test_events_follow_until_ctrl_c(file: Path, gateway: PlayedGateway) -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Any:
        if len(gateway.asked) == 3:
            waiting.set()
            go_on.wait(LONG_S)
        return {"events": [], "cursor": len(gateway.asked) * 10, "forgotten": 7}

    gateway.answer = answer
    with begun(file, "webhooks", "events", "--after", "3", "--follow") as process:
        assert waiting.wait(LONG_S)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LONG_S)
    go_on.set()
    assert process.returncode == 0
    assert out == "what came before cursor 7 has been forgotten\n"
    assert err == "\ngo on with: --after 20\n"
    assert [parameters for _, _, parameters, _ in gateway.asked] == [
        {"after": "3", "limit": "100"},
        {"after": "10", "limit": "100", "wait": "50"},
        {"after": "20", "limit": "100", "wait": "50"},
    ]


def test_events_that_end_with_the_gateway_say_how_to_go_on(rawpush: Rawpush, gateway: PlayedGateway) -> None:
    page = {"events": [], "cursor": 10, "forgotten": 0}
    gateway.answer = lambda asked: page if len(gateway.asked) == 1 else (503, {"error": "the gateway stops"})
    code, _, err = rawpush("webhooks", "events", "--follow")
    assert (code, err) == (1, "go on with: --after 10\nrawpush: the gateway stops\n")
    gateway.answer = lambda asked: (503, {"error": "the gateway stops"})
    code, _, err = rawpush("webhooks", "events", "--follow")
    assert (code, err) == (1, "rawpush: the gateway stops\n"), "from where it was told to begin"


@pytest.mark.parametrize(("is_ok", "code"), [(True, 0), (False, 1)])
def test_test_ends_as_the_endpoint_did(rawpush: Rawpush, gateway: PlayedGateway, is_ok: bool, code: int) -> None:
    gateway.answer = lambda asked: {"ok": is_ok, "event_id": "e", "stage": "connect", "latency_ms": 1.0, "error": "refused"}
    ended, out, _ = rawpush("webhooks", "test", "backend")
    assert ended == code
    assert out == f"backend: {'ok' if is_ok else 'FAILED'}, refused in 1 ms (connect)\n"
    assert gateway.asked == [("POST", "webhooks/endpoints/backend/test", {}, {})]


# -- replay


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (["--event-id", "evt_1"], {"event_id": "evt_1"}),
        (["--dead-letter", "4", "5"], {"dead_letters": [4, 5]}),
        (["--dead"], {"dead_letters": "all", "limit": 500}),
        (
            ["--dead", "--from", "1", "--channel", "r*", "--step", "9"],
            {"dead_letters": "all", "from": "1", "channel": "r*", "limit": 9},
        ),
        (["--after", "0", "--event", "c*"], {"after": 0, "event": "c*", "limit": 500}),
        (["--to", "2026-01-25T10:00:00Z"], {"to": "2026-01-25T10:00:00Z", "limit": 500}),
        (["--until", "8", "--resume", "range:1:2"], {"until": 8, "resume": "range:1:2", "limit": 500}),
    ],
)
def test_what_is_replayed(rawpush: Rawpush, gateway: PlayedGateway, arguments: list[str], body: object) -> None:
    gateway.answer = lambda asked: {"replayed": 1_200, "left_out": 0, "resume": None}
    assert rawpush("webhooks", "replay", "backend", *arguments) == (
        0,
        "1,200 replayed: handed to the endpoint's replay lane\n",
        "",
    )
    assert gateway.asked == [("POST", "webhooks/endpoints/backend/replay", {}, body)]


@pytest.mark.parametrize(
    "arguments",
    [[], ["--dead", "--after", "1"], ["--event-id", "x", "--dead"], ["--event-id", "x", "--channel", "c"], ["--channel", "c"]],
)
def test_a_replay_that_cannot_be_meant(rawpush: Rawpush, gateway: PlayedGateway, arguments: list[str]) -> None:
    code, out, err = rawpush("webhooks", "replay", "backend", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("rawpush: ")
    assert gateway.asked == []


def test_a_long_replay_goes_on_step_by_step_and_waits_where_the_outbox_is_full(
    rawpush: Rawpush, gateway: PlayedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.command.webhooks._AGAIN_S", 0.0)
    answers = [
        {"replayed": 500, "left_out": 1, "resume": "dead:500:900"},
        (503, {"error": "the outbox is full"}),
        {"replayed": 400, "left_out": 2, "resume": None},
    ]
    gateway.answer = lambda asked: answers[len(gateway.asked) - 1]
    code, out, err = rawpush("webhooks", "replay", "backend", "--dead")
    assert (code, err) == (0, "")
    assert out.startswith("900 replayed: handed to the endpoint's replay lane; 3 left out")
    assert [body.get("resume") for *_, body in gateway.asked] == [None, "dead:500:900", "dead:500:900"]


def test_a_replay_that_fails_says_how_to_go_on(rawpush: Rawpush, gateway: PlayedGateway, file: Path) -> None:
    answers: list[Any] = [{"replayed": 2, "left_out": 0, "resume": "dead:2:9"}, (400, {"error": "no", "where": "resume"})]
    gateway.answer = lambda asked: answers[len(gateway.asked) - 1]
    code, out, err = rawpush("webhooks", "replay", "backend", "--dead", "--channel", "a b*")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "interrupted after 2; go on with:",
        f"  rawpush webhooks replay backend -c {file} --dead --channel 'a b*' --resume dead:2:9",
        "rawpush: no (at resume)",
    ]


def test_ctrl_c_ends_a_replay_after_its_step(file: Path, gateway: PlayedGateway) -> None:
    under_way, go_on = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Any:
        if len(gateway.asked) == 2:
            under_way.set()
            go_on.wait(LONG_S)
        return {"replayed": 10, "left_out": 0, "resume": f"dead:{len(gateway.asked)}:99"}

    gateway.answer = answer
    with begun(file, "webhooks", "replay", "backend", "--dead") as process:
        assert under_way.wait(LONG_S)
        process.send_signal(signal.SIGINT)
        go_on.set()
        out, err = process.communicate(timeout=LONG_S)
    assert process.returncode == 1
    assert out == ""
    assert err.splitlines() == [
        "interrupted after 20; go on with:",
        f"  rawpush webhooks replay backend -c {file} --dead --resume dead:2:99",
    ]
    assert len(gateway.asked) == 2


# -- publish


def test_publish(rawpush: Rawpush, gateway: PlayedGateway) -> None:
    assert rawpush("publish", "room-7", "created", '{"id":17}') == (0, "", "")
    assert rawpush("publish", "room-7", "created") == (0, "", "")
    assert [body for *_, body in gateway.asked] == [
        {"name": "created", "channel": "room-7", "data": '{"id":17}'},
        {"name": "created", "channel": "room-7", "data": "{}"},
    ]
    assert gateway.asked[0][:2] == ("POST", "events")


# -- which gateway, which app


def test_the_app_must_be_clear(rawpush: Rawpush, gateway: PlayedGateway, file: Path) -> None:
    file.write_text(file.read_text() + app("1002"))
    gateway.answer = lambda asked: {"endpoints": []}
    assert rawpush("webhooks", "list") == (2, "", "rawpush: the file has several apps; say which with --app: 1001, 1002\n")
    assert rawpush("webhooks", "list", "--app", "7")[0] == 2
    assert rawpush("webhooks", "list", "--app", "1002") == (0, "the app has no webhooks\n", "")
    assert gateway.apps == ["1002"]


def test_another_address(rawpush: Rawpush, gateway: PlayedGateway, file: Path) -> None:
    gateway.answer = lambda asked: {"endpoints": []}
    file.write_text("[server]\nport = 1\n" + app("1001"))
    code, _, err = rawpush("webhooks", "list")
    assert code == 1
    assert err.startswith("rawpush: no answer from the gateway at http://127.0.0.1:1: ")
    assert rawpush("webhooks", "list", "--url", f"http://127.0.0.1:{gateway.port}/")[0] == 0
    assert rawpush("webhooks", "list", "--url", "127.0.0.1:1")[0] == 2


def test_key_and_secret_stand_for_the_file(
    gateway: PlayedGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THE_SECRET", KEYS["1002"].secret)
    gateway.answer = lambda asked: {"endpoints": []}
    key, secret = ("--key", "key-2"), ("--secret", "env:THE_SECRET")
    where = ("-c", "/none", "--url", f"ws://127.0.0.1:{gateway.port}")
    assert cli.main(["webhooks", "list", *where, "--app", "1002", *key, *secret]) == 0
    assert gateway.apps == ["1002"]
    for incomplete in ((*key, *secret), ("--app", "1002", *key), ("--app", "1002", *secret)):
        assert cli.main(["webhooks", "list", *where, *incomplete]) == 2
        assert "--key and --secret" in capsys.readouterr().err
    assert cli.main(["webhooks", "list", *where, "--app", "1002", *key, "--secret", "env:NOT_THERE"]) == 2
    assert capsys.readouterr().err.startswith("rawpush: --secret: ")


def test_an_interrupted_replay_does_not_show_the_secret(gateway: PlayedGateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.answer = lambda asked: (400, {"error": "no"})
    where = ("--url", f"http://127.0.0.1:{gateway.port}", "--app", "1001", "--key", "key-1", "--secret", "s3cret-1")
    assert cli.main(["webhooks", "replay", "b", "--dead", *where]) == 1
    told = capsys.readouterr().err
    assert "--key key-1 --secret SECRET" in told
    assert "s3cret" not in told


@pytest.mark.parametrize(
    ("server", "url"),
    [
        (Server(), "http://127.0.0.1:6001"),
        (Server(host="0.0.0.0", port=80, path_prefix="/rt"), "http://127.0.0.1:80/rt"),
        (Server(host="::", tls=Tls("c", "k")), "https://[::1]:6001"),
        (Server(host="gw.example.com"), "http://gw.example.com:6001"),
    ],
)
def test_where_the_file_says_it_listens(server: Server, url: str) -> None:
    assert address(Config(server=server)) == url


def test_what_is_no_gateway(rawpush: Rawpush, gateway: PlayedGateway) -> None:
    gateway.answer = lambda asked: b"<html>welcome\x1b</html>"
    code, out, err = rawpush("webhooks", "list")
    assert (code, out) == (1, "")
    assert "not the gateway's API" in err
    gateway.answer = lambda asked: (502, b"bad gateway")
    assert "status 502" in rawpush("webhooks", "list")[2]


def test_a_broken_file_and_wrong_usage(rawpush: Rawpush, file: Path) -> None:
    assert rawpush("webhooks")[0] == 2
    assert rawpush("webhooks", "lst")[0] == 2
    file.write_text("bogus = 1")
    code, _, err = rawpush("webhooks", "list")
    assert code == 1
    assert "bogus: unknown setting" in err
