"""A proxy in front of the S3 server that goes wrong where a test says so, and keeps what it was asked.

Without a fault it forwards every request as it is. Faults are attributes, so that a test can fix them half-way.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
NOT_FORWARDED = {"connection", "content-length", "expect", "transfer-encoding"}


def _nothing() -> None:
    """The default hook."""


@dataclass
class FaultProxy:
    """What is to go wrong. `deletes` are the keys of each DeleteObjects request, in the order of arrival."""

    url: str = ""
    refused_keys: dict[str, str] = field(default_factory=dict)
    """Key to the code with which a DeleteObjects answer of 200 refuses it; the other keys go."""
    denied_buckets: set[str] = field(default_factory=set)
    """Every request to them is answered 403 AccessDenied."""
    denied_deletes: set[str] = field(default_factory=set)
    """Buckets that list, but whose DeleteObjects are answered 403 AccessDenied."""
    slow_buckets: set[str] = field(default_factory=set)
    """DeleteObjects to them are answered 503 SlowDown."""
    failing_deletes: set[str] = field(default_factory=set)
    """Keys: a DeleteObjects that names one of them is answered 500 as a whole, and nothing goes."""
    failing_lists: set[str] = field(default_factory=set)
    """Words: a request (a listing, or a bucket's state) with one of them in its query is answered 500."""
    cut_deletes: int = 0
    """So many DeleteObjects do their work, and the connection is cut before the answer."""
    before_delete: Callable[[], None] = _nothing
    """Called before a DeleteObjects is forwarded."""
    after_delete: Callable[[], None] = _nothing
    """Called when the files of a DeleteObjects are gone, before the answer."""
    refuses_all: tuple[int | None, ...] = ()
    """With something in it, each request is answered with this status; None: the connection is cut instead."""
    refused: int = 0
    """How many requests that were."""
    deletes: list[list[str]] = field(default_factory=list)
    lists: int = 0

    @property
    def keys_asked(self) -> list[str]:
        """Every key that a DeleteObjects named, as often as it was named."""
        return [key for request in self.deletes for key in request]


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Serves in front of `upstream` until the block ends."""
    proxy = FaultProxy()

    class Handler(_Handler):
        faults = proxy
        server_behind = urlsplit(upstream).netloc
        lock = Lock()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    faults: FaultProxy
    server_behind: str
    lock: Lock

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        bucket = address.path.strip("/").partition("/")[0]
        is_delete = self.command == "POST" and "delete" in address.query.split("&")
        if refuses := self.faults.refuses_all:
            self.faults.refused += 1
            if refuses[0] is None:
                self.close_connection = True
            else:
                self._answer(refuses[0], _error("AccessDenied"))
            return
        with self.lock:
            if is_delete:
                self.faults.deletes.append(keys_of(body))
            elif self.command == "GET":
                self.faults.lists += 1
        if bucket in self.faults.denied_buckets or (is_delete and bucket in self.faults.denied_deletes):
            self._answer(403, _error("AccessDenied"))
        elif any(word in address.query for word in self.faults.failing_lists):
            self._answer(500, _error("InternalError"))
        elif not is_delete:
            self._answer(*self._forward(body))
        elif not self.faults.failing_deletes.isdisjoint(keys_of(body)):
            self._answer(500, _error("InternalError"))
        elif bucket in self.faults.slow_buckets:
            self._answer(503, _error("SlowDown"))
        else:
            self._delete(body)

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = respond

    def _delete(self, body: bytes) -> None:
        # As the request arrived: a test may go on, and refuse nothing more, before this returns.
        refused = {key: self.faults.refused_keys[key] for key in keys_of(body) if key in self.faults.refused_keys}
        self.faults.before_delete()
        status, answer = 200, f'<DeleteResult xmlns="{S3_NAMESPACE}"></DeleteResult>'.encode()
        remaining = without(body, refused)
        if keys_of(remaining):
            status, answer = self._forward(remaining)
        self.faults.after_delete()
        with self.lock:
            is_cut = self.faults.cut_deletes > 0
            self.faults.cut_deletes -= is_cut
        if is_cut:
            self.close_connection = True
            return
        errors = "".join(f"<Error><Key>{escape(key)}</Key><Code>{code}</Code></Error>" for key, code in refused.items())
        self._answer(status, answer.replace(b"</DeleteResult>", errors.encode() + b"</DeleteResult>"))

    def _forward(self, body: bytes) -> tuple[int, bytes]:
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in NOT_FORWARDED
            and not name.lower().startswith(("content-md5", "x-amz-checksum", "x-amz-sdk-checksum"))
        }
        connection = HTTPConnection(self.server_behind, timeout=30)
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, payload: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)
        except OSError:
            """Who asked has gone: killed, or timed out."""

    def log_message(self, *_: object) -> None:
        """Quiet."""


def keys_of(body: bytes) -> list[str]:
    """The keys that a DeleteObjects request names."""
    return [entry.findtext(_name("Key")) or "" for entry in ElementTree.fromstring(body).iter(_name("Object"))]  # noqa: S314


def without(body: bytes, keys: dict[str, str]) -> bytes:
    """A DeleteObjects request without some keys."""
    root = ElementTree.fromstring(body)  # noqa: S314 - our own client wrote it
    for entry in root.findall(_name("Object")):
        if entry.findtext(_name("Key")) in keys:
            root.remove(entry)
    return ElementTree.tostring(root, default_namespace=S3_NAMESPACE)


def _name(tag: str) -> str:
    return f"{{{S3_NAMESPACE}}}{tag}"


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
