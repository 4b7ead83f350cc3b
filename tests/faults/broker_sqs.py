"""SQS, spoken by moto. Who has a message is the only one who can name it, so that only what waits is doubled."""

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import boto3
from botocore.config import Config

from dev.s3 import REGION
from tests.faults.broker import SECONDS_TO_CONNECT, VISIBILITY_TIMEOUT_SECONDS, Broker, Outage

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

COUNTED = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
MOST_AT_ONCE = 10
ANYBODY = "laboratory"
"""moto asks no credentials."""
ONCE = {"retries": {"max_attempts": 0}, "connect_timeout": SECONDS_TO_CONNECT, "proxies": {}}


class SQS(Broker):
    """`server_url` is the server's own; workers and senders go another way, that of `sender`, a host and port."""

    pace: ClassVar = 3.0
    sender_options: ClassVar = {"is_secure": False, "client-config": ONCE}

    def __init__(
        self, environment: Mapping[str, str], queues: Sequence[str], outage: Outage, server_url: str, sender: str
    ) -> None:
        super().__init__(environment, queues, outage, f"sqs://{ANYBODY}:{ANYBODY}@{sender}")
        self._sqs: SQSClient = boto3.client(
            "sqs",
            endpoint_url=server_url,
            region_name=REGION,
            aws_access_key_id=ANYBODY,
            aws_secret_access_key=ANYBODY,
            config=Config(proxies={}),
        )
        timeout = {"VisibilityTimeout": str(VISIBILITY_TIMEOUT_SECONDS)}
        self._urls = [self._sqs.create_queue(QueueName=name, Attributes=timeout)["QueueUrl"] for name in queues]

    def pending(self) -> int:
        found = [self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[*COUNTED]) for url in self._urls]
        return sum(int(queue["Attributes"][name]) for queue in found for name in COUNTED)

    def purge(self) -> None:
        for url in self._urls:
            self._sqs.purge_queue(QueueUrl=url)

    def double(self, most: int = 20) -> int:
        waiting = self._take(most)
        self.put_back([message for message in waiting for _ in range(2)])
        return len(waiting)

    def put_back(self, messages: Sequence[str]) -> None:
        for message in messages:
            self._sqs.send_message(QueueUrl=self._urls[0], MessageBody=message)

    def close(self) -> None:
        self._sqs.close()
        super().close()

    def _take(self, most: int) -> list[str]:
        url = self._urls[0]
        found = self._sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=min(most, MOST_AT_ONCE)).get("Messages", [])
        for message in found:
            self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [message["Body"] for message in found]

    def _task(self, message: str) -> str:
        return str(json.loads(b64decode(message))["headers"]["task"])
