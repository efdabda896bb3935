"""docs/publishing.md: its code publishes, and its table of refusals is the one that the code has."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import contract
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import ROOT, GatewayProcess, app
from tests.page import Page
from tests.patience import LONG_S

PAGE = Page("publishing.md")

#: what can be refused when a backend publishes or asks about channels; webhooks have refusals of their own
FILES = "core/auth.py core/publication.py api/call.py api/channel.py api/reply.py api/site.py http.py node.py".split()


# -- its code


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> GatewayProcess:
    return await start_gateway(app("1001", key="my-key", secret="my-secret"))


async def test_its_python_publishes(gateway: GatewayProcess, connect: Connect) -> None:
    client = await connect(gateway, key="my-key", secret="my-secret")
    await client.subscribe("orders")
    await client.join("presence-room", "u-1")
    names: dict[str, Any] = {}
    await asyncio.to_thread(exec, PAGE.block("python", "import pusher").replace("6001", str(gateway.port)), names)
    assert [json.loads((await client.expect(event))["data"]) for event in ("created", "changed", "closed")] == [{"id": 7}] * 3
    assert names["present"] == {"users": [{"id": "u-1"}]}


async def test_its_node_code_publishes(gateway: GatewayProcess, connect: Connect, tmp_path: Path, node_packages: None) -> None:
    client = await connect(gateway, key="my-key", secret="my-secret")
    await client.subscribe("orders")
    await client.join("presence-room", "u-1")
    script = PAGE.block("js").replace("6001", str(gateway.port)) + "console.log(JSON.stringify(channels));\n"
    node = Path(sys.executable).parent / "node"
    process = await asyncio.create_subprocess_exec(
        node, "--input-type=module", "-", cwd=Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    async with asyncio.timeout(LONG_S):
        output, _ = await process.communicate(script.encode())
    assert json.loads(output) == {"orders": {"subscription_count": 1}, "presence-room": {"user_count": 1}}
    assert json.loads((await client.expect("created"))["data"]) == {"id": 7}
    await client.expect("changed", "orders")


async def test_its_standard_library_publishes(gateway: GatewayProcess, connect: Connect) -> None:
    client = await connect(gateway, key="my-key", secret="my-secret")
    await client.subscribe("orders")
    names: dict[str, Any] = {}
    exec(PAGE.block("python", "import hashlib"), names)
    base = f"http://127.0.0.1:{gateway.port}"
    assert await asyncio.to_thread(names["publish"], base, "1001", "my-key", "my-secret", "orders", "created", "é") == {}
    assert (await client.expect("created"))["data"] == "é"


async def test_its_command_publishes(gateway: GatewayProcess, connect: Connect) -> None:
    client = await connect(gateway, key="my-key", secret="my-secret")
    await client.subscribe("orders")
    words = re.fullmatch(r"rawpush publish -c config.toml (\S+) (\S+) '(.*)'\n", PAGE.block("sh"))
    assert words is not None
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "publish", "-c", gateway.config, *words.groups(), cwd=ROOT
    )
    assert await process.wait() == 0
    assert (await client.expect("created"))["data"] == '{"id": 7}'


def test_its_requests_are_those_that_are_described() -> None:
    rows = {
        (method, re.sub("ID|NAME", "{}", path)) for method, path in re.findall(r"^\| `(\w+) (/\S+)` \|", PAGE.text, re.MULTILINE)
    }
    described = {
        (method, re.sub(r"{\w+}", "{}", path))
        for (method, path), one in contract.operations()
        if one["tags"][0] in ("publish", "channels", "users") and not one.get("deprecated")
    }
    assert rows == described


# -- its table


def told() -> list[tuple[int, str]]:
    return [(int(status), sentence) for status, sentence in re.findall(r"^\| (\d{3}) \| `(.+?)` \|", PAGE.text, re.MULTILINE)]


def refusals() -> Iterator[tuple[int | None, str]]:
    """Go through the code's refusals: status (None: it is handed in) and a pattern for the sentence."""
    for file in FILES:
        tree = ast.parse((ROOT / "gateway" / file).read_text())
        for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]:
            values: dict[str, list[ast.expr]] = {}
            for node in ast.walk(function):
                if isinstance(node, ast.Assign):
                    for target in node.targets:
                        if isinstance(target, ast.Name):
                            values.setdefault(target.id, []).append(node.value)
            parameters = {argument.arg for argument in function.args.args}
            for node in ast.walk(function):
                match node:
                    case ast.Call(func=ast.Name(id="RequestError"), args=[status, sentence, *_]):
                        number = status.value if isinstance(status, ast.Constant) else None
                    case ast.Call(func=ast.Name(id="_refusal"), args=[sentence, *_]):
                        number = 401
                    case ast.Call(func=ast.Name(id="Reply"), args=[ast.Constant(value=number), ast.Dict(values=[sentence, *_])]):
                        pass
                    case _:
                        continue
                if not (isinstance(sentence, ast.Name) and sentence.id in parameters):
                    yield from ((number, pattern) for pattern in patterns(sentence, values))


def patterns(sentence: ast.expr, values: dict[str, list[ast.expr]]) -> Iterator[str]:
    match sentence:
        case ast.Constant(value=str(text)):
            yield re.escape(text)
        case ast.JoinedStr(values=parts):
            yield "".join(".+" if isinstance(part, ast.FormattedValue) else re.escape(part.value) for part in parts)  # type: ignore[attr-defined]
        case ast.IfExp(body=one, orelse=other):
            yield from patterns(one, values)
            yield from patterns(other, values)
        case ast.Name(id=name):
            for value in values[name]:
                yield from patterns(value, values)
        case _:
            raise AssertionError(f"a sentence that cannot be read: {ast.unparse(sentence)}")


def test_its_table_has_every_refusal_and_no_other() -> None:
    code_has = list(refusals())
    assert len(code_has) > 40
    for status, pattern in code_has:
        rows = [row for row in told() if status in (None, row[0]) and re.fullmatch(pattern, row[1])]
        assert rows, f"the page does not tell of {status} {pattern}"
    for status, sentence in told():
        assert any(number in (None, status) and re.fullmatch(pattern, sentence) for number, pattern in code_has), sentence
