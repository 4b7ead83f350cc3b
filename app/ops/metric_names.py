"""Every metric of `/metrics`: its name, what it means, its labels. docs/observability.md says the same, and a test."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

OTHER = "other"
CODES = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "AmbiguousReference",
        "FolderUnknown",
        "ExpiredToken",
        "InternalError",
        "InvalidAccessKeyId",
        "MethodNotAllowed",
        "NoAnswer",
        "NoCredentials",
        "NoSuchBucket",
        "NotImplemented",
        "ObjectLocked",
        "OnlyMarked",
        "OutOfTime",
        "ParamValidation",
        "PermanentRedirect",
        "SharedReference",
        "SignatureDoesNotMatch",
        "SlowDown",
        "Unreachable",
    }
)
"""The only values of the labels `code` and of held-back rows' `reason`, beside `other`: S3 may say anything."""


@dataclass(frozen=True)
class Definition:
    """A metric as it is told, `kind` being gauge, counter or histogram."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    def family(self, samples: Mapping[Any, float]) -> Metric:
        """The metric with these values, each under a tuple of its labels' values."""
        made = (GaugeMetricFamily if self.kind == "gauge" else CounterMetricFamily)(
            self.name, self.help, labels=self.labels
        )
        for labels, value in samples.items():
            made.add_metric(labels, value)
        return made

    def histogram(self, of_labels: Mapping[str, tuple[list[tuple[str, float]], float]]) -> Metric:
        """The metric with, by the value of its one label, its buckets (bound and count up to it) and its sum."""
        made = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for label, (buckets, total) in of_labels.items():
            made.add_metric([label], buckets, total)
        return made


def _gauge(name: str, text: str, *labels: str) -> Definition:
    return Definition(f"retention_{name}", "gauge", text, labels)


def _counter(name: str, text: str, *labels: str) -> Definition:
    return Definition(f"retention_{name}_total", "counter", text, labels)


def _histogram(name: str, text: str, *labels: str) -> Definition:
    return Definition(f"retention_{name}", "histogram", text, labels)


OVERDUE = _gauge("overdue_notifications", "Notifications past their retention; counted up to 1,000 a service.", "type")
OVERDUE_AGE = _gauge("overdue_age_seconds", "How far past its retention the oldest overdue one is.", "type")
WAITING = _gauge("waiting_notifications", "Past their retention, and kept for a reason.", "type", "reason")
HELD_BACK = _gauge(
    "held_back_rows",
    "Rows whose files could not be deleted, or that the database refuses; a bucket that refuses counts once a service.",
    "reason",
)
HELD_BACK_AGE = _gauge("held_back_oldest_age_seconds", "How long the first of them has been held back; 0: none is.")
ROWS_MOVED = _counter("rows_moved", "Notifications moved to history.", "type")
TEST_ROWS = _counter("test_rows_deleted", "Test notifications deleted.", "type")
FILES_DELETED = _counter("files_deleted", "Letter files deleted.")
FILES_FAILED = _counter("files_failed", "Attempts that left a row, or a bucket, held back.", "code")
STEP_SECONDS = _histogram("step_duration_seconds", "How long steps took.", "type")
STEP_ROWS = _histogram("step_rows", "Rows that steps chose.", "type")
BATCH_FAILURES = _counter("batch_failures", "Batches that failed, of which nothing was done.", "policy", "error")
LAST_SUCCESS = _gauge(
    "last_successful_step_timestamp_seconds", "The last step that got through, or night with nothing to do.", "type"
)
LAST_RUN = _gauge("last_run_timestamp_seconds", "When the last run began; 0: never.")
CHAINS = _gauge("chains", "Chains that have not ended.", "state")
QUEUE_DEPTH = _gauge("queue_depth", "Messages that no worker has taken.", "queue")
WORKERS = _gauge("workers_alive", "Workers, not their pool's processes, seen within the last minute.")
RELAY_SEEN = _gauge("relay_last_seen_timestamp_seconds", "When a relay last did its work; 0: never.", "relay")
DELETIONS = _gauge("account_deletions", "Deletions of accounts that are not over.", "state")
DELETION_AGE = _gauge(
    "account_deletion_oldest_age_seconds", "How long ago the oldest under way was asked for; 0: none."
)
USER_SWEEPS_STOPPED = _gauge(
    "user_sweeps_stopped", "1 while a sweep over users waits for a person, or no email can be sent.", "sweep", "reason"
)
SESSIONS = _counter("sessions_deleted", "Dead sessions deleted, those of a rebuild not among them.")
REFUSED = _counter("messages_refused", "Messages that are none of ours, or whose arguments make no sense.", "why")
DEAD_SESSIONS = _gauge("dead_sessions", "Dead sessions still there; counted up to 100,001.")
BLOCKED = _gauge(
    "policies_blocked", "1 while something is not as the policy needs it, so that nothing of it is done.", "policy"
)
PAUSED = _gauge("paused", "1 while the pipeline is paused.")
ON_HOLD = _gauge("services_on_hold", "Services on hold.")
USERS_ON_HOLD = _gauge("users_on_hold", "Users on hold.")
AUDIT_ORPHANED = _gauge("audit_orphaned_files", "Files without a row, at the last audit.")
AUDIT_MISSING = _gauge("audit_missing_files", "Rows without their file, at the last audit.")
AUDIT_UNRECOGNISED = _gauge("audit_unrecognised_files", "Files under names that fit no letter, at the last audit.")
AUDIT_AT = _gauge("audit_last_timestamp_seconds", "When the last audit ended.")
ARCHIVE_FILES = _gauge("archive_files", "Finished files of archived history.")
ARCHIVE_ROWS = _gauge("archive_rows", "Rows in finished files of archived history.")
ARCHIVE_BYTES = _gauge("archive_bytes", "Bytes of finished files of archived history.")
ARCHIVE_RATIO = _gauge("archive_bytes_ratio", "A row's bytes in the archive, of those in the table with its indexes.")
ARCHIVE_OLDEST = _gauge("archive_oldest_timestamp_seconds", "When the oldest archived row was created; 0: none is.")
ARCHIVE_OVERDUE_AGE = _gauge(
    "archive_overdue_age_seconds", "How long ago the oldest row of history should have been archived; 0: none is due."
)
ARCHIVE_DAMAGED = _gauge("archive_damaged_files", "Finished files that were not as written when they were last read.")
ARCHIVE_GIVEN_UP = _gauge("archive_windows_given_up", "Windows of history that can't be archived for now.")
ARCHIVE_READ_AGAIN = _gauge(
    "archive_verified_timestamp_seconds", "When a finished file was last read again, or else the first was finished."
)
ARCHIVE_LONGEST_UNREAD = _gauge(
    "archive_longest_unverified_timestamp_seconds", "When that file was read that was not read for longest."
)
SEVERITY = _gauge("severity", "How bad it is: 0 healthy, 1 working, 2 attention, 3 act.")
VERDICTS = _gauge("verdicts", "What is wrong now, by state; how many verdicts say it.", "state", "severity")
SCRAPE_ERRORS = _gauge("scrape_errors", "1 for a part of this page that could not be told.", "part")

ALL = tuple(value for value in list(globals().values()) if isinstance(value, Definition))


def bounded(codes: Iterable[tuple[str, float]]) -> dict[tuple[str, ...], float]:
    """Amounts by code, those that no list knows together as `other`."""
    amounts: dict[tuple[str, ...], float] = {}
    for code, amount in codes:
        label = (code if code in CODES else OTHER,)
        amounts[label] = amounts.get(label, 0) + amount
    return amounts
