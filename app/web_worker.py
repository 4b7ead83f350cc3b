"""Gunicorn's worker of the web process: a thread is given a request only when all of it is there.

Gunicorn's own threads read what a client sends, and wait for it without a limit: as many half-sent requests as there
are threads stop it, and so do clients that keep their end open after the answer. Here one loop receives for all
connections at once, and lingers for all. What is not whole in SECONDS_TO_SEND is closed, and when there are too many
connections the oldest of these goes: a request that is sent at once is never among them.
"""

import errno
import json
import re
import selectors
import socket
import struct
import time
from collections import deque
from functools import partial
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from app.api.arguments import LARGEST_BODY_BYTES

SECONDS_TO_SEND = 15.0
"""For headers and body together."""
SECONDS_TO_LINGER = 2.0
"""A client reads its answer, although it has sent more than was read."""
SECONDS_BLOCKED = 5
"""In a thread: should the parser want more than was thought to be whole, and for a client that reads no answer."""
LARGEST_HEAD_BYTES = 32 * 1024
LARGEST_CHUNKED_BYTES = 8 * LARGEST_BODY_BYTES
"""With what is around the chunks."""
MOST_CHUNKS = 1024
"""Of a body. Gunicorn's parser copies what follows with each: 60,000 of a byte keep it busy for a minute."""
LONGEST_SIZE_LINE = 64
RECEIVED_AT_ONCE = 64 * 1024
SIZE_LINE = re.compile(rb"([0-9a-fA-F]{1,16})(?:;.*)?")
MALFORMED_CHUNK = "A chunk of the request's body is malformed."
END_OF_HEAD, END_OF_LINE = b"\r\n\r\n", b"\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
GONE = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE)


class Refused(Exception):
    """The request is refused before it is whole: the status with its usual name, and a sentence."""

    def __init__(self, status: int, name: str, message: str) -> None:
        body = json.dumps({"code": name.lower().replace(" ", "-"), "message": message})
        super().__init__(name)
        self.answer = (
            f"HTTP/1.1 {status} {name}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


class Incoming:
    """A request as far as it has come. Each byte is looked at once, however many pieces it comes in."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.wants_to_be_told = False
        """The client waits for a word before it sends the body."""
        self._body_at: int | None = None
        self._ends_at: int | None = None
        """Where the body ends; None: its chunks say."""
        self._chunk_at = 0
        self._decoded = self._chunks = 0

    def add(self, data: bytes) -> bool:
        """Whether the parser has all that it will ask for: what it would refuse counts as whole. Raises Refused."""
        looked_at = max(0, len(self.data) - len(END_OF_HEAD))
        self.data += data
        if self._body_at is None:
            end = self.data.find(END_OF_HEAD, looked_at)
            if max(end, 0 if end >= 0 else len(self.data)) > LARGEST_HEAD_BYTES:
                raise Refused(431, "Request Header Fields Too Large", "The request's headers are too large.")
            if end < 0:
                return False
            self._read_head(end)
        return self._chunks_are_whole() if self._ends_at is None else len(self.data) >= self._ends_at

    def _read_head(self, end: int) -> None:
        self._body_at = self._chunk_at = self._ends_at = end + len(END_OF_HEAD)
        for line in bytes(self.data[:end]).split(END_OF_LINE)[1:]:
            name, _, value = line.partition(b":")
            match name.strip().lower():
                case b"transfer-encoding":
                    self._ends_at = None
                case b"content-length" if self._ends_at == self._body_at and value.strip().isdigit():
                    length = int(value.strip()[:18])
                    # One that is too long is refused by the application, which does not read it.
                    self._ends_at += length if length <= LARGEST_BODY_BYTES else 0
                case b"expect":
                    self.wants_to_be_told = True

    def _chunks_are_whole(self) -> bool:
        """Malformed chunks are refused here: the application would meet them in the middle of its work."""
        while True:
            end = self.data.find(END_OF_LINE, self._chunk_at, self._chunk_at + LONGEST_SIZE_LINE)
            if end < 0:
                if len(self.data) - self._chunk_at >= LONGEST_SIZE_LINE:
                    raise Refused(400, "Bad Request", MALFORMED_CHUNK)
                return False
            found = SIZE_LINE.fullmatch(self.data, self._chunk_at, end)
            if found is None:
                raise Refused(400, "Bad Request", MALFORMED_CHUNK)
            size = int(found[1], 16)
            is_large = self._decoded + size > LARGEST_BODY_BYTES or len(self.data) > LARGEST_CHUNKED_BYTES
            if is_large or self._chunks > MOST_CHUNKS:
                raise Refused(413, "Request Entity Too Large", "The request's body is too large.")
            after = end + len(END_OF_LINE) + size + len(END_OF_LINE)
            if len(self.data) < after:
                return False
            if self.data[after - len(END_OF_LINE) : after] != END_OF_LINE:  # trailers, too, which nothing here reads
                raise Refused(400, "Bad Request", MALFORMED_CHUNK)
            if size == 0:
                return True
            self._chunk_at = after
            self._decoded += size
            self._chunks += 1


class Connection(TConn):
    """A connection, whose request is received before a thread parses it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.incoming = Incoming()
        self.drained = 0
        self.is_waiting = False
        self.timeout = time.monotonic() + SECONDS_TO_SEND
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", SECONDS_BLOCKED, 0))

    def init(self) -> None:
        """In a thread: the parser begins with what was received."""
        if not self.initialized:
            super().init()
            self.parser.unreader.unread(bytes(self.incoming.data))


class PatientWorker(ThreadWorker):
    """Receives in the loop; threads are for requests that are whole."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.lingering: deque[Connection] = deque()

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, and begin to receive."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in GONE:
                raise
            return
        conn = Connection(self.cfg, client, address, listener.getsockname())
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            waiting = self.lingering or self.pending_conns
            if waiting:
                self._close(waiting, waiting[0])
        self._wait(self.pending_conns, conn, self.on_pending_socket_readable)

    def on_pending_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """Receive a piece; a request that is whole goes to a thread."""
        if not conn.is_waiting:
            return  # closed since the loop was woken
        try:
            data = client.recv(RECEIVED_AT_ONCE)
            is_whole = bool(data) and conn.incoming.add(data)
            if not is_whole and conn.incoming.wants_to_be_told:
                conn.incoming.wants_to_be_told = False
                client.send(CONTINUE)
        except BlockingIOError:
            return
        except OSError:
            data, is_whole = b"", False
        except Refused as refused:
            self._stop_waiting(self.pending_conns, conn)
            self._refuse(conn, refused.answer)
            return
        if is_whole:
            self._stop_waiting(self.pending_conns, conn)
            conn.data_ready = True
            self.enqueue_req(conn)
        elif not data:
            self._close(self.pending_conns, conn)

    def finish_request(self, conn: Connection, _answered: Any) -> None:
        """The answer is sent. The client has a moment to read it, which nobody waits for."""
        self._linger(conn)

    def murder_pending(self) -> None:
        """Close what was waited for long enough."""
        now = time.monotonic()
        for waiting in (self.pending_conns, self.lingering):
            while waiting and waiting[0].timeout <= now:
                self._close(waiting, waiting[0])

    def _refuse(self, conn: Connection, answer: bytes) -> None:
        try:
            conn.sock.send(answer)
        except OSError:
            """Gone already."""
        self._linger(conn)

    def _linger(self, conn: Connection) -> None:
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.nr_conns -= 1
            conn.close()
            return
        conn.timeout = time.monotonic() + SECONDS_TO_LINGER
        self._wait(self.lingering, conn, self._on_lingering_socket_readable)

    def _on_lingering_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        if not conn.is_waiting:
            return
        try:
            data = client.recv(RECEIVED_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        conn.drained += len(data)
        if not data or conn.drained > LARGEST_CHUNKED_BYTES:
            self._close(self.lingering, conn)

    def _wait(self, waiting: deque[Connection], conn: Connection, callback: Any) -> None:
        conn.is_waiting = True
        waiting.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(callback, conn))

    def _stop_waiting(self, waiting: deque[Connection], conn: Connection) -> None:
        conn.is_waiting = False
        self.poller.unregister(conn.sock)
        waiting.remove(conn)

    def _close(self, waiting: deque[Connection], conn: Connection) -> None:
        self._stop_waiting(waiting, conn)
        self.nr_conns -= 1
        conn.close()
