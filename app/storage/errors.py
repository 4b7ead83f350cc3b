"""What went wrong with S3, in two words: it stops everything, or it concerns one bucket."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.parsers import ResponseParserError

SLOW_DOWN = "SlowDown"
UNREACHABLE = "Unreachable"
OUT_OF_TIME = "OutOfTime"

THROTTLED = frozenset(
    {
        "SlowDown",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequests",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
    }
)
"""Codes, of a request or of one key, by which S3 asks for fewer requests."""

ACCESS_ERRORS = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "AccountProblem",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
    }
)
"""Codes of one key that, when every key has the same, mean the bucket and not the key."""

NO_BULK_DELETE = frozenset({"NotImplemented", "MethodNotAllowed"})
"""Codes by which a store says that it has no DeleteObjects."""

OF_THE_BUCKET = frozenset({"NoSuchBucket", *NO_BULK_DELETE, *ACCESS_ERRORS}) - {"AccessDenied"}
"""Codes of a DeleteObject that say nothing of its key: every other one would be refused, too."""

ALREADY_GONE = frozenset({"NoSuchKey", "NoSuchVersion"})

REQUEST_ERRORS = (ClientError, BotoCoreError, ResponseParserError)
"""All that a request made through botocore raises; pass it to `trouble`."""


class Stopped(Exception):
    """S3 can't be asked any further now; `reason` is SlowDown, Unreachable or OutOfTime."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BucketRefuses(Exception):
    """The bucket is missing or refuses everything; `code` is S3's, or the client's error without `Error`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def trouble(error: Exception) -> Stopped | BucketRefuses:
    """The only place that decides what an error of a whole request means."""
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code") or "Unknown")
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return _trouble_of_answer(code, status)
    if isinstance(error, ConnectionError | HTTPClientError | IncompleteReadError | ResponseParserError):
        return Stopped(UNREACHABLE)
    # The rest is refused before it is sent: no credentials, or a name that no bucket can have.
    return BucketRefuses(type(error).__name__.removesuffix("Error"))


def _trouble_of_answer(code: str, status: int) -> Stopped | BucketRefuses:
    if code == "NotImplemented" or status == 501:
        return BucketRefuses("NotImplemented")
    if code in THROTTLED or status in (429, 503):
        return Stopped(SLOW_DOWN)
    if code in ("RequestTimeout", "InternalError") or status >= 500:
        return Stopped(UNREACHABLE)
    return BucketRefuses(code)
