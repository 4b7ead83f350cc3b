"""Archived files: one object a key, read whole or in ranges, and deleted with every version."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from app.storage import deletion, download
from app.storage.client import Requests
from app.storage.errors import REQUEST_ERRORS, BucketRefuses, Stopped, trouble
from app.storage.listing import Cursor, StoredFile, shelf
from app.storage.upload import abort_all

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BYTES_PER_PIECE = 1024 * 1024
NOT_THERE = frozenset({"404", "NoSuchKey", "NoSuchVersion"})
NOBODY = UUID(int=0)


class NotDeleted(RuntimeError):
    """A version of the object is still there: S3's code says why."""


class Gone(LookupError):
    """There is no such object, or no such version of it."""


@dataclass(frozen=True)
class Stored:
    """An object, and which version of it is meant; None: the bucket has no versions."""

    bucket: str
    key: str
    version_id: str | None

    @property
    def place(self) -> dict[str, Any]:
        """As a request names it."""
        named: dict[str, Any] = {"Bucket": self.bucket, "Key": self.key}
        return named if self.version_id is None else {**named, "VersionId": self.version_id}


def newest(client: "S3Client", requests: Requests, bucket: str, key: str) -> Stored:
    """The object's newest version. Asked, since what an upload's end says of a bucket without versions differs."""
    with _gone():
        answer = requests.send(client.head_object, Bucket=bucket, Key=key)
    return Stored(bucket, key, answer.get("VersionId"))


def head(client: "S3Client", requests: Requests, stored: Stored) -> tuple[int, str]:
    """The object's size in bytes and its ETag. Raises Gone, Stopped or BucketRefuses."""
    with _gone():
        answer = requests.send(client.head_object, **stored.place)
    return answer["ContentLength"], answer["ETag"]


def pieces(client: "S3Client", requests: Requests, stored: Stored) -> Iterator[bytes]:
    """The object's content, a piece at a time. Raises Gone, Stopped or BucketRefuses."""
    with _gone():
        body = requests.send(client.get_object, **stored.place)["Body"]
    yield from download.content(requests, body, BYTES_PER_PIECE)


def read_range(client: "S3Client", requests: Requests, stored: Stored, first: int, count: int) -> bytes:
    """So many bytes of the object from `first` on. Raises Gone, Stopped or BucketRefuses."""
    with _gone():
        answer = requests.send(client.get_object, **stored.place, Range=f"bytes={first}-{first + count - 1}")
    try:
        return answer["Body"].read()
    except REQUEST_ERRORS as error:
        raise trouble(error) from error


def delete_all(
    client: "S3Client", requests: Requests, bucket: str, key: str, *, but: str | None = None, parts: bool = True
) -> int:
    """Delete every version of the object, but for that one, and what killed workers left of its parts.

    Returns how many versions went. Raises NotDeleted where one did not go, Stopped or BucketRefuses.
    """
    if parts:
        abort_all(client, requests, bucket, key)
    files: list[StoredFile] = []
    on = shelf(client, requests, bucket)
    after: Cursor | None = {}
    while after is not None:
        page = on.page(key, after)
        files += [file for file in page.files if file.key == key and (but is None or file.version_id != but)]
        after = page.next
    if not files:
        return 0
    done = deletion.delete(client, {NOBODY: files}, requests)
    if done.stopped:
        raise Stopped(done.stopped)
    if NOBODY not in done.gone:
        raise NotDeleted(", ".join([*done.failed.values(), *done.broken.values()]) or "not confirmed")
    return len(files)


@contextmanager
def _gone() -> Iterator[None]:
    """Turns the codes of an object that is not there into Gone."""
    try:
        yield
    except BucketRefuses as refusal:
        if refusal.code in NOT_THERE:
            raise Gone(Gone.__doc__) from None
        raise
