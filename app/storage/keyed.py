"""Objects by their exact keys: found with every version, deleted in bulk, answered for key by key."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from app.storage.client import Requests
from app.storage.deletion import delete as delete_files
from app.storage.errors import BucketRefuses, Stopped
from app.storage.listing import SkipListing, StoredFile, shelf

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass
class Looked:
    """What was found of each key that was looked for to the end; an empty tuple: there is no such object."""

    files: dict[str, tuple[StoredFile, ...]] = field(default_factory=dict)
    stopped: str | None = None
    """Why the search ended early: SlowDown, Unreachable or OutOfTime."""


@dataclass
class Deleted:
    """What became of each key. Keys in neither collection are still there, or not known to be gone."""

    gone: set[str]
    failed: dict[str, str]
    """Keys of which a version can't go, with S3's code."""
    files: int
    """Objects, versions and markers that are confirmed gone."""
    stopped: str | None


def find(client: "S3Client", requests: Requests, bucket: str, keys: Collection[str]) -> Looked:
    """Look for these objects, and all their versions. Raises BucketRefuses."""
    if not keys:
        return Looked()
    listing = SkipListing(bucket, keys, lambda key, place: key == place.prefix)
    try:
        listing.run(shelf(client, requests, bucket))
    except Stopped as stop:
        return Looked(listing.answered(), stop.reason)
    return Looked(listing.answered())


def delete(client: "S3Client", requests: Requests, files: Mapping[str, Sequence[StoredFile]]) -> Deleted:
    """Delete every version of these objects. Raises BucketRefuses."""
    numbered = {UUID(int=number): key for number, key in enumerate(files)}
    done = delete_files(client, {number: files[key] for number, key in numbered.items()}, requests)
    if done.broken:
        raise BucketRefuses(next(iter(done.broken.values())))
    return Deleted(
        gone={numbered[number] for number in done.gone},
        failed={numbered[number]: code for number, code in done.failed.items()},
        files=done.deleted,
        stopped=done.stopped,
    )
