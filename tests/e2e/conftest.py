"""Fixtures: a receiver, gateways that are stopped and looked over at the end, clients that are closed, Node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import absent
from tests.e2e.application import Application
from tests.e2e.chromium import Chromium, Tab
from tests.e2e.client import Backend, Client
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.node_script import NodeScript, install_packages
from tests.e2e.receiver import Receiver
from tests.e2e.script import Script

StartGateway = Callable[..., Awaitable[GatewayProcess]]
Connect = Callable[..., Awaitable[Client]]
RunNode = Callable[[str], Awaitable[NodeScript]]
OpenTab = Callable[..., Awaitable[Tab]]
RunScript = Callable[[str], Awaitable[Script]]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A webhook receiver; at the end nothing may have been wrong with any request."""
    receiver = await Receiver.start()
    yield receiver
    await receiver.stop()
    assert receiver.violations == []


@pytest.fixture
async def start_gateway(tmp_path: Path, receiver: Receiver) -> AsyncIterator[StartGateway]:
    """Start gateways from settings; at the end they must go when told to, with status 0 and without a stack trace."""
    started: list[GatewayProcess] = []

    async def start(*apps: dict[str, object], port: int = 0, folder: str = "gateway", **settings: Any) -> GatewayProcess:
        apps = apps or (app(webhooks=[receiver.endpoint()]),)
        gateway = await GatewayProcess.start(tmp_path / folder, {**settings, "apps": list(apps)}, port)
        started.append(gateway)
        return gateway

    yield start
    receiver.rules.clear()
    for gateway in started:
        if gateway.is_running:
            assert await gateway.stop() == 0, gateway.lines[-30:]
        assert gateway.tracebacks == [], "\n".join(gateway.lines)


@pytest.fixture(autouse=True)
async def cleared_away() -> AsyncIterator[None]:
    """Leave no connection behind, in whatever state a test has brought it."""
    yield
    await Client.clear_away()


@pytest.fixture
def connect() -> Connect:
    """Make connections to a gateway."""

    async def connect(gateway: GatewayProcess, **options: Any) -> Client:
        return await Client.connect(gateway.port, **options)

    return connect


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> GatewayProcess:
    """One app without linger, whose every event goes to the receiver's endpoint `all`."""
    return await start_gateway()


@pytest.fixture
async def backend(gateway: GatewayProcess) -> AsyncIterator[Backend]:
    """The backend of the app of `gateway`."""
    async with Backend(gateway.port) as backend:
        yield backend


@pytest.fixture(scope="session")
def node_packages() -> None:
    """See to it that the stock JavaScript clients are there."""
    install_packages()


@pytest.fixture
async def run_node(node_packages: None) -> AsyncIterator[RunNode]:
    """Run scripts of this folder under Node; they end with the test."""
    scripts: list[NodeScript] = []

    async def run(name: str) -> NodeScript:
        script = await NodeScript.start(name)
        scripts.append(script)
        return script

    yield run
    for script in scripts:
        await script.stop()


@pytest.fixture
async def application(node_packages: None) -> AsyncIterator[Application]:
    """The application that pages come from and that signs what they ask for."""
    application = await Application.start()
    yield application
    await application.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """The browser."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    chromium = Chromium(absent.program(*names, package="chromium-headless-shell"))
    yield chromium
    chromium.close()


@pytest.fixture
async def open_tab(chromium: Chromium, application: Application) -> AsyncIterator[OpenTab]:
    """Open pages with a script of this folder; at the end no page may have done what none may do."""
    tabs: list[Tab] = []

    async def open_tab(script: str = "pusher_js.mjs", build: str = "pusher.min.js") -> Tab:
        tabs.append(await Tab.open(chromium, f"{application.url}/page?script={script}&build={build}"))
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        await tab.stop()
    assert [fault for tab in tabs for fault in tab.faults] == []


@pytest.fixture
def run_tab(open_tab: OpenTab) -> RunScript:
    """Run scripts of this folder in Chromium, each in a page of its own."""
    return lambda script: open_tab(script, "pusher-with-encryption.min.js")


@pytest.fixture(params=["run_node", "run_tab"], ids=["node", "chromium"])
def run_script(request: pytest.FixtureRequest) -> RunScript:
    """Run scripts of this folder: once under Node, and once in Chromium."""
    runner: RunScript = request.getfixturevalue(request.param)
    return runner


@pytest.fixture
def run_everywhere(request: pytest.FixtureRequest, run_node: RunNode) -> list[RunScript]:
    """Run scripts in all places there are, for tests that take long by nature: under Node, and in Chromium if it is there."""
    try:
        return [run_node, request.getfixturevalue("run_tab")]
    except pytest.skip.Exception:
        return [run_node]
