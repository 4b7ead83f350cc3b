"""SES as `SendEmail` sees it: an HTTP server that keeps what it was given and when, and refuses what it is told to."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SEND_EMAIL = "/v2/email/outbound-emails"


@dataclass(frozen=True)
class Email:
    """One email that was asked for, and the monotonic second at which it came."""

    to: str
    sender: str
    subject: str
    text: str
    html: str
    at: float


@dataclass(frozen=True)
class Refusal:
    """An answer of SES that is no success."""

    status: int
    code: str
    message: str = "refused"


@dataclass
class RecordingSes:
    """`emails` are those that were taken; `asked` counts all. `refuse[address]` is the answer to that address."""

    url: str = ""
    emails: list[Email] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refuse: dict[str, Refusal] = field(default_factory=dict)
    refuse_all: Refusal | None = None
    before_answer: Callable[[Email], object] = bool
    """Called with an email that is taken, before the sender hears of it."""

    def to(self, address: str) -> list[Email]:
        return [email for email in self.emails if email.to == address]

    def take(self, body: dict[str, Any]) -> Refusal | None:
        content = body["Content"]["Simple"]
        email = Email(
            to=body["Destination"]["ToAddresses"][0],
            sender=body["FromEmailAddress"],
            subject=content["Subject"]["Data"],
            text=content["Body"]["Text"]["Data"],
            html=content["Body"]["Html"]["Data"],
            at=time.monotonic(),
        )
        self.asked.append(email.to)
        refusal = self.refuse_all or self.refuse.get(email.to)
        if refusal is None:
            self.emails.append(email)
            self.before_answer(email)
        return refusal


@contextmanager
def recording_ses() -> Iterator[RecordingSes]:
    """A server on 127.0.0.1 for as long as the block runs."""
    ses = RecordingSes()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == SEND_EMAIL, self.path
            refusal = ses.take(body)
            answer = {"MessageId": "1"} if refusal is None else {"message": refusal.message}
            encoded = json.dumps(answer).encode()
            self.send_response(200 if refusal is None else refusal.status)
            if refusal is not None:
                self.send_header("x-amzn-ErrorType", refusal.code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *_: Any) -> None:
            """Nothing: what is sent is somebody's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    ses.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield ses
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
