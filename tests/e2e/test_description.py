"""The real gateway against requests that schemathesis makes up from the description of its API, right ones and wrong ones."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests import contract
from tests.e2e.client import Backend
from tests.e2e.conftest import Connect
from tests.e2e.gateway_process import APP_ID, KEY, SECRET, GatewayProcess, to_toml
from tests.patience import LONG_S

#: Not among them: whether all that fits a schema is accepted (a schema cannot say that an event must exist), and whether all
#: that does not is refused (a request without a signature is signed on its way, and then it fits).
CHECKS = (
    "not_a_server_error status_code_conformance content_type_conformance response_headers_conformance "
    "response_schema_conformance unsupported_method allow_header_conformance"
)


SIGNER = {"API_ID": APP_ID, "API_KEY": KEY, "API_SECRET": SECRET}


async def explore(folder: Path, document: str, names: dict[str, str], signer: dict[str, str], *options: str) -> str:
    """Have the description at this address tried out, with these names in its paths; return the report, or fail with it."""
    config: dict[str, object] = {"parameters": {f"path.{name}": value for name, value in names.items()}}
    config["hooks"] = str(Path(__file__).with_name("schemathesis_hooks.py"))
    (folder / "schemathesis.toml").write_text(to_toml(config))
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "schemathesis",
        "run",
        document,
        f"--url={document[: document.index('/', 8)]}",
        f"--checks={','.join(CHECKS.split())}",
        "--phases=coverage,fuzzing",
        "--max-examples=5",
        "--generation-deterministic",
        "--continue-on-failure",
        f"--request-timeout={LONG_S:g}",
        "--no-color",
        *options,
        cwd=folder,
        env={**os.environ, **signer},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(600):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    report = output.decode(errors="backslashreplace")
    assert process.returncode == 0, report
    return report.replace(" \n", "\n")


async def test_whatever_is_asked_is_answered_as_described(
    gateway: GatewayProcess, backend: Backend, connect: Connect, tmp_path: Path
) -> None:
    await (await connect(gateway)).join("presence-room-7", "u-1")
    event = (await backend.get("/webhooks/events"))["events"][0]
    names = {"app_id": APP_ID, "endpoint": "all", "event_id": event["id"], "user_id": "u-1"}
    document = f"http://127.0.0.1:{gateway.port}/openapi.json"
    report = await explore(tmp_path, document, names, SIGNER)
    # all of them were reached, but for the one that answers the description, which it leaves out
    assert f"Tested: {len(list(contract.API.operations())) - 1}\n" in report, report


async def test_whatever_the_operator_asks_is_answered_as_described(
    gateway: GatewayProcess, backend: Backend, connect: Connect, tmp_path: Path
) -> None:
    client = await connect(gateway)
    await client.join("presence-room-7", "u-1")
    event = (await backend.get("/webhooks/events"))["events"][0]
    names = {"app_id": APP_ID, "endpoint": "all", "event_id": event["id"], "user_id": "u-9", "channel": "presence-room-7"}
    names["socket_id"] = client.socket_id
    report = await explore(tmp_path, f"{gateway.admin}/v1/openapi.json", names, {}, "--max-examples=1")
    assert f"Tested: {len(list(contract.ADMIN.operations())) - 1}\n" in report, report
