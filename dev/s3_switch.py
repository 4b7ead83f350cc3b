"""moto's S3 server with buckets that can be broken: `python s3_switch.py -H HOST -p PORT`, in the local stack alone.

`PUT /_broken/<bucket>` makes the server refuse everything in a bucket, as S3 does where a policy forbids it; `DELETE`
fixes it. It runs as a script, without the packages of this repository.
"""

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

SWITCH = "/_broken/"
REFUSAL = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class WithSwitch:
    """The server's application, behind the switch."""

    def __init__(self, server: Application) -> None:
        self._server = server
        self._broken: set[str] = set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path.startswith(SWITCH):
            bucket = path.removeprefix(SWITCH)
            (self._broken.add if method == "PUT" else self._broken.discard)(bucket)
            start_response("204 No Content", [])
            return []
        if path.lstrip("/").partition("/")[0] not in self._broken:
            return self._server(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(REFUSAL)))])
        return [] if method == "HEAD" else [REFUSAL]


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-H", dest="host")
    parser.add_argument("-p", dest="port", type=int)
    given = parser.parse_args()
    server = WithSwitch(DomainDispatcherApplication(create_backend_app))
    run_simple(given.host, given.port, server, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
