"""An HTTP server that takes whatever is posted to it, and remembers it: Sentry's, or an OTLP collector's, stand-in."""

import gzip
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Collected:
    """What was posted: path and body, uncompressed, in order."""

    port: int
    posts: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def bodies(self) -> bytes:
        return b"\n".join(body for _, body in list(self.posts))


@contextmanager
def collector() -> Iterator[Collected]:
    """A server on 127.0.0.1, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            encoding = self.headers.get("Content-Encoding")
            if encoding == "gzip":
                body = gzip.decompress(body)
            elif encoding == "deflate":
                body = zlib.decompress(body)
            collected.posts.append((self.path, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collected = Collected(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collected
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
