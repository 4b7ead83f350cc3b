"""The buckets that the settings name: whether one can be listed, and where S3 copies its files."""

from functools import cache
from typing import TYPE_CHECKING

from app.config import Settings
from app.storage.client import s3_client
from app.storage.errors import REQUEST_ERRORS, UNREACHABLE, BucketRefuses, trouble

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS, READ_SECONDS = 1.0, 2.0
OF_ACCOUNTS = ("s3_bucket_user_files", "s3_bucket_exports")


NO_COPIES = ("ReplicationConfigurationNotFoundError", "NotImplemented", "MethodNotAllowed")
"""There is no replication rule, or the store knows none."""

ABOUT_ALL = ("NoCredentials", UNREACHABLE)
"""What keeps one bucket from being asked, and every other one as well."""


class BucketTrouble(Exception):
    """The bucket can't be used. The message is S3's code, or Unreachable or SlowDown."""


def named(settings: Settings) -> dict[str, str]:
    """The buckets in use, by the name of their setting without its beginning."""
    settings_in_use = (*settings.letter_buckets, *(OF_ACCOUNTS if settings.accounts_enabled else ()))
    found = {setting.removeprefix("s3_bucket_"): getattr(settings, setting) for setting in settings_in_use}
    return {name: bucket for name, bucket in found.items() if bucket}


def look(settings: Settings, name: str) -> None:
    """Raise BucketTrouble unless the bucket of that setting is there and can be listed."""
    client = quick_client(settings.aws_region, settings.aws_endpoint_url_s3)
    try:
        client.list_objects_v2(Bucket=named(settings)[name], MaxKeys=1)
    except REQUEST_ERRORS as error:
        raise BucketTrouble(_word(error)) from None


def copied_to(settings: Settings, bucket: str) -> list[str]:
    """The buckets to which S3 copies this one's files. It copies no deletion of a version, and where there are versions
    nothing else is deleted. Raises BucketTrouble where the rules can't be read.
    """
    client = quick_client(settings.aws_region, settings.aws_endpoint_url_s3)
    try:
        answer = client.get_bucket_replication(Bucket=bucket)
    except REQUEST_ERRORS as error:
        if (word := _word(error)) in NO_COPIES:
            return []
        raise BucketTrouble(word) from None
    rules = answer["ReplicationConfiguration"]["Rules"]
    return sorted({rule["Destination"]["Bucket"].rpartition(":")[2] for rule in rules if rule["Status"] == "Enabled"})


def _word(error: Exception) -> str:
    meant = trouble(error)
    return meant.code if isinstance(meant, BucketRefuses) else meant.reason


@cache
def quick_client(region: str, endpoint_url: str | None) -> "S3Client":
    """A client for questions that must be answered soon; one per process, since making one takes a while."""
    return s3_client(
        region, endpoint_url, connect_seconds=CONNECT_SECONDS, read_seconds=READ_SECONDS, attempts_per_request=1
    )
