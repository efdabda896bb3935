"""An operator, as far as he asks at the operator's port."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.gateway_process import GatewayProcess

ASK = {"Content-Type": "application/json", "Authorization": "Bearer admin-token"}


async def ask(gateway: GatewayProcess, method: str, path: str, **options: Any) -> tuple[int, Any]:
    """Make a request at the operator's port; return the status and the answer, parsed if it is JSON."""
    options = {"headers": ASK, **options}
    async with aiohttp.ClientSession() as http, http.request(method, gateway.admin + path, **options) as response:
        text = await response.text()
        return response.status, json.loads(text) if "json" in response.headers["Content-Type"] else text


async def metrics(gateway: GatewayProcess) -> dict[tuple[str, ...], float]:
    """Scrape; return each sample under its name and the values of its labels."""
    _, text = await ask(gateway, "GET", "/metrics")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
