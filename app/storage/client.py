"""The S3 client, how long one of its requests can take, and the deadline that no request may outlive."""

import base64
import hashlib
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.utils import parse_timestamp

from app.storage.errors import OUT_OF_TIME, REQUEST_ERRORS, Stopped, trouble

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS = 3
READ_SECONDS = 10
ATTEMPTS_PER_REQUEST = 2
CONNECT_SHARE, READ_SHARE = 0.05, 0.15
"""Of a step's budget."""
LONGEST_CONNECT_SECONDS, LONGEST_READ_SECONDS = 3.0, 10.0
# The pause before a second attempt can take 6 s: where the budget has no room for it, the next step is that attempt.
LEAST_BUDGET_SECONDS_FOR_TWO_ATTEMPTS = 20
MAX_SECONDS_BETWEEN_ATTEMPTS = 25
"""botocore waits at most 20 s, and 5 s more when the answer asks for it."""

Answer = TypeVar("Answer")


class Deadline:
    """A moment of the monotonic clock, `seconds` from now."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Seconds left; negative once it has passed."""
        return self._end - self._clock()


class Requests:
    """Sends requests while there is time, and turns their errors into Stopped or BucketRefuses."""

    def __init__(self, deadline: Deadline, seconds_per_request: float) -> None:
        self._deadline = deadline
        self._seconds_per_request = seconds_per_request

    def admit(self) -> None:
        """Raises Stopped if a request sent now could outlive the deadline."""
        if self._deadline.remaining() < self._seconds_per_request:
            raise Stopped(OUT_OF_TIME)

    def send(self, operation: Callable[..., Answer], **parameters: object) -> Answer:
        """The operation's answer. Raises Stopped or BucketRefuses."""
        self.admit()
        try:
            return operation(**parameters)
        except REQUEST_ERRORS as error:
            raise trouble(error) from error


def s3_client(
    region: str,
    endpoint_url: str | None = None,
    *,
    connect_seconds: float = CONNECT_SECONDS,
    read_seconds: float = READ_SECONDS,
    attempts_per_request: int = ATTEMPTS_PER_REQUEST,
) -> "S3Client":
    """A client with short time-outs. Without endpoint_url the environment's AWS_ENDPOINT_URL_S3 counts."""
    config = Config(
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        retries={"mode": "standard", "total_max_attempts": attempts_per_request},
        signature_version="s3v4",  # of links, too: the older one is refused in most regions
        # Checksums only where S3 asks for one: stores other than AWS refuse the trailers that botocore adds to uploads.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    # A session of its own: boto3's default one keeps the first credentials for the life of the process.
    session = botocore.session.get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    client = boto3.Session(region_name=region, botocore_session=session).client(
        "s3", endpoint_url=endpoint_url, config=config
    )
    client.meta.events.register_last("before-call.s3.DeleteObjects", _add_md5)
    return client


def step_client(region: str, endpoint_url: str | None, budget_seconds: float) -> "S3Client":
    """A client for steps of so many seconds: a request and its second attempt fit in, and leave time to commit."""
    return s3_client(
        region,
        endpoint_url,
        connect_seconds=min(LONGEST_CONNECT_SECONDS, budget_seconds * CONNECT_SHARE),
        read_seconds=min(LONGEST_READ_SECONDS, budget_seconds * READ_SHARE),
        attempts_per_request=2 if budget_seconds >= LEAST_BUDGET_SECONDS_FOR_TWO_ATTEMPTS else 1,
    )


def _time(text: str) -> datetime:
    """A time of an answer. Listings have one for each file, in ISO 8601, and botocore's own parser is slow."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):  # a header's, or seconds since 1970
        return parse_timestamp(text)


def _add_md5(params: dict[str, Any], **_: object) -> None:
    """Content-MD5 beside botocore's CRC32: AWS takes either, some stores know only this one."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def worst_seconds_per_request(client: "S3Client") -> float:
    """Seconds after which one request of this client has ended, come what may.

    Read from the client's own configuration. Not in it: the time to resolve the host's name, and an answer
    that trickles in (the read time-out counts from one received piece to the next).
    """
    config: Any = client.meta.config  # the stubs do not know the options
    retries = config.retries or {}
    attempts = int(retries.get("total_max_attempts", ATTEMPTS_PER_REQUEST))
    waits = sum(min(2.0**attempt + 5, MAX_SECONDS_BETWEEN_ATTEMPTS) for attempt in range(attempts - 1))
    return attempts * (float(config.connect_timeout) + float(config.read_timeout)) + waits
