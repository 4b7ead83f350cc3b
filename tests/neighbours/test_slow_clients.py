"""Clients that send half a request, or take no answer, beside one that wants to be answered: a real gunicorn.

Seen to fail with gunicorn's own workers: two half-sent requests stopped two sync workers, and as many as there were
threads stopped a threaded one; with HOME not writable each start logged an error; a body of 60,000 chunks
got no answer within 5 s.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dev import product
from dev.processes import Child, answers, free_port

CLIENTS = 60
"""More than two workers have threads."""
SECONDS_TO_ANSWER = 5
HEAD = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ALIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF_SENT = {
    "nothing": b"",
    "half a line": b"GET /hea",
    "half the headers": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n",
    "half the body": HEAD + b'Content-Length: 100\r\n\r\n{"a',
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n20\r\n{",
    "no last chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "told to go on": HEAD + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
}


@pytest.fixture(scope="module")
def web(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path, Path]]:
    """The web process as production starts it: its port, its log and its home, which it may not write."""
    port, directory = free_port(), tmp_path_factory.mktemp("web")
    home = directory / "home"
    home.write_text("no directory, so that not even root can write into it")
    log = directory / "web.log"
    child = Child("web", product.web(port), log=log, env={**environment, "HOME": str(home)}, cwd=product.ROOT)
    try:
        child.wait_until(lambda: answers(port) and is_alive(port), timeout_seconds=60)
        yield port, log, home
    finally:
        child.stop()


def send(port: int, data: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=SECONDS_TO_ANSWER)
    client.sendall(data)
    return client


def ask(port: int, data: bytes) -> tuple[int, bytes]:
    """Status and body of the answer, for a client that closes when it has it all."""
    with send(port, data) as client:
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def is_alive(port: int) -> bool:
    try:
        return ask(port, ALIVE)[0] == 200
    except OSError:  # it listens before it has loaded the application
        return False


@pytest.mark.parametrize("sent", HALF_SENT)
def test_half_sent_requests_keep_nobody_from_being_answered(web, sent):
    port, _, _ = web
    with ExitStack() as open_ones:
        for _ in range(CLIENTS):
            open_ones.enter_context(send(port, HALF_SENT[sent]))
        began = time.monotonic()
        for _ in range(5):
            assert ask(port, ALIVE)[0] == 200
    assert time.monotonic() - began < SECONDS_TO_ANSWER


def test_clients_that_keep_their_end_open_keep_nobody_from_being_answered(web):
    port, _, _ = web
    with ExitStack() as open_ones:
        for _ in range(CLIENTS):
            open_ones.enter_context(send(port, ALIVE))
        began = time.monotonic()
        assert ask(port, ALIVE)[0] == 200
    assert time.monotonic() - began < SECONDS_TO_ANSWER


def test_what_comes_in_pieces_is_one_request(web):
    port, _, _ = web
    body = json.dumps({"email_address": "nobody@example.test", "password": "wrong"}).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:5], body[5:])) + b"0\r\n\r\n"
    for data in (
        HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
    ):
        with send(port, b"") as client:
            for start in range(0, len(data), 7):
                client.sendall(data[start : start + 7])
                time.sleep(0.001)  # pieces, not one segment
            answer = b"".join(iter(lambda: client.recv(65536), b"")).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        assert answer.startswith(b"HTTP/1.1 401"), answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (HEAD + b"Content-Length: 999999\r\n\r\n{", 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"a" * 0x8000 + b"\r\n20000\r\n", 413),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"8000\r\n" + b" " * 0x8000 + b"\r\n") * 3 + b"0\r\n\r\n",
            413,
        ),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 60_000 + b"0\r\n\r\n", 413),
        (HEAD + b"X: " + b"a" * 40_000, 431),
        (HEAD + b"Content-Length: many\r\n\r\n{}", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nnot a size\r\n", 400),
        (b"\0\r\n\r\n", 400),
    ],
)
def test_what_is_too_large_or_malformed_is_refused_at_once(web, data, status):
    assert ask(web[0], data)[0] == status


def test_it_starts_where_the_home_directory_cannot_be_written(web):
    _, log, home = web
    assert "control" not in log.read_text().lower()
    assert '"level": "error"' not in log.read_text()
    assert home.is_file()
