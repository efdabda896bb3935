"""docs/webhooks.md: its code runs, on what the gateway really sends, and its example bodies are what the gateway sends."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load
from gateway.config.schema import DELIVERY, WEBHOOK
from gateway.core.delivery import Delivery, Request
from gateway.core.endpoint import Endpoint
from gateway.core.format import FORMATS
from gateway.core.signing import headers
from gateway.core.span import LifecycleEvent
from gateway.core.webhook import Router, request
from tests.page import Page
from tests.patience import LONG_S

PAGE = Page("webhooks.md")

#: by format
EXAMPLES = {
    name: json.loads(code) for name, code in re.findall(r"<!-- example: (\S+) -->\n```json\n(.*?)```", PAGE.text, re.DOTALL)
}


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that all Python blocks of the page, run one after the other, define."""
    names: dict[str, Any] = {}
    exec("\n".join(PAGE.all("python")), names)
    return names


def endpoint(format_: str = "event", secret: str = "whsec_AAECAwQFBgc=") -> Endpoint:
    signer: dict[str, Any] = {"pusher_key": "app-key", "pusher_secret": "app-secret"} if FORMATS[format_].needs_app else {}
    return Endpoint("1001", "backend", "https://backend.example.com/hooks", (secret, "old"), format=format_, **signer)


def happened() -> list[LifecycleEvent]:
    """What the page's examples tell of, taken from its envelopes."""
    return [
        LifecycleEvent(
            one["id"],
            one["event"],
            one["app_id"],
            1_769_335_200_000 + int(one["timestamp"][-4:-1]),
            "1001/channel/room-7",
            one["data"],
            one["data"]["channel"],
            one["data"].get("event"),
        )
        for one in EXAMPLES["batch"]["events"]
    ]


def routed(to: Endpoint) -> list[Delivery]:
    router = Router([to], "gw-1", {to.key: 1041})
    return [delivery for event in happened() for delivery in router.route(event)]


def sent(to: Endpoint, webhook: Request, now_s: float) -> dict[str, str]:
    made = headers(to, webhook, attempt=1, now_s=int(now_s), user_agent="RawPush/1")
    return {name.lower(): value for name, value in made.items()}


# -- what the page shows


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_body_is_what_is_sent(name: str) -> None:
    to = endpoint(name)
    several = FORMATS[name].several == name
    webhook = request(to, routed(to)[: None if several else 1])
    assert json.loads(webhook.body) == EXAMPLES[name]
    # the order of the members is part of what people see
    assert list(json.loads(webhook.body)) == list(EXAMPLES[name])


def test_every_format_is_on_the_page_and_its_row_is_right() -> None:
    assert EXAMPLES.keys() | {"cloudevents-batch"} == FORMATS.keys()
    for name, row in FORMATS.items():
        count = "what has piled up, at most `batch_max`" if row.several == name else "one"
        assert re.search(rf"^\| `{name}`[^|]* \| `{re.escape(row.content_type)}` \| {count} \|$", PAGE.text, re.MULTILINE), name


def test_every_header_is_on_the_page() -> None:
    to = endpoint("pusher")
    for name in headers(to, request(to, routed(to)), attempt=1, now_s=1, user_agent="u"):
        assert f"`{name}`" in PAGE.text


def test_its_settings_exist(tmp_path: Path) -> None:
    app = '[[apps]]\nid = "1001"\nkey = "k"\nsecret = "s"\n'
    first, filters, fence = PAGE.all("toml")
    file = tmp_path / "config.toml"
    file.write_text(fence + app + first + filters)
    config = load(file, {"HOOK_SECRET": "x"})
    assert config.delivery.allow_networks == ("10.1.2.0/24",)
    assert config.apps[0].endpoints[0].exclude_event_names == ("client-typing",)
    assert tomllib.loads(filters).keys() <= WEBHOOK.settings.keys()
    assert tomllib.loads(fence)["delivery"].keys() == DELIVERY.settings.keys()


# -- what the page has people copy


@pytest.mark.parametrize("secret", ["whsec_AAECAwQFBgc=", "plain sécret"])
@pytest.mark.parametrize("name", FORMATS)
def test_its_python_verifies_every_format(page: dict[str, Any], name: str, secret: str) -> None:
    to = endpoint(name, secret)
    webhook = request(to, routed(to)[:1])
    now_s = time.time()
    given = sent(to, webhook, now_s)
    assert page["verify"](webhook.body, given, secret)
    assert page["verify"](webhook.body, given, "old")
    assert page["verify_plain"](webhook.body, given, secret)
    assert not page["verify"](webhook.body + b" ", given, secret)
    assert not page["verify"](webhook.body, given, "other")
    assert not page["verify"](webhook.body, {**given, "webhook-signature": "v1,é"}, secret)
    assert not page["verify"](webhook.body, sent(to, webhook, now_s - 301), secret)
    assert not page["verify_plain"](webhook.body + b" ", given, secret)


async def test_its_node_code_verifies(tmp_path: Path) -> None:
    node = Path(sys.executable).parent / "node"
    assert node.exists(), "install the project with its extra, pip install -e '.[test]'"
    code = PAGE.block("js")
    script = tmp_path / "page.mjs"
    script.write_text(
        code + "\nlet input = '';\nfor await (const piece of process.stdin) input += piece;\n"
        "console.log(JSON.stringify(JSON.parse(input).map("
        "([body, headers, secret]) => verify(Buffer.from(body), headers, secret))));\n"
    )
    to = endpoint("event")
    webhook = request(to, routed(to)[:1])
    body, given, old = webhook.body.decode(), sent(to, webhook, time.time()), sent(to, webhook, time.time() - 301)
    asked = [
        (body, given, to.secrets[0]),
        (body, given, "old"),
        (body + " ", given, "old"),
        (body, given, "other"),
        (body, {**given, "webhook-signature": "v1,x"}, "old"),
        (body, old, "old"),
    ]
    process = await asyncio.create_subprocess_exec(node, script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(LONG_S):
        output, _ = await process.communicate(json.dumps(asked).encode())
    assert json.loads(output) == [True, True, False, False, False, False]


def test_its_receiver_of_the_pusher_format(page: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    to = endpoint("pusher")
    webhook = request(to, routed(to))
    monkeypatch.setattr("time.time", lambda: 1_769_335_300.0)
    events = page["receive_pusher"](webhook.body, sent(to, webhook, 1_769_335_300), "app-key", "app-secret")
    assert events == EXAMPLES["pusher"]["events"]
    with pytest.raises(ValueError, match="ours"):
        page["receive_pusher"](webhook.body, sent(to, webhook, 1_769_335_300), "app-key", "not-the-secret")


def test_its_receiver_of_cloudevents(page: dict[str, Any]) -> None:
    to = endpoint("cloudevents")
    webhook = request(to, routed(to)[:1])
    kind, data = page["receive_cloudevent"](webhook.body, sent(to, webhook, 1))
    assert (kind, data) == ("dev.rawpush.channel.occupied", EXAMPLES["event"]["data"])


def test_its_bookkeeping(page: dict[str, Any]) -> None:
    occupied = EXAMPLES["event"]
    vacated = {**occupied, "id": "evt_2", "event": "channel.vacated"}
    known: set[str] = set()
    present: dict[str, dict[str, Any]] = {}
    page["apply"](occupied, known, present)
    assert present == {occupied["data"]["span"]: occupied["data"]}
    page["apply"](vacated, known, present)
    page["apply"](occupied, known, present)  # a repeat that was overtaken
    assert present == {}
    assert page["missing"]({1, 2, 5}) == [3, 4]
    assert page["missing"](set()) == []
