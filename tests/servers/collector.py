"""A collector of traces."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, NamedTuple, Self


class Request(NamedTuple):
    """A request that arrived."""

    path: str
    headers: Any
    body: bytes


class Collector:
    """Answers each request with `status` and `answer`, or with the request's own headers where `answer` is None. Keeps
    the requests."""

    def __init__(self, status: int = 200, answer: bytes | None = b"{}") -> None:
        self.status, self.answer = status, answer
        self.requests: list[Request] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append(Request(self.path, self.headers, body))
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(str(self.headers).encode() if outer.answer is None else outer.answer)

            def log_message(self, format: str, *args: object) -> None:
                """Prints nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        # it notices its end at the next look; the default is half a second
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
