"""Messages as the laboratory sends, counts, doubles, loses and delays them, on Valkey."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

import redis
from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError

NIGHTLY_QUEUE, PERIODIC_QUEUE = "retention-nightly", "retention-periodic"
NIGHTLY = "delete-notifications-older-than-retention"
UNACKNOWLEDGED = ("unacked", "unacked_index", "unacked_mutex")
DISPATCH_EXPIRES_SECONDS = 1.0


class Broker:
    """The broker at a URL. What fails because it is being restarted is not done."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url, socket_timeout=5)
        self._url = url  # named for each connection: Celery lets CELERY_BROKER_URL of the process win over `broker`
        self._celery = Celery("laboratory", set_as_current=False)
        self._celery.conf.update(
            task_queues=[Queue(NIGHTLY_QUEUE), Queue(PERIODIC_QUEUE)],
            task_default_queue=NIGHTLY_QUEUE,
            task_ignore_result=True,
            broker_transport_options={"socket_connect_timeout": 2},
        )

    def send(
        self, task: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> bool:
        """Whether the message was taken."""
        try:
            with self._celery.connection_for_write(self._url) as connection:
                self._celery.send_task(task, args, dict(kwargs or {}), connection=connection, retry=False, **options)
        except (OperationalError, redis.RedisError, OSError):
            return False
        return True

    def dispatch(self) -> None:
        """As beat does every minute: a message that is worthless when the next one comes."""
        self.send("dispatch-retention", queue=PERIODIC_QUEUE, expires=DISPATCH_EXPIRES_SECONDS)

    def pending(self) -> int:
        """Messages that wait, or are with a worker."""
        try:
            waiting = sum(int(self._redis.llen(queue)) for queue in (NIGHTLY_QUEUE, PERIODIC_QUEUE))
            return waiting + int(self._redis.hlen("unacked"))
        except redis.RedisError:
            return 1

    def purge(self) -> None:
        """No message waits, none is with a worker as far as the broker knows."""
        self._redis.delete(NIGHTLY_QUEUE, PERIODIC_QUEUE, *UNACKNOWLEDGED)

    def double(self, most: int = 20) -> int:
        """Deliver a second time what waits or is with a worker: the same tasks, ids and all."""
        with suppress(redis.RedisError):
            waiting = [json.loads(raw) for raw in self._redis.lrange(NIGHTLY_QUEUE, 0, most)]
            handed_out = [json.loads(raw)[0] for raw in self._redis.hvals("unacked")]
            messages = [*waiting, *handed_out][:most]
            for message in messages:
                message["properties"]["delivery_tag"] = str(uuid4())
                self._redis.lpush(NIGHTLY_QUEUE, json.dumps(message))
            return len(messages)
        return 0

    def take_away(self, most: int = 5) -> list[bytes]:
        """Messages that wait, which nobody gets now. Not the one that starts the night, which nothing replaces."""
        with suppress(redis.RedisError):
            found = [self._redis.rpop(NIGHTLY_QUEUE) for _ in range(most)]
            taken = [message for message in found if message is not None]
            starting = [message for message in taken if NIGHTLY.encode() in message]
            self.put_back(starting)
            return [message for message in taken if message not in starting]
        return []

    def put_back(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            self._redis.lpush(NIGHTLY_QUEUE, message)

    def close(self) -> None:
        self._redis.close()
        self._celery.close()
