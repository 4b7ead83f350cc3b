"""What a step works with, taken from the application."""

from dataclasses import dataclass
from functools import cached_property

from flask import current_app

from app.config import Settings
from app.dao.notifications_dao import TEST
from app.storage.client import s3_client
from app.storage.files import LetterFiles
from app.storage.naming import Buckets, Naming

# Of the step's budget: S3's time-outs, so that a request and its second attempt fit in and leave time to commit.
CONNECT_SHARE, READ_SHARE = 0.05, 0.15
LONGEST_CONNECT_SECONDS, LONGEST_READ_SECONDS = 3.0, 10.0
# The pause before a second attempt can take 6 s: where the budget has no room for it, the next step is that attempt.
LEAST_BUDGET_SECONDS_FOR_TWO_ATTEMPTS = 20


@dataclass(frozen=True)
class Tools:
    """The settings and the letters' files. One per process: its S3 client keeps its connections."""

    settings: Settings

    @cached_property
    def naming(self) -> Naming:
        """Where letter files are."""
        settings = self.settings
        buckets = Buckets(
            letters=settings.s3_bucket_letters_pdf,
            test_letters=settings.s3_bucket_test_letters,
            invalid_pdf=settings.s3_bucket_invalid_pdf,
            letters_scan=settings.s3_bucket_letters_scan,
        )
        return Naming(buckets, settings.folder_zone, settings.letter_postage_classes)

    @property
    def looked_in(self) -> str:
        """Where letters are looked for, in a word to compare: the buckets and the folders' time zone."""
        buckets = self.naming.buckets
        names = (buckets.letters, buckets.test_letters, buckets.invalid_pdf, buckets.letters_scan)
        return " ".join((*names, self.settings.letter_folder_timezone))

    @cached_property
    def files(self) -> LetterFiles:
        """Finds and deletes letter files."""
        budget = self.settings.step_budget_seconds
        client = s3_client(
            self.settings.aws_region,
            self.settings.aws_endpoint_url_s3,
            connect_seconds=min(LONGEST_CONNECT_SECONDS, budget * CONNECT_SHARE),
            read_seconds=min(LONGEST_READ_SECONDS, budget * READ_SHARE),
            attempts_per_request=2 if budget >= LEAST_BUDGET_SECONDS_FOR_TWO_ATTEMPTS else 1,
        )
        return LetterFiles(client, self.naming)

    def statuses_to_look_at(self, kind: str, broken: set[str]) -> tuple[set[str], set[str] | None]:
        """Statuses whose letters are passed over while these buckets are broken, and the only ones left, if so.

        Follows the table of places (`Naming.places`): by their status, some letters have a place beside their own
        bucket, or instead of it. A letter is passed over when one of its places is broken.
        """
        buckets = self.naming.buckets
        passed_over: set[str] = set()
        if buckets.invalid_pdf in broken:
            passed_over.add("validation-failed")
        if buckets.letters_scan in broken:
            passed_over |= {"virus-scan-failed", "technical-failure"}
        if kind == TEST:
            return passed_over, (set() if buckets.test_letters in broken else None)
        return passed_over, ({"validation-failed"} if buckets.letters in broken else None)


def tools() -> Tools:
    """The application's tools. Needs an application context."""
    return current_app.extensions["retention.tools"]
