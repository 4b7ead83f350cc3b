"""SQS: a message's text is whatever somebody sent, and an answer may be a refusal."""

import time
from http import HTTPStatus
from typing import Any

import structlog
from botocore.exceptions import ClientError
from kombu.asynchronous.aws.sqs.connection import AsyncSQSConnection
from kombu.transport import SQS

from app.broker.transports import SEE_RUNBOOK, readable

log = structlog.get_logger(__name__)

SECONDS_BETWEEN_COMPLAINTS = 2


class Receiver(AsyncSQSConnection):
    """Asks for messages. Where SQS answers something else, there are none, and it is asked again.

    Kombu's own would end the worker, or never ask again: an error has no place in a callback of its event loop.
    """

    _complains_at = 0.0

    def _on_list_ready(self, parent: Any, markers: Any, operation: str, response: Any) -> Any:
        if response.status == HTTPStatus.OK:
            return super()._on_list_ready(parent, markers, operation, response)
        if time.monotonic() >= self._complains_at:
            self._complains_at = time.monotonic() + SECONDS_BETWEEN_COMPLAINTS
            log.error("broker-lost", error=f"SQS {response.status}", fix=SEE_RUNBOOK)
        return {}


class Channel(SQS.Channel):
    """A channel that neither a message nor an answer can break."""

    def asynsqs(self, queue: str | None = None) -> Any:
        """What asks for messages, for all queues."""
        receiver: Any = self._asynsqs or Receiver(sqs_connection=self.sqs(queue=queue), region=self.region)
        self._asynsqs = receiver
        return receiver

    def _message_to_python(self, message: Any, queue_name: str, q_url: str) -> Any:
        try:
            text = self._decode_python_message_body(message["Body"]).decode()
            payload = self._prepare_json_payload(text)
        except (ValueError, RecursionError):
            payload = None
        return self._envelope_payload(readable(payload, queue_name), "", message, q_url)


class Transport(SQS.Transport):
    """Amazon's SQS. A refusal is an error of the channel: a sender hears of it, and a worker connects anew."""

    Channel = Channel
    channel_errors = (*SQS.Transport.channel_errors, ClientError)  # type: ignore[assignment]
