"""RabbitMQ. It counts what waits; what is with a worker is counted by looking at the workers' connections."""

from collections.abc import Iterator, Mapping, Sequence
from threading import Lock

from amqp import Message
from kombu import Connection

from tests.faults.broker import Broker, Outage
from tests.faults.tcp_proxy import TcpProxy, Watch

GREETING = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = 1
HEADER_BYTES, END_BYTES = 7, 1
DELIVER, ACK, REJECT, NACK = (60, 60), (60, 80), (60, 90), (60, 120)


class Unacknowledged(Watch):
    """The deliveries of one connection that its client has not settled, read off the frames of AMQP 0-9-1."""

    def __init__(self) -> None:
        self.tags: set[tuple[int, int]] = set()
        """Channel and delivery tag."""
        self._asked, self._answered = bytearray(), bytearray()
        self._lock = Lock()

    def from_server(self, data: bytes) -> None:
        self._answered += data
        for channel, method, arguments in methods(self._answered):
            if method == DELIVER:
                after_consumer = 1 + arguments[0]
                tag = int.from_bytes(arguments[after_consumer : after_consumer + 8], "big")
                with self._lock:
                    self.tags.add((channel, tag))

    def from_client(self, data: bytes) -> None:
        self._asked += data
        if self._asked.startswith(GREETING):
            del self._asked[: len(GREETING)]
        for channel, method, arguments in methods(self._asked):
            if method in (ACK, REJECT, NACK):
                up_to = method != REJECT and bool(arguments[8] & 1)
                self._settle(channel, int.from_bytes(arguments[:8], "big"), up_to)

    def _settle(self, channel: int, tag: int, up_to: bool) -> None:
        with self._lock:
            settled = {(of, one) for of, one in self.tags if of == channel and (one == tag or (up_to and one < tag))}
            self.tags -= settled


def methods(buffer: bytearray) -> Iterator[tuple[int, tuple[int, int], bytes]]:
    """Channel, class and method, and arguments of the method frames that are whole; frames leave the buffer."""
    while len(buffer) >= HEADER_BYTES:
        size = int.from_bytes(buffer[3:HEADER_BYTES], "big")
        if len(buffer) < HEADER_BYTES + size + END_BYTES:
            return
        payload = bytes(buffer[HEADER_BYTES : HEADER_BYTES + size])
        kind, channel = buffer[0], int.from_bytes(buffer[1:3], "big")
        del buffer[: HEADER_BYTES + size + END_BYTES]
        if kind == METHOD_FRAME:
            yield channel, (int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big")), payload[4:]


class RabbitMQ(Broker):
    """`server_url` is the server's own; workers go through the proxy, whose watches are `Unacknowledged`."""

    def __init__(
        self, environment: Mapping[str, str], queues: Sequence[str], outage: Outage, server_url: str, proxy: TcpProxy
    ) -> None:
        super().__init__(environment, queues, outage)
        self._proxy = proxy
        self._connection = Connection(server_url, transport_options={"confirm_publish": True})

    def open(self, environment: Mapping[str, str]) -> None:
        super().open(environment)
        self._declare()

    def pending(self) -> int:
        waiting = sum(self._channel.queue_declare(queue, passive=True).message_count for queue in self.queues)
        return int(waiting) + self._in_hand

    def purge(self) -> None:
        """What is with a worker can't be purged: the queues are made anew."""
        for queue in self.queues:
            self._channel.queue_delete(queue)
        self._declare()

    def double(self, most: int = 20) -> int:
        """What is with a worker is doubled as RabbitMQ does it: its connection ends, and the task goes on."""
        waiting = self._take(most)
        self.put_back([message for message in waiting for _ in range(2)])
        handed_out = self._in_hand
        self._proxy.cut()
        return len(waiting) + handed_out

    def put_back(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._channel.basic_publish(message, routing_key=self.nightly)

    def close(self) -> None:
        self._connection.release()
        super().close()

    def _take(self, most: int) -> list[Message]:
        found = [self._channel.basic_get(self.nightly, no_ack=True) for _ in range(most)]
        return [Message(message.body, **message.properties) for message in found if message is not None]

    def _task(self, message: Message) -> str:
        return str(message.properties["application_headers"]["task"])

    @property
    def _in_hand(self) -> int:
        return sum(len(watch.tags) for watch in self._proxy.watches if isinstance(watch, Unacknowledged))

    @property
    def _channel(self):  # type: ignore[no-untyped-def] # kombu has no types
        return self._connection.default_channel

    def _declare(self) -> None:
        for queue in self._celery.amqp.queues.values():
            queue(self._channel).declare()
