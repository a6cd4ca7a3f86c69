"""A server on this machine that sends what a test puts into it."""

from __future__ import annotations

import http.server
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """One of this computer at which nobody listens, and nobody else will until the end.

    A server that reuses addresses, as servers do, may begin to listen at it.
    """
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


class Server(http.server.ThreadingHTTPServer):
    """Serves ``contents`` by path; remembers what was asked."""

    contents: dict[str, bytes]
    requests: list[str]
    halfway: Callable[[], None] | None = None

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers in two halves, so that a test can look in between."""

    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        body = self.server.contents.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.wfile.flush()
        if self.server.halfway is not None:
            self.server.halfway()
        # Under /short/ the connection closes before the promised end.
        if not self.path.startswith("/short/"):
            self.wfile.write(body[half:])

    def log_message(self, *_: object) -> None:
        pass
