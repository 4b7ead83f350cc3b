"""What a step works with, taken from the application."""

from dataclasses import dataclass, fields
from functools import cached_property

from flask import current_app

from app.config import Settings
from app.dao.notifications_dao import TEST
from app.errors import BadArgument
from app.models.types import MESSAGE_TYPES, NOTIFICATION_TYPES
from app.storage.client import step_client
from app.storage.files import LetterFiles
from app.storage.naming import SET_ASIDE, Buckets, Naming

BY_DATE_SENT = "sent-at-utc"


class NoLetterFiles(BadArgument):
    """Letters have no files, so that there is nothing to look for in S3."""


@dataclass(frozen=True)
class Tools:
    """The settings and the letters' files. One per process: its S3 client keeps its connections."""

    settings: Settings

    @property
    def notification_types(self) -> tuple[str, ...]:
        """The types that a night looks for."""
        return NOTIFICATION_TYPES if self.settings.has_letters else MESSAGE_TYPES

    @cached_property
    def naming(self) -> Naming:
        """Where letter files are. Raises NoLetterFiles where letters have none."""
        settings = self.settings
        names = [getattr(settings, name) for name in settings.letter_buckets]
        if not names:
            raise NoLetterFiles(f"LETTER_FILES is {settings.letter_files}: nothing of letters is in S3")
        in_one_bucket = len(names) == 1
        return Naming(
            Buckets(*(names * len(fields(Buckets)) if in_one_bucket else names)),
            settings.folder_zone,
            settings.letter_postage_classes,
            in_one_bucket=in_one_bucket,
            by_date_sent=settings.letter_folder_date == BY_DATE_SENT,
        )

    @property
    def has_folder_index(self) -> bool:
        """Whether the night may index the letters' folders: their letters are counted by created_at."""
        return self.settings.letter_folder_index and not self.naming.by_date_sent

    @property
    def looked_in(self) -> str:
        """Where letters are looked for, in a word to compare: the buckets, and what names the folders in them."""
        buckets = self.naming.buckets
        names = dict.fromkeys((buckets.letters, buckets.test_letters, buckets.invalid_pdf, buckets.letters_scan))
        by = BY_DATE_SENT if self.naming.by_date_sent else self.settings.letter_folder_timezone
        return " ".join((*names, by))

    @property
    def store(self) -> str:
        """The S3 server, in a word to compare: a bucket of the same name on another one is another bucket."""
        return self.settings.aws_endpoint_url_s3 or self.settings.aws_region

    @cached_property
    def files(self) -> LetterFiles:
        """Finds and deletes letter files."""
        settings = self.settings
        client = step_client(settings.aws_region, settings.aws_endpoint_url_s3, settings.step_budget_seconds)
        return LetterFiles(client, self.naming)

    def statuses_to_look_at(self, kind: str, broken: set[str]) -> tuple[set[str], set[str] | None]:
        """Statuses whose letters are passed over while these buckets are broken, and the only ones left, if so.

        By their status, some letters have a place beside their own bucket, or instead of it. A letter is passed over
        when one of its places is broken.
        """
        is_test = kind == TEST
        passed_over = {status for status in SET_ASIDE if self.naming.buckets_of(status, is_test=is_test) & broken}
        if self.naming.buckets_of(None, is_test=is_test) & broken:
            return passed_over, set(SET_ASIDE) - passed_over
        return passed_over, None


def tools() -> Tools:
    """The application's tools. Needs an application context."""
    return current_app.extensions["retention.tools"]
