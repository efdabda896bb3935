"""Is it well, and what is happening: readiness, rates, the queue, the outbox, and a line for each app and endpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.admin.call import Call
from gateway.core.webhook import timestamp
from gateway.desk.answer import Answer
from gateway.node import Tenant


async def overview(call: Call) -> Answer:
    """Answer how the gateway as a whole is doing, and a page of its apps with their endpoints."""
    after, limit = call.page()
    sources = call.sources
    tenants = sources.node.tenants
    look = await sources.stock.look()
    page, told = _page(tenants_of(tenants.values(), after), limit)
    reasons = sources.node.why_not_ready()
    storage = sources.storage()
    outbox: Answer = {"writable": sources.is_writable, "readable": look.is_whole}
    outbox |= {} if storage.used is None else {"used_bytes": storage.used, "limit_bytes": storage.limit}
    recent = sources.pulse.recent.told(sources.clock.monotonic())
    up_s = sources.clock.monotonic() - sources.pulse.started_at
    return {
        "version": sources.version,
        "node": sources.name,
        "started_at": timestamp(sources.clock.epoch_ms() - round(up_s * 1000)),
        "ready": not reasons,
        "reasons": reasons,
        "connections": sum(len(tenant.lives) for tenant in tenants.values()),
        "channels": sum(tenant.hub.channels for tenant in tenants.values()),
        "per_second": sources.pulse.rates(),
        "loop_lag_ms": round(sources.pulse.worst_lag_s * 1000, 1),
        "recorder": {"queued": sources.recorder.queued, "limit": sources.capacity, "failing": sources.recorder.is_failing},
        "outbox": outbox,
        "apps": [_app(tenant) | _endpoints(recent, tenant.app.id, look.endpoints.get(tenant.app.id)) for tenant in page],
        **told,
    }


async def apps(call: Call) -> Answer:
    """Answer a page of the apps, with what they may do."""
    after, limit = call.page()
    page, told = _page(tenants_of(call.sources.node.tenants.values(), after), limit)
    return {"apps": [_app(tenant) | _settings(tenant) for tenant in page], **told}


def tenants_of(tenants: Any, after: str = "", only: str = "") -> list[Tenant]:
    """Return the apps in order of their ids, those after one of them, or only one."""
    found = (tenant for tenant in tenants if tenant.app.id > after and (not only or tenant.app.id == only))
    return sorted(found, key=lambda tenant: tenant.app.id)


def _page(tenants: Sequence[Tenant], limit: int) -> tuple[Sequence[Tenant], Answer]:
    page = tenants[:limit]
    return page, {"after": page[-1].app.id} if len(tenants) > limit else {}


def _app(tenant: Tenant) -> Answer:
    app = tenant.app
    return {
        "id": app.id,
        "key": app.key,
        "enabled": app.enabled,
        "connections": len(tenant.lives),
        "channels": tenant.hub.channels,
    }


def _settings(tenant: Tenant) -> Answer:
    app = tenant.app
    return {
        "client_events": app.client_events,
        "linger_ms": round(app.linger_s * 1000),
        "allowed_origins": list(app.allowed_origins),
        "needs_tls": app.needs_tls,
        "connection_limit": app.limits.connections,
    }


def _endpoints(recent: Callable[[str], Answer], app_id: str, endpoints: list[Answer] | None) -> Answer:
    """The app's endpoints and their sum; nothing where it is not known."""
    if endpoints is None:
        return {}
    oldest = [one["oldest_age_ms"] for one in endpoints if "oldest_age_ms" in one]
    return {
        "backlog": sum(one["backlog"] for one in endpoints),
        "dead_letters": sum(one["dead_letters"] for one in endpoints),
        **({"oldest_age_ms": max(oldest)} if oldest else {}),
        "endpoints": endpoints,
        "recent": {one["name"]: recent(f"{app_id}/{one['name']}") for one in endpoints},
    }
