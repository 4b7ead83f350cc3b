"""What archiving works with, taken from the application."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from flask import current_app

from app.config import Settings
from app.storage.client import Deadline, Requests, s3_client, worst_seconds_per_request

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS, READ_SECONDS = 3.0, 10.0


@dataclass(frozen=True)
class Tools:
    """The settings and a client of S3. One per process: the client keeps its connections."""

    settings: Settings

    @cached_property
    def s3(self) -> "S3Client":
        """For archived files: each request has one attempt, and the next message is the second."""
        return s3_client(
            self.settings.aws_region,
            self.settings.aws_endpoint_url_s3,
            connect_seconds=CONNECT_SECONDS,
            read_seconds=READ_SECONDS,
            attempts_per_request=1,
        )

    def requests(self, deadline: Deadline) -> Requests:
        """Sends requests that end before the deadline."""
        return Requests(deadline, worst_seconds_per_request(self.s3))

    @property
    def bucket(self) -> str:
        """Where files go. Raises LookupError where nothing is archived."""
        if self.settings.s3_bucket_archive is None:
            raise LookupError("S3_BUCKET_ARCHIVE is not set: nothing is archived")
        return self.settings.s3_bucket_archive

    @property
    def how(self) -> dict[str, str]:
        """What is said of a file when it is put."""
        settings = self.settings
        said = {
            "StorageClass": settings.archive_storage_class,
            "Tagging": settings.archive_tags,
            "ServerSideEncryption": settings.archive_encryption,
            "SSEKMSKeyId": settings.archive_encryption_key,
        }
        return {name: value for name, value in said.items() if value is not None}


def tools() -> Tools:
    """The application's tools. Needs an application context."""
    made: Tools = current_app.extensions["archive.tools"]
    return made
