"""Presets: how platforms of the family decide what goes when, as values of settings.

`PLATFORM_PRESET` names one, and gives its values to the settings that the environment leaves unset. So nothing else
knows presets: whoever needs a policy asks the setting. What a platform does today and no setting can repeat (the
newer row wins in history, everywhere) is said beside them, so that `flask retention adopt` can tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time
from types import MappingProxyType
from typing import Any, Literal

PresetName = Literal["own", "govuk-notify", "gc-notify", "us-notify", "va-notify"]
CutoffRuleName = Literal["local-midnight", "utc-midnight", "utc-end-of-day", "local-midnight-then-days"]
LetterFilesName = Literal["by-status", "one-bucket", "no-files", "no-letters"]
FolderDateName = Literal["created-at-local", "sent-at-utc"]
Conflict = Literal["newer", "keep", "update"]

LETTER_BUCKETS: Mapping[LetterFilesName, tuple[str, ...]] = MappingProxyType(
    {
        "by-status": (
            "s3_bucket_letters_pdf",
            "s3_bucket_test_letters",
            "s3_bucket_invalid_pdf",
            "s3_bucket_letters_scan",
        ),
        "one-bucket": ("s3_bucket_letters_pdf",),
        "no-files": (),
        "no-letters": (),
    }
)
"""The settings of the buckets that letters' files are in."""

FINAL = (
    "sent",
    "delivered",
    "failed",
    "technical-failure",
    "temporary-failure",
    "permanent-failure",
    "validation-failed",
    "virus-scan-failed",
    "cancelled",
    "returned-letter",
)
"""Statuses of the family that are known to be a letter's last."""
UNFINISHED = ("pending-virus-check", "created", "pending", "sending")
"""And those that are known not to be."""


@dataclass(frozen=True)
class Preset:
    """A platform's policies: what it is, the settings that differ from their defaults, and its habit in history."""

    summary: str
    history_conflict: Conflict
    """What the platform does where history has the id already. Here the newer row wins, whatever it was."""
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    known_by: tuple[str, ...] = ()
    """Columns of its notifications that no other platform's have; none: it has only those that all have."""
    changes: tuple[str, ...] = ()
    """What becomes different in its data from the first night on, in sentences without their first capital."""
    facts_from_history_alone: bool = False
    """Whether it counts a day of a service and type from history only if nothing of it is left in notifications."""


PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "own": Preset("our own schema: five places for letters, local midnight", "newer"),
        "govuk-notify": Preset(
            "five places for letters, local midnight, test letters go in any status",
            "keep",
            MappingProxyType({"test_letters_in_any_status": True}),
        ),
        "gc-notify": Preset(
            "letters have rows and no files and go in any status, the cut-off is the end of a UTC day",
            "update",
            MappingProxyType(
                {
                    "cutoff_rule": "utc-end-of-day",
                    "retention_timezone": "UTC",
                    "retention_nightly_at": time(9, 15),
                    "letter_files": "no-files",
                    "letters_in_any_status": True,
                    "missing_files_share": None,
                }
            ),
            ("ses_feedback_id",),
            ("feedback_reason stays NULL in history today; the pipeline copies it with the other columns",),
            facts_from_history_alone=True,
        ),
        "us-notify": Preset(
            "no letters, the cut-off is UTC midnight",
            "keep",
            MappingProxyType(
                {
                    "cutoff_rule": "utc-midnight",
                    "retention_timezone": "UTC",
                    "retention_nightly_at": time(7),
                    "letter_files": "no-letters",
                    "missing_files_share": None,
                }
            ),
            ("carrier",),
            (
                "history is filled by the position of columns today, so that carrier has the cost and message_cost is "
                "NULL; the pipeline copies by name, and both have what they had in notifications",
            ),
        ),
        "va-notify": Preset(
            "letters go in any status; they are in one bucket, in a folder by the UTC date of sent_at, always of class "
            "2; the cut-off goes back from local midnight by days of 24 hours",
            "update",
            MappingProxyType(
                {
                    "cutoff_rule": "local-midnight-then-days",
                    "retention_timezone": "America/New_York",
                    "retention_nightly_at": time(4, 15),
                    "letter_files": "one-bucket",
                    "letters_in_any_status": True,
                    "letter_folder_date": "sent-at-utc",
                    "letter_folder_timezone": "UTC",
                    "letter_postage_classes": MappingProxyType(
                        dict.fromkeys(("first", "second", "europe", "rest-of-world", "economy"), "2")
                    ),
                }
            ),
            ("provider_updated_at",),
            facts_from_history_alone=True,
        ),
    }
)
