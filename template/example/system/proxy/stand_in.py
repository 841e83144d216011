"""Stands in for the API of `numbers`, on this machine, so that the project runs without a network. Delete it with `offline`."""

import json
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

LARGEST: Final = 10**12


@cache
def url() -> str:
    """Where it listens. The first call starts it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    """GET /v1/numbers/391 answers {"number": 391, "factors": [17, 23]}."""

    def do_GET(self) -> None:
        number = self.path.rpartition("/")[2]
        if number.isdecimal() and 2 <= int(number) <= LARGEST:
            self.answer(200, {"number": int(number), "factors": factors(int(number))})
        else:
            self.answer(404, {"error": f"no facts about {number}"})

    def answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Prints nothing."""


def factors(number: int) -> list[int]:
    """The prime factors, the smallest first."""
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found
