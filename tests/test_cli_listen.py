"""`rawpush listen`: what is asked, where it goes on, and what cannot be meant. The gateway is played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from gateway.command.forward import secret_for
from gateway.core.app import App
from tests.test_cli_webhooks import PlayedGateway, Rawpush, file, gateway, rawpush

__all__ = ["file", "gateway", "rawpush"]  # fixtures


def entry(cursor: int, event: str = "message.published", **data: object) -> dict[str, Any]:
    envelope = {"id": f"evt_{cursor}", "event": event, "version": "1", "timestamp": "2026-01-25T10:00:00.000Z", "app_id": "1001"}
    return {**envelope, "data": data, "cursor": cursor}


def page(cursor: int, *events: dict[str, Any], forgotten: int = 0) -> dict[str, Any]:
    return {"events": list(events), "cursor": cursor, "forgotten": forgotten}


def test_it_goes_on_where_it_was_and_filters(rawpush: Rawpush, gateway: PlayedGateway) -> None:
    answers = [page(5), page(6), page(9, entry(7, channel="elsewhere"), entry(8, channel="room-1"), entry(9, channel="room-2"))]
    gateway.answer = lambda asked: answers[len(gateway.asked) - 1]
    code, out, _ = rawpush("listen", "--channels", "room-*", "--events", "message.*", "client_event", "--count", "2", "--json")
    assert code == 0
    assert [json.loads(line)["cursor"] for line in out.splitlines()] == [8, 9]
    assert [(asked["after"], asked["event"], asked["wait"]) for _, _, asked, _ in gateway.asked] == [
        ("latest", "message.*,client_event", "0"),
        ("5", "message.*,client_event", "50"),
        ("6", "message.*,client_event", "50"),
    ]


def test_a_ledger_that_is_another_one_is_read_from_its_start(
    rawpush: Rawpush, gateway: PlayedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.command.listen.time.sleep", lambda seconds: None)
    unwell, another = (503, {"error": "the disk is full"}), (400, {"error": "the cursor is ahead of the ledger"})
    answers: list[Any] = [page(5), unwell, unwell, another, page(1, entry(1))]
    gateway.answer = lambda asked: answers[len(gateway.asked) - 1]
    code, out, err = rawpush("listen", "--count", "1")
    assert code == 0
    assert "evt_1" in out
    assert err.count("trying again") == 1
    assert [asked["after"] for _, _, asked, _ in gateway.asked] == ["latest", "5", "5", "5", "0"]


def test_what_it_may_not_ask_ends_it(rawpush: Rawpush, gateway: PlayedGateway) -> None:
    gateway.answer = lambda asked: (401, {"error": "the signature is wrong"})
    assert rawpush("listen")[0] == 1
    answers: list[Any] = [page(5), (401, {"error": "the signature is wrong"})]
    gateway.answer = lambda asked: answers[len(gateway.asked) - 2]
    assert rawpush("listen")[0] == 1


def test_who_keeps_nothing_is_told(rawpush: Rawpush, gateway: PlayedGateway, file: Path) -> None:
    gateway.answer = lambda asked: page(1, entry(1))
    assert "none of these events is kept" in rawpush("listen", "--since", "0", "--count", "1")[2]
    file.write_text(file.read_text() + 'feed = ["channel.*"]\n')
    assert "kept" not in rawpush("listen", "--since", "0", "--count", "1")[2]
    gateway.answer = lambda asked: page(1, entry(1, "channel.occupied"))
    told = rawpush("listen", "--since", "0", "--count", "1", "--events", "client_event", "channel.occupied")[2]
    assert "not kept, since no endpoint wants them and feed does not name them: client_event" in told


def test_what_has_been_forgotten_is_told(rawpush: Rawpush, gateway: PlayedGateway) -> None:
    gateway.answer = lambda asked: page(9, entry(9), forgotten=7)
    assert "what came before cursor 7 has been forgotten" in rawpush("listen", "--since", "3", "--count", "1")[2]


def test_since_a_while_ago(rawpush: Rawpush, gateway: PlayedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.command.listen.time.time", lambda: 1_769_335_260.0)  # 2026-01-25T10:01:00Z
    old = entry(1) | {"timestamp": "2026-01-25T09:00:00.000Z"}
    gateway.answer = lambda asked: page(2, old, entry(2))
    code, out, _ = rawpush("listen", "--since", "10m", "--count", "1", "--json")
    assert (code, json.loads(out)["cursor"]) == (0, 2)
    assert gateway.asked[0][2]["after"] == "0"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--forward", "localhost:3000"], "--forward: must begin with http:// or https://"),
        (["--events", "chanel.*"], "--events: 'chanel.*' matches no event; did you mean"),
        (["--since", "soon"], "'soon' is neither a cursor nor a duration"),
        (["--webhook-secret", "whsec_$"], "--webhook-secret: secret 1: what follows whsec_ is not base64"),
        (["--webhook-secret", "env:RAWPUSH_UNSET"], "--webhook-secret: "),
        (["--count", "0"], "must be a whole number"),
    ],
)
def test_what_cannot_be_meant(rawpush: Rawpush, gateway: PlayedGateway, arguments: list[str], sentence: str) -> None:
    code, out, err = rawpush("listen", *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert gateway.asked == []


def test_the_derived_secret_is_one_that_libraries_take_and_another_for_each_app() -> None:
    one, other = (secret_for(App("1", "k", secret)) for secret in ("a", "b"))
    assert one != other
    assert Webhook(one)
