"""The published libraries judge what the gateway sends: they take all of it, and nothing that was changed on the way."""

from __future__ import annotations

import base64
import json

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.e2e.client import Backend
from tests.e2e.conftest import RunNode, StartGateway
from tests.e2e.gateway_process import app
from tests.e2e.receiver import Receiver

NEW, OLD, OTHER = ("whsec_" + base64.b64encode(key).decode() for key in (b"new " * 8, b"old " * 8, b"other " * 5))


@pytest.mark.parametrize("format_", ["event", "batch"])
async def test_standard_webhooks_with_a_secret_that_is_being_changed(
    start_gateway: StartGateway, receiver: Receiver, run_node: RunNode, format_: str
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(secrets=(NEW, OLD), format=format_)]))
    async with Backend(gateway.port) as backend:
        for number in range(5):
            assert await backend.publish("orders", f"n{number}", '"Zoë 🦊"') == 200
    await receiver.wait_for("message.published", count=5)
    script = await run_node("formats.mjs")
    for hook in receiver.hooks:
        told = {"body": hook.body.decode(), "headers": hook.headers}
        for secret in (NEW, OLD):
            assert Webhook(secret).verify(hook.body, hook.headers) == json.loads(hook.body)
            assert await script.ask("standard", secret=secret, **told) is True
        changed = [
            (OTHER, told),
            (NEW, {**told, "body": told["body"].replace("n0", "n9") + " "}),
            (NEW, {**told, "headers": {**hook.headers, "webhook-id": "evt_1"}}),
            (NEW, {**told, "headers": {**hook.headers, "webhook-timestamp": str(int(hook.at) + 60)}}),
            (NEW, {**told, "headers": {**hook.headers, "webhook-timestamp": str(int(hook.at) - 600)}}),
        ]
        for secret, altered in changed:
            with pytest.raises(WebhookVerificationError):
                Webhook(secret).verify(altered["body"], altered["headers"])
            with pytest.raises(AssertionError, match="WebhookVerificationError"):
                await script.ask("standard", secret=secret, **altered)
