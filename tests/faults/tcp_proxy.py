"""Stands between the workers and a broker that the laboratory must not stop, and goes away in its place."""

import contextlib
import socket
import socketserver
from collections.abc import Callable
from threading import Lock, Thread

from dev.processes import HOST, free_port

MOST_BYTES = 65536
Seen = Callable[[bytes], None]


class Watch:
    """Looks at what passes on one connection; the laboratory's reason to look is its subclass's."""

    def from_client(self, data: bytes) -> None:
        """Before the server has it."""

    def from_server(self, data: bytes) -> None:
        """Before the client has it."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


class TcpProxy:
    """Forwards to `upstream` (host and port) from a port that stays the same while it is closed and opened."""

    def __init__(self, upstream: tuple[str, int], watch: Callable[[], Watch] = Watch) -> None:
        self._upstream, self._watch = upstream, watch
        self._lock = Lock()
        self._links: dict[Watch, tuple[socket.socket, socket.socket]] = {}
        self._server: _Server | None = None
        self.port = free_port()
        self.open()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def watches(self) -> list[Watch]:
        """Of the connections that are open."""
        with self._lock:
            return list(self._links)

    def open(self) -> None:
        """Take connections. A second time does nothing."""
        if self._server:
            return
        serve = self._serve

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                serve(self.request)

        self._server = _Server((HOST, self.port), Handler)
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """End every connection, and refuse new ones. A second time does nothing."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """End every connection; new ones are taken."""
        with self._lock:
            for link in self._links.values():
                _end(link)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), socket.create_connection(self._upstream) as server:
            link, watch = (client, server), self._watch()
            for end in link:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._links[watch] = link
            answers = Thread(target=_pump, args=(server, client, watch.from_server, link), daemon=True)
            answers.start()
            _pump(client, server, watch.from_client, link)
            answers.join()
            with self._lock:
                del self._links[watch]


def _pump(source: socket.socket, target: socket.socket, seen: Seen, link: tuple[socket.socket, socket.socket]) -> None:
    """Until one of the two ends; then both do."""
    with contextlib.suppress(OSError):
        while data := source.recv(MOST_BYTES):
            seen(data)
            target.sendall(data)
    _end(link)


def _end(link: tuple[socket.socket, socket.socket]) -> None:
    for end in link:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
