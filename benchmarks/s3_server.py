"""The benchmarks' S3 server: over HTTP, each answer after 20 ms and 0.1 ms a deleted key, listings by prefix fast.

A process of its own, so that its work is not the worker's; a thread per connection, so that the waits of several
overlap. What it knows of S3 is the tests' `ManyFiles`.
"""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from dev.environment import replaced_environment
from tests.fakes.many_files import ManyFiles
from tests.fakes.scripted_s3 import Answer, Asked, scripted_s3

SECONDS_PER_REQUEST = 0.020
SECONDS_PER_DELETED_KEY = 0.000_1
SECONDS_TO_END = 10
SPAWN = multiprocessing.get_context("spawn")
# It checks nobody's signature, but boto3 sends nothing without keys to sign with.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark", "AWS_REGION": "eu-west-1"}


class S3Server:
    """The server as its owner sees it. `environment` points boto3 at it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.url: str = pipe.recv()

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_S3": self.url, **CREDENTIALS}

    def put(self, bucket: str, keys: Iterable[str]) -> None:
        """More files."""
        self._ask("put", bucket, list(keys))

    def count(self, bucket: str) -> int:
        """How many files are left."""
        return int(self._ask("count", bucket))

    def missing(self, bucket: str, keys: Iterable[str]) -> int:
        """How many of these files are gone."""
        return int(self._ask("missing", bucket, list(keys)))

    def take_requests(self) -> Counter[str]:
        """How often it was asked for what (see ManyFiles) since the last call."""
        taken: Counter[str] = self._ask("take_requests")
        return taken

    def _ask(self, method: str, *arguments: object) -> Any:
        self._pipe.send((method, arguments))
        return self._pipe.recv()


@contextmanager
def s3_server(*, waits: bool = True) -> Iterator[S3Server]:
    """Serves until the block ends, within which this process has credentials. Without `waits`: for counts alone."""
    ours, its = SPAWN.Pipe()
    process = SPAWN.Process(target=_serve, args=(its, waits), daemon=True)
    process.start()
    its.close()
    try:
        with replaced_environment({**os.environ, **CREDENTIALS}):
            yield S3Server(ours)
    finally:
        ours.close()
        process.join(SECONDS_TO_END)
        process.kill()


def _serve(pipe: Connection, waits: bool) -> None:
    """Until the owner hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the owner, who hangs up
    files = ManyFiles()

    def answer(asked: Asked) -> Answer:
        status, body = files.answer(asked)
        if waits:
            is_one = asked.method == "DELETE"
            time.sleep(SECONDS_PER_REQUEST + SECONDS_PER_DELETED_KEY * (is_one or body.count("<Deleted>")))
        return status, body

    with scripted_s3(answer) as server, suppress(EOFError):
        pipe.send(server.url)
        while True:
            method, arguments = pipe.recv()
            pipe.send(getattr(files, method)(*arguments))
