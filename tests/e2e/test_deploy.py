"""docs/deploy/ at work: the units are what systemd takes, and the image's health check tells a ready gateway from none."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e import absent
from tests.e2e.gateway_process import ROOT, GatewayProcess
from tests.patience import LONG_S

DEPLOY = ROOT / "docs" / "deploy"


async def run(*command: str | Path) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    async with asyncio.timeout(LONG_S):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = absent.program("systemd-analyze", package="systemd")
    units = [tmp_path / "rawpush.service", tmp_path / "rawpush.socket"]
    for unit in units:
        text = (DEPLOY / unit.name).read_text()
        # the command must be there
        unit.write_text(text.replace("/opt/rawpush/.venv/bin/rawpush", sys.executable))
    assert await run(analyze, "verify", *units) == (0, "")
    # It only warns of what it does not know, and so would we never hear of it.
    (tmp_path / "rawpush.service").write_text(units[0].read_text().replace("UMask=", "UMsk="))
    _, told = await run(analyze, "verify", *units)
    assert "UMsk" in told


async def test_the_health_check_of_the_image(gateway: GatewayProcess) -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    check = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", text, re.MULTILINE)
    assert check is not None
    python, *arguments = json.loads(check[1])
    assert python == "python"
    arguments = [argument.replace(":6002/", f":{urlsplit(gateway.admin).port}/") for argument in arguments]
    assert await run(sys.executable, *arguments) == (0, "")
    assert await gateway.stop() == 0
    code, _ = await run(sys.executable, *arguments)
    assert code == 1
