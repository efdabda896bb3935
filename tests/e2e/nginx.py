"""nginx in front of a gateway, with the configuration that docs/ gives, in a folder of its own and on a free port."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from tests.device.front_kit import tls_contexts
from tests.e2e.gateway_process import ROOT, free_port

DOCUMENTED = (ROOT / "docs" / "nginx.conf").read_text()

#: One process that stays in the foreground; all it writes goes below the folder that is its prefix.
MAIN = """daemon off;
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


class Nginx:
    """One running nginx; `port` takes TLS, and `trust` is a context that believes its certificate."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, trust: ssl.SSLContext) -> None:
        self.port = port
        self.trust = trust
        self.lines: list[str] = []
        self._process = process

    @classmethod
    async def start(cls, path: str, folder: Path, gateway_port: int) -> Nginx:
        """Start the program at `path` with the documented configuration, changed where it says so, below an empty folder."""
        _, trust = tls_contexts(folder)
        port = free_port()
        site = DOCUMENTED
        places = {
            "server 127.0.0.1:6001;": f"server 127.0.0.1:{gateway_port};",
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "/etc/ssl/rt.example.com.pem": str(folder / "both.pem"),
            "/etc/ssl/rt.example.com.key": str(folder / "both.pem"),
        }
        for old, new in places.items():
            assert old in site, old
            site = site.replace(old, new)
        (folder / "nginx.conf").write_text(MAIN.format(site=site))
        process = await asyncio.create_subprocess_exec(
            path, "-p", f"{folder}/", "-c", "nginx.conf", "-e", "stderr", stderr=asyncio.subprocess.PIPE
        )
        nginx = cls(process, port, trust)
        await nginx._ready()
        return nginx

    async def _ready(self) -> None:
        # It listens before it says which system it found itself on.
        assert self._process.stderr is not None
        async with asyncio.timeout(10):
            async for line in self._process.stderr:
                self.lines.append(line.decode())
                if "getrlimit" in self.lines[-1]:
                    return
        raise AssertionError("nginx ended; it said:\n" + "".join(self.lines))

    async def stop(self) -> None:
        """End it and read the rest of what it said."""
        if self._process.returncode is None:
            self._process.terminate()
        _, rest = await asyncio.wait_for(self._process.communicate(), 10)
        self.lines += rest.decode().splitlines(keepends=True)
