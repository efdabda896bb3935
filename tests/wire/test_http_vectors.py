"""The HTTP half of the vectors: signed requests, and what may be published, against a served API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.auth import spellings, verify_request
from gateway.core.error import RequestError
from tests.device.served import APP, Served, serve

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))
PREFIX = "/rt"


def by_name(rows: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(row, id=row["name"]) for row in rows]


#: termination is a matter of signed-in users, of whom there are none yet
REQUESTS = by_name([row for row in VECTORS["http_requests"]["items"] if "terminate_connections" not in row["path"]])


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serve(path_prefix=PREFIX) as served:
        yield served


@pytest.mark.parametrize("row", by_name(VECTORS["http_requests"]["items"]))
@pytest.mark.parametrize("wire", ["query_wire_raw", "query_wire_percent_encoded"])
def test_signatures(row: dict[str, Any], wire: str) -> None:
    def verify() -> None:
        verify_request(
            APP,
            method=row["method"],
            paths=spellings(row["path"], PREFIX),
            query=row[wire],
            body=row["body"].encode(),
            now_s=row["server_time"],
        )

    if row["authentic"] or row["expect_status"] == 404:
        verify()
    else:
        with pytest.raises(RequestError) as caught:
            verify()
        assert caught.value.status == 401


@pytest.mark.parametrize("row", REQUESTS)
@pytest.mark.parametrize("wire", ["query_wire_raw", "query_wire_percent_encoded"])
async def test_requests(served: Served, row: dict[str, Any], wire: str) -> None:
    served.clock.epoch = row["server_time"] * 1000
    # a request line cannot hold a space
    query = row[wire].replace(" ", "%20")
    answer = await served.send(row["method"], f"{row['path']}?{query}", row["body"].encode())
    assert answer.status == row["expect_status"], answer.json
    if "expect_body_json" in row:
        assert answer.json == row["expect_body_json"]
    if row["expect_status"] == 401 and "signature" in answer.json["error"]:
        assert json.dumps(row["string_to_sign"], ensure_ascii=False)[1:-1] in answer.json["error"]
        assert row["auth_signature"] not in answer.json["error"]
    assert bool(served.node.published) == (row["method"] == "POST" and row["expect_status"] == 200)


@pytest.mark.parametrize("row", by_name(VECTORS["http_validation"]))
async def test_validation(served: Served, row: dict[str, Any]) -> None:
    path = f"/apps/{APP.id}/{row.get('path', 'events')}"
    answer = await served.ask("POST", path, row["body"].encode())
    assert answer.status == row["expect_status"], answer.json
    assert answer.json == row.get("expect_body_json", answer.json)
    assert bool(served.node.published) == (answer.status == 200)
    assert bool(served.node.rejected) == (answer.status != 200)
