"""docs/receiving.md and examples/README.md: their code is the examples', their facts hold."""

from __future__ import annotations

import base64
import re
import time
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from gateway.config.record import OutboxSettings
from gateway.core.endpoint import Endpoint
from gateway.core.retry import RetryPolicy
from gateway.core.webhook import request
from tests.examples.receiver_process import EXAMPLES, RUNTIMES
from tests.test_docs import routed, sent

ROOT = EXAMPLES.parent
PAGE = (ROOT / "docs" / "receiving.md").read_text()
README = (EXAMPLES / "README.md").read_text()

#: what stands in a file, as the page shows it
PIECES = re.findall(r"<!-- from: (\S+) -->\n```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("file", "piece"), PIECES)
def test_a_piece_of_code_is_in_the_file_it_is_said_to_be_from(file: str, piece: str) -> None:
    assert piece in (ROOT / file).read_text()


def test_no_other_code_is_on_the_page() -> None:
    assert PAGE.count("\n```python\n") == len(PIECES) + len(re.findall(r"<!-- run: \S+ -->\n```python\n", PAGE)) == 6


@pytest.mark.parametrize("format_", ["event", "batch"])
def test_the_code_with_a_library_verifies(format_: str) -> None:
    (code,) = re.findall(r"<!-- run: library -->\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    page: dict[str, Any] = {}
    exec(code, page)
    secret = "whsec_" + base64.b64encode(b"a key of twenty-four by.").decode()
    to = Endpoint("1001", "backend", "https://backend.example.com/hooks", (secret, "old"), format=format_)
    deliveries = routed(to)[: 1 if format_ == "event" else None]
    webhook = request(to, deliveries)
    headers = sent(to, webhook, time.time())
    assert [event["id"] for event in page["events_of"](webhook.body, headers, secret)] == [one.event_id for one in deliveries]
    with pytest.raises(WebhookVerificationError):
        page["events_of"](webhook.body + b" ", headers, secret)


def test_ids_are_kept_for_longer_than_a_repeat_may_come() -> None:
    longest = max(RetryPolicy().max_age_s, OutboxSettings().retention_s)
    assert longest < 7 * 86_400
    for runtime in RUNTIMES.values():
        assert re.search(r"7 \* (86_400|24 \* time\.Hour)", (EXAMPLES / runtime.file).read_text())


def test_every_receiver_has_its_row_and_its_command() -> None:
    rows = re.findall(r"^\| \[.+\]\((.+)\) \| .+ \| `(.+)` \|$", README, re.MULTILINE)
    assert [file for file, _ in rows] == [runtime.file for runtime in RUNTIMES.values()]
    for file, command in rows:
        assert all(part.strip() in (EXAMPLES / file).read_text() for part in command.split("&")), file
    linked = {file.name for file in EXAMPLES.iterdir() if file.is_file() and f"]({file.name})" in README}
    assert linked == {file.name for file in EXAMPLES.iterdir() if file.is_file()} - {"README.md"}
