"""As much of RabbitMQ as a sender sees of it while it takes no messages: it confirms nothing, or blocks who sends."""

import socketserver
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from amqp.serialization import dumps

from dev.processes import HOST, free_port

METHOD, FRAME_END = 1, b"\xce"
START, TUNE, OPEN_OK, BLOCKED, CLOSE_OK = (10, 10), (10, 30), (10, 41), (10, 60), (10, 51)
PUBLISH, ACK = (60, 40), (60, 80)
ANSWERS: dict[tuple[int, int], tuple[tuple[int, int], str, tuple[Any, ...]]] = {
    (10, 11): (TUNE, "BlB", (100, 131072, 0)),
    (10, 40): (OPEN_OK, "s", ("",)),
    (10, 50): (CLOSE_OK, "", ()),
    (20, 10): ((20, 11), "S", ("",)),
    (20, 40): ((20, 41), "", ()),
    (40, 10): ((40, 11), "", ()),
    (50, 20): ((50, 21), "", ()),
    (50, 10): ((50, 11), "sll", ("queue", 0, 0)),
    (85, 10): ((85, 11), "", ()),
}
"""What is answered to each method of the client's."""


@contextmanager
def blocking_rabbitmq(says_so: bool) -> Iterator[str]:
    """The URL of one that confirms a message and then says that it blocks, or that confirms none."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.read(8)
            properties = {"capabilities": {"connection.blocked": True, "publisher_confirms": True}}
            self._send(0, START, "ooFSS", (0, 9, properties, "PLAIN AMQPLAIN", "en_US"))
            while header := self.rfile.read(7):
                kind, channel, size = struct.unpack(">BHI", header)
                content = self.rfile.read(size + 1)
                method = struct.unpack(">HH", content[:4]) if kind == METHOD else None
                if method in ANSWERS:
                    self._send(channel, *ANSWERS[method])
                elif method == PUBLISH and says_so:
                    self._send(channel, ACK, "Lb", (1, False))
                    self._send(0, BLOCKED, "s", ("low on memory",))

        def _send(self, channel: int, method: tuple[int, int], form: str, values: tuple[Any, ...]) -> None:
            payload = struct.pack(">HH", *method) + dumps(form, values)
            self.wfile.write(struct.pack(">BHI", METHOD, channel, len(payload)) + payload + FRAME_END)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, allow_reuse_address, block_on_close = True, True, False

    with Server((HOST, port := free_port()), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"amqp://guest:guest@{HOST}:{port}//"
        server.shutdown()
