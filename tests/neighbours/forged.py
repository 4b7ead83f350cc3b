"""Messages as anybody may write them into a queue, down to the bytes on the wire."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import amqp
import boto3
import redis
from hypothesis import strategies as st
from kombu import Connection

from tests.brokers import RABBITMQ, SQS, TestBroker

SECRET = "secret-of-the-message"
TASK = "dispatch-retention"
BODY = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
WRONG_ARGUMENTS = BODY.replace(b"[[], {}", b'[[1], {"x": 1}')
"""As good as the other for a worker's main process, and no work for its pool."""
LONGEST_NUMBER = 2**63 - 1
"""Of AMQP's."""


@dataclass(frozen=True)
class Message:
    """What every broker carries of a message; `envelope` and `raw` are what Redis and SQS carry around it."""

    headers: Any
    body: bytes = BODY
    content_type: Any = "application/json"
    content_encoding: Any = "utf-8"
    envelope: tuple[tuple[str, Any], ...] = ()
    properties: tuple[tuple[str, Any], ...] = ()
    raw: bytes | None = None

    def wire(self, queue: str) -> bytes:
        """As a list's item in Redis, or the text of a message in SQS."""
        if self.raw is not None:
            return self.raw
        properties = {
            "correlation_id": str(uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
            **dict(self.properties),
        }
        made = {
            "body": base64.b64encode(self.body).decode(),
            "content-encoding": self.content_encoding,
            "content-type": self.content_type,
            "headers": self.headers,
            "properties": properties,
            **dict(self.envelope),
        }
        return json.dumps(made).encode()


def headers(**changes: Any) -> dict[str, Any]:
    """As Celery makes them."""
    return {
        "lang": "py",
        "task": TASK,
        "id": str(uuid4()),
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": "()",
        "kwargsrepr": "{}",
        **changes,
    }


def soon(**after: float) -> str:
    return (datetime.now(UTC) + timedelta(**after)).isoformat()


def _typed(kind: str, value: str) -> bytes:
    """Arguments with a value of a type that kombu knows."""
    return f'[[{{"__type__":"{kind}","__value__":{value}}}],{{}},{{}}]'.encode()


OF_CELERY = [
    f"celery.{name}"
    for name in ("accumulate", "backend_cleanup", "chain", "chord", "chord_unlock", "chunks", "group", "map", "starmap")
]
SPOILT_BODIES = [
    *(b"[1,2]", b"{}", b"[]", b"5", b"null", b"text", b'"text"', b"", b"\xff\xfe\x00", b"[" * 60_000, b"NaN"),
    *(b"[[],{}]", b"[[],{},{},[]]", b"[5,5,5]", b"[null,null,null]", b"[{},[],{}]", b"[[],{},5]"),
    *(b'[[],{},{"callbacks":[5]}]', b'[[],{},{"chain":[{"task":"x"}]}]', b'[[],{},{"chord":5}]'),
    b'[[{"__type__":"uuid","__value__":"x"}],{},{}]',
    b'[["' + SECRET.encode() * 10_000 + b'"],{},{}]',
    *(b"\xef\xbb\xbf" + BODY, BODY.decode().encode("utf-16"), BODY + b"x", BODY + BODY, BODY[:-1], b'[["' + b"\\"),
    *(b'[[],{},{"callbacks":{"a":1}}]', b'[[],{},{"errbacks":["x"]}]', b'[[],{},{"x":1}]', b'[[],{},{"chain":NaN}]'),
    *(_typed("datetime", '"x"'), _typed("bytes", "5"), _typed("decimal", '"x"'), _typed("base64", '"x"')),
    *(
        b"[[" + b"9" * 5_000 + b"],{},{}]",
        b"[[[]],{},{}]",
        b'[[],{"a":{}},{}]',
        b"[[" + b"[" * 900 + b"]" * 900 + b"],{},{}]",
    ),
]
SPOILT_HEADERS: list[tuple[str, Any]] = [
    *(("task", value) for value in (5, ["x"], {}, None, "", SECRET, "celery.backend_cleanup_")),
    *(("id", value) for value in ({}, [], 5, None, "", "x", SECRET)),
    *(("eta", value) for value in (5, {}, "x", "", "2199-12-31T23:59:59", "9999-12-31T23:59:59-14:00")),
    *(("expires", value) for value in (5, {}, ["x"], "")),
    *(("retries", value) for value in ("x", -1, {}, 1.5)),
    *(("timelimit", value) for value in (5, "x", [5], {}, [None, "x"], ["x", None])),
    *(("shadow", value) for value in (5, {}, ["x"])),
    *(("stamps", 5), ("stamped_headers", 5), ("group", []), ("root_id", {}), ("ignore_result", "x")),
    *(("interval_seconds", value) for value in ("x", 0, 10**9, {})),
    *(("compression", value) for value in ("zlib", "x", 5)),
    *(("task", value) for value in OF_CELERY),
    *(("id", value) for value in (str(uuid4()).upper(), uuid4().hex, f"{{{uuid4()}}}", uuid4().urn, f"{uuid4()}\n")),
    *(("eta", value) for value in (True, "0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00+99:99", "+10000-01-01")),
    *(("retries", value) for value in (True, 1e3, [])),
    *(("timelimit", value) for value in ([True, None], [-1, None], [[1], None], [10**9, None], [None, None, None])),
    *(("interval_seconds", value) for value in (True, -1, [1])),
    *(("expires", True), ("group_index", -1), ("replaced_task_nesting", "x"), ("lang", 5), ("origin", {})),
    *(("argsrepr", []), ("kwargsrepr", 5), ("parent_id", 5), ("stamped_headers", {}), ("ignore_result", 0)),
]
SPOILT: list[Message] = [
    *(Message(headers(), body) for body in SPOILT_BODIES),
    *(Message({}, body) for body in SPOILT_BODIES),
    *(Message(headers(task=name), f'[["{SECRET}"],{{}},{{}}]'.encode()) for name in OF_CELERY),
    *(Message({}, b'{"task": "dispatch-retention", "id": "x", "args": [], "kwargs": {}}') for _ in range(1)),
    *(Message(headers(**{name: value})) for name, value in SPOILT_HEADERS),
    *(Message(headers(), content_type=value) for value in ("text/plain", "application/x-python-serialize", "")),
    *(Message(headers(), content_encoding=value) for value in ("rot13", "utf-16", "")),
    Message(headers(eta=soon(days=30))),
]
"""None of these is a message of ours."""

SPOILT_ENVELOPES: list[Message] = [
    *(Message(headers(), raw=raw) for raw in (b"[1,2]", b"{}", b"[]", b"5", b"null", b"text", b'"x"', b"[" * 60_000)),
    *(Message(headers(), envelope=(("headers", value),)) for value in (None, 5, "x", [], ["x"])),
    *(Message(headers(), envelope=(("properties", value),)) for value in (None, 5, "x", ["x"])),
    *(Message(headers(), envelope=(("body", value),)) for value in (None, 5, [], {"a": 1}, "é")),
    *(Message(headers(), properties=(("body_encoding", value),)) for value in (5, {}, "rot13")),
]
"""For brokers whose messages have an envelope of kombu's."""

ENVELOPES_OF_OTHERS: list[Message] = [
    *(Message(headers(), properties=(("delivery_info", value),)) for value in (None, 5, "x", ["x"], {"exchange": {}})),
    *(Message(headers(), properties=(("delivery_tag", value),)) for value in (None, 5, {}, SECRET)),
    *(Message(headers(), properties=(("priority", value),)) for value in (None, "x", 10**20)),
]
"""What nobody looks at, and may be anything."""

SPOILT_PROPERTIES: list[dict[str, Any]] = [
    {"content_type": b"\xff\xfe"},
    {"content_encoding": b"\xff"},
    {"correlation_id": b"\xff"},
    {"application_headers": {"task": SECRET, "x": [{"y": [1.5, None, True]}]}},
]
"""Of AMQP, which Python would not write of itself."""

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(SECRET)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=5,
)
JSON_TEXT = ANYTHING.map(lambda value: json.dumps(value).encode())
PARTS = st.tuples(ANYTHING, ANYTHING, ANYTHING).map(lambda value: json.dumps(value).encode())
INSTANTS = st.datetimes().map(lambda value: value.isoformat())


@st.composite
def messages(draw: Callable[..., Any]) -> Message:
    """A message of Celery's with some of it replaced; now and then nothing of it is left."""
    names = st.sampled_from([*headers(), "shadow", "group", "stamps", "interval_seconds", "compression", "x"])
    changes = draw(st.dictionaries(names, ANYTHING | INSTANTS, max_size=3))
    made = Message(draw(st.just(headers(**changes)) | ANYTHING.filter(lambda value: isinstance(value, dict))))
    made = replace(made, body=draw(st.just(WRONG_ARGUMENTS) | JSON_TEXT | PARTS | st.binary(max_size=40)))
    if draw(st.booleans()):
        return made
    envelope = draw(st.dictionaries(st.sampled_from(["headers", "properties", "body"]), ANYTHING, max_size=2))
    of_delivery = st.sampled_from(["delivery_info", "delivery_tag", "body_encoding", "priority", "delivery_mode"])
    properties = draw(st.dictionaries(of_delivery, ANYTHING, max_size=2))
    raw = draw(st.none() | JSON_TEXT | st.binary(min_size=1, max_size=40))
    return replace(made, envelope=tuple(envelope.items()), properties=tuple(properties.items()), raw=raw)


class Writer:
    """Whoever may write to the broker."""

    def __init__(self, on: TestBroker, queue: str) -> None:
        self._on = on
        self._queue = queue

    def write(self, *written: Message) -> None:
        """Put them into the queue, one after the other."""
        if self._on.name == RABBITMQ:
            with Connection(self._on.url) as connection:
                for message in written:
                    self._publish(connection.default_channel, message)
        elif self._on.name == SQS:
            client = boto3.client("sqs", region_name="eu-west-1")
            url = client.get_queue_url(QueueName=self._queue)["QueueUrl"]
            for message in written:
                client.send_message(QueueUrl=url, MessageBody=message.wire(self._queue).decode())
        else:
            with redis.Redis.from_url(self._on.url) as client:
                for message in written:
                    client.lpush(self._queue, message.wire(self._queue))

    def write_properties(self, **properties: Any) -> None:
        """Put a message into RabbitMQ's queue with these properties."""
        with Connection(self._on.url) as connection:
            connection.default_channel.basic_publish(amqp.Message(BODY, **properties), "", self._queue)

    def _publish(self, channel: Any, message: Message) -> None:
        properties = {"content_type": message.content_type, "content_encoding": message.content_encoding}
        table = _for_amqp(message.headers) if isinstance(message.headers, dict) else {}
        body = message.body if message.raw is None else message.raw
        channel.basic_publish(amqp.Message(body, application_headers=table, **properties), "", self._queue)


def _for_amqp(value: Any) -> Any:
    """With numbers and names that fit."""
    if isinstance(value, dict):
        return {name[:60]: _for_amqp(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_for_amqp(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-LONGEST_NUMBER, min(value, LONGEST_NUMBER))
    return value
