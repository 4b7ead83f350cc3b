"""The buckets: may we list and delete there, do their own rules leave letters their time, and is there a backstop?

A delete is proved on a key that can't be anybody's. Where there are versions it names one, so that no marker stays.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from app.config import Settings
from app.dao import doctor_dao
from app.db import db
from app.doctor.finding import Finding, error, ok, warning
from app.retention import buckets
from app.retention.buckets import quick_client
from app.storage.client import Deadline, Requests, worst_seconds_per_request
from app.storage.deletion import delete
from app.storage.errors import REQUEST_ERRORS, BucketRefuses, trouble
from app.storage.listing import StoredFile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PROBES = "retention-doctor/"
"""No letter's, user's or export's key begins so."""
NULL_VERSION = "null"
OF_ACCOUNTS = frozenset(setting.removeprefix("s3_bucket_") for setting in buckets.OF_ACCOUNTS)
EXPORTS = "exports"
POLICIES = "deploy/aws/retention-worker-policy.json and accounts-worker-policy.json have what is needed."
NO_RULES = "NoSuchLifecycleConfiguration"
SECONDS_TO_DELETE = 30


def examine(settings: Settings) -> Iterator[Finding]:
    """Each bucket by itself."""
    client = quick_client(settings.aws_region, settings.aws_endpoint_url_s3)
    days = _days(settings)
    for name, bucket in buckets.named(settings).items():
        check = f"bucket {bucket}"
        found = [*_permissions(client, check, name, bucket)]
        if not found:
            found = [
                *_rules(client, check, name, bucket, days),
                *_locks(client, check, name, bucket),
                *_copies(settings, check, bucket),
            ]
        yield from found or [ok(check, "Its files can be listed and deleted, and its rules leave them their time.")]


def _days(settings: Settings) -> Mapping[str, int]:
    """By bucket's name, the most days that something in it may have to be kept."""
    with db.transaction(read_only=True) as connection:
        of_services = (doctor_dao.longest_retention_of_letters(connection) or 0) if settings.letters_have_files else 0
    longest = max(of_services, settings.retention_default_days)
    return dict.fromkeys(buckets.named(settings).keys() - OF_ACCOUNTS, longest) | {EXPORTS: settings.export_kept_days}


def _code(question: Callable[[], Any]) -> str | None:
    """What S3 has against it, in a word; None if nothing."""
    try:
        question()
    except REQUEST_ERRORS as problem:
        meant = trouble(problem)
        return meant.code if isinstance(meant, BucketRefuses) else meant.reason
    return None


def _permissions(client: "S3Client", check: str, name: str, bucket: str) -> Iterator[Finding]:
    versioning: dict[str, Any] = {}
    refused = _code(lambda: versioning.update(client.get_bucket_versioning(Bucket=bucket)))
    if refused == "NoSuchBucket":
        yield error(check, f"There is no bucket {bucket}.", f"Fix S3_BUCKET_{name.upper()}, or make it.")
        return
    has_versions = bool(versioning.get("Status"))
    wanted = {
        "s3:GetBucketVersioning": refused,
        "s3:ListBucket": _code(lambda: client.list_objects_v2(Bucket=bucket, MaxKeys=1)),
        "s3:ListBucketVersions": _code(lambda: client.list_object_versions(Bucket=bucket, MaxKeys=1)),
    }
    if name == EXPORTS:
        wanted["s3:PutObject"] = _put(client, bucket)
    wanted |= _delete(client, bucket, has_versions)
    for action, code in wanted.items():
        if code is not None:
            yield error(check, f"{action} is refused ({code}).", f"Allow it in {bucket}. {POLICIES}")


def _delete(client: "S3Client", bucket: str, has_versions: bool) -> dict[str, str | None]:
    """A plain delete would leave a marker in a bucket with versions, and is not what files there are deleted by."""
    key = f"{PROBES}{uuid4()}"
    if has_versions:
        return {"s3:DeleteObjectVersion": _deleted(client, bucket, key, NULL_VERSION)}
    return {"s3:DeleteObject": _deleted(client, bucket, key, None)}


def _put(client: "S3Client", bucket: str) -> str | None:
    """Put a probe, and take it away again, its version and all."""
    key = f"{PROBES}{uuid4()}"
    answer: dict[str, Any] = {}
    code = _code(lambda: answer.update(client.put_object(Bucket=bucket, Key=key)))
    if code is None:
        _deleted(client, bucket, key, answer.get("VersionId"))
    return code


def _deleted(client: "S3Client", bucket: str, key: str, version_id: str | None) -> str | None:
    """As the pipeline deletes, also in a store that has no DeleteObjects."""
    probe = UUID(int=0)
    requests = Requests(Deadline(SECONDS_TO_DELETE), worst_seconds_per_request(client))
    deletion = delete(client, {probe: [StoredFile(bucket, key, version_id)]}, requests)
    if probe in deletion.gone:
        return None
    return deletion.failed.get(probe) or deletion.broken.get(bucket) or deletion.stopped or "Unconfirmed"


def _rules(client: "S3Client", check: str, name: str, bucket: str, days: Mapping[str, int]) -> Iterator[Finding]:
    if name not in days:
        return
    answer: dict[str, Any] = {}
    code = _code(lambda: answer.update(client.get_bucket_lifecycle_configuration(Bucket=bucket)))
    if code not in (None, NO_RULES):
        yield warning(
            check,
            f"Its lifecycle rules can't be read ({code}).",
            "Run this once with credentials that have s3:GetLifecycleConfiguration.",
        )
        return
    expiring = [rule for rule in answer.get("Rules", []) if rule.get("Status") == "Enabled" and _expires(rule)]
    for rule in expiring:
        after = int(rule["Expiration"].get("Days", 0))
        if after <= days[name]:
            yield error(
                check,
                f"A lifecycle rule deletes files after {after} days, but some must be kept for {days[name]}.",
                f"Make it {days[name] + 2} days or more.",
            )
    if name not in OF_ACCOUNTS and not any(_is_whole(rule) for rule in expiring):
        yield warning(
            check,
            "No lifecycle rule deletes what may be left behind, whatever happens to the pipeline.",
            f"Add one for the whole bucket, well above {days[name]} days.",
        )


def _expires(rule: Mapping[str, Any]) -> bool:
    return bool(rule.get("Expiration", {}).keys() & {"Days", "Date"})


def _is_whole(rule: Mapping[str, Any]) -> bool:
    """Whether it is about every file: filters are by prefix, tag or size."""
    about = rule.get("Filter") or {}
    return not (about.get("Prefix") or rule.get("Prefix") or about.keys() - {"Prefix"})


def _locks(client: "S3Client", check: str, name: str, bucket: str) -> Iterator[Finding]:
    if name in OF_ACCOUNTS:
        return
    answer: dict[str, Any] = {}
    if _code(lambda: answer.update(client.get_object_lock_configuration(Bucket=bucket))) is not None:
        return  # without one, or not ours to see: a locked file is deferred, and says so
    configuration = answer.get("ObjectLockConfiguration", {})
    locked = configuration.get("Rule", {}).get("DefaultRetention", {})
    if locked:
        period = f"{locked.get('Days') or locked.get('Years')} {'days' if 'Days' in locked else 'years'}"
        yield warning(
            check,
            f"New files are locked for {period}: a letter whose time is up sooner is held back until then.",
            "Take the lock's default retention away, or make it shorter than every service's.",
        )


def _copies(settings: Settings, check: str, bucket: str) -> Iterator[Finding]:
    try:
        copied_to = buckets.copied_to(settings, bucket)
    except buckets.BucketTrouble as refused:
        yield warning(
            check,
            f"Its replication rules can't be read ({refused}).",
            "Run this once with credentials that have s3:GetReplicationConfiguration.",
        )
        return
    for other in copied_to:
        yield warning(
            check,
            f"A replication rule copies its files to {other}. What is deleted here stays there.",
            f"Let a lifecycle rule of {other} delete files and their earlier versions in time, or take the rule away.",
        )
