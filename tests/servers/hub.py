"""A hub of models on this machine: as much of its protocol as a download needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """`with Hub({"owner/name": {"file": b"..."}}) as url:`"""

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, *, body: bool) -> None:
                path = self.path.partition("?")[0].strip("/")
                status, headers, data = 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
                if path.startswith("api/models/"):
                    owner, name, *rest_of = path.removeprefix("api/models/").split("/")
                    if (files := repositories.get(f"{owner}/{name}")) is not None:
                        siblings = [{"rfilename": file} for file in files]
                        answer = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings}
                        tree = [
                            {
                                "type": "file",
                                "path": file,
                                "size": len(text),
                                "oid": hashlib.sha1(text).hexdigest(),
                            }
                            for file, text in files.items()
                        ]
                        told = tree if "tree" in rest_of else answer
                        status, headers, data = 200, {}, json.dumps(told).encode()
                elif "/resolve/" in path:
                    repo, _, rest = path.partition("/resolve/")
                    found = repositories.get(repo, {}).get(rest.partition("/")[2])
                    headers = {"X-Error-Code": "EntryNotFound" if repo in repositories else "RepoNotFound"}
                    if found is not None:
                        status, data = 200, found
                        headers = {"ETag": f'"{hashlib.sha1(found).hexdigest()}"', "X-Repo-Commit": COMMIT}
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(key, value)
                self.end_headers()
                if body:
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
