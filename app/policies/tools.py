"""What a policy's batch works with, taken from the application."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from flask import current_app

from app.config import Settings
from app.storage.client import Deadline, Requests, s3_client, worst_seconds_per_request

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS, READ_SECONDS = 3.0, 5.0


@dataclass(frozen=True)
class Tools:
    """The settings and a client of S3. One per process: the client keeps its connections."""

    settings: Settings

    @cached_property
    def s3(self) -> "S3Client":
        """One attempt a request: the next batch is the second."""
        return s3_client(
            self.settings.aws_region,
            self.settings.aws_endpoint_url_s3,
            connect_seconds=min(CONNECT_SECONDS, self.settings.step_budget_seconds / 10),
            read_seconds=min(READ_SECONDS, self.settings.step_budget_seconds / 5),
            attempts_per_request=1,
        )

    def requests(self, deadline: Deadline) -> Requests:
        """Sends requests that end before the deadline."""
        return Requests(deadline, worst_seconds_per_request(self.s3))


def tools() -> Tools:
    """The application's tools. Needs an application context."""
    made: Tools = current_app.extensions["policies.tools"]
    return made
