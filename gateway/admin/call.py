"""What a handler is given: a request that the guard has let pass."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from gateway.admin.page import MOST, USUAL
from gateway.admin.sources import Sources
from gateway.core.app import App
from gateway.core.auth import Parameters
from gateway.core.error import RequestError
from gateway.core.trace import Trace
from gateway.desk import Desk
from gateway.desk.question import check_names, number


@dataclass(slots=True)
class Call:
    """One request; `name` is what the path names last (an endpoint, a channel, a connection), or empty."""

    sources: Sources
    parameters: Parameters
    body: bytes
    name: str

    @property
    def desk(self) -> Desk:
        """Who is asked about webhooks."""
        return self.sources.desk

    def json(self) -> object:
        """Return the parsed body; raises RequestError 400 where it is not JSON in UTF-8."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise RequestError(400, f"the body is not JSON in UTF-8: {error}", "body") from error

    def asked(self, name: str) -> str:
        """Return a parameter that is a comma-separated list, however it was spelled; empty if it is not there."""
        return ",".join(self.parameters.get(name, []) + self.parameters.get(f"{name}[]", []))

    def last(self, name: str) -> str:
        """Return a parameter; empty if it is not there."""
        return self.parameters.get(name, [""])[-1]

    def page(self, *others: str) -> tuple[str, int]:
        """Return `after` and `limit`; raises RequestError 400, also for parameters that are not these or `others`."""
        check_names(self.parameters, ("after", "limit", *others))
        return self.last("after"), number(self, "limit", USUAL, 1, MOST)


@dataclass(slots=True)
class AppCall(Call):
    """One request about an app; `trace` is the one it belongs to, where it says so."""

    app: App
    trace: Trace | None = None
