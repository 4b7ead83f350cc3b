"""Stands between the workers and S3 and answers, delays or cuts as the rules of the moment say.

A rule looks at a request and returns what becomes of it, or None to leave it to the next rule; without one it is
forwarded as it is.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import ClassVar
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
HOP_BY_HOP = {"connection", "content-length", "expect", "transfer-encoding"}
CHECKSUMS = ("content-md5", "x-amz-checksum", "x-amz-sdk-checksum")


@dataclass(frozen=True)
class Request:
    """`keys` are those that a DeleteObjects names; of any other request there are none."""

    method: str
    bucket: str
    query: str
    keys: tuple[str, ...]

    @property
    def is_delete(self) -> bool:
        return self.method == "POST" and "delete" in self.query.split("&")


@dataclass(frozen=True)
class Verdict:
    """What becomes of a request. Without any of these it is forwarded."""

    status: int | None = None
    """Answer with this status and `code`; S3 never sees the request."""
    code: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Keys of a DeleteObjects, each with the code that a 200 answer gives it; S3 sees the others."""
    seconds: float = 0
    """Wait so long before the answer, when S3 has done its work."""
    is_cut: bool = False
    """S3 does its work, of a DeleteObjects half of it, and the connection ends within the answer."""


Rule = Callable[[Request], Verdict | None]


class S3Proxy:
    """Forwards to `upstream` (a URL). `rules` may change at any time.

    `asked` counts requests, `altered` those that met a rule.
    """

    def __init__(self, upstream: str) -> None:
        self.rules: list[Rule] = []
        self.asked = self.altered = 0
        self.lock = Lock()

        class Handler(_Handler):
            proxy = self
            server_behind = urlsplit(upstream).netloc

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A worker that was killed leaves its connections; that is no news here."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def verdict(self, request: Request) -> Verdict | None:
        """The first rule's that has one."""
        with self.lock:
            self.asked += 1
            for rule in self.rules:
                found = rule(request)
                if found is not None:
                    self.altered += 1
                    return found
        return None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ClassVar[S3Proxy]
    server_behind: ClassVar[str]

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        bucket = unquote(address.path).strip("/").partition("/")[0]
        request = Request(self.command, bucket, address.query, ())
        if request.is_delete:
            request = Request(self.command, bucket, address.query, tuple(keys_of(body)))
        verdict = self.proxy.verdict(request)
        with contextlib.suppress(OSError, HTTPException):  # who asked has gone, or the server behind
            self._carry_out(request, verdict or Verdict(), body)

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = respond

    def _carry_out(self, request: Request, verdict: Verdict, body: bytes) -> None:
        if verdict.status is not None:
            time.sleep(verdict.seconds)
            self._answer(verdict.status, _error(verdict.code))
            return
        left_out = dict(verdict.refused)
        if verdict.is_cut and request.is_delete:
            left_out |= dict.fromkeys(request.keys[len(request.keys) // 2 :], "")
        refused = {key: code for key, code in left_out.items() if key in request.keys}
        if refused:
            body = without(body, refused)
        if refused and len(refused) == len(set(request.keys)):
            status, answer = 200, f'<DeleteResult xmlns="{NAMESPACE}"></DeleteResult>'.encode()
        else:
            status, answer = self._forward(body)
        time.sleep(verdict.seconds)
        self._answer(status, with_errors(answer, refused), cut=verdict.is_cut)

    def _forward(self, body: bytes) -> tuple[int, bytes]:
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in HOP_BY_HOP and not name.lower().startswith(CHECKSUMS)
        }
        connection = HTTPConnection(self.server_behind, timeout=30)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def _answer(self, status: int, payload: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload[: len(payload) // 2] if cut else payload)
        if cut:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


def keys_of(body: bytes) -> Iterator[str]:
    """The keys that a DeleteObjects request names."""
    for entry in ElementTree.fromstring(body).iter(f"{{{NAMESPACE}}}Object"):  # noqa: S314 - our own client wrote it
        yield entry.findtext(f"{{{NAMESPACE}}}Key") or ""


def without(body: bytes, keys: Mapping[str, str]) -> bytes:
    """A DeleteObjects request without some keys."""
    root = ElementTree.fromstring(body)  # noqa: S314
    for entry in root.findall(f"{{{NAMESPACE}}}Object"):
        if entry.findtext(f"{{{NAMESPACE}}}Key") in keys:
            root.remove(entry)
    return ElementTree.tostring(root, default_namespace=NAMESPACE)


def with_errors(answer: bytes, refused: Mapping[str, str]) -> bytes:
    """A DeleteObjects answer that names these keys with their codes."""
    errors = "".join(f"<Error><Key>{escape(key)}</Key><Code>{code}</Code></Error>" for key, code in refused.items())
    return answer.replace(b"</DeleteResult>", errors.encode() + b"</DeleteResult>")


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
