"""A gateway that is played: a server of HTTP in a thread, for commands that ask one thing after another."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Played:
    """Answers, until `close`, what `told` returns: a status and an object or bytes; None cuts the line."""

    def __init__(self) -> None:
        played = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                answer = played.told(self.command, self.path, self.headers, body)
                if answer is None:
                    return
                status, told = answer
                raw = told if isinstance(told, bytes) else json.dumps(told).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(raw)))
                    self.end_headers()
                    self.wfile.write(raw)
                except ConnectionError:
                    pass  # the command was interrupted, as the test wanted

            do_GET = do_POST = answer

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def told(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any] | None:
        """Return what this is answered with."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop, when what was asked is answered."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
