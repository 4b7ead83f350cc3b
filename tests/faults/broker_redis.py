"""Redis and Valkey, whose queues are lists; `unacked` has what is with a worker, for both queues."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import ClassVar
from uuid import uuid4

import redis

from tests.faults.broker import SECONDS_TO_CONNECT, Broker, Outage

UNACKNOWLEDGED = ("unacked", "unacked_index", "unacked_mutex")
SECONDS_TO_ANSWER = 5


class Redis(Broker):
    """`server_url` is the server's own, also where workers go another way."""

    sender_options: ClassVar = {"socket_connect_timeout": SECONDS_TO_CONNECT}

    def __init__(self, environment: Mapping[str, str], queues: Sequence[str], outage: Outage, server_url: str) -> None:
        super().__init__(environment, queues, outage)
        self._redis = redis.Redis.from_url(server_url, socket_timeout=SECONDS_TO_ANSWER)

    def pending(self) -> int:
        try:
            return sum(int(self._redis.llen(queue)) for queue in self.queues) + int(self._redis.hlen("unacked"))
        except redis.RedisError:
            return 1

    def purge(self) -> None:
        self._redis.delete(*self.queues, *UNACKNOWLEDGED)

    def double(self, most: int = 20) -> int:
        with suppress(redis.RedisError):
            waiting = [json.loads(raw) for raw in self._redis.lrange(self.nightly, 0, most)]
            handed_out = [json.loads(raw)[0] for raw in self._redis.hvals("unacked")]
            messages = [*waiting, *handed_out][:most]
            for message in messages:
                message["properties"]["delivery_tag"] = str(uuid4())
                self._redis.lpush(self.nightly, json.dumps(message))
            return len(messages)
        return 0

    def put_back(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            self._redis.lpush(self.nightly, message)

    def close(self) -> None:
        self._redis.close()
        super().close()

    def _take(self, most: int) -> list[bytes]:
        with suppress(redis.RedisError):
            found = [self._redis.rpop(self.nightly) for _ in range(most)]
            return [message for message in found if message is not None]
        return []

    def _task(self, message: bytes) -> str:
        return str(json.loads(message)["headers"]["task"])
