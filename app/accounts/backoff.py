"""When to try again what failed."""

import random
from datetime import datetime, timedelta

from app.config import Settings

LONGEST_BACK_OFF_SECONDS = 3600


def next_attempt(settings: Settings, now: datetime, failed_attempts: int) -> datetime:
    """After so many failures in a row: the setting's seconds, doubled each time up to an hour, less up to a quarter."""
    seconds = settings.account_retry_seconds * 2 ** min(max(failed_attempts, 1) - 1, 20)
    return now + timedelta(seconds=min(LONGEST_BACK_OFF_SECONDS, seconds) * random.uniform(0.75, 1))  # noqa: S311
