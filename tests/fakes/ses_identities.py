"""SES as `GetEmailIdentity` sees it: addresses and domains, some of them verified. moto's are never verified."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

IDENTITIES = "/v2/email/identities/"


@contextmanager
def ses_identities(verified: dict[str, bool]) -> Iterator[str]:
    """The URL of a server that knows these, and says of each whether it is verified."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            identity = unquote(self.path.removeprefix(IDENTITIES))
            known = identity in verified
            body = {"VerifiedForSendingStatus": verified[identity]} if known else {"message": "no such identity"}
            answer = json.dumps(body).encode()
            self.send_response(200 if known else 404)
            if not known:
                self.send_header("x-amzn-ErrorType", "NotFoundException")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
