"""Settings that are valid each by itself, and wrong together or in production."""

from collections import defaultdict
from collections.abc import Iterator

from app.config import Settings
from app.doctor.finding import Finding, error, ok, warning
from app.retention import buckets
from app.retention.cutoff_rules import OF_UTC_DATES
from app.retention.tools import BY_DATE_SENT

CHECK = "settings"
SAMPLE_SENDER = "localhost"


def examine(settings: Settings) -> Iterator[Finding]:
    """What the settings say, without asking any server."""
    found = [*_buckets(settings), *_zones(settings), *_addresses(settings)]
    yield from found or [ok(CHECK, "The settings fit together.")]


def _buckets(settings: Settings) -> Iterator[Finding]:
    names = defaultdict(list)
    for name, bucket in buckets.named(settings).items():
        names[bucket].append(f"S3_BUCKET_{name.upper()}")
    for bucket, of_bucket in names.items():
        if len(of_bucket) > 1:
            yield error(
                CHECK,
                f"{' and '.join(of_bucket)} name the same bucket, {bucket}.",
                "Give each a bucket of its own: what one kind of file may lose, another must keep.",
            )


def _zones(settings: Settings) -> Iterator[Finding]:
    if settings.cutoff_rule in OF_UTC_DATES and settings.retention_timezone != "UTC":
        yield warning(
            CHECK,
            f"Cut-offs count dates of UTC, nights those of {settings.retention_timezone}.",
            "If that is not meant, set RETENTION_TIMEZONE=UTC: a night is then as far along as its cut-offs.",
        )
    if not settings.letters_have_files or settings.letter_folder_date == BY_DATE_SENT:
        return
    if settings.retention_timezone != settings.letter_folder_timezone:
        yield warning(
            CHECK,
            f"Cut-offs follow {settings.retention_timezone}, letters' folders {settings.letter_folder_timezone}.",
            "If that is not meant, set RETENTION_TIMEZONE and LETTER_FOLDER_TIMEZONE alike.",
        )


def _addresses(settings: Settings) -> Iterator[Finding]:
    if settings.metrics_token is None:
        yield warning(CHECK, "There is no /metrics, so that no alert can be raised.", "Set METRICS_TOKEN.")
    if not settings.accounts_enabled:
        return
    if not settings.site_url.lower().startswith("https://"):
        yield warning(CHECK, "SITE_URL is not https, so that session cookies travel open.", "Set it to the https one.")
    if SAMPLE_SENDER in settings.email_sender:
        yield warning(CHECK, "EMAIL_SENDER is still the sample.", "Set it to an address that SES has verified.")
