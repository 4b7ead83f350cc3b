"""An S3 server over HTTP that answers what a test tells it to, byte for byte."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from xml.etree import ElementTree
from xml.sax.saxutils import escape

S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
NEVER_VERSIONED = (200, f'<VersioningConfiguration xmlns="{S3_NAMESPACE}"/>')


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    """Path and query, such as `/letters?delete`."""
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def objects(self) -> list[tuple[str, str | None]]:
        """Key and version of each object that a DeleteObjects request names."""
        root = ElementTree.fromstring(self.body)  # noqa: S314 (our own client wrote it)
        name = f"{{{S3_NAMESPACE}}}"
        return [
            (entry.findtext(f"{name}Key") or "", entry.findtext(f"{name}VersionId"))
            for entry in root.iter(f"{name}Object")
        ]


Answer = tuple[int, str]
"""HTTP status and XML."""


@dataclass
class ScriptedS3:
    url: str = ""
    asked: list[Asked] = field(default_factory=list)


def error(status: int, code: str) -> Answer:
    return status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"


def listing(keys: list[str]) -> Answer:
    contents = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys)
    return 200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"


def delete_result(
    *, deleted: Sequence[str] = (), errors: Sequence[tuple[str, str]] = (), marked: Sequence[str] = ()
) -> Answer:
    """Keys that are gone, (key, code) that are not, and keys that only got a delete marker."""
    entries = [f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in deleted]
    entries += [
        f"<Deleted><Key>{escape(key)}</Key><DeleteMarker>true</DeleteMarker>"
        "<DeleteMarkerVersionId>m1</DeleteMarkerVersionId></Deleted>"
        for key in marked
    ]
    entries += [f"<Error><Key>{escape(key)}</Key><Code>{code}</Code></Error>" for key, code in errors]
    return 200, f'<DeleteResult xmlns="{S3_NAMESPACE}">{"".join(entries)}</DeleteResult>'


@contextmanager
def scripted_s3(answer: Callable[[Asked], Answer]) -> Iterator[ScriptedS3]:
    """Serves until the block ends; `asked` holds every request that came."""
    script = ScriptedS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are sent apart: the second would wait for a late ACK

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            asked = Asked(self.command, self.path, body, dict(self.headers))
            script.asked.append(asked)
            status, text = answer(asked)
            payload = text.encode() if self.command != "HEAD" else b""
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_HEAD = do_DELETE = respond

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
