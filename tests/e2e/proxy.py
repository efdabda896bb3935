"""Proxies in front of a gateway, with the configurations that docs/ gives, in a folder of their own and on a free port."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from tests.device.front_kit import tls_contexts
from tests.e2e import absent
from tests.e2e.gateway_process import ROOT, free_port
from tests.patience import LONG_S

NGINX = (ROOT / "docs" / "nginx.conf").read_text()
CADDY = (ROOT / "docs" / "Caddyfile").read_text()

#: One process that stays in the foreground; all it writes goes below the folder that is its prefix.
_AROUND_NGINX = """daemon off;
master_process off;
pid nginx.pid;
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{site}
}}
"""

_AROUND_CADDY = """{{
	admin off
	auto_https off
}}
{site}"""


class Proxy:
    """One running proxy; `port` takes TLS, and `trust` is a context that believes its certificate."""

    def __init__(self, kind: str, process: asyncio.subprocess.Process, port: int, trust: ssl.SSLContext) -> None:
        self.kind = kind
        self.port = port
        self.trust = trust
        self.lines: list[str] = []
        self._process = process

    @classmethod
    async def start(cls, kind: str, folder: Path, gateway_port: int, more: Mapping[str, str] | None = None) -> Proxy:
        """Start nginx or Caddy (`kind`) with the documented configuration, changed where it says so, below an empty folder.

        `more` are further changes: what is replaced, and by what.
        """
        port = free_port()
        _, trust = tls_contexts(folder)
        both = str(folder / "both.pem")
        gateway = f"127.0.0.1:{gateway_port}"
        if kind == "nginx":
            path = absent.program("nginx", package="nginx-light")
            changes = {
                "server 127.0.0.1:6001;": f"server {gateway};",
                "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
                "/etc/ssl/rt.example.com.pem": both,
                "/etc/ssl/rt.example.com.key": both,
            }
            (folder / "nginx.conf").write_text(_AROUND_NGINX.format(site=_changed(NGINX, changes | dict(more or {}))))
            command = [path, "-p", f"{folder}/", "-c", "nginx.conf", "-e", "stderr"]
            # It listens before it says which limits it found.
            sign = "getrlimit"
        else:
            path = absent.program("caddy", package="caddy")
            site = f"https://127.0.0.1:{port} {{\n\tbind 127.0.0.1\n\ttls {both} {both}"
            changes = {"rt.example.com {": site, " 127.0.0.1:6001": f" {gateway}"}
            (folder / "Caddyfile").write_text(_AROUND_CADDY.format(site=_changed(CADDY, changes | dict(more or {}))))
            command = [path, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
            sign = "serving initial configuration"
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, "HOME": str(folder)}, stderr=asyncio.subprocess.PIPE
        )
        proxy = cls(kind, process, port, trust)
        await proxy._wait_for(sign)
        return proxy

    async def _wait_for(self, sign: str) -> None:
        assert self._process.stderr is not None
        async with asyncio.timeout(LONG_S):
            async for line in self._process.stderr:
                self.lines.append(line.decode())
                if sign in self.lines[-1]:
                    return
        raise AssertionError("the proxy ended; it said:\n" + "".join(self.lines))

    async def stop(self) -> None:
        """End it and read the rest of what it said."""
        if self._process.returncode is None:
            self._process.terminate()
        _, rest = await asyncio.wait_for(self._process.communicate(), LONG_S)
        self.lines += rest.decode().splitlines(keepends=True)


def _changed(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text
