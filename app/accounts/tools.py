"""What work on accounts needs, taken from the application."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from flask import current_app

from app.config import Settings
from app.storage.client import step_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sesv2 import SESV2Client

EMAIL_CONNECT_SECONDS, EMAIL_READ_SECONDS = 3, 10


@dataclass(frozen=True)
class Tools:
    """The settings, and clients of S3 and SES. One per process: clients keep their connections."""

    settings: Settings

    @cached_property
    def s3(self) -> "S3Client":
        """For exports. A request and its second attempt fit into a step; where there is no room there is none."""
        settings = self.settings
        return step_client(settings.aws_region, settings.aws_endpoint_url_s3, settings.step_budget_seconds)

    @cached_property
    def ses(self) -> "SESV2Client":
        """Tries each email once: a second attempt of its own would be one more than the rate that all share allows."""
        config = Config(
            connect_timeout=EMAIL_CONNECT_SECONDS,
            read_timeout=EMAIL_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        session = boto3.Session(region_name=self.settings.aws_region)
        return session.client("sesv2", endpoint_url=self.settings.aws_endpoint_url_sesv2, config=config)


def tools() -> Tools:
    """The application's tools. Needs an application context."""
    made: Tools = current_app.extensions["accounts.tools"]
    return made
